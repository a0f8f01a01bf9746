"""The vision-language command from end to end, on a tiny saved Qwen3-VL:
what it writes, what it says, the code it exits with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import vision_zoo
from asking import QUESTION
from PIL import Image
from running import files_in, record_of, yaml_file

from mask_impact import read_results
from mask_impact.runs import batch

pytestmark = pytest.mark.usefixtures("two_pictures")  # each in a current folder with two pictures

# The four ways of use


def test_text_only(vl_command, vl):
    code, out, err = vl_command("--model", vl, "--prompt", QUESTION)
    assert (code, err) == (0, [])
    tables = [f"which_one_{kind}.{form}" for kind in ("knockout", "results") for form in ("csv", "json")]
    assert files_in("output") == [*tables, "which_one_run.json"]
    table = read_results("output/which_one_results.csv")
    assert set(table.token_type) == {"text"} and table.patch_row.isna().all() and "masked" not in out[0]
    assert record_of("which_one")["images"] == []


@pytest.mark.parametrize(
    "mode, kinds", [(None, {"text"}), ("text", {"text"}), ("vision", {"vision"}), ("both", {"text", "vision"})]
)
def test_a_picture_in_every_mask_mode(mode, kinds, vl_command, vl):
    code, out, err = vl_command(
        "--model",
        vl,
        "--image",
        "cat.png",
        "--prompt",
        QUESTION,
        "--output",
        "cat",
        *(["--mask-mode", mode] * (mode is not None)),
    )
    assert (code, err) == (0, [])
    assert "(img0: 15, 3 rows x 5 columns; " in out[0] and f"{' and '.join(sorted(kinds))} tokens masked" in out[0]
    table, run = read_results("output/cat_results.csv"), record_of("cat")
    assert set(table.token_type) == kinds and table.equals(read_results("output/cat_results.json"))
    assert len(table) == run["rows"] and f"at most {run['rows']:,} rows" in out[0]
    assert ("img0[2,4]" in set(table.token_masked)) == ("vision" in kinds)
    assert run["settings"]["mask_mode"] == (mode or "text") and run["settings"]["image"] == ["cat.png"]
    [image] = run["images"]
    assert (image["width"], image["height"], image["resized"], image["grid"]) == (40, 24, [24, 40], [3, 5])
    assert image["uri"].startswith("data:image/")


def test_several_pictures_stand_in_their_order_before_the_question(vl_ask):
    assert vl_ask("--image", "dog.png", "--image", "cat.png", "--mask-mode", "both")[0] == 0
    run = record_of("dog_cat_which_one")
    assert [image["path"] for image in run["images"]] == ["dog.png", "cat.png"]
    texts = [token["text"] for token in run["tokens"]]
    assert texts.index("img0[6,1]") < texts.index("img1[0,0]") < texts.index("img1[2,4]") < texts.index("W")


def test_max_image_tokens_lowers_the_grid(vl_ask):
    assert vl_ask("--image", "cat.png", "--max-image-tokens", 6, "--output", "cat")[0] == 0
    [image] = record_of("cat")["images"]
    assert np.prod(image["grid"]) <= 6 and (image["width"], image["height"]) == (40, 24)


# Batch files


def test_a_batch_reads_pictures_beside_its_file(vl_command, vl):
    Path("sub").mkdir()
    for name in ("cat.png", "dog.png"):
        shutil.move(name, Path("sub", name))
    file = yaml_file(
        f"model: {vl}\nlayers: [0]\ndefaults: {{image: cat.png, mask_mode: vision}}\nprompts:\n"
        "- {name: one, prompt: Which one}\n"
        "- {name: two, prompt: Which one, image: [dog.png, cat.png], mask_mode: both}\n"
        "- {name: three, prompt: Which one, mask_mode: text}\n"
        "- {name: four, prompt: Which one, image: ../sub/dog.png}\n",
        "sub/batch.yaml",
    )
    assert vl_command("--config", file)[0] == 0
    names = ("one", "two", "three", "four")
    shown = {name: [Path(image["path"]).name for image in record_of(name)["images"]] for name in names}
    assert shown == {"one": ["cat.png"], "two": ["dog.png", "cat.png"], "three": ["cat.png"], "four": ["dog.png"]}
    kinds = {name: set(read_results(f"output/{name}_results.csv").token_type) for name in names}
    assert kinds == {"one": {"vision"}, "two": {"text", "vision"}, "three": {"text"}, "four": {"vision"}}


def test_flags_win_over_the_file(vl_command, vl):
    file = yaml_file(
        f"model: {vl}\nlayers: [0]\nprompts:\n"
        "- {name: one, prompt: Which one, image: cat.png, mask_mode: text, max_image_tokens: 15}"
    )
    assert vl_command("--config", file, "--mask-mode", "both", "--max-image-tokens", 6)[0] == 0
    settings = record_of("one")["settings"]
    assert (settings["mask_mode"], settings["max_image_tokens"]) == ("both", 6)


def test_an_entry_may_go_without_the_picture_of_the_defaults(vl_command, vl):
    file = yaml_file(
        f"model: {vl}\nlayers: [0]\ndefaults: {{image: cat.png}}\n"
        "prompts: [{name: one, prompt: Which one, image: []}]"
    )
    code, _, err = vl_command("--config", file)
    assert (code, err) == (0, []) and record_of("one")["images"] == []


# Names, and what is there already


def test_the_name_begins_with_the_pictures_stem_and_the_same_again_is_there(vl_ask, loads):
    words = ("--image", "cat.png", "--mask-mode", "vision")
    assert vl_ask(*words)[0] == 0 and "cat_which_one_run.json" in files_in("output")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    code, out, err = vl_ask(*words)
    assert (code, err, len(loads)) == (0, [], 1) and "this result is there, with the same settings" in out[0]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    assert vl_ask(*words, "--overwrite")[0] == 0 and len(loads) == 2 and len(files_in("output")) == 5


def test_another_picture_under_the_same_name_is_another_run(vl_ask):
    assert vl_ask("--image", "cat.png")[0] == 0
    vision_zoo.picture(Path("cat.png"), 40, 24, seed=5)
    assert vl_ask("--image", "cat.png")[0] == 0 and "cat_which_one_2_run.json" in files_in("output")
    vision_zoo.picture(Path("cat.png"), 40, 24, seed=6)
    code, out, err = vl_ask("--image", "cat.png", "--output", "cat_which_one")
    assert (code, out) == (2, []) and "by a run with other settings (image_sha256)" in err[0]


def test_a_moved_picture_is_the_same_run(vl_ask, loads):
    assert vl_ask("--image", "cat.png")[0] == 0
    Path("elsewhere").mkdir()
    shutil.move("cat.png", "elsewhere/cat.png")
    code, out, _ = vl_ask("--image", "elsewhere/cat.png")
    assert code == 0 and len(loads) == 1 and "this result is there" in out[0]


@pytest.mark.parametrize(
    "words, what",
    [
        (["--mask-mode", "both"], "mask_mode"),
        (["--image", "dog.png"], "image_sha256"),
        (["--max-image-tokens", 6], "max_image_tokens"),
    ],
)
def test_what_changes_the_numbers_is_another_run(words, what, vl_ask):
    assert vl_ask("--image", "cat.png", "--output", "one")[0] == 0
    code, _, err = vl_ask("--image", "cat.png", "--output", "one", *words)
    assert code == 2 and f"({what})" in err[0]


# Pictures of every kind


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


@pytest.mark.parametrize(
    "name, mode, options, grid",
    [
        ("a.jpg", "CMYK", {}, [3, 5]),
        ("a.png", "P", {}, [3, 5]),
        ("a.png", "I;16", {}, [3, 5]),
        ("a.png", "RGBA", {}, [3, 5]),
        ("a.png", "L", {}, [3, 5]),
        ("a.jpg", "RGB", rotated(), [5, 3]),
    ],
)
def test_pictures_of_every_kind_are_read(name, mode, options, grid, vl_ask):
    image = Image.open("cat.png")
    image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    assert image.mode == mode
    image.save(name, **options)
    code, _, err = vl_ask("--image", name, "--mask-mode", "both", "--output", "a")
    assert (code, err) == (0, []) and record_of("a")["images"][0]["grid"] == grid


def test_an_animated_picture_says_that_its_first_frame_is_taken(vl_ask):
    frames = [Image.open("cat.png").convert("P"), Image.new("P", (40, 24))]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    code, _, err = vl_ask("--image", "a.gif", "--output", "a")
    assert (code, err) == (0, ["warning: a.gif: 2 frames; the first is taken"])


# What fails under way


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda path: path.unlink(), "dog.png: there is no such file"),
        (lambda path: path.write_bytes(b""), "dog.png: the file is empty"),
        (lambda path: vision_zoo.picture(path, 24, 24), "dog.png: the picture is no longer the one that was looked at"),
        (
            lambda path: vision_zoo.picture(path, 16, 56, seed=9),
            "dog.png: the picture is no longer the one that was looked at",
        ),
    ],
)
def test_a_picture_that_is_spoilt_under_way_fails_alone(spoil, reason, vl_command, vl, monkeypatch):
    file = yaml_file(
        f"model: {vl}\nlayers: [0]\nprompts:\n- {{name: one, prompt: Which one, image: dog.png}}\n"
        "- {name: two, prompt: Which one, image: cat.png}\n- {name: three, prompt: Which one}\n"
    )
    load = batch.load

    def spoiling(*given):
        loaded = load(*given)
        spoil(Path("dog.png"))
        return loaded

    monkeypatch.setattr(batch, "load", spoiling)
    code, _, err = vl_command("--config", file)
    assert code == 1 and err[0].startswith(f"error: one: {reason}") and err[1:] == ["error: 1 of 3 prompts failed: one"]
    assert record_of("one")["status"] == "failed" and reason in json.dumps(record_of("one"))
    assert [record_of(name)["status"] for name in ("two", "three")] == ["complete"] * 2
    assert not Path("output/one_results.csv").exists()
