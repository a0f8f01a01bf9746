"""Results that are there: a missing format is made of the table, what is left over is swept."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from cutting import TEXT

from mask_impact import read_results
from mask_impact.runs import run
from mask_impact.runs.on_disk import missing_formats

pytestmark = pytest.mark.usefixtures("here")


def test_a_missing_format_that_cannot_be_written_is_a_failure_and_nothing_is_measured(command, monkeypatch):
    command(*TEXT[:-1], "csv")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(missing_formats.WRITERS, "json", full)
    monkeypatch.setattr(run.Run, "__init__", None)
    code, _, err = command(*TEXT[:-1], "json")
    assert code == 1 and "x_results.json could not be written: No space left on device" in err[0]
    assert Path("output/x_results.csv").exists()


def test_what_is_left_of_a_whole_result_is_swept(command):
    command(*TEXT)
    shutil.copytree("output", "copy")
    Path("output/.partial/x").mkdir(parents=True)
    Path("output/.partial/x/.x_run.json.1.tmp").write_text("torn")
    assert command(*TEXT)[0] == 0 and sorted(os.listdir("output")) == sorted(os.listdir("copy"))


@pytest.mark.parametrize(
    "have, want", [("csv", "json"), ("csv", "parquet,csv"), ("parquet", "csv,json"), ("json", "csv")]
)
def test_a_missing_format_is_made_of_the_table(have, want, command, monkeypatch):
    command(*TEXT[:-1], "csv,json,parquet", "--output-dir", "whole")
    command(*TEXT[:-1], have)
    before = Path("output/x_run.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "__init__", None)
        code, out, err = command(*TEXT[:-1], want)
    made = [form for form in want.split(",") if form != have]
    paths = [Path("output", f"x_{kind}.{form}") for kind in ("results", "knockout") for form in made]
    assert (code, err) == (0, []) and out == [f"{path}: made from the result that is there" for path in paths]
    assert Path("output/x_run.json").read_bytes() == before
    for form in {"csv", "json"} & set(want.split(",")):
        assert Path(f"output/x_results.{form}").read_bytes() == Path(f"whole/x_results.{form}").read_bytes()
    assert read_results(f"output/x_results.{made[0]}").equals(read_results("whole/x_results.csv"))
    assert command(*TEXT[:-1], want)[1][0].endswith("--overwrite measures it again")


def test_a_table_that_cannot_be_read_is_measured_again_for_its_missing_format(command):
    command(*TEXT[:-1], "csv")
    Path("output/x_results.csv").write_text("torn", encoding="utf-8")
    code, _, err = command(*TEXT[:-1], "json")
    assert code == 0 and len(err) == 1 and err[0].endswith("it is measured again")
    assert len(read_results("output/x_results.json")) == len(read_results("output/x_results.csv")) > 0
