"""A disk that fills at any write: no torn file under a final name, the reason in the table, the others go on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from mask_impact import read_results

resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX alone")

PROMPTS = {
    "short": "The capital of France is",
    "long": "The capital of France is Paris. " * 6,
    "last": "The capital of Spain is",
}
BATCH = "model: demo\nlayers: 0-1\nprompts:\n" + "".join(
    f"  - {{name: {name}, prompt: '{prompt}'}}\n" for name, prompt in PROMPTS.items()
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("night.yaml").write_text(BATCH, encoding="utf-8")


@contextmanager
def files_of_at_most(size):
    """No file can be made larger inside: writing past it is an OSError, as Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_whole(folder):
    """Every file under its final name is whole, and there is no other; returns their names."""
    for path in Path(folder).iterdir():
        if path.name.endswith("_run.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            assert record["status"] in ("complete", "failed")
            if record["status"] == "complete":
                assert record["rows"] == len(
                    read_results(path.with_name(f"{record['name']}_results.{record['settings']['formats'][0]}"))
                )
        elif "_results." in path.name or "_knockout." in path.name:
            assert len(read_results(path)) > 0
        elif path.name.endswith("_report.html"):
            assert path.read_text(encoding="utf-8").endswith("</html>\n")
        else:
            assert path.name == "night_summary.csv" and len(pd.read_csv(path)) == len(PROMPTS)
    return {path.name for path in Path(folder).iterdir()}


def rows_of_table(lines):
    """The table at the end: by name, the status and the rest of the row."""
    start = next(number for number, line in enumerate(lines) if line.startswith("name "))
    return {
        words[0]: (words[1], line) for line in lines[start + 1 : start + 1 + len(PROMPTS)] if (words := line.split())
    }


def check_told(code, out, err, reason):
    """Each entry that failed is told with the reason, in the table too."""
    table = rows_of_table(out)
    failed = {name for name, (status, _) in table.items() if status == "failed"}
    assert set(table) == set(PROMPTS) and code == (1 if failed else 0)
    assert all(reason in table[name][1] for name in failed)
    assert failed == {
        name for name in PROMPTS if any(line.startswith(f"error: {name}: ") and reason in line for line in err)
    }
    assert {name for name in table if name not in failed} == {
        name for name, (status, _) in table.items() if status == "complete"
    }
    return failed


SIZES = [0, 100, 300, 1_000, 3_000, 5_000, 8_000, 12_000, 20_000, 40_000, 230_000, 240_000, 250_000, 300_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk_at_any_size(size, command):
    with files_of_at_most(size):
        code, out, err = command("--config", "night.yaml", "--formats", "csv,json,parquet", "--report")
    check_whole("output")
    failed = check_told(code, out, err, "File too large")
    assert (
        failed == (set() if size == SIZES[-1] else set(PROMPTS)) or 200_000 < size < SIZES[-1]
    )  # where some reports fit
    assert command("--config", "night.yaml", "--formats", "csv,json,parquet", "--report")[0] == 0  # once there is room
    names = check_whole("output")
    assert len(names) == 8 * len(PROMPTS) + 1


# What is asked for besides, the most bytes of a file, and the file that then is the first that does not fit.
FIRST_TO_FAIL = {
    "csv": (["--formats", "csv,json,parquet"], 4_000, "long_results.csv"),
    "json": (["--formats", "json,parquet"], 4_000, "long_results.json"),
    "parquet": (["--formats", "parquet"], 4_000, "long_results.parquet"),
    "run": (["--formats", "csv", "--variants", "full", "--layers", "0", "--knockout", "none"], 3_000, "long_run.json"),
    "knockout": (["--formats", "csv", "--variants", "full", "--layers", "0"], 3_000, "long_knockout.csv"),
    "report": (["--formats", "csv", "--report", "--knockout", "none"], 100_000, "long_report.html"),
}


@pytest.mark.parametrize("words, size, name", FIRST_TO_FAIL.values(), ids=FIRST_TO_FAIL)
def test_each_file_in_turn_is_the_one_that_does_not_fit(words, size, name, command):
    with files_of_at_most(size):
        code, out, err = command("--config", "night.yaml", *words)
    check_whole("output")
    assert code == 1 and "long" in check_told(code, out, err, "File too large")
    assert (
        not Path("output", name).exists()
        or json.loads(Path("output", name).read_text(encoding="utf-8"))["status"] == "failed"
    )
    assert any(
        f"{name} could not be written: File too large; make room or choose another folder" in line for line in err
    )
    others = {words[0] for words in map(str.split, out) if words[1:2] == ["complete"]}
    assert others == ({"short", "last"} if name == "long_run.json" else set())  # which have a shorter run file


def test_a_result_that_was_there_outlives_the_one_that_did_not_fit(command):
    assert command("--config", "night.yaml")[0] == 0
    before = {path.name: path.read_bytes() for path in Path("output").glob("*_*.*") if "summary" not in path.name}
    with files_of_at_most(1_000):
        code, out, err = command("--config", "night.yaml", "--overwrite")
    assert check_told(code, out, err, "File too large") == set(PROMPTS)
    assert all(line.endswith("; the result of this name is kept") for _, line in rows_of_table(out).values())
    assert code == 1 and before == {name: Path("output", name).read_bytes() for name in before}
    check_whole("output")


def test_only_the_summary_does_not_fit(command):
    assert command("--config", "night.yaml")[0] == 0
    Path("output/night_summary.csv").unlink()
    with files_of_at_most(100):
        code, out, err = command("--config", "night.yaml")
    assert (
        code == 0
        and len(err) == 1
        and err[0].startswith("warning: the summary is missing: ")
        and "File too large" in err[0]
    )
    assert "night_summary.csv" not in check_whole("output") and len(rows_of_table(out)) == len(PROMPTS)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 192 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        sys.platform == "linux"
        and shutil.which("mount")
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(disk)], capture_output=True
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("a small disk can be mounted by root on Linux alone")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 6, 8, 10, 12])
def test_a_small_disk_that_fills(small_disk, left, command):
    """`left` is what is free at first, in pages of 4 KB, of which each file takes some."""
    (small_disk / "full").write_bytes(bytes(4096 * (48 - left)))
    folder = small_disk / "results"
    code, out, err = command("--config", "night.yaml", "--output-dir", folder, "--formats", "csv,json,parquet")
    if folder.exists():
        check_whole(folder)
    assert check_told(code, out, err, "No space left on device") >= ({*PROMPTS} if left < 4 else {"last"})
    (small_disk / "full").unlink()
    assert command("--config", "night.yaml", "--output-dir", folder, "--formats", "csv")[0] == 0
    check_whole(folder)
