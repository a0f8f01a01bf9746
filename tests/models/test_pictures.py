"""Picture files: every mode and format becomes the RGB a person sees, and every fault one line."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import struct
import warnings
import zlib

import pytest
from PIL import Image

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.models.vision.pictures import MOST_PIXELS, UPRIGHT, data_uri, examine, load

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def two_colours(size=(32, 16)):
    """Blue, with a red corner at the top left."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    return image


def grey(mode, corner, rest):
    image = Image.new(mode, (8, 4), rest)
    image.putpixel((0, 0), corner)
    return image


def near(found, expected, by=3):
    return all(abs(a - b) <= by for a, b in zip(found, expected, strict=True))


def saved(tmp_path, image, name, **options):
    path = str(tmp_path / name)
    image.save(path, **options)
    return path


def fault(path):
    """What both ways in say, one line and the same."""
    with pytest.raises(RequestError) as one:
        examine(path)
    with pytest.raises(RequestError) as other:
        load(path)
    assert str(one.value) == str(other.value) and str(one.value).isprintable()
    return str(one.value)


@pytest.mark.parametrize(
    "name, mode",
    [
        ("a.png", "RGB"),
        ("a.png", "P"),
        ("a.png", "RGBA"),
        ("a.jpg", "RGB"),
        ("a.jpg", "CMYK"),
        ("a.gif", "P"),
        ("a.webp", "RGB"),
        ("a.tif", "RGB"),
        ("a.tif", "CMYK"),
        ("a.bmp", "RGB"),
        ("a.ppm", "RGB"),
        ("a.png.txt", "RGB"),
    ],
)
def test_colours_are_kept(name, mode, tmp_path):
    kind = {"format": "PNG"} if name.endswith(".txt") else {}
    path = saved(tmp_path, two_colours().convert(mode), name, **kind)
    image, picture = load(path), examine(path)
    assert image.mode == "RGB" and image.size == (32, 16) == (picture.width, picture.height) and picture.note is None
    assert near(image.getpixel((2, 1)), RED, 12) and near(image.getpixel((29, 13)), BLUE, 12)
    with open(path, "rb") as file:
        assert picture.sha256 == hashlib.sha256(file.read()).hexdigest()


@pytest.mark.parametrize(
    "name, image, corner, rest",
    [
        ("a.png", grey("1", 255, 0), 255, 0),
        ("a.png", grey("L", 200, 10), 200, 10),
        ("a.png", grey("I;16", 65535, 25700), 255, 100),
        ("a.tif", grey("I;16", 65535, 25700), 255, 100),
        ("a.tif", grey("F", 1.0, 0.2), 255, 51),
        ("a.png", grey("LA", (0, 0), (10, 255)), 255, 10),
    ],
)
def test_greys_are_scaled(name, image, corner, rest, tmp_path):
    found = load(saved(tmp_path, image, name))
    assert found.getpixel((0, 0)) == (corner,) * 3 and found.getpixel((7, 3)) == (rest,) * 3


def test_16_bit_colours_are_scaled(tmp_path):
    rows = (b"\0" + struct.pack(">6H", 65535, 25700, 0, 0, 0, 65535)) * 2

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert load(str(path)).getpixel((0, 0)) == (255, 100, 0) and load(str(path)).getpixel((1, 1)) == BLUE


