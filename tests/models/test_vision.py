"""Vision-language models: both methods against the independent implementation, inputs, labels,
and places on the picture."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
import vision_zoo
from asking import QUESTION, planned
from measuring import relative_error
from oracle import oracle
from PIL import Image

from mask_impact import read_results
from mask_impact.base.errors import RequestError, RunError
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.models.vision import picture_tokens as vision_inputs
from mask_impact.models.vision import pictures
from mask_impact.settings.vision_settings import MASK_MODES
from mask_impact.sites.attention import attached
from mask_impact.sites.recording import recording
from mask_impact_analysis import run_masking_experiment
from mask_impact_vl import main, run_vl_masking_experiment

STEPS = 3
SIZES = [[(40, 24)], [(40, 24), (16, 56)]]  # width, height: one picture, and two of different shapes
DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "vl"
    vision_zoo.save("qwen3_vl", place)
    return str(place)


@pytest.fixture
def pictured(tmp_path):
    """Paths of random pictures of these sizes."""
    return lambda sizes: [vision_zoo.picture(tmp_path / f"p{n}.png", *size, seed=n) for n, size in enumerate(sizes)]


def experiment(model, prompt=QUESTION, image=None, mask_mode="text", **settings):
    return run_vl_masking_experiment(
        prompt,
        image,
        mask_mode,
        model=model,
        tokenizer=vision_zoo.tokenizer(),
        image_processor=vision_zoo.processor(),
        **settings,
    )


@pytest.mark.parametrize("sizes", SIZES, ids=["one picture", "two pictures"])
@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_both_methods_equal_the_plain_implementation(name, sizes, pictured):
    """In every mask mode, with and without a cache,
    and with rows that join the forward pass and rows that do not."""
    model = vision_zoo.build(name)
    inputs = planned(model, pictured(sizes))
    parts, _ = measurable_parts(model)
    tables = {}
    methods = [
        Method(),
        Method(join_rows=False),
        Method(use_cache=False),
        Method("rerun"),
        Method("rerun", use_cache=False),
    ]
    for mode in MASK_MODES:
        asked = vision_inputs.VisionInputs(inputs.token_ids, inputs.images, mode, inputs.image_token, inputs.processor)
        fed = ModelInputs(
            asked.token_ids, STEPS, masked=asked.masked, further=lambda ids, asked=asked: asked.further(ids, DEVICE)
        )
        for method in methods:
            found = list(measured_layers(model, parts, fed, method))
            assert len(found) == STEPS * 3
            for layer in found:
                ids = layer.step.token_ids
                key = tuple(ids), layer.layer
                if key not in tables:
                    model.model.rope_deltas = None
                    tables[key] = oracle(model, torch.tensor([ids]), layers=[layer.layer], **asked.further(ids, DEVICE))
                for row, variant in enumerate(layer.variants):
                    l2, cosine = (values[layer.step.sets.members] for values in tables[key][variant, layer.layer])
                    assert relative_error(layer.l2[row], l2) <= 1e-4, (mode, method, variant)
                    assert np.abs(layer.cosine[row] - cosine.numpy()).max() <= 1e-5


@pytest.mark.parametrize("sizes", [[], *SIZES], ids=["text", "one picture", "two pictures"])
@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_hooked_and_plain_logits_are_equal(name, sizes, pictured):
    model = vision_zoo.build(name)
    inputs = planned(model, pictured(sizes), "both" if sizes else "text")
    call = dict(input_ids=torch.tensor([inputs.token_ids]), use_cache=False, **inputs.further(inputs.token_ids, DEVICE))
    parts, _ = measurable_parts(model)
    with torch.no_grad():
        plain = model(**call).logits
        with attached(model.get_decoder()), recording(parts, len(inputs.token_ids), whole=True):
            hooked = model(**call).logits
    assert (hooked - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_inputs_are_those_of_the_models_own_processor(pictured):
    """What Qwen3VLProcessor gives (which needs torchvision):
    its kinds of tokens, and the places that M-RoPE makes of them.

    A picture after n tokens of text has t = n, and h and w count its rows and columns from n;
    the text goes on after the longer side.
    """
    model = vision_zoo.build("qwen3_vl")
    inputs = planned(model, pictured(SIZES[1]))
    ids, call = torch.tensor([inputs.token_ids]), inputs.further(inputs.token_ids, DEVICE)
    image = ids == model.config.image_token_id
    assert torch.equal(call["mm_token_type_ids"], image.int()) and image.sum() == 3 * 5 + 7 * 2
    assert call["image_grid_thw"].tolist() == [[1, 6, 10], [1, 14, 4]] and len(call["pixel_values"]) == 4 * image.sum()
    positions, _ = model.model.get_rope_index(
        ids, image_grid_thw=call["image_grid_thw"], mm_token_type_ids=call["mm_token_type_ids"]
    )
    first = int(image[0].nonzero()[0])
    expected = [[first, first + row, first + col] for row in range(3) for col in range(5)]
    assert positions[:, 0, first : first + 15].T.tolist() == expected
    assert positions[:, 0, first + 15].tolist() == [first + 5] * 3


def test_pictures_matter_to_the_logits(pictured):
    """What the test above compares is not blind:
    another picture, or the same patches without DeepStack, gives other logits."""
    model = vision_zoo.build("qwen3_vl")
    inputs = planned(model, pictured(SIZES[0]))
    call = dict(input_ids=torch.tensor([inputs.token_ids]), use_cache=False, **inputs.further(inputs.token_ids, DEVICE))
    with torch.no_grad():
        plain = model(**call).logits[0, -1]
        other = model(**call | {"pixel_values": call["pixel_values"].flip(0)}).logits[0, -1]
        model.model.language_model._deepstack_process = lambda hidden, *_: hidden
        shallow = model(**call).logits[0, -1]
    assert min((plain - other).abs().max(), (plain - shallow).abs().max()) > 1e-2 * plain.abs().max()


def test_modes_are_selections_of_both(pictured):
    model, paths = vision_zoo.build("qwen3_vl"), pictured(SIZES[1])
    both, text, seen = (
        experiment(model, image=paths, mask_mode=mode, num_output_tokens=2) for mode in ("both", "text", "vision")
    )
    key = ["generation_step", "variant", "layer", "token_position"]
    for part, kind in ((text, "text"), (seen, "vision")):
        expected = both[both.token_type == kind].reset_index(drop=True)
        assert len(part) and part[[*key, "token_masked"]].equals(expected[[*key, "token_masked"]])
        scale = both.groupby(["layer", "variant"]).l2_distance.max()
        error = (part.l2_distance - expected.l2_distance).abs() / scale.loc[
            list(zip(part.layer, part.variant))
        ].to_numpy()
        assert error.max() < 1e-5
    assert len(text) + len(seen) == len(both) and both.attrs["run"]["rows"] == len(both)


def test_text_only_gives_the_table_of_the_text_script():
    """A Qwen3 made of the text weights; interleaved M-RoPE with three equal axes is plain rotary embedding."""
    model = vision_zoo.build("qwen3_vl")
    twin = vision_zoo.text_twin(model)
    ours = experiment(model, num_output_tokens=3)
    theirs = run_masking_experiment(
        QUESTION, model=twin, tokenizer=vision_zoo.tokenizer(), num_output_tokens=3, chat=True
    )
    names = list(theirs)[:5]
    assert ours[names].equals(theirs[names]) and np.allclose(ours.l2_distance, theirs.l2_distance, rtol=1e-4, atol=1e-6)
    assert ours.token_type.eq("text").all() and ours[["image_index", "patch_row", "patch_col"]].isna().all(axis=None)


def test_a_text_run_after_a_picture_run_knows_nothing_of_it(pictured):
    """The model keeps rope deltas of its last picture; with them, a later token of text stands in the wrong place."""
    model = vision_zoo.build("qwen3_vl")
    before = experiment(model, num_output_tokens=3)
    experiment(model, image=pictured(SIZES[0]), num_output_tokens=2)
    assert experiment(model, num_output_tokens=3).equals(before)
    model.model.rope_deltas = torch.tensor([[-7]])
    assert experiment(model, num_output_tokens=3).equals(before) and model.model.rope_deltas.item() == -7


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"knockout": ["all", "final", "heads", "first_order"]},
        {
            "knockout": ["all", "final", "heads"],
            "method": "rerun",
            "units": ["words", "images"],
            "head_cells": 4,
            "mask_mode": "both",
        },
    ],
    ids=["layers", "knock-outs", "rerun"],
)
@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_pictures_are_encoded_once(name, settings, pictured):
    """In a run, whatever it measures; the next run, of other pictures, encodes its own."""
    model, calls = vision_zoo.build(name), []
    model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    for sizes in (SIZES[1], SIZES[0]):
        calls.clear()
        experiment(model, image=pictured(sizes), num_output_tokens=3, **settings)
        assert len(calls) == 1
    assert "get_image_features" not in vars(model.model)


def test_labels_and_places(pictured, folder, tmp_path, monkeypatch):
    """Columns after the seven, patches row by row, the words around pictures as text;
    and all of it read back from files."""
    paths = pictured(SIZES[1])
    table = run_vl_masking_experiment(QUESTION, paths, "both", folder, num_output_tokens=2)
    assert list(table)[7:] == ["token_type", "image_index", "patch_row", "patch_col"]
    first = table[(table.generation_step == 0) & (table.layer == 0) & (table.variant == "Full")]
    patches = first[first.token_type == "vision"]
    expected = [(0, r, c) for r in range(3) for c in range(5)] + [(1, r, c) for r in range(7) for c in range(2)]
    assert list(zip(patches.image_index, patches.patch_row, patches.patch_col)) == expected
    assert patches.token_masked.tolist() == [f"img{i}[{r},{c}]" for i, r, c in expected]
    words = first[first.token_type == "text"].token_masked.tolist()
    assert (
        words.count("<|vision_start|>") == words.count("<|vision_end|>") == 2
        and "".join(words).count("Which one?") == 1
    )
    monkeypatch.chdir(tmp_path)
    flags = [
        "--model",
        folder,
        "--prompt",
        QUESTION,
        "--mask-mode",
        "both",
        "--num-tokens",
        "2",
        "--quiet",
        "--output",
        "r",
    ]
    assert main([*flags, "--formats", "csv,json,parquet", *(word for path in paths for word in ("--image", path))]) == 0
    for form in ("csv", "json", "parquet"):
        assert read_results(f"output/r_results.{form}").equals(table)
    assert pd.read_csv("output/r_results.csv").columns.tolist() == list(table)


def test_the_run_file_holds_the_pictures(pictured, folder):
    run = run_vl_masking_experiment(QUESTION, pictured([(1100, 700)]), "vision", folder).attrs["run"]
    [image] = run["images"]
    assert (image["width"], image["height"], image["resized"], image["grid"]) == (1100, 700, [48, 80], [6, 10])
    assert (
        image["uri"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
        and len(run["image_sha256"][0]) == 64
    )


@pytest.mark.parametrize("size", [(64, 64), (96, 24), (24, 96)], ids=["square", "wide", "tall"])
def test_one_cell_of_the_picture_is_one_token_of_the_encoder(size, tmp_path):
    """Painting a cell changes exactly the patches that make its token, and nothing else."""
    width, height = size
    model, path = vision_zoo.build("qwen3_vl"), tmp_path / "p.png"
    Image.new("RGB", size, "white").save(path)
    plain = planned(model, [str(path)]).further([0], DEVICE)["pixel_values"].view(-1, 4, 3 * 2 * 4 * 4)
    for row in range(height // 8):
        for col in range(width // 8):
            image = Image.new("RGB", size, "white")
            image.paste((200, 30, 90), (8 * col, 8 * row, 8 * col + 8, 8 * row + 8))
            image.save(path)
            inputs = planned(model, [str(path)])
            painted = inputs.further(inputs.token_ids, DEVICE)["pixel_values"].view_as(plain)
            changed = (painted != plain).any(-1)
            assert changed.sum(1).nonzero().tolist() == [[row * (width // 8) + col]] and changed.sum() == 4


def test_the_picture_in_the_run_file_is_what_the_model_saw(tmp_path):
    """The encoder's patches, put together again, are the picture that is drawn under the overlay."""
    model = vision_zoo.build("qwen3_vl")
    picture, path = Image.new("RGB", (150, 70), "white"), str(tmp_path / "p.png")
    picture.paste((200, 30, 90), (10, 20, 61, 43))
    picture.save(path)
    inputs = planned(model, [path])
    [image] = inputs.images
    rows, cols = image.grid
    patches = inputs.further(inputs.token_ids, DEVICE)["pixel_values"].view(rows, cols, 2, 2, 3, 2, 4, 4)[..., 0, :, :]
    seen = (patches.permute(0, 2, 5, 1, 3, 6, 4) * 0.5 + 0.5).reshape(rows * 8, cols * 8, 3) * 255
    kind, data = inputs.record()["images"][0]["uri"].split(",")
    drawn = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64" and np.abs(seen.numpy() - np.asarray(drawn, float)).max() <= 1


