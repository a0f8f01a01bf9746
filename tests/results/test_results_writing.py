"""The files of a result: the run file is plain JSON and comes last, and nothing is torn."""

import errno
import json
import math
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from hard_tables import hard_table, names_in
from repository import ROOT

from mask_impact import read_results
from mask_impact.base.errors import RunError
from mask_impact.base.formats import FORMATS
from mask_impact.base.json_text import json_text
from mask_impact.results import writing
from mask_impact.results.writing import write_failure, write_results

# The run file


def test_the_run_file_is_plain_json():
    record = {
        "a": np.float32(0.1),
        "nan": math.nan,
        "inf": np.float32(np.inf),
        "tokens": [{"id": np.int64(3), "text": "\u2028</script>"}],
        "norms": np.array([[0.1, np.nan]], np.float32),
        "flag": np.bool_(True),
        "none": None,
        "empty": {},
        "pair": (1, 2),
        "steps": [{"step": 0, "top": [{"id": 1}]}],
    }
    assert (
        json_text(record)
        == """{
  "a": 0.1,
  "nan": null,
  "inf": null,
  "tokens": [
    {"id": 3, "text": "\u2028</script>"}
  ],
  "norms": [
    [0.1, null]
  ],
  "flag": true,
  "none": null,
  "empty": {},
  "pair": [1, 2],
  "steps": [
    {
      "step": 0,
      "top": [
        {"id": 1}
      ]
    }
  ]
}
"""
    )


def test_nested_records_are_the_same_after_json():
    record = {
        "steps": [{"step": 0, "top": [{"id": 1, "p": 0.5}]}, []],
        "deep": [[[1], [2]], {"a": {"b": []}}],
        "text": '\x00"\\',
    }
    assert json.loads(json_text(record)) == record


def test_a_prompt_with_a_lone_surrogate_is_written(tmp_path):
    write_results(hard_table(), tmp_path, "a", FORMATS, {"prompt": "caf\udce9"})
    assert json.loads((tmp_path / "a_run.json").read_bytes())["prompt"] == "caf\udce9"
    assert read_results(tmp_path / "a_results.parquet").attrs["run"]["prompt"] == "caf\udce9"


def test_paths_are_returned_with_the_run_file_last(tmp_path):
    paths = write_results(hard_table(), tmp_path / "new" / "folder", "a", ("parquet", "csv"), {})
    assert [path.name for path in paths] == ["a_results.parquet", "a_results.csv", "a_run.json"]
    assert names_in(tmp_path / "new" / "folder") == sorted(path.name for path in paths)


def test_the_record_of_a_failure_replaces_that_of_the_result(tmp_path):
    """The tables stay, for a person to judge; without a complete run file they are no result."""
    write_results(hard_table(), tmp_path, "a", ("csv",), {"status": "complete"})
    write_failure(tmp_path, "a", {"status": "failed", "reason": "caf\udce9"})
    assert json.loads((tmp_path / "a_run.json").read_bytes()) == {"status": "failed", "reason": "caf\udce9"}
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json"]


# Nothing torn


def test_tables_of_an_earlier_run_go(tmp_path):
    write_results(hard_table(), tmp_path, "a", FORMATS, {"run": 1})
    write_results(hard_table(steps=1), tmp_path, "a", ("csv",), {"run": 2})
    write_results(hard_table(), tmp_path, "ab", ("json",), {"run": 3})
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json", "ab_results.json", "ab_run.json"]
    assert read_results(tmp_path / "a_results.csv").attrs["run"]["run"] == 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_the_old_result_and_nothing_else(tmp_path, form, monkeypatch):
    old = hard_table(steps=1)
    write_results(old, tmp_path, "a", FORMATS, {"run": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails_half_way(table, path, run_text):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(writing.WRITERS, form, fails_half_way)
    with pytest.raises(RunError, match=rf"a_results\.{form} could not be written: No space left on device") as error:
        write_results(hard_table(), tmp_path, "a", FORMATS, {"run": 2})
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(table, path, run_text):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(writing.WRITERS, "json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert names_in(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from mask_impact.base.errors import RunError
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_failure, write_results
values = np.random.default_rng(0).random((200, 500), dtype=np.float32)
table = ResultTable(["a"] * 500, [("Full", layer) for layer in range(200)], [StepDistances(0, values, values)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_results(table, Path(sys.argv[1]), "a", (sys.argv[2],), {})
except RunError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit on a file's size")
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_too_large_for_the_system(tmp_path, form):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), form], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(rf".*a_results\.{form} could not be written: .*File too large.*\n", done.stderr)
    assert names_in(tmp_path) == []


def test_a_killed_overwrite_leaves_no_complete_result(tmp_path, monkeypatch):
    """Killed between two replacements: the first table is new, the second old, and no run file vouches for either."""
    write_results(hard_table(steps=1), tmp_path, "a", ("csv", "json"), {"run": 1})
    replace, seen = os.replace, []

    def killed_at_the_second(source, target):
        if seen:
            raise SystemExit
        seen.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(SystemExit):
        write_results(hard_table(), tmp_path, "a", ("csv", "json"), {"run": 2})
    assert names_in(tmp_path) == ["a_results.csv", "a_results.json"]


def test_the_run_file_appears_after_every_table(tmp_path, monkeypatch):
    replace, order = os.replace, []
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append(target.name), replace(source, target)))
    write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert order == ["a_results.csv", "a_results.json", "a_results.parquet", "a_run.json"]


def test_a_file_that_another_program_holds_open(tmp_path, monkeypatch):
    """On Windows a spreadsheet lets nobody replace the file it shows; the old result stays."""
    write_results(hard_table(steps=1), tmp_path, "a", ("csv",), {"run": 1})
    held = lambda path, mode="r": (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    monkeypatch.setattr("mask_impact.base.whole_files._check_replaceable", held)
    with pytest.raises(RunError, match="a_run.json could not be replaced: it is open in another program") as error:
        write_results(hard_table(), tmp_path, "a", ("csv",), {"run": 2})
    assert "\n" not in str(error.value)
    assert read_results(tmp_path / "a_results.csv").attrs["run"]["run"] == 1
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken could not be made"):
        write_results(hard_table(), tmp_path / "taken", "a", ("csv",), {})


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    names = (".a_results.csv.1.tmp", ".a_results.csv.2.tmp", ".b_results.csv.1.tmp")
    old, fresh, other = (tmp_path / name for name in names)
    for path in (old, fresh, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    write_results(hard_table(), tmp_path, "a", ("csv",), {})
    assert names_in(tmp_path) == [fresh.name, other.name, "a_results.csv", "a_run.json"]


def test_a_folder_is_listed_once_for_a_result(tmp_path, monkeypatch):
    """A batch's folder can hold thousands of files."""
    listed, real = [], os.listdir
    monkeypatch.setattr("mask_impact.base.whole_files.os.listdir", lambda folder: listed.append(folder) or real(folder))
    write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert listed == [tmp_path]


def test_an_infinite_distance_is_not_written(tmp_path):
    table = hard_table()
    table.steps[1].cosine[5, 2] = np.inf
    with pytest.raises(RunError, match="cosine_distance is infinite at generation step 1, Head_0, layer 2, position 2"):
        write_results(table, tmp_path / "new", "a", FORMATS, {})
    assert names_in(tmp_path) == []
