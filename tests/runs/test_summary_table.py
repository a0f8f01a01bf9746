"""The end of a batch: its table in the terminal, and {config stem}_summary.csv, both made of the run files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from repository import ROOT

import mask_impact_vl
from mask_impact import read_results
from mask_impact.base.errors import RunError
from mask_impact.results import folder as names_folder
from mask_impact.runs import batch_summary, result_names
from mask_impact.settings.text_settings import Settings

BATCH = """\
model: demo
prompts:
  - {name: france, prompt: "The capital of France is", num_tokens: 2}
  - {name: spain, prompt: "The capital of Spain is", layers: 0-1, variants: [full]}
"""
PICTURE = (ROOT / "testimg.png").as_posix()
SUMMARY = Path("output/night_summary.csv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("night.yaml").write_text(BATCH, encoding="utf-8")


@pytest.fixture
def failing(monkeypatch):
    """Let the prompts with this many steps fail while they are measured."""
    from mask_impact.measure import loop

    real = loop.measured_layers

    def fail(steps, error):
        def stand_in(model, parts, inputs, method):
            if inputs.steps == steps:
                raise error
            yield from real(model, parts, inputs, method)

        monkeypatch.setattr(loop, "measured_layers", stand_in)

    return fail


def summary() -> dict[str, dict]:
    table = pd.read_csv(SUMMARY, keep_default_na=False, na_values=[])
    assert list(table) == [*batch_summary.COLUMNS, *batch_summary.KNOCKOUT_COLUMNS]
    return {row["name"]: row for row in table.to_dict("records")}


def table_of(lines: list[str]) -> list[str]:
    start = next(number for number, line in enumerate(lines) if line.startswith("name "))
    return lines[start:]


def test_a_batch_ends_with_its_table_and_its_summary(command):
    code, out, err = command("--config", "night.yaml")
    assert (code, err) == (0, [])
    heading, france, spain, counts, wrote = table_of(out)
    assert (counts, wrote) == ("2 complete", f"wrote {SUMMARY}")
    place = heading.index("moves the layers most")
    assert france[place:].startswith("' France' at 3") and spain[place:].startswith("' Spain' at 3")
    assert (
        heading.index("tokens") + 5 == france.index(" 5 ") + 1
    )  # numbers stand to the right, under their heading's end
    record = json.loads(Path("output/france_run.json").read_text(encoding="utf-8"))
    row = summary()["france"]
    assert (row["status"], row["tokens"], row["steps"], row["rows"], row["reason"]) == (
        "complete",
        5,
        2,
        record["rows"],
        "",
    )
    assert row["seconds"] == record["seconds"] and row["generated_text"] == record["generated_text"]
    assert row["first_token_probability"] == record["steps"][0]["next"]["probability"]


def test_the_top_token_is_the_strongest_of_the_table(command):
    command("--config", "night.yaml")
    for name, row in summary().items():
        table = read_results(f"output/{name}_results.csv")
        first = table[(table.generation_step == 0) & (table.variant == "Full") & (table.token_position > 0)]
        sums = first.groupby("token_position").l2_distance.sum()
        assert row["top_position"] == sums.idxmax()
        assert row["top_token"] == first[first.token_position == sums.idxmax()].token_masked.iloc[0]


KNOCKED_OUT = """\
model: demo
prompts:
  - {name: france, prompt: "The capital of France is", knockout: [all, final]}
  - {name: spain, prompt: "The capital of Spain is", knockout: none}
