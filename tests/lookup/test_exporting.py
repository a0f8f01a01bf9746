"""`python -m mask_impact report` and `export`: what they write is what a run writes, byte for byte."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from looking import hostile

from mask_impact import read_results
from mask_impact.base.formats import FORMATS
from mask_impact.results.table import ResultTable, StepDistances
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
