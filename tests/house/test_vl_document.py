"""VL_IMPLEMENTATION.md: every number of its worked example is what the code and the model give,
and what it names is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from repository import ROOT
from transformers import Qwen2VLImageProcessorPil

from mask_impact.models import loading
from mask_impact.models.vision import picture_tokens as vision_inputs
from mask_impact.models.vision import qwen3_vl
from mask_impact.results.strongest import strongest_tokens
from mask_impact.runs import planning
from mask_impact.runs.run import Run
from mask_impact.settings import command_line
from mask_impact.settings.vision_settings import MASK_MODES, VisionSettings
from mask_impact_vl import measure

DOCUMENT = (ROOT / "VL_IMPLEMENTATION.md").read_text(encoding="utf-8")
PICTURE = str(ROOT / "testimg.png")
SCREEN = (1920, 1080)
OWN = {
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    **qwen3_vl.DEFAULT_PROCESSOR,
}  # what Qwen3-VL's image processor comes with


def table(section: str, head: str) -> list[list[str]]:
    """The cells of the section's table whose first line begins with `head`;
    the lines with what they are about first."""
    text = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = text[text.index(f"\n| {head}") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@pytest.fixture(scope="module")
def loaded():
    settings = VisionSettings(model="demo", prompt="x", device="cpu")
    return loading.load(qwen3_vl.examine(settings), settings)


@pytest.fixture(scope="module")
def asked() -> VisionSettings:
    """The settings of the example's command, its picture found from any folder."""
    [line] = re.findall(r"^python mask_impact_vl.py (.* --mask-mode both)$", DOCUMENT, re.MULTILINE)
    words = [PICTURE if word == "testimg.png" else word for word in shlex.split(line)]
    [settings] = command_line.read(words, "mask_impact_vl.py", VisionSettings)
    assert settings.model == "demo" and settings.max_image_tokens == VisionSettings.max_image_tokens
    return settings


def figures(
    model_info: qwen3_vl.VisionModelInfo, settings: VisionSettings, loaded: loading.LoadedModel
) -> Iterator[tuple[str, str]]:
    """The lines of the example, each with what stands in one column of it, in the document's order and form."""
    inputs = model_info.prompt_inputs(settings)
    made = inputs.further(inputs.token_ids, torch.device("cpu"))
    [image] = inputs.images
    yield from sizes(image, model_info.processor, settings, made)
    yield from places(image, model_info.processor, inputs, made, loaded.model)


