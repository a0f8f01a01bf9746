"""Runs that were cut off: continued at their next step, with the tables of an uninterrupted run, byte for byte."""

import json
import os
from pathlib import Path

import pytest
from cutting import PICTURE, STORY, TEXT, Killed, parts, tables
from zoo import wide_model

import mask_impact_vl
from mask_impact.base.errors import RunError
from mask_impact.measure import loop
from mask_impact.measure import step as measure_step
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.joined import joined_rows as rows
from mask_impact.measure.joined import kept_values
from mask_impact.runs import run
from mask_impact.runs.on_disk import finished_steps

pytestmark = pytest.mark.usefixtures("here")
CASES = {
    "text": (TEXT, None),
    "rerun": ([*TEXT, "--method", "rerun"], None),
    "attention alone": ([*TEXT, "--variants", "attn,heads"], None),
    "heads alone": ([*TEXT, "--variants", "heads"], None),
    "chosen layers": ([*TEXT, "--layers", "1"], None),
    "float64": ([*TEXT, "--dtype", "float64"], None),
    "bfloat16": ([*TEXT, "--dtype", "bfloat16"], None),
    "bfloat16 measured as it is": ([*TEXT, "--dtype", "bfloat16", "--measure-dtype", "model"], None),
    "picture": (PICTURE, mask_impact_vl),
}


@pytest.mark.parametrize("case", CASES)
def test_a_cut_off_run_ends_with_the_tables_of_an_uninterrupted_one(case, command, cut_off):
    words, door = CASES[case]
    door = {"door": door} if door else {}
    assert command(*words, "--output-dir", "whole", **door)[0] == 0
    cut_off(1, *words, **door)
    cut_off(3, *words, **door)
    assert parts() == ["step_0000.safetensors", "step_0001.safetensors", "step_0002.safetensors"]
    code, out, err = command(*words, **door)
    assert (code, err) == (0, []) and out[0] == "x: cut off before; it goes on behind the steps that are there"
    assert tables("output") == tables("whole") and tables("whole")
    assert not Path("output/.partial").exists()
    whole, resumed = (
        json.loads(Path(folder, "x_run.json").read_text(encoding="utf-8")) for folder in ("whole", "output")
    )
    for record in (whole, resumed):
        for key in ("settings", "started", "seconds"):
            record.pop(key)
    assert resumed == whole


def test_only_the_steps_that_are_missing_are_measured(command, cut_off, monkeypatch):
    cut_off(3, *TEXT)
    measured = []
    add = run.Run.add
    monkeypatch.setattr(
        run.Run, "add", lambda self, layer: (measured.append((layer.step.index, layer.layer)), add(self, layer))
    )
    assert command(*TEXT)[0] == 0
    steps = len(json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["steps"])
    assert measured == [(step, layer) for step in range(3, steps) for layer in range(3)]


arrive = rows.JoinedLayer.arrive


def layers_of(model, steps, done=(), again=lambda: None, method=measure_step.Method()):
    found, _ = measurable_parts(model)
    inputs = measure_step.ModelInputs(list(range(7, 90)), steps, done=done, start_over=again)
    return list(loop.measured_layers(model, found, inputs, method))


@pytest.mark.parametrize("share", [1 / 4, 0])
@pytest.mark.parametrize(
    "variants, kinds", [(("full", "attn", "heads"), ["branch", "projection"]), (("attn", "heads"), ["projection"])]
)
def test_joined_rows_leave_their_mark_and_are_answered_for_when_replayed(share, variants, kinds, monkeypatch):
    monkeypatch.setattr(kept_values, "SHARE", share)
    model, method = wide_model(), measure_step.Method(variants=variants)
    whole = layers_of(model, 5, method=method)
    done = [layer.step.fingerprint for layer in whole[::3]][:3]
    assert not done[0].own_answers and set(done[1].own_answers) == {
        (kind, layer) for kind in kinds for layer in range(3)
    }

    def only_where_measured(layer, *rest):
        assert layer.step_info.step in (0, 3, 4)
        return arrive(layer, *rest)

    monkeypatch.setattr(rows.JoinedLayer, "arrive", only_where_measured)
    resumed = layers_of(model, 5, done, method=method)
    assert [layer.step.index for layer in resumed] == [3] * 3 + [4] * 3
    for one, other in zip(whole[9:], resumed):
        assert (one.l2 == other.l2).all() and (one.cosine == other.cosine).all()
        assert one.step.fingerprint.same(other.step.fingerprint)


def test_without_what_was_answered_a_replay_is_seen_to_differ_and_the_run_starts_over():
    model = wide_model()
    whole, told = layers_of(model, 4), []
    done = [
        measure_step.PassFingerprint(
            layer.step.fingerprint.next_id,
            layer.step.fingerprint.digest,
            {key: answer + 1 for key, answer in layer.step.fingerprint.own_answers.items()},
        )
        for layer in whole[::3]
    ][:3]
    again = layers_of(model, 4, done, lambda: told.append("over"))
    assert told == ["over"] and [layer.step.index for layer in again] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert all((one.l2 == other.l2).all() for one, other in zip(whole, again))


