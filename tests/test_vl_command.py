"""The vision-language command from end to end, on a tiny saved Qwen3-VL: what it writes, what it says, the code it exits with."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import vision_zoo
import zoo
from PIL import Image
from safetensors.torch import save_file
from transformers import Qwen2VLConfig

import mask_impact_analysis
import mask_impact_vl
from mask_impact import batches, read_results
from mask_impact_vl import run_vl_masking_experiment

QUESTION = "Which one?"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of saved models; they are not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    vision_zoo.save("qwen3_vl", folder / "vl")
    zoo.save("llama", folder / "llama")
    return folder


@pytest.fixture
def vl(models):
    return str(models / "vl")


@pytest.fixture(autouse=True)
def here(two_pictures):
    """A current folder with two pictures and nothing else."""
    return two_pictures


@pytest.fixture
def command(command):
    """Run mask_impact_vl.py, or another front door, in this process."""
    return lambda *words, door=mask_impact_vl: command(*words, door=door)


@pytest.fixture
def ask(command, vl):
    """The question about pictures, quickly."""
    return lambda *words: command("--model", vl, "--prompt", QUESTION, "--layers", 0, "--variants", "attn", *words)


@pytest.fixture
def loads(monkeypatch):
    """The folders that weights are loaded from, in order."""
    loaded, load = [], transformers.AutoModelForImageTextToText.from_pretrained

    def watched(folder, **options):
        loaded.append(str(folder))
        return load(folder, **options)

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", watched)
    return loaded


def record_of(name):
    return json.loads(Path("output", f"{name}_run.json").read_text(encoding="utf-8"))


def files_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def yaml_file(text, name="batch.yaml"):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


# The four ways of use

def test_text_only(command, vl):
    code, out, err = command("--model", vl, "--prompt", QUESTION)
    assert (code, err) == (0, [])
    assert files_in("output") == ["which_one_results.csv", "which_one_results.json", "which_one_run.json"]
    table = read_results("output/which_one_results.csv")
    assert set(table.token_type) == {"text"} and table.patch_row.isna().all() and "masked" not in out[0]
    assert record_of("which_one")["images"] == []


@pytest.mark.parametrize("mode, kinds", [(None, {"text"}), ("text", {"text"}), ("vision", {"vision"}), ("both", {"text", "vision"})])
def test_a_picture_in_every_mask_mode(mode, kinds, command, vl):
    code, out, err = command("--model", vl, "--image", "cat.png", "--prompt", QUESTION, "--output", "cat", *(["--mask-mode", mode] * (mode is not None)))
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


def test_several_pictures_stand_in_their_order_before_the_question(ask):
    assert ask("--image", "dog.png", "--image", "cat.png", "--mask-mode", "both")[0] == 0
    run = record_of("dog_cat_which_one")
    assert [image["path"] for image in run["images"]] == ["dog.png", "cat.png"]
    texts = [token["text"] for token in run["tokens"]]
    assert texts.index("img0[6,1]") < texts.index("img1[0,0]") < texts.index("img1[2,4]") < texts.index("W")


def test_max_image_tokens_lowers_the_grid(ask):
    assert ask("--image", "cat.png", "--max-image-tokens", 6, "--output", "cat")[0] == 0
    [image] = record_of("cat")["images"]
    assert np.prod(image["grid"]) <= 6 and (image["width"], image["height"]) == (40, 24)


# Batch files

def test_a_batch_reads_pictures_beside_its_file(command, vl):
    Path("sub").mkdir()
    for name in ("cat.png", "dog.png"):
        shutil.move(name, Path("sub", name))
    file = yaml_file(f"model: {vl}\nlayers: [0]\ndefaults: {{image: cat.png, mask_mode: vision}}\nprompts:\n"
                     "- {name: one, prompt: Which one}\n- {name: two, prompt: Which one, image: [dog.png, cat.png], mask_mode: both}\n"
                     "- {name: three, prompt: Which one, mask_mode: text}\n- {name: four, prompt: Which one, image: ../sub/dog.png}\n", "sub/batch.yaml")
    assert command("--config", file)[0] == 0
    names = ("one", "two", "three", "four")
    shown = {name: [Path(image["path"]).name for image in record_of(name)["images"]] for name in names}
    assert shown == {"one": ["cat.png"], "two": ["dog.png", "cat.png"], "three": ["cat.png"], "four": ["dog.png"]}
    kinds = {name: set(read_results(f"output/{name}_results.csv").token_type) for name in names}
    assert kinds == {"one": {"vision"}, "two": {"text", "vision"}, "three": {"text"}, "four": {"vision"}}


def test_flags_win_over_the_file(command, vl):
    file = yaml_file(f"model: {vl}\nlayers: [0]\nprompts: [{{name: one, prompt: Which one, image: cat.png, mask_mode: text, max_image_tokens: 15}}]")
    assert command("--config", file, "--mask-mode", "both", "--max-image-tokens", 6)[0] == 0
    settings = record_of("one")["settings"]
    assert (settings["mask_mode"], settings["max_image_tokens"]) == ("both", 6)


def test_an_entry_may_go_without_the_picture_of_the_defaults(command, vl):
    file = yaml_file(f"model: {vl}\nlayers: [0]\ndefaults: {{image: cat.png}}\nprompts: [{{name: one, prompt: Which one, image: []}}]")
    code, _, err = command("--config", file)
    assert (code, err) == (0, []) and record_of("one")["images"] == []


# Names, and what is there already

def test_the_name_begins_with_the_pictures_stem_and_the_same_again_is_there(ask, loads):
    words = ("--image", "cat.png", "--mask-mode", "vision")
    assert ask(*words)[0] == 0 and "cat_which_one_run.json" in files_in("output")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    code, out, err = ask(*words)
    assert (code, err, len(loads)) == (0, [], 1) and "this result is there, with the same settings" in out[0]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    assert ask(*words, "--overwrite")[0] == 0 and len(loads) == 2 and len(files_in("output")) == 3


def test_another_picture_under_the_same_name_is_another_run(ask):
    assert ask("--image", "cat.png")[0] == 0
    vision_zoo.picture(Path("cat.png"), 40, 24, seed=5)
    assert ask("--image", "cat.png")[0] == 0 and "cat_which_one_2_run.json" in files_in("output")
    vision_zoo.picture(Path("cat.png"), 40, 24, seed=6)
    code, out, err = ask("--image", "cat.png", "--output", "cat_which_one")
    assert (code, out) == (2, []) and "by a run with other settings (image_sha256)" in err[0]


def test_a_moved_picture_is_the_same_run(ask, loads):
    assert ask("--image", "cat.png")[0] == 0
    Path("elsewhere").mkdir()
    shutil.move("cat.png", "elsewhere/cat.png")
    code, out, _ = ask("--image", "elsewhere/cat.png")
    assert code == 0 and len(loads) == 1 and "this result is there" in out[0]


@pytest.mark.parametrize("words, what", [(["--mask-mode", "both"], "mask_mode"), (["--image", "dog.png"], "image_sha256"),
                                         (["--max-image-tokens", 6], "max_image_tokens")])
def test_what_changes_the_numbers_is_another_run(words, what, ask):
    assert ask("--image", "cat.png", "--output", "one")[0] == 0
    code, _, err = ask("--image", "cat.png", "--output", "one", *words)
    assert code == 2 and f"({what})" in err[0]


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
    Path("torn.png").write_bytes(whole[:len(whole) // 2])
    vision_zoo.picture(Path("small.png"), 3, 50)
    vision_zoo.picture(Path("long.png"), 900, 4)


FAULTS = {"text.png": "this is text, not a picture", "empty.png": "the file is empty", "folder.png": "this is a folder",
          "bomb.bmp": "more than the limit of 178,956,970 pixels", "film.mp4": "video is not supported", "torn.png": "truncated or damaged",
          "none.png": "there is no such file", "small.png": "a single patch of this model 4 x 4", "long.png": "200 times the other"}


@pytest.mark.parametrize("file, part", FAULTS.items())
def test_a_wrong_picture_is_one_line_and_writes_nothing(file, part, ask, loads, here):
    made_files()
    before = files_in(here)
    code, out, err = ask("--image", file, "--mask-mode", "both")
    assert (code, out, loads, len(err)) == (2, [], [], 1) and err[0].startswith(f"error: {file}: ") and part in err[0]
    assert files_in(here) == before


def test_all_wrong_pictures_of_a_batch_are_listed(command, vl, loads, here):
    made_files()
    entries = "".join(f"- {{prompt: Which one, image: [cat.png, {file}]}}\n" for file in FAULTS)
    file = yaml_file(f"model: {vl}\nprompts:\n{entries}- {{prompt: Which one, image: [none.png, text.png]}}\n")
    before = files_in(here)
    code, out, err = command("--config", file)
    assert (code, out, loads, len(err)) == (2, [], [], len(FAULTS) + 2) and files_in(here) == before
    for number, (line, part) in enumerate(zip(err, FAULTS.values())):
        assert line.startswith(f"error: batch.yaml:{3 + number}: ") and part in line


@pytest.mark.parametrize("words, part", [
    (["--prompt", "x", "--mask-mode", "vision"], "mask_mode vision needs a picture"),
    (["--prompt", "x", "--mask-mode", "both"], "mask_mode both needs a picture"),
    (["--prompt", "x", "--mask-mode", "pictures"], "--mask-mode: "),
    (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "0"], "--max-image-tokens: "),
    (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "-3"], "--max-image-tokens: "),
    (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "many"], "--max-image-tokens: "),
    (["--prompt", "x", "--image", "cat.png", "--max-image-tokens", "1.5"], "--max-image-tokens: "),
    (["--prompt", "x", "--image", ""], "--image: "),
    (["--prompt", "x <|image_pad|>"], "'<|image_pad|>'"),
    (["--prompt", "x <|image_pad|>", "--image", "cat.png"], "the prompt's text holds the word '<|image_pad|>'; leave it out"),
    (["--prompt", "x <|video_pad|>", "--image", "cat.png"], "holds '<|video_pad|>', but video is not supported"),
    (["--prompt", "x <|image_pad|>", "--image", "cat.png", "--no-chat"], "'<|image_pad|>'"),
    (["--image", "cat.png"], "--image needs a question about it"),
    (["--config", "batch.yaml", "--image", "cat.png"], "--config does not go with --image"),
    (["--prompt", "x", "--video", "film.mp4"], "unknown flag '--video'"),
])
def test_a_wrong_request_is_one_line_and_writes_nothing(words, part, command, vl, loads, here):
    yaml_file(f"model: {vl}\nprompts: [{{prompt: Which one}}]")
    Path("prompt.txt").write_text("The capital of France is", encoding="utf-8")
    before = files_in(here)
    code, out, err = command("--model", vl, *words)
    assert (code, out, loads) == (2, [], []) and files_in(here) == before
    assert len(err) == 1 and part in err[0], err


def test_without_a_picture_the_default_prompt_is_read(command, vl):
    Path("prompt.txt").write_text("The cat", encoding="utf-8")
    assert command("--model", vl, "--layers", 0)[0] == 0 and "the_cat_run.json" in files_in("output")
    assert command("--model", vl, "--layers", 0, "--image", "cat.png", "--prompt-file", "prompt.txt")[0] == 0
    assert "cat_the_cat_run.json" in files_in("output")


@pytest.mark.parametrize("text, part", [
    ("prompts: [{prompt: Which one, mask_mode: vision}]", "mask_mode vision needs a picture"),
    ("prompts: [{prompt: Which one, image: 7}]", "image: "), ("prompts: [{prompt: Which one, image: [cat.png, [dog.png]]}]", "image: "),
    ("prompts: [{prompt: Which one, image: {a: b}}]", "image: "), ("prompts: [{prompt: Which one, video: film.mp4}]", "unknown key 'video'"),
    ("prompts: [{prompt: Which one, image: cat.png, max_image_tokens: 0}]", "max_image_tokens: "),
    ("prompts: [{prompt: Which one, image: sub/none.png}]", "none.png: there is no such file"),
])
def test_a_wrong_batch_file_is_one_line(text, part, command, vl, loads, here):
    file = yaml_file(f"model: {vl}\n{text}")
    code, out, err = command("--config", file)
    assert (code, out, loads, len(err)) == (2, [], [], 1) and err[0].startswith("error: batch.yaml:2: ") and part in err[0]
    assert not Path("output").exists()


# Models of another kind, and broken ones

def test_each_door_refuses_the_others_models(command, models, vl, here):
    code, out, err = command("--model", models / "llama", "--image", "cat.png", "--prompt", QUESTION)
    assert (code, out, len(err)) == (2, [], 1) and "(llama) is a model of text alone: run it with mask_impact_analysis.py" in err[0]
    code, out, err = command("--model", vl, "--prompt", QUESTION, door=mask_impact_analysis)
    assert (code, out, len(err)) == (2, [], 1) and "(qwen3_vl) is a vision-language model; run it with mask_impact_vl.py" in err[0]
    code, out, err = command("--model", vl, "--prompt", QUESTION, "--image", "cat.png", door=mask_impact_analysis)
    assert (code, out, len(err)) == (2, [], 1) and "--image is a flag of mask_impact_vl.py" in err[0]
    assert files_in(here) == ["cat.png", "dog.png"]


def test_another_vision_language_model_is_refused_by_name(command, tmp_path):
    Qwen2VLConfig().save_pretrained(tmp_path / "qwen2")
    save_file({"weight": torch.zeros(1)}, tmp_path / "qwen2" / "model.safetensors", metadata={"format": "pt"})
    vision_zoo.tokenizer().save_pretrained(tmp_path / "qwen2")
    vision_zoo.processor().save_pretrained(tmp_path / "qwen2")
    code, out, err = command("--model", tmp_path / "qwen2", "--image", "cat.png", "--prompt", QUESTION)
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


@pytest.mark.parametrize("change, part", [
    (without, "its image processor (preprocessor_config.json) cannot be loaded"), (torn, "its image processor (preprocessor_config.json)"),
    (misfitting, "patch, merge and temporal sizes (14, 2, 2), its configuration (4, 2, 2)"), (senseless, "preprocessor_config.json")])
def test_a_broken_image_processor_is_found_before_weights_are_loaded(change, part, command, models, tmp_path, loads, here):
    folder = tmp_path / "model"
    shutil.copytree(models / "vl", folder)
    change(folder / "preprocessor_config.json")
    code, out, err = command("--model", folder, "--image", "cat.png", "--prompt", QUESTION)
    assert (code, out, loads, len(err)) == (2, [], [], 1) and part in err[0], err
    assert files_in(here) == ["cat.png", "dog.png"]


# Pictures of every kind

def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


@pytest.mark.parametrize("name, mode, options, grid", [
    ("a.jpg", "CMYK", {}, [3, 5]), ("a.png", "P", {}, [3, 5]), ("a.png", "I;16", {}, [3, 5]), ("a.png", "RGBA", {}, [3, 5]),
    ("a.png", "L", {}, [3, 5]), ("a.jpg", "RGB", rotated(), [5, 3])])
def test_pictures_of_every_kind_are_read(name, mode, options, grid, ask):
    image = Image.open("cat.png")
    image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    assert image.mode == mode
    image.save(name, **options)
    code, _, err = ask("--image", name, "--mask-mode", "both", "--output", "a")
    assert (code, err) == (0, []) and record_of("a")["images"][0]["grid"] == grid


def test_an_animated_picture_says_that_its_first_frame_is_taken(ask):
    frames = [Image.open("cat.png").convert("P"), Image.new("P", (40, 24))]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    code, _, err = ask("--image", "a.gif", "--output", "a")
    assert (code, err) == (0, ["warning: a.gif: 2 frames; the first is taken"])


# What fails under way

@pytest.mark.parametrize("spoil, reason", [
    (lambda path: path.unlink(), "dog.png: there is no such file"), (lambda path: path.write_bytes(b""), "dog.png: the file is empty"),
    (lambda path: vision_zoo.picture(path, 24, 24), "dog.png: the picture is no longer the one that was looked at"),
    (lambda path: vision_zoo.picture(path, 16, 56, seed=9), "dog.png: the picture is no longer the one that was looked at"),
])
def test_a_picture_that_is_spoilt_under_way_fails_alone(spoil, reason, command, vl, monkeypatch):
    file = yaml_file(f"model: {vl}\nlayers: [0]\nprompts:\n- {{name: one, prompt: Which one, image: dog.png}}\n"
                     "- {name: two, prompt: Which one, image: cat.png}\n- {name: three, prompt: Which one}\n")
    load = batches.loaded

    def spoiling(*given):
        subject = load(*given)
        spoil(Path("dog.png"))
        return subject

    monkeypatch.setattr(batches, "loaded", spoiling)
    code, _, err = command("--config", file)
    assert code == 1 and err[0].startswith(f"error: one: {reason}") and err[1:] == ["error: 1 of 3 prompts failed: one"]
    assert record_of("one")["status"] == "failed" and reason in json.dumps(record_of("one"))
    assert [record_of(name)["status"] for name in ("two", "three")] == ["complete"] * 2
    assert not Path("output/one_results.csv").exists()


# From Python

def asked_in_python(image, **settings):
    """The table, of a loaded model."""
    own = dict(model=vision_zoo.build("qwen3_vl"), tokenizer=vision_zoo.tokenizer(), image_processor=vision_zoo.processor(),
               layers=[0], variants=["attn"], mask_mode="both")
    return run_vl_masking_experiment(QUESTION, image, **(own | settings))


def test_a_picture_is_a_path_or_a_list_of_them(here):
    table = asked_in_python("cat.png")
    for image in (Path("cat.png"), ["cat.png"], [Path("cat.png")], ("cat.png",), here / "cat.png"):
        assert asked_in_python(image).equals(table)
    assert asked_in_python(None, mask_mode="text").token_type.eq("text").all()
    assert asked_in_python(["cat.png", Path("dog.png")]).image_index.max() == 1
    assert files_in(here) == ["cat.png", "dog.png"]


@pytest.mark.parametrize("image", [7, 1.5, True, {"a": 1}, [None], [["cat.png"]], "", [""], b"cat.png", Image.new("RGB", (40, 24)), np.zeros((3, 3))],
                         ids=lambda image: type(image).__name__)
def test_what_is_no_path_is_refused(image):
    with pytest.raises(ValueError, match="^image: ") as caught:
        asked_in_python(image)
    assert len(str(caught.value).splitlines()) == 1


def test_all_faults_of_a_wrong_request_are_named(vl):
    with pytest.raises(ValueError) as caught:
        run_vl_masking_experiment("", "cat.png", "patches", vl, max_image_tokens=0)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["prompt", "mask_mode", "max_image_tokens"]
    with pytest.raises(ValueError, match="none.png: there is no such file"):
        run_vl_masking_experiment(QUESTION, "none.png", model_name=vl)
    with pytest.raises(ValueError, match="mask_mode vision needs a picture"):
        run_vl_masking_experiment(QUESTION, mask_mode="vision", model_name=vl)
    with pytest.raises(ValueError, match="model and tokenizer go together"):
        asked_in_python("cat.png", tokenizer=None)
    with pytest.raises(ValueError, match="is no Qwen3-VL"):
        asked_in_python("cat.png", model=zoo.build("llama"))


def test_a_named_model_gives_the_table_of_the_loaded_one(vl):
    found = run_vl_masking_experiment(QUESTION, "cat.png", "both", vl, layers=[0], variants=["attn"])
    assert found.equals(asked_in_python("cat.png"))


def test_a_loaded_model_is_left_as_it_was():
    model = vision_zoo.build("qwen3_vl").train()
    model.model.visual.eval()
    model.model.rope_deltas = torch.tensor([[5]])
    training = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    attention = {name: config._attn_implementation for name, config in
                 (("whole", model.config), ("text", model.config.text_config), ("vision", model.config.vision_config))}
    for image in ("cat.png", "missing.png"):
        try:
            asked_in_python(image, model=model)
        except ValueError:
            assert image == "missing.png"
        assert [module.training for module in model.modules()] == training and model.model.rope_deltas.tolist() == [[5]]
        assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
        assert attention == {name: config._attn_implementation for name, config in
                             (("whole", model.config), ("text", model.config.text_config), ("vision", model.config.vision_config))}
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
