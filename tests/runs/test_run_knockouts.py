"""Whole runs with knock-outs: their files, what is said first, and their record."""

from __future__ import annotations

from pathlib import Path

import pytest
import zoo

import mask_impact
from mask_impact.base import formats
from mask_impact.results.knockout_table import KNOCKOUT_COLUMNS
from mask_impact_analysis import run_masking_experiment

PROMPT = "Anna put the key in the red box. The key is in the"
ALL = "all,final,heads,first_order"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(command, *words):
    return command("--model", "demo", "--prompt", PROMPT, "--output", "key", *words)


def test_what_the_answer_rests_on_is_said_first(command):
    code, out, err = run(command, "--knockout", ALL)
    assert (code, err) == (0, [])
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
    run(command)
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
