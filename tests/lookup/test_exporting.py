"""`python -m mask_impact report` and `export`: what they write is what a run writes, byte for byte."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from looking import hostile

from mask_impact import read_results, write_report
from mask_impact.base.errors import RequestError
from mask_impact.base.formats import FORMATS
from mask_impact.results.knockout_table import KnockoutRows, KnockoutTable
from mask_impact.results.table import ResultTable, StepDistances, UnitLabels
from mask_impact.results.writing import write_results


def test_the_report_is_the_one_that_a_run_writes(folder, ask):
    written = (folder / "france_report.html").read_bytes()
    code, _, err = ask("report", "output/france")
    assert (code, len(err)) == (2, 1) and "--overwrite replaces it" in err[0]
    for form in FORMATS:
        (folder / "france_report.html").write_bytes(b"another")
        assert ask("report", f"output/france_results.{form}", "--overwrite")[0] == 0
        assert (folder / "france_report.html").read_bytes() == written
    code, out, _ = ask("report", "output/circle_run.json")
    assert code == 0 and (folder / "circle_report.html").exists() and "circle_report.html" in out[0]


@pytest.mark.parametrize("name", ["france", "double", "one", "circle"])
@pytest.mark.parametrize("source, target", [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_exports_are_what_a_run_writes_byte_for_byte(folder, ask, name, source, target):
    wanted = folder / f"{name}_results.{target}"
    before, table = wanted.read_bytes(), read_results(wanted)
    code, _, err = ask("export", f"output/{name}_results.{source}", "--to", target)
    assert (code, len(err)) == (2, 1) and wanted.read_bytes() == before
    wanted.unlink()
    assert ask("export", f"output/{name}_results.{source}", "--to", target)[0] == 0
    again = read_results(wanted)
    assert again.equals(table) and again.dtypes.equals(table.dtypes) and again.attrs == table.attrs
    assert wanted.read_bytes() == before
    wanted.write_bytes(b"another")
    assert ask("export", f"output/{name}_results.{source}", "--to", target, "--overwrite")[0] == 0
    assert wanted.read_bytes() == before


def test_hostile_tokens_are_exported_as_they_are(folder, ask):
    table = hostile(folder).to_dataframe()
    for source, target in (("csv", "json"), ("json", "parquet")):
        assert ask("export", f"output/evil_results.{source}", "--to", target)[0] == 0
        assert read_results(folder / f"evil_results.{target}").equals(table)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_no_file_name_drives_the_terminal(folder, ask):
    hostile(folder, "a\x1b[2J")
    for words in (["show"], ["report"], ["export", "--to", "json"], ["export", "--to", "json"]):
        code, out, err = ask(words[0], "output/a\x1b[2J", *words[1:])
        assert code in (0, 2) and r"\x1b" in "".join(out + err) and "\x1b" not in "".join(out + err)


def test_further_columns_and_missing_rows_are_kept(folder, ask):
    further = {"span": pa.array(["x", None, "z"]), "weight": pa.array([1, None, 2**53])}
    table = ResultTable(list("abc"), [("Full", 0), ("Full", 2)], extra_columns=further)
    table.steps.append(StepDistances(4, *np.ones((2, 2, 2)), np.array([0, 2])))
    write_results(table, folder, "more", ("csv",), {"status": "complete", "dtypes": {"results": "float64"}})
    for source, target in (("csv", "parquet"), ("csv", "json")):
        assert ask("export", f"output/more_results.{source}", "--to", target)[0] == 0
        assert read_results(folder / f"more_results.{target}").equals(read_results(folder / "more_results.csv"))


def test_a_parquet_file_alone_brings_its_run_file(folder, ask):
    run = (folder / "france_run.json").read_bytes()
    (folder / "france_run.json").unlink()
    (folder / "france_results.csv").unlink()
    assert ask("export", "output/france_results.parquet", "--to", "csv")[0] == 0
    assert (folder / "france_run.json").read_bytes() == run
    (folder / "france_results.csv").unlink()
    (folder / "france_run.json").write_bytes((folder / "italy_run.json").read_bytes())
    code, _, err = ask("export", "output/france_results.parquet", "--to", "csv", "--overwrite")
    assert code == 2 and "belongs to another run" in err[0] and not (folder / "france_results.csv").exists()


def test_json_holds_its_rows_and_no_more(folder, ask, monkeypatch):
    from mask_impact.lookup import export

    monkeypatch.setattr(export, "JSON_ROWS", 10)
    (folder / "france_results.json").unlink()
    code, _, err = ask("export", "output/france_results.csv", "--to", "json")
    assert code == 2 and "more than the 10 that JSON holds" in err[0] and not (folder / "france_results.json").exists()


# knock-outs


@pytest.fixture
def cut(folder):
    """A result with knock-outs in all formats; the names of its files."""
    ones, zeros = np.ones(2), np.zeros(2, np.int64)
    rows = KnockoutRows(0, "all", zeros, zeros + 2, zeros - 1, np.arange(2), -ones, -ones / 3, ones, zeros)
    knockouts = KnockoutTable(UnitLabels([" a", '"'], ["tokens"] * 2, ["0", "1"]), [" x"], [rows])
    table = ResultTable([" a", '"'], [("Full", 0)], [StepDistances(0, *np.ones((2, 1, 2), np.float32))])
    write_results(table, folder, "cut", FORMATS, {"status": "complete"}, knockout=knockouts)
    return lambda form: [folder / f"cut_{kind}.{form}" for kind in ("results", "knockout")]


@pytest.mark.parametrize("source, target", [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_knockouts_are_exported_with_their_result(folder, ask, cut, source, target):
    before = [path.read_bytes() for path in cut(target)]
    for path in cut(target):
        path.unlink()
    code, [line], _ = ask("export", f"output/cut_results.{source}", "--to", target)
    assert code == 0 and line == f"wrote output/cut_results.{target}, output/cut_knockout.{target}: 2 and 2 rows"
    assert [path.read_bytes() for path in cut(target)] == before
    cut(target)[1].write_bytes(b"another")
    cut(target)[0].unlink()
    assert ask("export", f"output/cut_results.{source}", "--to", target)[0] == 0  # leaves what is there
    assert cut(target)[1].read_bytes() == b"another"
    assert ask("export", f"output/cut_results.{source}", "--to", target, "--overwrite")[0] == 0
    assert [path.read_bytes() for path in cut(target)] == before


def test_a_knockout_table_is_exported_alone(folder, ask, cut):
    before = cut("parquet")[1].read_bytes()
    for path in cut("parquet"):
        path.unlink()
    assert ask("export", "output/cut_knockout.csv", "--to", "parquet")[1] == [
        "wrote output/cut_knockout.parquet: 2 rows"
    ]
    assert cut("parquet")[1].read_bytes() == before and not cut("parquet")[0].exists()
    assert ask("export", "output/cut_knockout.csv", "--to", "csv")[0] == 2


def test_knockouts_of_another_format_than_the_results_are_found(folder, ask, cut):
    for path in (cut("csv")[1], *cut("parquet"), cut("json")[0]):
        path.unlink()
    assert ask("export", "output/cut_results.csv", "--to", "parquet")[0] == 0
    assert read_results(cut("parquet")[1]).equals(read_results(cut("json")[1]))


@pytest.mark.parametrize("words", [["show"], ["show", "--json"], ["report"], ["compare", "output/cut"]])
@pytest.mark.parametrize("name", ["cut_knockout.csv", "cut_knockout.parquet", "copy.csv"])
def test_a_knockout_table_is_no_result_and_the_fault_says_what_reads_it(folder, ask, cut, words, name):
    (folder / "copy.csv").write_bytes(cut("csv")[1].read_bytes())
    code, out, [error] = ask(*words, f"output/{name}")
    assert (code, out) == (2, []) and error.startswith(f"error: output/{name}: this is a knock-out table")
    assert "mask_impact.read_results" in error and not list(folder.glob("*cut*report*"))


def test_a_report_of_knockouts_is_refused_in_python_too(folder, cut):
    with pytest.raises(RequestError, match="no report: these are knock-outs"):
        write_report(folder / "cut_knockout.csv", None, folder / "x.html")


def test_a_knockout_table_that_is_not_there_is_not_its_result(folder, ask, cut):
    cut("csv")[1].unlink()
    code, _, [error] = ask("show", "output/cut_knockout.csv")
    assert code == 2 and "there is no such result" in error
