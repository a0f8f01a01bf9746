"""`--part encoder` from end to end, on a tiny saved Qwen3-VL: what it writes, what it says, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from encoder_oracle import encoder_oracle
from measuring import relative_error
from repository import ROOT
from running import files_in, record_of

import mask_impact_analysis
import mask_impact_vl
from mask_impact import __main__, read_results
from mask_impact.base.terminal import Screen
from mask_impact.models.vision import cells as encoder_inputs
from mask_impact.models.vision import pictures, qwen3_vl
from mask_impact.runs import costs, dry_run, planning
from mask_impact.settings import readers
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact_vl import run_vl_masking_experiment


@pytest.fixture(autouse=True)
def here(two_pictures):
    """A current folder with two pictures and a prompt file."""
    Path("prompt.txt").write_text("The capital of France is", encoding="utf-8")
    return two_pictures


@pytest.fixture
def ask(command, vl):
    """The encoder, about pictures."""
    return lambda *words, door=mask_impact_vl: command("--model", vl, "--part", "encoder", *words, door=door)


@pytest.mark.parametrize("method", ["renormalize", "rerun"])
@pytest.mark.parametrize("images, at, cell", [(["cat.png"], "1,2", 7), (["cat.png", "dog.png"], "1:3,1", 22)])
def test_the_table_is_that_of_the_plain_implementation(images, at, cell, method, ask, models):
    """From the picture's file to the CSV."""
    words = [word for image in images for word in ("--image", image)]
    code, _, err = ask(*words, "--at", at, "--method", method, "--output", "one", "--formats", "csv,json,parquet")
    assert (code, err) == (0, [])
    table, run = read_results("output/one_results.csv"), record_of("one")
    assert all(read_results(f"output/one_results.{form}").equals(table) for form in ("json", "parquet"))
    assert list(table)[7:] == ["token_type", "image_index", "patch_row", "patch_col"]
    assert set(table.generation_step) == {0} and set(table.token_type) == {"vision"} and set(table.layer) == {0, 1}
    model = vision_zoo.build("qwen3_vl")
    made = [vision_zoo.processor()(images=[pictures.load(path)], return_tensors="pt") for path in images]
    stacked = {key: np.concatenate([one[key] for one in made]) for key in ("pixel_values", "image_grid_thw")}
    expected = encoder_oracle(model, **{key: torch.from_numpy(value) for key, value in stacked.items()}, cell=cell)
    for (variant, layer), (l2, cosine) in expected.items():
        rows = table[(table.variant == variant) & (table.layer == layer)]
        assert rows.token_position.tolist() == list(range(len(l2)))
        assert relative_error(rows.l2_distance.to_numpy(), l2) <= 1e-4
        assert np.abs(rows.cosine_distance.to_numpy() - cosine.numpy()).max() <= 1e-5
    first = table[(table.variant == "Full") & (table.layer == 0)]
    cells = [(0, r, c) for r in range(3) for c in range(5)] + [(1, r, c) for r in range(7) for c in range(2)] * (
        len(images) - 1
    )
    assert first.token_masked.tolist() == [f"img{i}[{r},{c}]" for i, r, c in cells]
    assert list(zip(first.image_index, first.patch_row, first.patch_col)) == cells
    assert (run["part"], run["measured_position"], run["settings"]["at"], run["settings"]["part"]) == (
        "encoder",
        cell,
        at,
        "encoder",
    )
    assert [image["path"] for image in run["images"]] == images and run["rows"] == len(table)


def test_what_the_run_file_says(ask):
    code, out, err = ask("--image", "cat.png", "--at", "0,3")
    assert (code, err) == (0, []) and files_in("output") == [
        f"cat_encoder_0_3_{end}" for end in ("results.csv", "results.json", "run.json")
    ]
    run = record_of("cat_encoder_0_3")
    assert run["prompt_length"] == len(run["tokens"]) == 15 and run["tokens"][3]["text"] == "img0[0,3]"
    assert run["generated_text"] is run["stopped_by"] is run["settings"]["prompt"] is None
    [step] = run["steps"]
    assert step["next"] is None and step["top"] == [] and step["positions"] == 15
    for variant, floors in step["noise_floor_l2"].items():
        for layer, floor in enumerate(floors):
            assert 0 < floor < 1e-3 * step["baseline_norm"][variant][layer]
    assert (
        "15 cells (img0: 15, 3 rows x 5 columns; the encoder measured at img0[0,3], about the cost of 1." in out[0]
        and "2 blocks" in out[0]
    )
    assert (
        out[1].startswith("  moves the blocks most (Full L2 summed over blocks): 'img0[")
        and "position 0" not in out[1]
        and "generated" not in " ".join(out)
    )


