"""Two runs at once: a result is measured by one of them, and a name that the other took meanwhile is left to it."""

import json
from hashlib import blake2b
from pathlib import Path

import pytest
from cutting import TEXT

import mask_impact_analysis
from mask_impact.runs import batch
from mask_impact.runs.on_disk import locks

pytestmark = pytest.mark.usefixtures("here")


def test_a_result_that_another_run_measures_is_left_to_it(command):
    with locks.name_lock(Path("output"), "X") as held:
        assert held
        code, _, err = command(*TEXT)
    assert code == 1 and err == [
        "warning: x: another run is measuring it now; it is left to that one",
        "error: x: not finished yet by the run that measures it",
    ]
    assert not Path("output/.partial").exists() and command(*TEXT)[0] == 0


def test_a_lock_that_a_dead_process_left_is_none(command):
    Path("output/.partial").mkdir(parents=True)
    Path(f"output/.partial/.{blake2b(b'x', digest_size=16).hexdigest()}.lock").write_text("1")
    assert command(*TEXT)[0] == 0 and not Path("output/.partial").exists()


def test_a_result_that_another_run_finished_meanwhile_is_not_redone(command, monkeypatch):
    loaded = batch.load

    def slowly(*words):
        with monkeypatch.context() as patch:
            patch.setattr(batch, "load", loaded)
            assert mask_impact_analysis.main(TEXT) == 0
        return loaded(*words)

    monkeypatch.setattr(batch, "load", slowly)
    code, out, err = command(*TEXT)
    assert (code, err) == (0, []) and out[-1] == "x: another run has finished it meanwhile"


def test_a_name_that_other_settings_took_meanwhile_fails_alone(command, monkeypatch):
    loaded = batch.load

    def slowly(*words):
        with monkeypatch.context() as patch:
            patch.setattr(batch, "load", loaded)
            assert mask_impact_analysis.main([*TEXT, "--variants", "full"]) == 0
        return loaded(*words)

    monkeypatch.setattr(batch, "load", slowly)
    code, _, err = command(*TEXT)
    assert (
        code == 1
        and "its name was taken meanwhile by a run with other settings (variants); give it another name or output_dir"
        in err[0]
    )
    assert json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["settings"]["variants"] == ["full"]


def test_a_name_that_other_settings_have_at_work_fails_alone_and_unrecorded(command, monkeypatch):
    loaded = batch.load

    def slowly(*words):
        held = locks.name_lock(Path("output"), "x")
        held.__enter__()
        begun = {"status": "unfinished", "settings": {"variants": ["full"]}}
        Path("output/.partial/x").mkdir()
        Path("output/.partial/x/run.json").write_text(json.dumps(begun), encoding="utf-8")
        others.append(held)
        return loaded(*words)

    others = []
    monkeypatch.setattr(batch, "load", slowly)
    code, _, err = command(*TEXT)
    assert code == 1 and "its name was taken meanwhile by a run with other settings (" in err[0]
    assert not Path("output/x_run.json").exists()
    others[0].__exit__(None, None, None)