def test_parts_of_a_machine_with_other_last_bits_are_measured_again(command, cut_off):
    command(*TEXT, "--output-dir", "whole")
    cut_off(2, *TEXT)
    files = finished_steps.FinishedSteps(Path("output"), "x")
    first = files[0]
    other = measure_step.PassFingerprint(first.fingerprint.next_id, "0" * 32, first.fingerprint.own_answers)
    finished_steps.FinishedStep(**{**vars(first), "fingerprint": other}).save(files.folder / "step_0000.safetensors")
    code, _, err = command(*TEXT)
    assert code == 0 and tables("output") == tables("whole")
    assert err == [
        (
            "warning: x: the model's answers differ in their last bits from those of the steps that are there; "
            "the run starts over"
        )
    ]


@pytest.mark.parametrize("broken", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 100])
def test_a_torn_part_file_and_what_follows_it_are_measured_again(broken, command, cut_off):
    command(*TEXT, "--output-dir", "whole")
    cut_off(3, *TEXT)
    Path("output/.partial/x/step_0001.safetensors").write_bytes(broken)
    assert len(finished_steps.FinishedSteps(Path("output"), "x")) == 1
    code, _, err = command(*TEXT)
    assert (code, err) == (0, []) and tables("output") == tables("whole")


def test_a_part_with_zeros_in_it_is_none(command, cut_off):
    """What a power cut leaves of pages that had not reached the disk."""
    cut_off(1, *TEXT)
    path = Path("output/.partial/x/step_0000.safetensors")
    text = path.read_bytes()
    path.write_bytes(text[:-64] + bytes(64))
    assert len(finished_steps.FinishedSteps(Path("output"), "x")) == 0


def test_a_part_cut_short_at_any_byte_is_none(command, cut_off):
    cut_off(1, *TEXT)
    path = Path("output/.partial/x/step_0000.safetensors")
    text = path.read_bytes()
    for length in [*range(0, len(text), 997), len(text) - 1]:
        path.write_bytes(text[:length])
        assert len(finished_steps.FinishedSteps(Path("output"), "x")) == 0
    path.write_bytes(text)
    assert len(finished_steps.FinishedSteps(Path("output"), "x")) == 1


def test_a_dry_run_tells_of_it(command, cut_off):
    cut_off(2, *TEXT)
    assert command(*TEXT, "--dry-run")[1][0].endswith("; cut off before, and goes on behind the steps that are there")
    assert len(parts()) == 2


def test_a_failed_run_goes_on_behind_its_steps(command, monkeypatch):
    keep = run.Run._keep

    def full(self, distances):
        keep(self, distances)
        if len(self.steps) == 2:
            raise RunError("the memory is gone")

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "_keep", full)
        assert command(*TEXT)[0] == 1
    assert len(parts()) == 2 and json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["status"] == "failed"
    code, out, _ = command(*TEXT)
    assert code == 0 and out[0] == "x: failed before (the memory is gone); it goes on behind the steps that are there"
    command(*TEXT, "--output-dir", "whole")
    assert tables("output") == tables("whole") and not Path("output/.partial").exists()


@pytest.mark.parametrize("placed", range(8))
def test_a_kill_between_the_files_of_a_result_is_made_good(placed, command, monkeypatch):
    replace, count = os.replace, []

    def killed(source, target):
        if str(target).startswith("output") and ".partial" not in str(target):
            if len(count) == placed:
                raise Killed
            count.append(target)
        replace(source, target)

    words = ["--model", "demo", "--prompt", STORY[0], "--output", "x", "--formats", "csv,json,parquet"]
    command(*words, "--output-dir", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        if placed == 7:
            command(*words)
        else:
            with pytest.raises(Killed):
                command(*words)
    assert len(count) == placed
    code, out, err = command(*words)
    assert (code, err) == (0, []) and tables("output") == tables("whole")
    assert out[0].endswith(
        "it goes on behind the steps that are there" if placed < 7 else "--overwrite measures it again"
    )
    assert sorted(os.listdir("output")) == sorted(os.listdir("whole"))


def test_a_part_that_does_not_fit_on_the_disk_is_said_with_its_file(command, monkeypatch):
    def full(*_):
        raise finished_steps.SafetensorError("Error while serializing: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(finished_steps, "save_file", full)
        code, _, err = command(*TEXT)
    assert (
        code == 1
        and "step_0000.safetensors could not be written: Error while serializing: No space left on device" in err[0]
    )
    assert command(*TEXT)[0] == 0 and not Path("output/.partial").exists()


def test_memory_holds_one_step_at_a_time(command, monkeypatch):
    held = []
    record = run.Run.record
    monkeypatch.setattr(run.Run, "record", lambda self: (held.append(len(self.distances.more)), record(self))[1])
    assert command(*TEXT)[0] == 0 and held and set(held) == {1}