def test_the_first_cell_is_not_left_out_of_the_largest(ask):
    """Position 0 is no sink here: in a picture of four cells it holds the largest
    distance in some block and variant."""
    vision_zoo.picture(Path("small.png"), 16, 16)
    assert ask("--image", "small.png", "--at", "0,0", "--output", "one")[0] == 0
    table, [step] = read_results("output/one_results.csv"), record_of("one")["steps"]
    largest = table.loc[table.groupby(["variant", "layer"]).l2_distance.idxmax()]
    assert (largest.token_position == 0).any()
    for row in largest.itertuples():
        assert step["max_l2"][row.variant][row.layer] == pytest.approx(row.l2_distance)


def test_all_says_its_cost_and_is_the_mean(ask):
    code, out, err = ask("--image", "cat.png", "--image", "dog.png", "--at", "all", "--output", "all")
    assert (code, err) == (
        0,
        [],
    ) and "the encoder measured at every cell in turn, 29 of them, about the cost of" in out[0]
    means, run = read_results("output/all_results.csv"), record_of("all")
    assert run["measured_position"] is None and len(means) == 29 * 4 * 2
    key = ["variant", "layer", "token_position"]
    total = 0
    for row in range(7):
        for column in range(2):
            assert (
                ask(
                    "--image",
                    "cat.png",
                    "--image",
                    "dog.png",
                    "--at",
                    f"1:{row},{column}",
                    "--output",
                    "one",
                    "--overwrite",
                )[0]
                == 0
            )
            total = total + read_results("output/one_results.csv").set_index(key).l2_distance
    own = means[means.image_index == 1].set_index(key).l2_distance
    assert np.allclose(own, (total / 14).loc[own.index], rtol=1e-5)


@pytest.mark.parametrize(
    "most, words, kept",
    [
        (15 * 15 * 2, [], True),
        (15 * 15 * 2 - 1, [], False),
        (15 * 15, ["--layers", 0], True),
        (10**6, ["--variants", "attn,heads"], False),
    ],
)
def test_the_distances_at_every_measured_cell_are_kept_where_they_are_few(most, words, kept, ask, monkeypatch):
    monkeypatch.setattr(encoder_inputs, "MOST_KEPT", most)
    assert ask("--image", "cat.png", "--at", "all", "--output", "all", *words)[0] == 0
    assert ("each_measured" in record_of("all")) is kept
    assert ask("--image", "cat.png", "--at", "1,2", "--output", "one", *words)[
        0
    ] == 0 and "each_measured" not in record_of("one")


def test_layers_and_variants_are_chosen_as_in_the_decoder(ask):
    assert ask("--image", "cat.png", "--at", "0,3", "--layers", 1, "--variants", "attn", "--output", "one")[0] == 0
    table = read_results("output/one_results.csv")
    assert set(table.layer) == {1} and set(table.variant) == {"Attn"}
    code, out, err = ask("--image", "cat.png", "--at", "0,3", "--layers", 2)
    assert (code, out) == (2, []) and err == ["error: layers: 2 is out of range; the vision encoder has blocks 0 to 1"]


def test_the_same_again_is_there_and_another_cell_is_another_run(ask):
    words = ("--image", "cat.png", "--output", "one", "--at")
    assert ask(*words, "1,2")[0] == 0
    for same in ("1,2", " 1 , 2", "0:1,2"):
        code, out, _ = ask(*words, same)
        assert code == 0 and "this result is there" in out[0]
    code, _, err = ask(*words, "1,3")
    assert code == 2 and "by a run with other settings (at)" in err[0]


def test_a_decoder_run_of_that_name_is_another_run(ask, command, models):
    assert (
        command(
            "--model",
            models / "vl",
            "--prompt",
            "Which one?",
            "--image",
            "cat.png",
            "--layers",
            0,
            "--output",
            "one",
            door=mask_impact_vl,
        )[0]
        == 0
    )
    code, _, err = ask("--image", "cat.png", "--at", "1,2", "--output", "one")
    assert code == 2 and "part" in err[0] and "at" in err[0]


