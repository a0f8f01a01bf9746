"""Reads picture files as a person sees them: first frame, EXIF rotation applied, RGB over white.

>>> load("cat.png").size == (examine("cat.png").width, examine("cat.png").height)
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import re
import warnings
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from mask_impact.base.errors import RequestError, first_line

MOST_PIXELS = 178_956_970  # Pillow's own limit of error: 512 MiB as RGB
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "WEBP",
    "TIFF",
    "BMP",
    "PPM",
    "ICO",
    "AVIF",
    "JPEG2000",
)  # none for which Pillow runs a program
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")
ADDRESS = re.compile(r"https?:/|data:image/")  # anywhere: a batch file's folder may stand before it
ORIENTATION = 0x0112
LONGEST_OF_JPEG = 65_500  # pixels along a side
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262


@dataclass(frozen=True)
class Picture:
    """What is known of a picture file.

    `width` and `height` are in pixels, EXIF rotation applied, `sha256` is the file's, `note` is a line for the user or
    None (a file of several frames, of which the first is taken).
    """

    path: str
    width: int
    height: int
    sha256: str
    note: str | None = None


def examine(path: str) -> Picture:
    """Look at a picture file; the whole first frame is decoded, so that a truncated file is found now.

    Raises RequestError, one line, if it is missing, no picture, damaged, too large, a video or of no sensible mode.
    """
    data = _bytes(path)
    image, frames = _decoded(data, path)
    note = None if frames == 1 else f"{printable(path)}: {frames} frames; the first is taken"
    return Picture(path, image.width, image.height, hashlib.sha256(data).hexdigest(), note)


def load(path: str, sha256: str | None = None) -> Image.Image:
    """The picture in RGB as a person sees it: first frame, upright, alpha over white.

    Raises RequestError as `examine` does, and for a file with another hash than `sha256`.
    """
    data = _bytes(path)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise RequestError(f"{printable(path)}: the picture is no longer the one that was looked at; run again")
    return _decoded(data, path)[0]


def data_uri(image: Image.Image, widest: int = 1024) -> str:
    """The picture as a data: URI, PNG or JPEG (the smaller), scaled down to at most `widest` pixels wide."""
    image = image.convert("RGB")
    if image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))), Image.Resampling.LANCZOS)
    written = {"png": _written(image, "PNG", optimize=True)}
    if max(image.size) <= LONGEST_OF_JPEG:
        written["jpeg"] = _written(image, "JPEG", quality=90)
    kind, data = min(written.items(), key=lambda one: len(one[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def printable(path: str) -> str:
    """A path on one line, unprintable characters (line breaks, control characters, lone surrogates) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(path))


def _written(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of the picture's file, or None if it is larger than a JPEG can be."""
    file = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(file, kind, **options)  # without the file's metadata
    return file.getvalue()


def _bytes(path: str) -> bytes:
    name = printable(path)
    if str(path).lower().endswith(VIDEO_SUFFIXES) and os.path.exists(path):
        raise _video(name)
    if ADDRESS.search(str(path)) and not os.path.exists(path):
        raise RequestError(
            f"{name[:80]}: this is an address, and pictures are read from files; download it and name the file"
        )
    if os.path.isdir(path):
        raise RequestError(f"{name}: this is a folder; name a picture in it")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise RequestError(f"{name}: this is no regular file; name a picture file")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise RequestError(f"{name}: there is no such file; check the path") from None
    except OSError as error:
        raise RequestError(f"{name}: cannot be read ({error.strerror}); check the file and its permissions") from None
    except ValueError:
        raise RequestError(f"{name}: this is no path (it holds a null character); check the path") from None
    if not data:
        raise RequestError(f"{name}: the file is empty; name a picture, such as a PNG or JPEG file")
    return data


def _video(name: str) -> RequestError:
    return RequestError(f"{name}: video is not supported; give single frames as pictures")


def _decoded(data: bytes, path: str) -> tuple[Image.Image, int]:
    """The first frame in RGB, upright, and the number of frames."""
    name = printable(path)
    if _is_video(data):
        raise _video(name)
    with _quiet():
        try:
            Image.init()  # so that OPEN lists what this Pillow has; an older one has no AVIF
            image = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
        except Image.DecompressionBombError:
            raise _too_large(name) from None
        except MemoryError:
            raise
        except Exception:  # whatever a parser of damaged bytes raises
            raise RequestError(f"{name}: {_what_it_is(data)}; convert it to PNG or JPEG") from None
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise _too_large(name, image.size)
            return _frame(image, name)


def _frame(image: Image.Image, name: str) -> tuple[Image.Image, int]:
    try:
        frames = (
            1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        )  # a phone's extra pictures are no animation
        image.seek(0)
        image.load()
        return _upright(_rgb(image, name), image), frames
    except (RequestError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception as error:  # whatever a decoder of damaged bytes raises
        raise RequestError(
            f"{name}: this {image.format} picture is truncated or damaged ({printable(first_line(error))}); "
            "save or download it again"
        ) from None


def _too_large(name: str, size: tuple[int, int] | None = None) -> RequestError:
    found = f"{size[0]} x {size[1]} pixels are" if size else "it is"
    return RequestError(f"{name}: {found} more than the limit of {MOST_PIXELS:,} pixels; scale the picture down")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings and log lines from the terminal."""
    log = logging.getLogger("PIL")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _is_video(data: bytes) -> bool:
    if data[4:8] == b"ftyp":
        return data[8:12] not in HEIC_BRANDS + AVIF_BRANDS
    return data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")


def _what_it_is(data: bytes) -> str:
    """What a file is that Pillow does not open, in words."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp":
        return f"Pillow cannot read this {'AVIF' if data[8:12] in AVIF_BRANDS else 'HEIC'} picture"
    if head.startswith(b"%pdf"):
        return "this is a PDF, not a picture"
    if b"<svg" in head:
        return "this is an SVG drawing, not a picture of pixels"
    if head.startswith(b"<!doctype html") or b"<html" in head:
        return "this is a web page (HTML), not a picture"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "this is no picture that Pillow can read, or its beginning is damaged"
    return "this is no picture that Pillow can read" if b"\0" in data else "this is text, not a picture"


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF: the pixels are whole, and their orientation is unknown
        turn = None
    return rgb if turn is None else rgb.transpose(turn)


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, name).convert("RGB")
    if image.mode == "LAB":
        raise RequestError(f"{name}: a picture in Lab colours cannot be shown rightly; convert it to an 8-bit RGB PNG")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa", "P"):
        image = image.convert("LA") if image.mode == "La" else image
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Grey of more than 8 bits in 8: 0 to 65,535 of 16 bits and 0 to 1 of floats become 0 to 255."""
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        values = array("f", image.tobytes())
        if not all(0 <= value <= 1 for value in values):
            raise RequestError(f"{name}: grey as floats outside 0 to 1 has no known white; convert it to an 8-bit PNG")
        top = 1
    elif image.mode == "I" and image.format not in ("PNG", "PPM", "JPEG2000"):
        raise RequestError(f"{name}: grey as 32-bit or signed numbers has no known white; convert it to an 8-bit PNG")
    else:
        top = 2 ** tags.get(TIFF_BITS, (16,))[0] - 1
        image = image.convert("I")
    scale, offset = (-255 / top, 255.5) if tags.get(TIFF_PHOTOMETRIC) == 0 else (255 / top, 0.5)
    return image.convert("F").point(lambda value: value * scale + offset).convert("L")
