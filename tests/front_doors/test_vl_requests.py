"""Wrong requests about pictures, and models that are no choice:
one line that says what, and nothing is loaded or written."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
import vision_zoo
from asking import QUESTION
from running import files_in, yaml_file
from safetensors.torch import save_file
from transformers import Qwen2VLConfig

import mask_impact_analysis

pytestmark = pytest.mark.usefixtures("two_pictures")  # each in a current folder with two pictures

# Wrong requests


def bomb():
    """The header of a BMP of 60,000 x 60,000 pixels."""
    return b"BM" + struct.pack("<3I", 54, 0, 54) + struct.pack("<I2i2H6I", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)


def made_files():
    """Files that are no pictures for this model."""
    Path("text.png").write_text("hello", encoding="utf-8")
    Path("empty.png").write_bytes(b"")
    Path("folder.png").mkdir()
    Path("bomb.bmp").write_bytes(bomb())
    Path("film.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    whole = Path("cat.png").read_bytes()
    Path("torn.png").write_bytes(whole[: len(whole) // 2])
    vision_zoo.picture(Path("small.png"), 3, 50)
    vision_zoo.picture(Path("long.png"), 900, 4)


FAULTS = {
    "text.png": "this is text, not a picture",
    "empty.png": "the file is empty",
    "folder.png": "this is a folder",
    "bomb.bmp": "more than the limit of 178,956,970 pixels",
    "film.mp4": "video is not supported",
    "torn.png": "truncated or damaged",
    "none.png": "there is no such file",
    "small.png": "a single patch of this model 4 x 4",
    "long.png": "200 times the other",
}


@pytest.mark.parametrize("file, part", FAULTS.items())
def test_a_wrong_picture_is_one_line_and_writes_nothing(file, part, vl_ask, loads, two_pictures):
    made_files()
    before = files_in(two_pictures)
    code, out, err = vl_ask("--image", file, "--mask-mode", "both")
    assert (code, out, loads, len(err)) == (2, [], [], 1) and err[0].startswith(f"error: {file}: ") and part in err[0]
    assert files_in(two_pictures) == before


def test_all_wrong_pictures_of_a_batch_are_listed(vl_command, vl, loads, two_pictures):
    made_files()
    entries = "".join(f"- {{prompt: Which one, image: [cat.png, {file}]}}\n" for file in FAULTS)
    file = yaml_file(f"model: {vl}\nprompts:\n{entries}- {{prompt: Which one, image: [none.png, text.png]}}\n")
    before = files_in(two_pictures)
    code, out, err = vl_command("--config", file)
    assert (code, out, loads, len(err)) == (2, [], [], len(FAULTS) + 2) and files_in(two_pictures) == before
    for number, (line, part) in enumerate(zip(err, FAULTS.values())):
        assert line.startswith(f"error: batch.yaml:{3 + number}: ") and part in line


@pytest.mark.parametrize(
    "words, part",
    [
        (["--prompt", "x", "--mask-mode", "vision"], "mask_mode vision needs a picture"),
        (["--prompt", "x", "--mask-mode", "both"], "mask_mode both needs a picture"),
        (["--prompt", "x", "--mask-mode", "pictures"], "--mask-mode: "),
        (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "0"], "--max-image-tokens: "),
        (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "-3"], "--max-image-tokens: "),
        (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "many"], "--max-image-tokens: "),
        (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "1.5"], "--max-image-tokens: "),
        (["--prompt", "x", "--image", ""], "--image: "),
        (["--prompt", "x <|image_pad|>"], "'<|image_pad|>'"),
        (
            ["--prompt", "x <|image_pad|>", "--image", "cat.png"],
            "the prompt's text holds the word '<|image_pad|>'; leave it out",
        ),
        (["--prompt", "x <|video_pad|>", "--image", "cat.png"], "holds '<|video_pad|>', but video is not supported"),
        (["--prompt", "x <|image_pad|>", "--image", "cat.png", "--no-chat"], "'<|image_pad|>'"),
        (["--image", "cat.png"], "--image needs a question about it"),
        (["--config", "batch.yaml", "--image", "cat.png"], "--config does not go with --image"),
        (["--prompt", "x", "--video", "film.mp4"], "unknown flag '--video'"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(words, part, vl_command, vl, loads, two_pictures):
    yaml_file(f"model: {vl}\nprompts: [{{prompt: Which one}}]")
    Path("prompt.txt").write_text("The capital of France is", encoding="utf-8")
    before = files_in(two_pictures)
    code, out, err = vl_command("--model", vl, *words)
    assert (code, out, loads) == (2, [], []) and files_in(two_pictures) == before
    assert len(err) == 1 and part in err[0], err


def test_without_a_picture_the_default_prompt_is_read(vl_command, vl):
    Path("prompt.txt").write_text("The cat", encoding="utf-8")
    assert vl_command("--model", vl, "--layers", 0)[0] == 0 and "the_cat_run.json" in files_in("output")
    assert vl_command("--model", vl, "--layers", 0, "--image", "cat.png", "--prompt-file", "prompt.txt")[0] == 0
    assert "cat_the_cat_run.json" in files_in("output")


@pytest.mark.parametrize(
    "text, part",
    [
        ("prompts: [{prompt: Which one, mask_mode: vision}]", "mask_mode vision needs a picture"),
        ("prompts: [{prompt: Which one, image: 7}]", "image: "),
        ("prompts: [{prompt: Which one, image: [cat.png, [dog.png]]}]", "image: "),
        ("prompts: [{prompt: Which one, image: {a: b}}]", "image: "),
        ("prompts: [{prompt: Which one, video: film.mp4}]", "unknown key 'video'"),
        ("prompts: [{prompt: Which one, image: cat.png, max_image_tokens: 0}]", "max_image_tokens: "),
        ("prompts: [{prompt: Which one, image: sub/none.png}]", "none.png: there is no such file"),
    ],
)
def test_a_wrong_batch_file_is_one_line(text, part, vl_command, vl, loads, two_pictures):
    file = yaml_file(f"model: {vl}\n{text}")
    code, out, err = vl_command("--config", file)
    assert (
        (code, out, loads, len(err)) == (2, [], [], 1) and err[0].startswith("error: batch.yaml:2: ") and part in err[0]
    )
    assert not Path("output").exists()


# Models of another kind, and broken ones


def test_each_door_refuses_the_others_models(vl_command, models, vl, two_pictures):
    code, out, err = vl_command("--model", models / "llama", "--image", "cat.png", "--prompt", QUESTION)
    assert (code, out, len(err)) == (
        2,
        [],
        1,
    ) and "(llama) is a model of text alone: run it with mask_impact_analysis.py" in err[0]
    code, out, err = vl_command("--model", vl, "--prompt", QUESTION, door=mask_impact_analysis)
    assert (code, out, len(err)) == (
        2,
        [],
        1,
    ) and "(qwen3_vl) is a vision-language model; run it with mask_impact_vl.py" in err[0]
    code, out, err = vl_command("--model", vl, "--prompt", QUESTION, "--image", "cat.png", door=mask_impact_analysis)
    assert (code, out, len(err)) == (2, [], 1) and "--image is a flag of mask_impact_vl.py" in err[0]
    assert files_in(two_pictures) == ["cat.png", "dog.png"]


def test_another_vision_language_model_is_refused_by_name(vl_command, tmp_path):
    Qwen2VLConfig().save_pretrained(tmp_path / "qwen2")
    save_file({"weight": torch.zeros(1)}, tmp_path / "qwen2" / "model.safetensors", metadata={"format": "pt"})
    vision_zoo.tokenizer().save_pretrained(tmp_path / "qwen2")
    vision_zoo.processor().save_pretrained(tmp_path / "qwen2")
    code, out, err = vl_command("--model", tmp_path / "qwen2", "--image", "cat.png", "--prompt", QUESTION)
    assert (code, out, len(err)) == (2, [], 1) and "(qwen2_vl) is no Qwen3-VL; choose a Qwen3-VL model" in err[0]


def without(settings):
    settings.unlink()


def torn(settings):
    settings.write_text("{", encoding="utf-8")


def misfitting(settings):
    given = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(given | {"patch_size": 14}), encoding="utf-8")


def senseless(settings):
    given = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(given | {"size": {"height": 3, "width": 3}}), encoding="utf-8")


@pytest.mark.parametrize(
    "change, part",
    [
        (without, "its image processor (preprocessor_config.json) cannot be loaded"),
        (torn, "its image processor (preprocessor_config.json)"),
        (misfitting, "patch, merge and temporal sizes (14, 2, 2), its configuration (4, 2, 2)"),
        (senseless, "preprocessor_config.json"),
    ],
)
def test_a_broken_image_processor_is_found_before_weights_are_loaded(
    change, part, vl_command, models, tmp_path, loads, two_pictures
):
    folder = tmp_path / "model"
    shutil.copytree(models / "vl", folder)
    change(folder / "preprocessor_config.json")
    code, out, err = vl_command("--model", folder, "--image", "cat.png", "--prompt", QUESTION)
    assert (code, out, loads, len(err)) == (2, [], [], 1) and part in err[0], err
    assert files_in(two_pictures) == ["cat.png", "dog.png"]