@pytest.mark.parametrize(
    "words, part",
    [
        (
            ["--image", "cat.png", "--at", "3,0"],
            (
                "at: 3,0 lies outside the grid of 3 rows x 5 columns that cat.png has; "
                "choose a row from 0 to 2 and a column from 0 to 4"
            ),
        ),
        (["--image", "cat.png", "--at", "0,5"], "outside the grid of 3 rows x 5 columns"),
        (
            ["--image", "cat.png", "--image", "dog.png", "--at", "1:0,4"],
            "outside the grid of 7 rows x 2 columns that dog.png has",
        ),
        (["--image", "cat.png", "--at", "1:0,0"], "is a cell of picture 1, but there is only picture 0"),
        (
            ["--image", "cat.png", "--image", "dog.png", "--at", "2:0,0"],
            "is a cell of picture 2, but the pictures are 0 to 1",
        ),
        (["--at", "0,0"], "part encoder needs a picture; add --image FILE"),
        (["--image", "cat.png"], "part encoder needs the cell that is measured; add --at ROW,COL or --at all"),
        (
            ["--image", "cat.png", "--at", "here"],
            "--at: expected a cell as ROW,COL or IMAGE:ROW,COL, counted from 0, or all, found 'here'",
        ),
        (["--image", "cat.png", "--at", "1"], "--at: expected a cell"),
        (["--image", "cat.png", "--at=-1,0"], "--at: expected a cell"),
        (["--image", "cat.png", "--at", "1,2,3"], "--at: expected a cell"),
        (["--image", "cat.png", "--at", ""], "--at: expected a cell"),
        (
            ["--image", "cat.png", "--at", "0,0", "--prompt", "x"],
            "part encoder measures a picture alone and predicts nothing, found prompt; leave it out",
        ),
        (["--image", "cat.png", "--at", "0,0", "--prompt-file", "prompt.txt"], "found prompt_file; leave it out"),
        (["--image", "cat.png", "--at", "0,0", "--num-tokens", 1], "found num_tokens; leave it out"),
        (["--image", "cat.png", "--at", "0,0", "--mask-mode", "vision"], "found mask_mode; leave it out"),
        (["--image", "cat.png", "--at", "0,0", "--chat"], "found chat; leave it out"),
        (
            ["--image", "cat.png", "--at", "0,0", "--continuation", "x", "--system", "y", "--thinking"],
            "found continuation, system, thinking; leave them out",
        ),
        (["--image", "none.png", "--at", "0,0"], "none.png: there is no such file"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(words, part, ask, here):
    before = files_in(here)
    code, out, err = ask(*words)
    assert (code, out, len(err)) == (2, [], 1) and part in err[0], err
    assert files_in(here) == before


def test_other_doors_and_parts(ask, command, models, here):
    for words in (["--part", "encoder"], ["--at", "1,2"]):
        code, out, err = command("--prompt", "x", *words, door=mask_impact_analysis)
        assert (code, out, len(err)) == (2, [], 1) and f"{words[0]} is a flag of mask_impact_vl.py" in err[0]
    code, _, err = command("--model", models / "vl", "--prompt", "x", "--at", "1,2", door=mask_impact_vl)
    assert code == 2 and err == [
        "error: at 1,2 needs part encoder; add --part encoder (in YAML part: encoder) or leave at out"
    ]
    code, _, err = command(
        "--model", models / "vl", "--part", "encodr", "--image", "cat.png", "--at", "1,2", door=mask_impact_vl
    )
    assert code == 2 and err == [
        "error: --part: expected one of decoder, encoder, found 'encodr', did you mean 'encoder'?"
    ]
    assert "output" not in files_in(here)


def test_a_text_model_is_refused_by_name(command, tmp_path):
    zoo.save("llama", tmp_path / "llama")
    code, out, err = command(
        "--model", tmp_path / "llama", "--part", "encoder", "--image", "cat.png", "--at", "0,0", door=mask_impact_vl
    )
    assert (code, out, len(err)) == (
        2,
        [],
        1,
    ) and "(llama) is a model of text alone: run it with mask_impact_analysis.py" in err[0]


# Batch files


def batch(text, models):
    Path("batch.yaml").write_text(f"model: {models / 'vl'}\n{text}", encoding="utf-8")
    return "--config", "batch.yaml"


def test_a_batch_of_both_parts(command, models):
    """What the file or the command line say of prompts is passed over for the encoder, and the summary has both."""
    words = batch(
        "defaults: {num_tokens: 2, image: cat.png, mask_mode: vision, at: all}\nprompts:\n"
        "- {name: words, prompt: Which one}\n"
        '- {name: cell, part: encoder, at: "1,2"}\n- {part: encoder}\n',
        models,
    )
    code, out, err = command(*words, "--num-tokens", 1, door=mask_impact_vl)
    assert (code, err) == (0, [])
    assert [record_of(name)["part"] for name in ("words", "cell", "cat_encoder_all")] == [
        "decoder",
        "encoder",
        "encoder",
    ]
    assert (
        record_of("words")["settings"]["mask_mode"] == "vision" and record_of("cell")["settings"]["mask_mode"] == "text"
    )
    summary = Path("output/batch_summary.csv").read_text(encoding="utf-8").splitlines()
    assert summary[2].startswith('"cell","complete",15,1,120,') and ",,," in summary[2] and len(summary) == 4
    code, out, err = command(*words, "--num-tokens", 1, door=mask_impact_vl)
    assert code == 0 and sum("this result is there" in line for line in out) == 3


@pytest.mark.parametrize(
    "entry, part",
    [
        ("{part: encoder, image: cat.png}", "needs the cell that is measured"),
        ('{part: encoder, at: "1,2"}', "needs a picture"),
        ('{part: encoder, image: cat.png, at: "1,2", prompt: x}', "found prompt; leave it out"),
        ('{part: encoder, image: cat.png, at: "1,2", chat: true}', "found chat; leave it out"),
        ('{prompt: x, at: "1,2"}', "at 1,2 needs part encoder"),
        ("{part: encoder, image: cat.png, at: 3}", "at: expected a cell"),
        ("{image: cat.png}", "an entry needs its prompt"),
        ('{part: encoder, image: cat.png, at: "9,9"}', "outside the grid of 3 rows x 5 columns"),
    ],
)
def test_a_wrong_entry_is_one_line(entry, part, command, models, here):
    code, out, err = command(*batch(f"prompts: [{entry}]", models), door=mask_impact_vl)
    assert (code, out, len(err)) == (2, [], 1) and err[0].startswith("error: batch.yaml:2: ") and part in err[0], err
    assert "output" not in files_in(here)


def test_a_dry_run_tells_the_cells_and_writes_nothing(ask, here):
    before = files_in(here)
    code, out, err = ask("--image", "cat.png", "--at", "all", "--dry-run")
    assert (code, err) == (0, []) and files_in(here) == before
    assert "every cell in turn, 15 of them" in out[0] and "at most 120 rows" in out[0] and ", about " in out[0]


@pytest.mark.parametrize("at, places", [("1,2", 1), ("all", 15)])
@pytest.mark.parametrize("method", ["renormalize", "rerun"])
def test_the_estimate_grows_with_the_measured_cells(at, places, method, models):
    """60 patches through two blocks once, and 60 rows, or for each masked cell all patches again,
    for each measured cell."""
    settings = VisionSettings(model=str(models / "vl"), image="cat.png", part="encoder", at=at, method=method)
    model_info = qwen3_vl.examine(settings)
    plan = planning.plan(settings, model_info)
    found = costs.estimated_seconds(
        plan, dry_run.layers(plan, model_info), model_info.layers(settings), costs.LayerSizes(token=3, row=2), 1e3
    )
    again, calls = (60 * 2, 1) if method == "renormalize" else (15 * 60 * 3, 15)
    assert found == pytest.approx((60 * 3 * 2 + places * again * 2) / 1e3 + costs.LAYER_SECONDS * places * calls * 2)
    row, patch = (
        32 * 32 + 2 * 32 * 48,
        4 * 32 * 32 + 2 * 32 * 48 + 2 * 32 * 60,
    )  # numbers multiplied for one of each, by hand
    assert plan.prompt.passes == pytest.approx(1 + places * (15 + 9 if method == "rerun" else row / patch))


# Looking at it, and Python


def test_the_look_up_shows_a_run_of_the_encoder(ask, capsys):
    assert ask("--image", "cat.png", "--at", "1,2", "--output", "one", "--report")[0] == 0
    assert "report" in " ".join(files_in("output"))
    capsys.readouterr()
    assert __main__.main(["show", "output/one", "--top", "15"]) == 0
    said = capsys.readouterr().out
    assert (
        "measured at cell 1,2 (row, column)" in said
        and "prompt" not in said
        and "generated" not in said
        and "osition 0" not in said
    )
    assert all(f"img0[{row},{column}]" in said for row in range(3) for column in range(5))
    assert ask("--image", "cat.png", "--at", "1,2", "--output", "two", "--method", "rerun")[0] == 0
    capsys.readouterr()
    assert __main__.main(["compare", "output/one", "output/two"]) == 0 and "osition 0" not in capsys.readouterr().out
    assert __main__.main(["report", "output/two"]) == 0 and "two_report.html" in files_in("output")


def asked_in_python(**settings):
    own = dict(
        image="cat.png",
        part="encoder",
        at="1,2",
        model=vision_zoo.build("qwen3_vl"),
        tokenizer=vision_zoo.tokenizer(),
        image_processor=vision_zoo.processor(),
    )
    return run_vl_masking_experiment(**(own | settings))


def test_from_python(models):
    table = asked_in_python()
    assert table.attrs["run"]["part"] == "encoder" and len(table) == 120
    assert asked_in_python(
        model=None, tokenizer=None, image_processor=None, model_name=str(models / "vl"), device="cpu"
    ).equals(table)
    assert asked_in_python(image=["dog.png", "cat.png"], at="1:1,2").l2_distance.max() == pytest.approx(
        table.l2_distance.max(), rel=1e-4
    )


@pytest.mark.parametrize(
    "settings, part",
    [
        ({"prompt": "x"}, "found prompt; leave it out"),
        ({"at": None}, "needs the cell that is measured; add at ROW,COL or at all$"),
        ({"image": None}, "needs a picture; add image$"),
        ({"num_output_tokens": 2}, "found num_output_tokens; leave it out"),
        ({"at": "5,5"}, "outside the grid of 3 rows x 5 columns"),
        ({"mask_mode": "both"}, "found mask_mode; leave it out"),
        ({"part": "decoder", "at": None}, "^prompt: give the text"),
    ],
)
def test_a_wrong_request_in_python(settings, part):
    with pytest.raises(ValueError, match=part) as caught:
        asked_in_python(**settings)
    assert len(str(caught.value).splitlines()) == 1


def test_a_decoder_needs_its_prompt():
    with pytest.raises(ValueError, match="prompt: expected text, found none"):
        VisionSettings(image="cat.png")


@pytest.mark.parametrize(
    "value, stored", [((1, 2), "1,2"), ([1, 2], "1,2"), ((0, 1, 2), "1,2"), ([1, 0, 3], "1:0,3"), ("1:0,3", "1:0,3")]
)
def test_a_cell_may_be_given_as_numbers(value, stored):
    assert readers.cell(value) == stored


@pytest.mark.parametrize("value", [1, 62, (1,), (1, 2, 3, 4), (1, -2), (True, 2), (1.0, 2), ["1", "2"]])
def test_what_is_no_cell(value):
    with pytest.raises(ValueError, match=r"expected a cell as ROW,COL or IMAGE:ROW,COL, counted from 0, or all"):
        readers.cell(value)


def test_a_number_in_place_of_a_cell_is_told_of_quotes():
    with pytest.raises(ValueError, match=r"or all \(in YAML in quotes\), found 62"):
        readers.cell(62)


def test_compare_says_where_each_was_measured(command, capsys):
    for at in ("0,0", "1,1", "all"):
        assert (
            command(
                "--model",
                "demo",
                "--image",
                ROOT / "testimg.png",
                "--part",
                "encoder",
                "--at",
                at,
                "--output",
                at.replace(",", "_"),
                door=mask_impact_vl,
            )[0]
            == 0
        )
    capsys.readouterr()
    assert __main__.main(["compare", "output/0_0", "output/all"], Screen(width=200)) == 0
    first = capsys.readouterr().out.splitlines()[:2]
    assert first[0].endswith(", measured at cell 0,0") and first[1].endswith(", the mean over all measured cells")


def test_measured_cells_that_are_not_kept_apart_are_said(command):
    code, _, err = command(
        "--model",
        "demo",
        "--image",
        ROOT / "testimg.png",
        "--part",
        "encoder",
        "--at",
        "all",
        "--variants",
        "heads",
        door=mask_impact_vl,
    )
    assert code == 0 and len(err) == 1 and "the measured cells are not kept apart" in err[0]