@pytest.mark.parametrize(
    "size, most, grid",
    [
        ((64, 64), 1024, (8, 8)),
        ((64, 64), 16, (4, 4)),
        ((640, 64), 20, (1, 14)),
        ((5, 5), 1024, (2, 2)),
        ((5, 5), 3, (1, 1)),
        ((128, 64), 8, (2, 4)),
        ((4, 400), 64, (20, 1)),
    ],
)
def test_the_limit_only_lowers(size, most, grid, tmp_path):
    """And the grid that comes out keeps to it."""
    path = vision_zoo.picture(tmp_path / "p.png", *size)
    image = vision_inputs.seen(pictures.examine(path), vision_zoo.processor(), most)
    assert image.grid == grid and image.tokens <= most
    made = vision_zoo.processor()(images=[pictures.load(path)], size=image.limits, return_tensors="pt")[
        "image_grid_thw"
    ]
    assert made.tolist() == [[1, 2 * grid[0], 2 * grid[1]]]


@pytest.mark.parametrize(
    "size, most, words",
    [
        ((3, 50), 64, "3 x 50 pixels, and a single patch"),
        ((900, 4), 64, "200 times the other"),
        ((400, 8), 10, "at least .* --max-image-tokens"),
    ],
)
def test_pictures_that_no_size_fits(size, most, words, tmp_path):
    with pytest.raises(RequestError, match=words):
        vision_inputs.seen(
            pictures.examine(vision_zoo.picture(tmp_path / "p.png", *size)), vision_zoo.processor(), most
        )