def sizes(
    image: vision_inputs.SeenPicture, processor, settings: VisionSettings, made: dict
) -> Iterator[tuple[str, str]]:
    """From the picture to its merged grid."""
    size = (image.picture.width, image.picture.height)
    patch, merge, limits = processor.patch_size, processor.merge_size, processor.size
    cell = patch * merge
    free = vision_inputs.seen(image.picture, processor, 10**9)
    (_, rows, columns), numbers = made["image_grid_thw"][0].tolist(), made["pixel_values"].shape[1]
    assert made["pixel_values"].shape[0] == rows * columns and image.grid == (rows // merge, columns // merge)
    yield "picture, pixels", "{} x {}".format(*size)
    yield "patch, pixels", f"{patch} x {patch}"
    yield "patches merged into a cell", f"{merge} x {merge}"
    yield "pixels of a cell", f"{cell} x {cell}"
    yield "fewest and most pixels of the image processor", f"{limits['shortest_edge']:,} and {limits['longest_edge']:,}"
    yield "resized by it", "{1} x {0}".format(*free.resized)
    yield "vision tokens then", f"{free.tokens:,}"
    yield "`--max-image-tokens` (the default)", f"{settings.max_image_tokens:,}"
    yield "most pixels with it", f"{image.limits['longest_edge']:,}"
    yield "resized", "{1} x {0}".format(*image.resized)
    yield "patches", f"{rows} x {columns} = {rows * columns:,}"
    yield "numbers of a patch", f"3 x {processor.temporal_patch_size} x {patch} x {patch} = {numbers:,}"
    yield "merged grid", f"{image.grid[0]} x {image.grid[1]} = {image.tokens:,}"


def places(
    image: vision_inputs.SeenPicture, processor, inputs: vision_inputs.VisionInputs, made: dict, model
) -> Iterator[tuple[str, str]]:
    """Where the picture stands in the prompt, and where one cell of it lies on the picture."""
    ids, config = inputs.token_ids, model.config
    [seen] = (inputs.places[:, 0] == 0).nonzero()
    first, last = int(seen[0]), int(seen[-1])
    assert image.tokens == len(seen) == last - first + 1
    assert (ids[first - 1], ids[last + 1]) == (config.vision_start_token_id, config.vision_end_token_id)
    yield r"`<\|vision_start\|>` at position", f"{first - 1:,}"
    yield "vision tokens at positions", f"{first:,} to {last:,}"
    yield r"`<\|vision_end\|>` at position", f"{last + 1:,}"
    positions, deltas = positions_of(model, ids, made)
    chosen = int((inputs.places == (0, 1, 2)).all(1).nonzero()[0][0])
    yield "t, h, w of the first cell", three(positions, first)
    yield "t, h, w of the last cell", three(positions, last)
    yield r"t, h, w of `<\|vision_end\|>`", three(positions, last + 1)
    yield "what the model adds to a later token's position (`rope_deltas`)", str(deltas)
    yield "`img0[1,2]` at position", f"{chosen:,}"
    yield "t, h, w of `img0[1,2]`", three(positions, chosen)
    cell = processor.patch_size * processor.merge_size
    box = [2 * cell, 1 * cell, 3 * cell, 2 * cell]  # row 1, column 2
    scale = [image.picture.width / image.resized[1], image.picture.height / image.resized[0]] * 2
    yield "its pixels of the resized picture, left, top, right, bottom", ", ".join(map(str, box))
    yield "its pixels of the picture itself", ", ".join(f"{round(edge * by, 1):g}" for edge, by in zip(box, scale))


def positions_of(model, ids: list[int], made: dict) -> tuple[torch.Tensor, int]:
    """The positions (3, position) that the model gives its tokens, and how far a later token's are shifted."""
    positions, deltas = model.model.get_rope_index(
        torch.tensor([ids]), made["mm_token_type_ids"], image_grid_thw=made["image_grid_thw"]
    )
    return positions[:, 0], deltas.item()


def three(positions: torch.Tensor, place: int) -> str:
    return ", ".join(f"{axis:,}" for axis in positions[:, place].tolist())


def test_the_demos_column(loaded, asked):
    rows = table("A worked example", "|")
    assert [(row[0], row[1]) for row in rows] == list(figures(loaded.model_info, asked, loaded))


def test_the_screens_column(loaded, asked, tmp_path):
    """Sizes are Qwen3-VL's; words and places come from the demo's tokenizer, whose chat begins alike."""
    path = tmp_path / "screen.png"
    Image.new("RGB", SCREEN, "white").save(path)
    config, processor = loaded.model_info.config, Qwen2VLImageProcessorPil(**OWN)
    model_info = qwen3_vl.VisionModelInfo("screen", config, loaded.tokenizer, processor=processor)
    settings = VisionSettings(prompt=asked.prompt, image=[str(path)])
    rows = table("A worked example", "|")
    assert [(row[0], row[2]) for row in rows] == list(figures(model_info, settings, loaded))


def test_the_models_own_call_has_these_positions(loaded, asked):
    """What `get_rope_index` gives is what the decoder is given, and `rope_deltas` what the model keeps."""
    inputs, seen = loaded.model_info.prompt_inputs(asked), []
    made = inputs.further(inputs.token_ids, torch.device("cpu"))
    hook = loaded.model.model.language_model.register_forward_pre_hook(
        lambda _, __, words: seen.append(words["position_ids"]), with_kwargs=True
    )
    loaded.model(input_ids=torch.tensor([inputs.token_ids]), **made)
    hook.remove()
    positions, deltas = positions_of(loaded.model, inputs.token_ids, made)
    assert torch.equal(seen[0][-3:, 0], positions) and loaded.model.model.rope_deltas.item() == deltas


def test_the_modes_rows(loaded, asked):
    found = {}
    for mode in MASK_MODES:
        settings = VisionSettings(model="demo", prompt=asked.prompt, image=asked.image, mask_mode=mode)
        run: Run = measure(planning.plan(settings, loaded.model_info), loaded)
        record = run.record()
        masked = len(run.distances[0].positions)
        found[f"`{mode}`"] = [str(n) for n in (masked, len(record["layers"]), len(record["variants"]), record["rows"])]
    assert found == {mode: rest for mode, *rest in table("A worked example", "`--mask-mode`")}


def test_the_cell_of_the_example_is_the_strongest(loaded, asked):
    run = measure(planning.plan(asked, loaded.model_info), loaded)
    [top] = strongest_tokens(run.table(), 1)
    assert (top.position, top.text) == (12, "img0[1,2]")


def test_the_phases_are_all_there():
    rows = table("Phases", "phase")
    assert [row[0] for row in rows] == ["1", "2a", "2b", "2c", "3"]
    assert [row[3] for row in rows] == ["works"] * 5
    commands = [row[2].split(", the default")[0].strip("`") for row in rows]
    for command, mode in zip(commands, ("text", "text", "vision", "both", "text")):
        [settings] = command_line.read(shlex.split(command), "mask_impact_vl.py", VisionSettings)
        assert settings.mask_mode == mode and bool(settings.image) == ("--image" in command)
    assert (settings.part, settings.at) == ("encoder", "3,5")


def test_the_encoders_table(loaded):
    """The circle's cell mixes in the three other shapes, and the rest is not half as strong."""
    settings = VisionSettings(model="demo", image=[PICTURE], part="encoder", at="1,2")
    plan = planning.plan(settings, loaded.model_info)
    run = measure(plan, loading.prepare(loaded.model_info, loaded.model, settings, {"encoder"}))
    strongest = strongest_tokens(run.table(), 5)
    rows = table("Inside the encoder", "cell")
    assert [(f"`{one.text}`", f"{one.total:.3g}") for one in strongest] == [(row[0], row[2]) for row in rows]
    assert 2 * strongest[4].total < strongest[3].total


def test_every_trap_names_code_that_is_there():
    rows = table("Traps", "trap")
    clauses = [
        clause
        for _, where in rows
        for clause in re.findall(r"((?:`\w+`(?: and )?)+) in `(mask_impact/[\w/]+\.py)`", where)
    ]
    named = [(path, name) for names, path in clauses for name in re.findall(r"\w+(?=`)", names)]
    assert len(rows) == 15 and len(named) >= 15
    for path, name in named:
        assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (path, name)


def test_what_the_document_names_is_there():
    paths = set(re.findall(r"(?<![\w/])((?:mask_impact/(?:\w+/)+|tests/(?:\w+/)+)?\w+\.(?:py|md|png))\b", DOCUMENT))
    assert {
        "mask_impact/models/vision/qwen3_vl.py",
        "mask_impact/models/vision/picture_tokens.py",
        "testimg.png",
        "test_vl_phase1.py",
        "GLOSSARY.md",
    } <= paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