def test_transparency_lies_over_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 255, 128))
    image.putpixel((0, 0), (0, 0, 0, 0))
    found = load(saved(tmp_path, image, "a.png"))
    assert found.getpixel((0, 0)) == WHITE and near(found.getpixel((3, 3)), (127, 127, 255))
    palette = two_colours().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    found = load(saved(tmp_path, palette, "p.png", transparency=palette.getpixel((0, 0))))
    assert found.getpixel((0, 0)) == WHITE and near(found.getpixel((31, 15)), BLUE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation, suffix, tmp_path):
    back = {6: 8, 8: 6}.get(orientation, orientation)
    image = two_colours() if orientation == 1 else two_colours().transpose(UPRIGHT[back])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, image, f"a.{suffix}", exif=exif)
    found, picture = load(path), examine(path)
    assert found.size == (32, 16) == (picture.width, picture.height)
    reds = [found.getpixel(at)[0] > 128 for at in ((2, 2), (29, 2), (2, 13), (29, 13))]
    assert reds == [True, False, False, False]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_frames_the_first_is_taken_and_said(suffix, tmp_path):
    more = [Image.new("RGB", (32, 16), colour) for colour in ("green", "white")]
    path = saved(tmp_path, two_colours(), f"a.{suffix}", save_all=True, append_images=more)
    assert examine(path).note == f"{path}: 3 frames; the first is taken"
    assert load(path).getpixel((2, 2))[0] > 200 and load(path).getpixel((29, 13))[2] > 200


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("a.png", b"", "the file is empty"),
        ("a.png", b"hello", "this is text, not a picture"),
        ("a.png", b"<!DOCTYPE html><p>", "this is a web page (HTML)"),
        ("a.png", b"<?xml?><svg xmlns=''/>", "this is an SVG drawing"),
        ("a.png", b"%PDF-1.7\n", "this is a PDF"),
        ("a.png", b"\xff\xfe\0\1", "no picture that Pillow can read"),
        ("a.png", b"\0\0\0\x18ftypheic" + bytes(20), "Pillow cannot read this HEIC picture; convert it to PNG or JPEG"),
        ("a.png", b"\0\0\0\x18ftypisom", "video is not supported"),
        ("a.png", b"\x1aE\xdf\xa3", "video is not supported"),
        ("a.png", b"RIFF\0\0\0\0AVI LIST", "video is not supported; give single frames as pictures"),
        *[
            (f"a{suffix}", b"x", "video is not supported")
            for suffix in (".mp4", ".MOV", ".mkv", ".webm", ".avi", ".m4v")
        ],
    ],
)
def test_what_is_no_picture_is_named(name, data, words, tmp_path):
    (tmp_path / name).write_bytes(data)
    assert words in fault(str(tmp_path / name))


def test_what_cannot_be_read_is_named(tmp_path):
    assert "there is no such file" in fault(str(tmp_path / "none\n\x1b[1m.png")) and "folder" in fault(str(tmp_path))
    assert "null character" in fault("a\0.png")
    for address in ("https://example.org/a.png", "sub/http://example.org/a.png", "data:image/png;base64," + 5000 * "A"):
        assert "this is an address" in fault(address) and len(fault(address)) < 200
    locked = tmp_path / "locked.png"
    locked.write_bytes(b"x")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):
        assert "Permission denied" in fault(str(locked))


def test_floats_without_a_white_are_refused(tmp_path):
    for value in (2.0, -1.0, float("nan")):
        assert "floats outside 0 to 1" in fault(saved(tmp_path, grey("F", value, 0.5), "a.tif"))
    assert "32-bit or signed" in fault(saved(tmp_path, grey("I", 70000, 0), "b.tif"))


@pytest.mark.parametrize("height", [MOST_PIXELS // 10_000 + 1, 60_000])
def test_a_bomb_is_refused_before_decoding(height, tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(
        saved_bytes(two_colours(), "BMP")[:18]
        + struct.pack("<2i", 10_000, height)
        + saved_bytes(two_colours(), "BMP")[26:]
    )
    assert "more than the limit of 178,956,970 pixels" in fault(str(path))


def test_a_large_picture_does_not_warn(tmp_path):
    path = saved(tmp_path, Image.new("1", (10_000, 9_000)), "a.png")
    with warnings.catch_warnings(record=True) as heard:
        assert examine(path).width == 10_000
    assert not heard


def saved_bytes(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_and_damaged_files(kind, tmp_path):
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    data, path = saved_bytes(noise, kind), tmp_path / "a"
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        assert "damaged" in fault(str(path))
    chance = random.Random(1)
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(3):
            bad[chance.randrange(min(len(bad), 400))] = chance.randrange(256)
        path.write_bytes(bad)
        said = []
        with collect_faults(said):
            examine(str(path))
        assert "".join(said).isprintable()


def test_data_uri_takes_the_smaller_and_scales_down():
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    assert data_uri(two_colours()).startswith("data:image/png;base64,") and data_uri(noise).startswith(
        "data:image/jpeg;base64,"
    )
    image = Image.open(io.BytesIO(base64.b64decode(data_uri(two_colours((2048, 512))).partition(",")[2])))
    assert image.size == (1024, 256) and image.getpixel((2, 2)) == RED


def test_white_is_zero_in_some_tiffs(tmp_path):
    """16-bit grey whose file says that 0 is white."""
    image = Image.new("I;16", (2, 1), 65_535)
    image.putpixel((1, 0), 0)
    path = saved(tmp_path, image, "a.tif", tiffinfo={262: 0})
    assert [load(path).getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]
