"""Ctrl-C: once finishes the step at work, twice stops at once, and the same command goes on from there."""

import json
import os
import signal
from pathlib import Path

import pytest
from cutting import STORY, TEXT, parts, tables

from mask_impact.base import interrupts
from mask_impact.runs import run

pytestmark = pytest.mark.usefixtures("here")


def test_ctrl_c_once_finishes_the_step_and_the_same_command_goes_on(command, monkeypatch):
    command(*TEXT, "--output-dir", "whole")
    add, seen = run.Run.add, []

    def pressed(self, layer):
        seen.append(layer)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, layer)

    batch = Path("night.yaml")
    batch.write_text(
        json.dumps(
            {
                "model": "demo",
                "prompts": [
                    {"name": "x", "prompt": STORY[0], "continuation": STORY[1]},
                    {"name": "y", "prompt": STORY[0]},
                ],
            }
        ),
        encoding="utf-8",
    )
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "add", pressed)
        code, out, err = command("--config", batch)
    assert code == 130 and len(parts()) == 2 and len(seen) == 6
    assert err == [
        "warning: x: stopped after 2 of 6 steps; the same command goes on from there",
        "error: interrupted; what was finished is kept, and the same command goes on from there",
    ]
    assert [line.split()[:2] for line in out[-4:-2]] == [["x", "unfinished"], ["y", "missing"]]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    code, out, err = command("--config", batch)
    assert (code, err) == (0, []) and tables("output")["x_results.csv"] == tables("whole")["x_results.csv"]


def test_ctrl_c_in_the_last_step_of_all_is_no_interruption(command, monkeypatch):
    add = run.Run.add
    monkeypatch.setattr(
        run.Run,
        "add",
        lambda self, layer: (
            (os.kill(os.getpid(), signal.SIGINT), add(self, layer))
            if (layer.step.index, layer.layer) == (0, 2)
            else add(self, layer)
        ),
    )
    assert command("--model", "demo", "--prompt", STORY[0], "--knockout", "none")[0] == 0


def test_ctrl_c_behind_a_pipe_whose_reader_has_gone(command, monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    add = run.Run.add
    monkeypatch.setattr(os, "write", gone)
    monkeypatch.setattr(
        run.Run,
        "add",
        lambda self, layer: (
            (os.kill(os.getpid(), signal.SIGINT), add(self, layer))
            if (layer.step.index, layer.layer) == (1, 0)
            else add(self, layer)
        ),
    )
    code, _, err = command(*TEXT)
    assert code == 130 and err[0].startswith("warning: x: stopped after 2 of 6 steps") and len(parts()) == 2


def test_ctrl_c_twice_stops_at_once(command, monkeypatch):
    def pressed(self, layer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run.Run, "add", pressed)
    code, _, err = command(*TEXT)
    assert code == 130 and err == [
        "error: interrupted; what was finished is kept, and the same command goes on from there"
    ]


def test_under_nohup_ctrl_c_stays_without_effect():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupts.stop_requested() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
