"""`--report`: a page with one run inside, its data bit for bit, in a form that no token can end."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_pages import scripts_of
from running import files_in, record_of, yaml_file

from mask_impact import read_results
from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.results import report
from mask_impact.results.knockout_table import KNOCKOUT_COLUMNS
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.runs import batch

pytestmark = pytest.mark.usefixtures("here")
HOSTILE = [
    "</script>",
    "<script>",
    "<!--",
    "-->",
    "]]>",
    "\u2028",
    "\u2029",
    '<img src=x onerror="alert(1)">',
    '"',
    "'",
    "\\",
    "\n",
    "\r",
    "\0",
    "",
    "NA",
    "שלום",
    "😀",
    "&lt;/script&gt;",
    "</SCRIPT\t>",
    "</body>",
    "x" * 10_000,
]
PAGE = "<!DOCTYPE html><html><body><p>The page</p><script>run('</bo' + 'dy>')</script>\n</body></html>\n"


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    """A page in place of the viewer's, which its own tests look at."""
    path = tmp_path / "visualize_results.html"
    path.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", path)
    return path


def hostile_table(dtype=np.float32) -> ResultTable:
    """Two steps over hostile tokens; Head_1 is missing from layer 0; some distances are undefined."""
    table = ResultTable(HOSTILE, [("Full", 0), ("Full", 3), ("Head_0", 0), ("Head_0", 3), ("Head_1", 3)])
    random = np.random.default_rng(0)
    for step in range(2):
        l2, cosine = random.random((2, 5, len(HOSTILE) - 1 + step)).astype(dtype) ** 9
        l2[0, 0] = cosine[0, 0] = cosine[2, 1] = np.nan
        table.steps.append(StepDistances(step, l2, cosine))
    return table


def table_in(path) -> ResultTable:
    """The table that a report holds, read as the viewer reads it."""
    scripts = scripts_of(path)
    about = json.loads(scripts["report-table"])
    cells = [(variant, layer) for variant, layers in zip(about["variants"], about["own_layers"]) for layer in layers]
    table = ResultTable([about["words"][code] for code in about["codes"]], cells)
    for place, (step, positions) in enumerate(zip(about["steps"], about["positions"])):
        packed = [scripts[f"report-data-{place}-{index}"] for index in range(len(about["variants"]))]
        arrays = [
            np.frombuffer(gzip.decompress(base64.b64decode(text)), "<f4").reshape(2, -1, positions) for text in packed
        ]
        table.steps.append(StepDistances(step, *np.concatenate(arrays, axis=1)))
    assert len(table) == about["rows"] and about["layers"] == sorted({layer for _, layer in cells})
    return table


def equal(one: ResultTable, other: ResultTable) -> bool:
    return one.to_dataframe().equals(other.to_dataframe())


def test_hostile_tokens_come_back_and_end_nothing(tmp_path):
    run = {
        "schema_version": 1,
        "tokens": [{"id": 0, "text": text} for text in HOSTILE],
        "settings": {"prompt": "".join(HOSTILE)},
    }
    report.write_report(hostile_table(), run, tmp_path / "a_report.html")
    scripts, text = scripts_of(tmp_path / "a_report.html"), (tmp_path / "a_report.html").read_text(encoding="utf-8")
    assert equal(table_in(tmp_path / "a_report.html"), hostile_table())
    assert json.loads(scripts["report-run"]) == run and json.loads(scripts["report-table"])["name"] == "a"
    inside = text.removeprefix(PAGE.partition("\n")[0] + "\n").removesuffix("</body></html>\n")
    assert inside.isascii() and re.findall(r"<(?!script type=|/script>\n)", inside) == []
    assert scripts["page"] == "run('</bo' + 'dy>')"


def test_the_page_itself_is_unchanged(tmp_path):
    report.write_report(hostile_table(), None, tmp_path / "a_report.html")
    text = (tmp_path / "a_report.html").read_text(encoding="utf-8")
    assert re.sub(r"<script type=.*?</script>\n", "", text) == PAGE
    assert "report-run" not in scripts_of(tmp_path / "a_report.html")