def test_a_picture_that_changes_under_way_fails_by_name(tmp_path):
    path = vision_zoo.picture(tmp_path / "p.png", 40, 24)
    inputs = planned(vision_zoo.build("qwen3_vl"), [path])
    vision_zoo.picture(tmp_path / "p.png", 24, 40)
    with pytest.raises(RunError, match="no longer the one"):
        inputs.further(inputs.token_ids, DEVICE)
    vision_zoo.picture(tmp_path / "p.png", 40, 24, seed=1)  # of the same size, so that only the bytes tell
    with pytest.raises(RunError, match="no longer the one"):
        inputs.further(inputs.token_ids, DEVICE)
    (tmp_path / "p.png").unlink()
    for late in (lambda: inputs.further(inputs.token_ids, DEVICE), inputs.record):
        with pytest.raises(RunError, match="^.*p.png: there is no such file"):
            late()


def test_a_template_in_the_processors_file_is_used(tmp_path, pictured):
    """Some Qwen3-VL folders have the chat template in chat_template.json alone, which a tokenizer does not look at."""
    vision_zoo.save("qwen3_vl", tmp_path / "m")
    path = pictured(SIZES[0])
    expected = run_vl_masking_experiment(QUESTION, path, model_name=str(tmp_path / "m"))
    (tmp_path / "m" / "chat_template.jinja").unlink()
    with pytest.raises(RequestError, match="no chat template"):
        run_vl_masking_experiment(QUESTION, path, model_name=str(tmp_path / "m"))
    file = tmp_path / "m" / "chat_template.json"
    file.write_text(json.dumps({"chat_template": vision_zoo.TEMPLATE}), encoding="utf-8")
    assert run_vl_masking_experiment(QUESTION, path, model_name=str(tmp_path / "m")).equals(expected)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(RequestError, match="chat_template.json cannot be read"):
        run_vl_masking_experiment(QUESTION, path, model_name=str(tmp_path / "m"))


def test_a_template_without_places_for_pictures_is_told_so(tmp_path, pictured):
    tokenizer = vision_zoo.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"
    with pytest.raises(RequestError, match="places for 0 of 2 pictures"):
        run_vl_masking_experiment(
            QUESTION,
            pictured(SIZES[1]),
            model=vision_zoo.build("qwen3_vl"),
            tokenizer=tokenizer,
            image_processor=vision_zoo.processor(),
        )
