"""Runs with `--overwrite` that were cut off, and steps that are there of a run with other settings."""

import json
import os
import signal
from pathlib import Path

import pytest
from cutting import STORY, TEXT, Killed, parts, tables

from mask_impact.base.errors import RunError
from mask_impact.runs import run

pytestmark = pytest.mark.usefixtures("here")


def test_changed_settings_stop_with_what_differs_and_overwrite_redoes(command, cut_off):
    changed = [*TEXT, "--variants", "full"]
    cut_off(2, *TEXT)
    code, _, err = command(*changed)
    assert code == 2 and err == [
        "error: the name 'x' is taken in 'output' by an unfinished run with other settings (variants); "
        "choose another or add --overwrite"
    ]
    assert len(parts()) == 2
    assert command(*changed, "--output-dir", "whole")[0] == command(*changed, "--overwrite")[0] == 0
    assert tables("output") == tables("whole") and not Path("output/.partial").exists()


def test_a_name_from_the_prompt_goes_past_an_unfinished_run_with_other_settings(command, cut_off):
    short = ["--model", "demo", "--prompt", "The capital of France is", "--num-tokens", "3"]
    cut_off(1, *short)
    assert command(*short, "--layers", "0")[0] == 0 and Path("output/the_capital_of_france_is_2_run.json").exists()
    code, out, _ = command(*short)
    assert code == 0 and out[0].startswith("the_capital_of_france_is: cut off before")
    assert Path("output/the_capital_of_france_is_run.json").exists()


def test_overwrite_measures_every_step(command, cut_off, monkeypatch):
    cut_off(3, *TEXT)
    measured = []
    add = run.Run.add
    monkeypatch.setattr(run.Run, "add", lambda self, layer: (measured.append(layer.step.index), add(self, layer)))
    assert command(*TEXT, "--overwrite")[0] == 0 and measured[0] == 0


def test_steps_of_a_failed_run_are_not_forgotten_for_other_settings(command, monkeypatch):
    keep = run.Run._keep

    def failing(self, distances):
        keep(self, distances)
        raise RunError("full")

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "_keep", failing)
        assert command(*TEXT)[0] == 1
    code, _, err = command(*TEXT, "--variants", "full")
    assert code == 2 and "an unfinished run with other settings (variants)" in err[0] and len(parts()) == 1


def test_an_overwriting_run_that_was_cut_off_goes_on_with_overwrite(command, cut_off):
    command(*TEXT, "--output-dir", "whole")
    command(*TEXT, "--variants", "full")
    cut_off(2, *TEXT, "--overwrite")
    code, _, err = command(*TEXT)
    assert code == 2 and "by a run with other settings (variants)" in err[0] and len(parts()) == 2
    code, out, _ = command(*TEXT, "--overwrite")
    assert code == 0 and out[0] == "x: cut off before; it goes on behind the steps that are there"
    assert tables("output") == tables("whole")


def test_an_overwriting_batch_that_was_cut_off_does_not_begin_again(command, monkeypatch):
    batch = Path("night.yaml")
    batch.write_text(
        json.dumps(
            {
                "model": "demo",
                "prompts": [{"name": name, "prompt": STORY[0], "continuation": STORY[1]} for name in "abc"],
            }
        ),
        encoding="utf-8",
    )
    assert command("--config", batch)[0] == 0
    keep, measured, finished = run.Run._keep, [], []

    def kept(self, distances):
        keep(self, distances)
        measured.append((self.plan.choice.name, len(self.steps)))
        if measured[-1] == ("b", 2) and not finished:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run.Run, "_keep", kept)
    code, out, _ = command("--config", batch, "--overwrite")
    assert code == 130 and measured[-1] == ("b", 2) and len(parts("b")) == 3  # the step at work was finished
    code, out, _ = command("--config", batch)
    assert code == 0 and any(
        "a run that was to replace it was cut off; with --overwrite it goes on" in line for line in out
    )
    assert len(parts("b")) == 3
    before = list(measured)
    code, out, _ = command("--config", batch, "--overwrite")
    assert code == 0 and out[0] == "a: replaced before this batch was cut off"
    assert out[1] == "b: cut off before; it goes on behind the steps that are there"
    again = measured[len(before) :]
    assert again[0] == ("b", 4) and {name for name, _ in again} == {"b", "c"}
    assert not Path("output/.partial").exists()
    del measured[:]
    finished.append(True)
    assert command("--config", batch, "--overwrite")[0] == 0 and {name for name, _ in measured} == {"a", "b", "c"}


def test_an_overwriting_batch_cut_off_at_its_very_end_begins_anew_next_time(command, monkeypatch):
    batch = Path("night.yaml")
    batch.write_text(
        json.dumps({"model": "demo", "prompts": [{"name": name, "prompt": STORY[0]} for name in "ab"]}),
        encoding="utf-8",
    )
    command("--config", batch)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("mask_impact.runs.batch_summary.print_and_write", killed)
        with pytest.raises(Killed):
            command("--config", batch, "--overwrite")
    assert [line.split(": ")[1] for line in command("--config", batch, "--overwrite")[1][:2]] == [
        "replaced before this batch was cut off"
    ] * 2
    assert not Path("output/.partial").exists()
    assert "replaced before" not in "".join(command("--config", batch, "--overwrite")[1])