def test_a_lone_surrogate_in_the_record_is_written_as_its_escape(tmp_path):
    report.write_report(hostile_table(), {"prompt": "\udc80"}, tmp_path / "a_report.html")
    assert json.loads(scripts_of(tmp_path / "a_report.html")["report-run"]) == {"prompt": "\udc80"}


def test_float64_is_rounded_and_says_so(tmp_path):
    report.write_report(hostile_table(np.float64), None, tmp_path / "a_report.html")
    assert json.loads(scripts_of(tmp_path / "a_report.html")["report-table"])["notes"] == [report.ROUNDED]
    steps = hostile_table(np.float64).steps
    for rounded, step in zip(table_in(tmp_path / "a_report.html").steps, steps, strict=True):
        assert np.array_equal(rounded.l2, step.l2.astype(np.float32), equal_nan=True)


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report.write_report(hostile_table(), {"a": 1}, tmp_path / name / "a_report.html")
    assert (tmp_path / "one/a_report.html").read_bytes() == (tmp_path / "two/a_report.html").read_bytes()


@pytest.mark.parametrize("rows, fits", [(220, True), (218, False)])
def test_the_limit_is_in_rows(tmp_path, monkeypatch, rows, fits):
    monkeypatch.setattr(report, "REPORT_ROWS", rows)
    table = ResultTable(
        HOSTILE[:22], [("Full", layer) for layer in range(10)], [StepDistances(0, *np.zeros((2, 10, 22), np.float32))]
    )
    if fits:
        report.write_report(table, None, tmp_path / "a_report.html")
        return
    with pytest.raises(
        RequestError, match=r"a_report.html: no report: 220 rows are more than the 218 that a report holds"
    ):
        report.write_report(table, None, tmp_path / "a_report.html")
    assert not (tmp_path / "a_report.html").exists()


def test_a_table_with_rows_missing_or_moved_is_refused(tmp_path):
    frame = hostile_table().to_dataframe()
    for wrong in (
        frame.iloc[1:],
        frame.iloc[::-1],
        frame[frame.layer != 3].iloc[:-1],
        frame[frame.token_position != 1],
    ):
        with pytest.raises(RequestError, match="every row of the table, in the order"):
            report.write_report(wrong, None, tmp_path / "a_report.html")
    report.write_report(frame, None, tmp_path / "a_report.html")
    assert equal(table_in(tmp_path / "a_report.html"), hostile_table())


def test_knockouts_alone_have_no_report(tmp_path):
    frame = pd.DataFrame([dict.fromkeys(KNOCKOUT_COLUMNS, 0)])
    with pytest.raises(RequestError, match=r"a_report.html: no report: these are knock-outs"):
        report.write_report(frame, None, tmp_path / "a_report.html")


def test_the_viewers_page_has_a_place_for_the_run(monkeypatch):
    monkeypatch.undo()
    before, after = report.page()
    assert before.startswith("<!doctype html>") and re.fullmatch(r"</body>\s*</html>\s*", after)


# From the command line


def ask(command, llama, *words):
    words = ("--num-tokens", 2, "--output", "cat", "--knockout", "none", *words)
    return command("--model", llama, "--prompt", "The cat", *words)


def test_a_run_gets_its_report(command, llama):
    code, out, err = ask(command, llama, "--report")
    assert (code, err) == (0, [])
    assert files_in("output") == ["cat_report.html", "cat_results.csv", "cat_results.json", "cat_run.json"]
    assert out[-1].endswith("cat_report.html in a browser")
    assert table_in("output/cat_report.html").to_dataframe().equals(read_results("output/cat_results.csv"))
    assert json.loads(scripts_of("output/cat_report.html")["report-run"]) == record_of("cat")


def test_no_report_unless_asked_for(command, llama):
    assert ask(command, llama)[0] == 0
    assert "cat_report.html" not in files_in("output")