"""


def test_what_the_answer_rests_on_leads_where_an_entry_has_knockouts(command):
    Path("night.yaml").write_text(KNOCKED_OUT, encoding="utf-8")
    heading, france, spain, *_ = table_of(command("--config", "night.yaml")[1])
    place, next_place = heading.index("rests on"), heading.index("moves the layers most")
    assert place < next_place and france[next_place:].startswith("' France' at 3")
    assert france[place:].startswith("' France' -") and not spain[place:next_place].strip()
    found = pd.read_csv(SUMMARY, keep_default_na=False, dtype=str)
    assert list(found) == [*batch_summary.COLUMNS, *batch_summary.KNOCKOUT_COLUMNS]
    record = json.loads(Path("output/france_run.json").read_text(encoding="utf-8"))["knockout"]
    for name in ("rests_on", "read_at"):
        cells = found[[name, f"{name}_positions", f"{name}_change"]].to_numpy().tolist()
        unit = record[name][0]
        assert cells == [[unit["text"], unit["positions"], cells[0][2]], ["", "", ""]]
        assert float(cells[0][2]) == pytest.approx(unit["logprob_change"])


@pytest.mark.parametrize("knockout", [[], {"rests_on": [3]}, {"rests_on": [{"text": 3}]}, {"rests_on": "x"}])
def test_knockouts_that_no_run_writes_are_none(knockout):
    assert batch_summary.knockout_cells({"knockout": knockout}) == {}


def test_text_is_quoted_and_numbers_are_not(command):
    command("--config", "night.yaml")
    heading, *rows = SUMMARY.read_text(encoding="utf-8").splitlines()
    assert heading == ",".join(f'"{name}"' for name in batch_summary.COLUMNS | batch_summary.KNOCKOUT_COLUMNS)
    assert rows[1].startswith('"spain","complete",5,1,10,') and ',3," Spain",,' in rows[1]


def test_what_was_finished_earlier_is_in_it_too(command):
    command("--config", "night.yaml")
    first = SUMMARY.read_bytes()
    SUMMARY.unlink()
    code, out, _ = command("--config", "night.yaml")
    assert code == 0 and SUMMARY.read_bytes() == first and table_of(out)[-2] == "2 complete"


def test_an_entry_that_fails_is_in_it_with_its_reason_and_the_code_is_1(command, failing):
    failing(2, RunError("the disk\tis full"))
    code, out, err = command("--config", "night.yaml")
    assert code == 1 and err[-1] == "error: 1 of 2 prompts failed: france"
    assert table_of(out)[-2] == "1 failed, 1 complete" and r"the disk\tis full" in table_of(out)[1]
    row = summary()["france"]
    assert (row["status"], row["tokens"], row["steps"], row["reason"]) == ("failed", 5, "", "the disk\tis full")
    assert summary()["spain"]["status"] == "complete"


def test_an_earlier_result_that_is_kept_does_not_pass_for_this_one(command, failing):
    command("--config", "night.yaml")
    failing(2, RunError("no"))
    assert command("--config", "night.yaml", "--overwrite")[0] == 1
    row = summary()["france"]
    assert (row["status"], row["reason"], row["steps"]) == ("failed", "no; the result of this name is kept", 2)


def test_a_failure_that_left_no_record_has_its_reason_all_the_same(command, failing, monkeypatch):
    def refuse(*_):
        raise RunError("full")

    monkeypatch.setattr("mask_impact.runs.batch.write_failure", refuse)
    failing(2, RunError("no"))
    command("--config", "night.yaml")
    assert (summary()["france"]["status"], summary()["france"]["reason"]) == ("failed", "no")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"status": "complete"}', '{"status": "complete", "steps": []}', "[" * 100_000]
)
def test_a_run_file_that_is_none_is_unreadable_and_no_more(command, text, monkeypatch):
    command("--config", "night.yaml")
    wrote = batch_summary.run_path(Path("output"), "france")
    monkeypatch.setattr(
        batch_summary, "run_path", lambda folder, name: Path("broken.json") if name == "france" else wrote
    )
    Path("broken.json").write_text(text, encoding="utf-8")
    assert command("--config", "night.yaml")[0] == 0
    assert (summary()["france"]["status"], summary()["france"]["reason"]) == (
        "unreadable",
        "broken.json cannot be read",
    )


def test_a_record_of_an_earlier_version_has_no_top_token(command):
    command("--config", "night.yaml")
    path = Path("output/france_run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["strongest"]
    path.write_text(json.dumps(record), encoding="utf-8")
    command("--config", "night.yaml")
    france = summary()["france"]
    assert (france["status"], france["top_position"], france["top_token"]) == ("complete", "", "")


def test_with_quiet_the_file_is_written_and_nothing_said(command):
    assert command("--config", "night.yaml", "--quiet") == (0, [], [])
    assert len(summary()) == 2


def test_a_prompt_of_the_command_line_has_no_summary(command):
    _, out, _ = command("--model", "demo", "--prompt", "The capital of France is")
    assert not [line for line in out if line.startswith("name ")] and not list(Path("output").glob("*_summary.csv"))


def test_a_summary_that_cannot_be_written_is_a_warning(command, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch_summary, "write_summary", refuse)
    code, _, err = command("--config", "night.yaml")
    assert code == 0 and len(err) == 1 and "warning: the summary is missing: " in err[0] and "No space left" in err[0]
    assert not list(Path("output").glob("*summary*")) and not list(Path("output").glob(".*"))


def test_pictures_too(command):
    entry = f'{{name: p, image: "{PICTURE}", mask_mode: vision, prompt: "What color is the circle?"}}'
    Path("night.yaml").write_text(f"model: demo\nprompts: [{entry}]", encoding="utf-8")
    code, out, _ = command("--config", "night.yaml", door=mask_impact_vl)
    assert code == 0 and table_of(out)[-2] == "1 complete"
    assert summary()["p"]["top_token"].startswith("img0[")


@pytest.mark.parametrize("stem", ["capital_results", "capital_run", "capital", "capital_results.csv", "a_report"])
def test_a_summary_is_no_result(stem, tmp_path):
    path = batch_summary.summary_path(str(tmp_path), f"some/where/{stem}.yaml")
    path.write_text("x", encoding="utf-8")
    assert path.name == f"{stem}_summary.csv" and not names_folder.OutputFolder(tmp_path).files(stem)
    for name in ("capital", "capital_summary", stem):
        assert result_names.choose_name(Settings(prompt="P", name=name, output_dir=str(tmp_path)), {}).record == {}


def row(**values) -> dict:
    return dict.fromkeys(batch_summary.COLUMNS) | {"name": "n", "status": "complete", "generated_text": "x"} | values


def test_text_cannot_move_the_cursor_or_turn_the_writing_around():
    hostile = "\x1b[2J\r\n\u202e\u0085\ud800"
    lines = batch_summary.table_lines(
        [
            row(
                rests_on=hostile,
                rests_on_change=-1.0,
                name=hostile,
                top_token=hostile,
                top_position=1,
                generated_text=hostile,
            ),
            row(status="failed", reason=hostile),
        ]
    )
    assert len(lines) == 4 and all(line.isprintable() for line in lines)


def test_the_columns_are_aligned_whatever_the_script():
    lines = batch_summary.table_lines(
        [row(name=name, status="failed", reason="no") for name in ("日本", "e\u0301a", "plain")]
    )
    assert [line[: line.index("failed")] for line in lines[1:4]] == ["日本   ", "e\u0301a     ", "plain  "]


def test_long_text_is_cut():
    long = row(name="n" * 99, generated_text="word " * 99, top_token="t" * 99, top_position=7)
    [_, line, _] = batch_summary.table_lines([long])
    assert (
        len(line) < 160
        and line.startswith("n" * 13 + "..." + "n" * 14 + " ")
        and "... at 7" in line
        and line.endswith("...")
    )


def test_a_lone_surrogate_is_written_as_its_escape(tmp_path):
    batch_summary.write_summary([row(generated_text="\udcff")], tmp_path / "x.csv")
    assert r'"\udcff"' in (tmp_path / "x.csv").read_text(encoding="utf-8")


def test_names_of_a_batch_can_be_told_apart():
    names = [f"the_capital_of_{country}_is_the_city_of" for country in ("france", "finland", "peru")]
    _, *lines, _ = batch_summary.table_lines([row(name=name) for name in names])
    assert [line.split()[0] for line in lines] == [
        "the_capital_of_france...ity_of",
        "the_capital_of_finland...ty_of",
        "the_capital_of_peru..._city_of",
    ]
