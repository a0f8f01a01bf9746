"""What the tests of `python -m mask_impact` share:
the command in this process, results to ask it about, and a hostile one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mask_impact import __main__
from mask_impact.base import console
from mask_impact.base.terminal import Screen
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_csv, write_results

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "\r\n",
    "\u202etxt.exe",
    "\u200d\u2066",
    "\u0301\u0301",
    "e" + "\u0301" * 40,
    "漢字漢字漢字漢字",
    "\ufe0f",
    "\0",
    "\x9b31m",
    "\u2028",
    '"',
    "\\",
    "\\x1b",
    "",
    " ",
    "\t",
    "שלום",
    "😀👩\u200d💻",
    "\U0001f1eb\U0001f1f7",
    "e\ue000",
    "x" * 5000,
]


def long_table(variants=("Full",), layers=30, positions=600, seed=0) -> ResultTable:
    """A table of one step that is too long for a screen, of distances that no two are alike in;
    it has no run record."""
    cells = [(variant, layer) for variant in variants for layer in range(layers)]
    l2 = np.random.default_rng(seed).permutation(len(cells) * positions).reshape(len(cells), positions)
    l2 = l2.astype(np.float32)
    return ResultTable([f" t{place}" for place in range(positions)], cells, [StepDistances(0, l2, l2)])


@pytest.fixture
def folder(results, tmp_path, monkeypatch):
    """A current folder with a copy of the results in `output`."""
    shutil.copytree(results, tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "output"


@pytest.fixture
def ask(capsys):
    """Run the command in this process: (exit code, lines on standard output, lines on standard error)."""

    def run(*words, screen=Screen()):
        capsys.readouterr()
        code = console.exit_code(lambda: __main__.main([str(word) for word in words], screen))
        said = capsys.readouterr()
        return code, said.out.split("\n")[:-1], said.err.split("\n")[:-1]

    return run


def stored(table: ResultTable, folder, name: str) -> str:
    """The table as a result of that name; what the command calls it."""
    write_csv(table, folder / f"{name}_results.csv")
    return f"output/{name}"


def hostile(folder, name="evil"):
    """A result of one step over hostile tokens, with a record as hostile."""
    table = ResultTable(HOSTILE, [("Full", 0), ("Full", 1)])
    l2 = np.arange(2 * len(HOSTILE), dtype=np.float32).reshape(2, -1)
    table.steps.append(StepDistances(0, l2, l2 / 100))
    settings = {"model": "m\x1b[31m", "prompt": "".join(HOSTILE)}
    record = {"status": "complete", "settings": settings, "generated_text": HOSTILE[0], "device": "\x1b"}
    write_results(table, folder, name, ("csv",), record)
    return table
