"""The command from end to end, on tiny saved models: what it writes, what it says, and the code it exits with."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from running import files_in, record_of, yaml_file
from safetensors.torch import load_file, save_file

import mask_impact_analysis
from mask_impact import read_results

pytestmark = pytest.mark.usefixtures("here")


def test_a_prompt_becomes_result_files(command, llama):
    code, out, err = command("--model", llama, "--prompt", "The cat", "--num-tokens", 2, "--output", "cat")
    assert (code, err) == (0, [])
    tables = [f"cat_{kind}.{form}" for kind in ("knockout", "results") for form in ("csv", "json")]
    assert files_in("output") == [*tables, "cat_run.json"]
    assert out[0].startswith(
        "cat: 6 tokens, 2 steps, 3 layers, at most 234 rows (csv 12 KB, json 12 KB); knock-outs at "
    )
    assert out[1].startswith("  '") and " rests on: '" in out[1]
    assert out[2].startswith("  moves the layers most at step 0 (Full L2 summed over layers, position 0 left out): '")
    assert out[-1].startswith("  generated '") and "(first token's probability 0." in out[-1]
    assert out[-1].endswith(
        "wrote output/cat_results.csv, .json, cat_knockout.csv, .json and cat_run.json; "
        "read with mask_impact.read_results('output/cat_results.csv')".replace("/", os.sep)
    )
    table = read_results("output/cat_results.csv")
    assert len(table) == 234 and table.equals(read_results("output/cat_results.json"))
    assert "".join(table.token_masked[:6]) == "The cat" and set(table.generation_step) == {0, 1}


def test_the_run_file_says_what_produced_the_table(command, llama):
    assert (
        command("--model", llama, "--prompt", "The cat", "--num-tokens", 2, "--layers", "0,2", "--output", "cat")[0]
        == 0
    )
    run = record_of("cat")
    assert (run["schema_version"], run["status"], run["rows"], run["prompt_length"]) == (
        1,
        "complete",
        6 * 2 * (6 + 7),
        6,
    )
    assert (
        run["settings"]["prompt"] == "The cat"
        and run["settings"]["num_tokens"] == 2
        and run["settings"]["layers"] == [0, 2]
    )
    assert run["settings"]["model"] == llama and len(run["model_identity"]["sha256"]) == 64
    assert run["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu") and run["settings"]["device"] == "auto"
    assert run["dtypes"] == {"model": "float32", "measure": "float32", "results": "float32"}
    assert all(run["versions"][library] == version(library) for library in ("torch", "transformers"))
    assert [token["text"] for token in run["tokens"][:6]] == ["T", "he", " ", "c", "a", "t"] and run[
        "generated_text"
    ] != ""
    assert len(run["tokens"]) == 8 and run["stopped_by"] == "num_tokens"
    assert run["layers"] == [0, 2] and run["variants"] == ["Full", "Attn", "Head_0", "Head_1", "Head_2", "Head_3"]
    assert [len(step["top"]) for step in run["steps"]] == [5, 5] and run["skipped_layers"] == [] and run["seconds"] > 0
    table, step = read_results("output/cat_results.csv"), run["steps"][1]
    assert step["top"][0] == step["next"] == run["steps"][1]["next"] and step["next"]["id"] == run["tokens"][7]["id"]
    for kind, column in (("max_l2", "l2_distance"), ("max_cosine", "cosine_distance")):
        rows = table[
            (table.generation_step == 1) & (table.variant == "Head_3") & (table.layer == 2) & (table.token_position > 0)
        ]
        assert step[kind]["Head_3"][1] == pytest.approx(rows[column].max(), rel=1e-6)
    for kind in ("baseline_norm", "noise_floor_l2", "noise_floor_cosine"):
        assert all(0 <= value < 1e6 for values in step[kind].values() for value in values)
    assert all(
        0 < floor < norm * 1e-4 for floor, norm in zip(step["noise_floor_l2"]["Full"], step["baseline_norm"]["Full"])
    )


def test_the_same_settings_again_leave_the_files_alone(command, llama, loads):
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0, "--knockout", "none")
    assert command(*words)[0] == 0 and files_in("output") == [
        "the_cat_results.csv",
        "the_cat_results.json",
        "the_cat_run.json",
    ]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    code, out, err = command(*words)
    assert (code, err, len(loads)) == (0, [], 1)
    assert out == [
        f"{Path('output', 'the_cat')}: this result is there, with the same settings; --overwrite measures it again"
    ]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    assert command(*words, "--quiet")[1] == []


def test_other_settings_do_not_take_a_given_name(command, llama, loads):
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "cat")[0] == 0
    old = record_of("cat")
    code, out, err = command("--model", llama, "--prompt", "The cat", "--layers", 1, "--output", "CAT")
    assert (code, out, len(loads)) == (2, [], 1) and record_of("cat") == old
    assert err == [
        (
            "error: the name 'CAT' is taken in 'output' by a run with other settings (layers); "
            "choose another or add --overwrite"
        )
    ]
    assert command("--model", llama, "--prompt", "The cat", "--layers", 1, "--output", "CAT", "--overwrite")[0] == 0
    assert record_of("cat")["layers"] == [1] and len(files_in("output")) == 5
    assert command("--model", llama, "--prompt", "The cat", "--layers", 2)[0] == 0
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0)[0] == 0
    assert record_of("the_cat_2")["layers"] == [0]


def test_another_model_under_the_same_path_is_another_run(command, models, tmp_path, loads):
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    words = ("--model", folder, "--prompt", "The cat", "--layers", 0, "--output", "cat")
    assert command(*words)[0] == 0
    (folder / "README.md").write_text("not part of the model", encoding="utf-8")
    (folder / "cat_results.json").write_text("{}", encoding="utf-8")
    assert command(*words)[0] == 0 and len(loads) == 1
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = command(*words)
    assert code == 2 and "other settings (model_identity)" in err[0]


def test_a_further_format_is_written_beside_those_that_are_there(command, llama):
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "cat", "--knockout", "none")
    assert command(*words, "--formats", "csv")[0] == 0
    assert command(*words, "--formats", "parquet")[0] == 0
    assert files_in("output") == ["cat_results.csv", "cat_results.parquet", "cat_run.json"]
    assert read_results("output/cat_results.parquet").equals(read_results("output/cat_results.csv"))
    assert "this result is there" in command(*words, "--formats", "csv,parquet")[1][0]


@pytest.fixture
def small_spreadsheet(monkeypatch):
    """Let a spreadsheet open ten rows."""
    monkeypatch.setattr("mask_impact.base.formats.SPREADSHEET_ROWS", 10)


def test_parquet_that_took_the_place_of_the_default_is_a_finished_result(command, llama, small_spreadsheet, loads):
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0, "--knockout", "none")
    code, out, err = command(*words)
    assert (code, err) == (0, []) and "(parquet " in out[0] and "with --formats csv writes CSV too" in out[1]
    assert files_in("output") == ["the_cat_results.parquet", "the_cat_run.json"]
    assert "this result is there" in command(*words)[1][0] and len(loads) == 1
    assert command(*words, "--formats", "csv")[1] == ["output/the_cat_results.csv: made from the result that is there"]
    assert len(loads) == 1 and "this result is there" in command(*words)[1][0]
    table = read_results("output/the_cat_results.parquet")
    assert table.equals(read_results("output/the_cat_results.csv")) and len(table) > 10
    assert "(parquet " in command(*words, "--overwrite")[1][0]
    assert files_in("output") == ["the_cat_results.parquet", "the_cat_run.json"]
    assert table.equals(read_results("output/the_cat_results.parquet"))


def test_formats_of_a_batch_file_are_asked_for(command, llama, small_spreadsheet):
    config = yaml_file(f"model: {llama}\nformats: [csv]\nprompts: [{{prompt: The cat, layers: 0}}]\n")
    assert command("--config", config)[0] == 0
    assert "the_cat_results.csv" in files_in("output") and "the_cat_results.parquet" not in files_in("output")


def test_json_that_is_asked_for_and_can_be_too_long_is_told_before(command, llama, monkeypatch):
    monkeypatch.setattr("mask_impact.base.formats.JSON_ROWS", 10)
    words = ("--model", llama, "--prompt", "A dog", "--layers", 0, "--formats", "json", "--knockout", "none")
    _, _, err = command(*words)
    assert len(err) == 1 and err[0].startswith("warning: a_dog: JSON was asked for, but holds up to 10 rows")
    assert files_in("output") == ["a_dog_results.parquet", "a_dog_run.json"]
    assert "this result is there" in command(*words)[1][0]


def test_settings_come_from_flag_entry_defaults_and_top_level_in_this_order(command, llama):
    config = yaml_file(
        f"model: {llama}\nnum_tokens: 4\nvariants: [full]\nlayers: 0\noutput_dir: elsewhere\n"
        "defaults: {variants: [attn], num_tokens: 3, layers: 1}\n"
        "prompts: [{name: own, prompt: The cat, num_tokens: 2}, {name: shared, prompt: A dog}, "
        "{prompt: neither, enabled: false}]\n"
    )
    assert command("--config", config, "--layers", 2)[0] == 0
    own, shared = record_of("own", "elsewhere"), record_of("shared", "elsewhere")
    assert [(len(run["steps"]), run["variants"], run["layers"]) for run in (own, shared)] == [
        (2, ["Attn"], [2]),
        (3, ["Attn"], [2]),
    ]
    assert len(files_in("elsewhere")) == 11 and not Path("output").exists()


def test_quiet_prints_nothing_on_success(command, llama):
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0, "--quiet") == (0, [], [])


def test_a_warning_of_the_batch_file_is_said_once(command, llama):
    config = yaml_file(f"model: {llama}\nprompts:\n  - layers: 0\n    prompt: |\n      The cat\n")
    code, _, err = command("--config", config, "--quiet")
    assert code == 0 and len(err) == 1 and err[0].startswith("warning: batch.yaml:4: the prompt ends in a line break")


def test_a_prompt_on_the_command_line_that_ends_in_a_line_break_is_warned_of(command, llama):
    code, _, err = command("--model", llama, "--prompt", "The cat\n", "--layers", 0, "--quiet")
    assert (
        code == 0
        and len(err) == 1
        and err[0].startswith("warning: --prompt: the text ends in a line break, which is kept")
    )
    assert record_of("the_cat")["settings"]["prompt"] == "The cat\n"


def test_a_small_probability_keeps_its_digits(command):
    _, out, _ = command(
        "--model", "demo", "--prompt", "The capital of France is", "--continuation", " Rome", "--output", "rome"
    )
    assert "given ' Rome' (first token's probability 3.9e-06)" in out[-1]


def test_no_token_moves_the_layers_most_where_all_is_noise(command):
    code, out, _ = command("--model", "demo", "--prompt", "    ", "--layers", 0, "--output", "spaces")
    assert code == 0
    assert out[1] == (
        "  moves the layers most at step 0 (Full L2 summed over layers, position 0 left out): "
        "none, every distance is at or below its noise floor"
    )


def test_a_prompt_of_one_token_is_undefined_and_warned_of(command, llama):
    code, _, err = command("--model", llama, "--prompt", "x", "--layers", 0, "--quiet")
    assert (code, err) == (
        0,
        ["warning: x: 6 distances undefined, where masking leaves no key at all: empty in CSV, null in JSON"],
    )
    assert read_results("output/x_results.csv").l2_distance.isna().all()
    assert Path("output/x_results.csv").read_text(encoding="utf-8").splitlines()[1] == '0,0,"x",0,"Full",,'
    assert record_of("x")["steps"][0]["max_l2"]["Full"] == [None]


def test_an_attention_layer_of_a_hybrid_is_measured_and_the_others_are_listed(command, models):
    assert command("--model", models / "qwen3_next", "--prompt", "The cat")[0] == 0
    run = record_of("the_cat")
    assert run["layers"] == [1] and [skipped["layer"] for skipped in run["skipped_layers"]] == [0, 2]
    assert all("linear_attention" in skipped["reason"] for skipped in run["skipped_layers"])


def test_the_words_of_a_run_and_its_versions_are_made_once(command, llama, monkeypatch):
    from mask_impact.runs import record
    from mask_impact.runs import run as runs

    made, asked, real, version = [], [], runs.token_texts, record.importlib.metadata.version
    monkeypatch.setattr(runs, "token_texts", lambda tokenizer, ids: made.append(len(ids)) or real(tokenizer, ids))
    monkeypatch.setattr(record.importlib.metadata, "version", lambda library: asked.append(library) or version(library))
    record.versions.cache_clear()
    config = yaml_file(
        "prompts: [{name: one, prompt: The cat}, {name: two, prompt: A dog, num_tokens: 2}]\nlayers: 0\n"
    )
    assert command("--config", config, "--model", llama)[0] == 0
    assert sorted(count for count in made if count > 2) == [
        6,
        7,
        7,
    ]  # once more for each step that is kept; the others are the likeliest next tokens
    assert asked.count("pyarrow") == 1 and record_of("two")["versions"].keys() == {
        "mask_impact",
        "python",
        *record.LIBRARIES,
    }


def test_progress_is_one_bar_over_steps_and_layers(llama, monkeypatch, capsys):
    from mask_impact.runs import messages

    bars = []
    monkeypatch.setattr(messages, "tqdm", lambda **options: bars.append(options) or real(**options))
    real = __import__("tqdm").tqdm
    assert (
        mask_impact_analysis.main(["--model", llama, "--prompt", "The cat", "--num-tokens", "2", "--layers", "0-1"])
        == 0
    )
    assert [(bar["total"], bar["desc"]) for bar in bars] == [(4, "the_cat")]