@pytest.mark.parametrize("formats", ["csv", "json", "parquet"])
def test_a_result_that_is_there_gets_its_report_without_being_measured(command, llama, loads, formats):
    assert ask(command, llama, "--formats", formats)[0] == 0
    before = Path(f"output/cat_results.{formats}").stat().st_mtime_ns
    code, out, err = ask(command, llama, "--formats", formats, "--report")
    assert (code, err, len(loads)) == (0, [], 1)
    assert "cat_report.html: made from the result that is there" in out[0]
    assert Path(f"output/cat_results.{formats}").stat().st_mtime_ns == before
    assert table_in("output/cat_report.html").to_dataframe().equals(read_results(f"output/cat_results.{formats}"))
    code, out, _ = ask(command, llama, "--formats", formats, "--report")
    assert (code, len(out), len(loads)) == (0, 1, 1) and "this result is there" in out[0]


def test_a_result_whose_table_is_broken_is_measured_again(command, llama, loads):
    assert ask(command, llama)[0] == 0
    Path("output/cat_results.csv").write_text("nothing\n", encoding="utf-8")
    code, _, err = ask(command, llama, "--report")
    assert (code, len(loads)) == (0, 2) and err[0].endswith("; it is measured again")
    assert table_in("output/cat_report.html").to_dataframe().equals(read_results("output/cat_results.csv"))


def test_one_more_format_keeps_the_report_and_overwriting_without_deletes_it(command, llama):
    assert ask(command, llama, "--report")[0] == 0
    assert ask(command, llama, "--formats", "parquet")[0] == 0
    assert "cat_report.html" in files_in("output") and "cat_results.parquet" in files_in("output")
    assert ask(command, llama, "--overwrite")[0] == 0
    assert "cat_report.html" not in files_in("output")


def test_a_report_alone_holds_its_name(command, llama):
    Path("output").mkdir()
    Path("output/Cat_report.html").write_text("of another run", encoding="utf-8")
    code, _, err = ask(command, llama)
    assert (
        code == console.WRONG_REQUEST
        and "the name 'cat' is taken in 'output' by files without a readable run record" in err[0]
    )
    assert command("--model", llama, "--prompt", "Cat", "--report")[0] == 0
    assert "cat_2_report.html" in files_in("output")


def test_past_the_limit_a_line_says_so_and_the_run_succeeds(command, llama, monkeypatch):
    monkeypatch.setattr(report, "REPORT_ROWS", 100)
    monkeypatch.setattr(batch, "REPORT_ROWS", 100)
    code, _, err = ask(command, llama, "--report")
    assert code == 0 and len(err) == 2
    assert err[0] == "warning: cat: this run can have 234 rows; past 100 it gets no report"
    assert err[1].startswith("warning: cat: no report: 234 rows are more than the 100 that a report holds")
    assert files_in("output") == ["cat_results.csv", "cat_results.json", "cat_run.json"]
    code, _, err = ask(command, llama, "--report")
    assert code == 0 and len(err) == 1 and "no report: 234 rows" in err[0]


def test_without_the_page_nothing_is_measured(command, llama, loads, page):
    page.unlink()
    code, _, err = ask(command, llama, "--report")
    assert (code, loads) == (console.WRONG_REQUEST, []) and not Path("output").exists()
    assert err == [
        f"error: --report needs {str(page)!r} (No such file or directory); "
        "fetch the repository again, or install it again"
    ]
    page.write_text("<p>half a page", encoding="utf-8")
    assert "has no </body>" in ask(command, llama, "--report")[2][0]


def test_a_report_that_cannot_be_written_leaves_the_result(command, llama, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "blocks", full)
    code, _, err = ask(command, llama, "--report")
    assert code == console.FAILED and "cat_report.html could not be written: No space left on device" in err[0]
    assert files_in("output") == ["cat_results.csv", "cat_results.json", "cat_run.json"]
    assert record_of("cat")["status"] == "complete"


def test_a_batch_writes_a_report_for_each_entry(command, llama):
    config = yaml_file(
        f"model: {llama}\nreport: true\nprompts:\n  - {{name: a, prompt: The}}\n  - {{name: b, prompt: A cat}}\n"
    )
    assert command("--config", config)[0] == 0
    assert {"a_report.html", "b_report.html"} <= set(files_in("output"))
