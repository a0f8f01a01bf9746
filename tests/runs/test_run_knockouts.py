"""Whole runs with knock-outs: their files, what is said first, and their record."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import zoo

import mask_impact
from mask_impact.base import formats, interrupts
from mask_impact.base.errors import RunError
from mask_impact.results.knockout_table import KNOCKOUT_COLUMNS
from mask_impact.runs import knockouts
from mask_impact_analysis import run_knockout, run_masking_experiment
from mask_impact_vl import run_knockout as run_picture_knockout

PROMPT = "Anna put the key in the red box. The key is in the"
ALL = "all,final,heads,first_order"
TESTIMG = Path(__file__).parents[2] / "testimg.png"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(command, *words):
    return command("--model", "demo", "--prompt", PROMPT, "--output", "key", *words)


def test_what_the_answer_rests_on_is_said_first(command):
    code, out, err = run(command)
    assert (code, err) == (0, [])
    assert "; knock-outs at most " in out[0] and " passes, about " in out[0]
    assert out[1].startswith("  ' red' (1.000) rests on: ' red' -8.0")
    assert "; the final position reads it at: ' red' -5.2" in out[1]
    table = mask_impact.read_results("output/key_knockout.csv")
    assert tuple(table.columns) == KNOCKOUT_COLUMNS
    rests = table[table.cut == "all"].sort_values("logprob_change").iloc[0]
    assert rests.token_masked == " red" and rests.logprob_change < -1 and rests.top_token != " red"
    assert set(table.cut) == {*ALL.split(",")} and (table.cut == "heads").sum() == 64
    record = table.attrs["run"]["knockout"]
    assert record["rests_on"][0]["text"] == " red" and 0 < record["first_order_rank_correlation"]["0"] <= 1
    assert 0 < record["steps"][0]["noise_floor"]["logprob_change"] < 1e-4


def test_without_knockouts_there_are_no_such_files(command):
    _, out, _ = run(command, "--knockout", "none")
    assert "knock-outs" not in out[0] and not any("rests on" in line for line in out)
    assert sorted(path.name for path in Path("output").iterdir() if "knockout" in path.name) == []


def test_the_answers_own_tokens_are_units_too(command):
    run(command, "--knockout", "all", "--num-tokens", "3")
    table = mask_impact.read_results("output/key_knockout.csv")
    prompt = table[table.generation_step == 0].token_position.max() + 1
    assert table.groupby("generation_step").token_position.max().tolist() == [prompt - 1, prompt, prompt + 1]
    run_record = table.attrs["run"]
    assert [step["token"] for step in run_record["knockout"]["steps"]] == [
        token["id"] for token in run_record["tokens"][prompt:]
    ]


def test_the_first_line_names_words_of_the_prompt_and_what_speaks_against_the_answer(command):
    prompt = "Anna put the key in the red box. Ben put the coin in the blue bag. The coin is in the"
    _, out, _ = command("--model", "demo", "--prompt", prompt, "--continuation", " red box.", "--output", "key")
    assert (
        out[1].startswith("  ' red box.' (1.1e-05) rests on: ' red' -0.24")
        and "; against it: ' coin' at 19 +22" in out[1]
    )
    record = mask_impact.read_results("output/key_knockout.csv").attrs["run"]["knockout"]
    assert all(one["position"] < 23 for name in ("rests_on", "against", "read_at") for one in record[name])


def test_both_methods_say_the_same(command):
    tables = []
    for method in ("renormalize", "rerun"):
        run(command, "--knockout", "all,final,heads", "--method", method, "--overwrite", "--units", "words")
        tables.append(mask_impact.read_results("output/key_knockout.csv"))
    one, other = tables
    assert one.drop(columns=["logprob_change", "logit_change", "kl_divergence"]).equals(
        other.drop(columns=["logprob_change", "logit_change", "kl_divergence"])
    )
    assert (one.logprob_change - other.logprob_change).abs().max() < 1e-4


def test_windows_are_of_the_size_asked_for(command):
    run(command, "--knockout", "final", "--window", "2")
    table = mask_impact.read_results("output/key_knockout.csv")
    assert {*zip(table.layer_first, table.layer_last)} == {(0, 0), (0, 1), (1, 2), (0, 2)}


def test_a_hybrid_is_cut_by_whole_passes():
    name = next(iter(zoo.HYBRIDS))
    frame = run_masking_experiment(
        "Red boxes", model=zoo.build(name), tokenizer=zoo.tokenizer(), knockout=["all", "final"], variants=["full"]
    )
    assert frame.attrs["run"]["knockout"]["steps"][0]["logprob"] < 0


@pytest.mark.parametrize("name, method", [(next(iter(zoo.HYBRIDS)), "renormalize"), ("qwen3", "rerun")])
def test_where_each_cut_is_a_pass_only_all_is_made_unasked(name, method):
    with pytest.warns(UserWarning, match="final, heads and first_order"):
        table = run_knockout("Red boxes", model=zoo.build(name), tokenizer=zoo.tokenizer(), method=method)
    assert {*table.cut} == {"all"} and "a pass" in table.attrs["run"]["knockout"]["left_out"]


def test_a_model_whose_rows_are_not_its_own_goes_on_without_unless_asked_by_name():
    words = {"model": zoo.build("gemma4_shared"), "tokenizer": zoo.tokenizer()}
    with pytest.warns(UserWarning, match="knock-outs are left out: .*--method rerun"):
        frame = run_masking_experiment("Red boxes", knockout=None, **words)
    assert len(frame) and [*frame.attrs["run"]["knockout"]] == ["left_out"]
    with pytest.raises(RunError, match="method"):
        run_masking_experiment("Red boxes", knockout="all", **words)
    with pytest.raises(RunError, match="knock-outs are left out"):
        run_knockout("Red boxes", **words)


def test_from_python_layers_alone_unless_asked():
    assert "knockout" not in run_masking_experiment(PROMPT, "demo").attrs["run"]
    table = run_knockout(PROMPT, "demo", units=["words"], knockout=["all"])
    assert tuple(table.columns) == KNOCKOUT_COLUMNS and {*table.unit} == {"words"}
    assert (
        table.attrs["run"]["knockout"]["rests_on"][0]["text"]
        == table.sort_values("logprob_change").token_masked.iloc[0]
    )
    with pytest.raises(ValueError, match="no knock-outs"):
        run_knockout(PROMPT, "demo", knockout="none")


def test_pictures_have_run_knockout_too():
    table = run_picture_knockout(
        "What color is the circle?", TESTIMG, model_name="demo", mask_mode="both", knockout="all"
    )
    strongest = table.sort_values("logprob_change").iloc[0]
    assert strongest.token_masked in (" circle", "img0[1,2]")


def test_spans_are_cut_beside_what_is_refined():
    table = run_knockout(PROMPT, "demo", spans={"box": "red box"})
    rows = table[table.cut == "all"]
    assert {*rows.unit} == {"spans", "tokens"}
    assert "box" in [one["text"] for one in table.attrs["run"]["knockout"]["rests_on"]]


def test_a_long_prompt_goes_from_coarse_to_fine():
    """80 tokens, whose own cuts would cost 40 passes."""
    long = "The cat sat in the house. " * 10 + PROMPT
    table = run_knockout(long, "demo")
    record = table.attrs["run"]["knockout"]
    assert sum(note["units"] * (note["passes"] > 0) for note in record["refined"]) == len(table[table.cut == "all"])
    assert sum(note["passes"] for note in record["refined"]) <= 24
    assert record["rests_on"][0]["text"] == " red"


def test_ctrl_c_in_the_knockouts_stops_before_a_file_is_written(command, monkeypatch):
    monkeypatch.setattr(
        knockouts, "interrupts", SimpleNamespace(stop_requested=lambda: bool(interrupts._stop_requested.set()) or True)
    )
    code, _, err = run(command)
    assert code == 130 and any("stopped in the knock-outs" in line for line in err)
    assert not list(Path("output").glob("key_*"))


def names() -> list[str]:
    return sorted(path.name for path in Path("output").iterdir() if path.is_file())


def test_a_knockout_table_that_no_spreadsheet_opens_is_parquet_where_no_format_was_asked_for(command, monkeypatch):
    monkeypatch.setattr(formats, "SPREADSHEET_ROWS", 40)
    words = ("--knockout", "all,final", "--variants", "full", "--layers", "0")
    out = run(command, *words)[1]
    rows = len(mask_impact.read_results("output/key_knockout.parquet"))
    assert len(mask_impact.read_results("output/key_results.parquet")) <= 40 < rows
    assert any(line.startswith(f"  {rows:,} rows of knock-outs are more than a spreadsheet opens (40)") for line in out)
    assert names() == ["key_knockout.parquet", "key_results.parquet", "key_run.json"]
    assert "this result is there" in run(command, *words)[1][0]
    assert run(command, *words, "--formats", "csv")[0] == 0 and "key_knockout.csv" in names()


def test_json_that_was_asked_for_gives_way_with_a_warning(command, monkeypatch):
    monkeypatch.setattr(formats, "JSON_ROWS", 40)
    words = ("--knockout", "all,final", "--variants", "full", "--layers", "0", "--formats", "csv,json")
    code, _, [warning] = run(command, *words)
    assert code == 0 and warning.startswith("warning: key: JSON was asked for") and "rows of knock-outs" in warning
    assert names() == [f"key_{kind}.{form}" for kind in ("knockout", "results") for form in ("csv", "parquet")] + [
        "key_run.json"
    ]
