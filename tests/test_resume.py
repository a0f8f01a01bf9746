"""Runs that were cut off: continued at their next step, with the tables of an uninterrupted run, byte for byte."""

import errno
import json
import os
import shutil
import signal
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import mask_impact_analysis
import mask_impact_vl
from mask_impact import batches, completing, console, interrupts, locks, measure, projected, read_results, riding, runs, unfinished
from mask_impact.__main__ import main as look_up
from mask_impact.errors import RunError
from mask_impact.load_check import measurable_parts

ROOT = Path(__file__).parent.parent
STORY = ("Anna put the key in the red box. Ben put the coin in the blue bag. The coin is in the", " blue bag. Anna put the")
TEXT = ["--model", "demo", "--prompt", STORY[0], "--continuation", STORY[1], "--output", "x", "--formats", "csv,json,parquet"]
PICTURE = ["--model", "demo", "--image", ROOT / "testimg.png", "--prompt", "What color is the circle?", "--continuation", " red red red red",
           "--mask-mode", "both", "--output", "x"]
CASES = {
    "text": (TEXT, None), "rerun": ([*TEXT, "--method", "rerun"], None), "attention alone": ([*TEXT, "--variants", "attn,heads"], None),
    "heads alone": ([*TEXT, "--variants", "heads"], None), "chosen layers": ([*TEXT, "--layers", "1"], None),
    "float64": ([*TEXT, "--dtype", "float64"], None), "bfloat16": ([*TEXT, "--dtype", "bfloat16"], None),
    "bfloat16 measured as it is": ([*TEXT, "--dtype", "bfloat16", "--measure-dtype", "model"], None), "picture": (PICTURE, mask_impact_vl)}


class Killed(BaseException):
    """What no handler catches, as a killed process runs none."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cut_off(command, monkeypatch):
    """Run a command until so many steps are kept, and no further."""
    def run(steps, *words, **options):
        keep = runs.Run._keep

        def kept(self, distances):
            keep(self, distances)
            if len(self.steps) == steps:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(runs.Run, "_keep", kept)
            with pytest.raises(Killed):
                command(*words, **options)
    return run


def tables(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*_results.*") if path.suffix != ".parquet"}


def parts(name="x"):
    return sorted(path.name for path in Path("output/.partial", name).glob("step_*"))


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
    whole, resumed = (json.loads(Path(folder, "x_run.json").read_text(encoding="utf-8")) for folder in ("whole", "output"))
    for record in (whole, resumed):
        for key in ("settings", "started", "seconds"):
            record.pop(key)
    assert resumed == whole


def test_only_the_steps_that_are_missing_are_measured(command, cut_off, monkeypatch):
    cut_off(3, *TEXT)
    measured = []
    add = runs.Run.add
    monkeypatch.setattr(runs.Run, "add", lambda self, layer: (measured.append((layer.step.index, layer.layer)), add(self, layer)))
    assert command(*TEXT)[0] == 0
    steps = len(json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["steps"])
    assert measured == [(step, layer) for step in range(3, steps) for layer in range(3)]


arrive = riding.Ride.arrive


def wide_model():
    """Wide enough for a matrix product of one row and one of many to differ in their last bits."""
    torch.manual_seed(3)
    config = Qwen3Config(vocab_size=300, hidden_size=512, intermediate_size=1536, num_hidden_layers=3, num_attention_heads=8,
                         num_key_value_heads=4, head_dim=64, eos_token_id=None)
    return Qwen3ForCausalLM(config).eval()


def layers_of(model, steps, done=(), again=lambda: None, method=measure.Method()):
    found, _ = measurable_parts(model)
    inputs = measure.ModelInputs(list(range(7, 90)), steps, done=done, start_over=again)
    return list(measure.measured_layers(model, found, inputs, method))


@pytest.mark.parametrize("share, variants, kinds", [
    (1 / 4, ("full", "attn", "heads"), ["branch"]), (0, ("full", "attn", "heads"), ["branch", "projection"]),
    (1 / 4, ("attn", "heads"), []), (0, ("attn", "heads"), ["projection"])])
def test_rows_that_rode_leave_their_mark_and_are_answered_for_when_replayed(share, variants, kinds, monkeypatch):
    monkeypatch.setattr(projected, "SHARE", share)
    model, method = wide_model(), measure.Method(variants=variants)
    whole = layers_of(model, 5, method=method)
    done = [layer.step.replay for layer in whole[::3]][:3]
    assert not done[0].rode and set(done[1].rode) == {(kind, layer) for kind in kinds for layer in range(3)}
    monkeypatch.setattr(riding.Ride, "arrive", lambda self, *_: arrive(self, *_) if self.moment.step in (0, 3, 4) else pytest.fail())
    resumed = layers_of(model, 5, done, method=method)
    assert [layer.step.index for layer in resumed] == [3] * 3 + [4] * 3
    for one, other in zip(whole[9:], resumed):
        assert (one.l2 == other.l2).all() and (one.cosine == other.cosine).all()
        assert one.step.replay.same(other.step.replay)


def test_without_what_was_answered_a_replay_is_seen_to_differ_and_the_run_starts_over():
    model = wide_model()
    whole, told = layers_of(model, 4), []
    done = [measure.Replay(layer.step.replay.next_id, layer.step.replay.digest, {key: answer + 1 for key, answer in
                                                                              layer.step.replay.rode.items()}) for layer in whole[::3]][:3]
    again = layers_of(model, 4, done, lambda: told.append("over"))
    assert told == ["over"] and [layer.step.index for layer in again] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert all((one.l2 == other.l2).all() for one, other in zip(whole, again))


def test_parts_of_a_machine_with_other_last_bits_are_measured_again(command, cut_off):
    command(*TEXT, "--output-dir", "whole")
    cut_off(2, *TEXT)
    files = unfinished.PartFiles(Path("output"), "x")
    first = files[0]
    other = measure.Replay(first.replay.next_id, "0" * 32, first.replay.rode)
    unfinished.Part(**{**vars(first), "replay": other}).save(files.folder / "step_0000.safetensors")
    code, _, err = command(*TEXT)
    assert code == 0 and tables("output") == tables("whole")
    assert err == ["warning: x: the model's answers differ in their last bits from those of the steps that are there; the run starts over"]


@pytest.mark.parametrize("broken", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 100])
def test_a_torn_part_file_and_what_follows_it_are_measured_again(broken, command, cut_off):
    command(*TEXT, "--output-dir", "whole")
    cut_off(3, *TEXT)
    Path("output/.partial/x/step_0001.safetensors").write_bytes(broken)
    assert len(unfinished.PartFiles(Path("output"), "x")) == 1
    code, _, err = command(*TEXT)
    assert (code, err) == (0, []) and tables("output") == tables("whole")


def test_a_part_with_zeros_in_it_is_none(command, cut_off):
    """What a power cut leaves of pages that had not reached the disk."""
    cut_off(1, *TEXT)
    path = Path("output/.partial/x/step_0000.safetensors")
    text = path.read_bytes()
    path.write_bytes(text[:-64] + bytes(64))
    assert len(unfinished.PartFiles(Path("output"), "x")) == 0


def test_a_part_cut_short_at_any_byte_is_none(command, cut_off):
    cut_off(1, *TEXT)
    path = Path("output/.partial/x/step_0000.safetensors")
    text = path.read_bytes()
    for length in [*range(0, len(text), 997), len(text) - 1]:
        path.write_bytes(text[:length])
        assert len(unfinished.PartFiles(Path("output"), "x")) == 0
    path.write_bytes(text)
    assert len(unfinished.PartFiles(Path("output"), "x")) == 1


def test_a_dry_run_tells_of_it(command, cut_off):
    cut_off(2, *TEXT)
    assert command(*TEXT, "--dry-run")[1][0].endswith("; cut off before, and goes on behind the steps that are there")
    assert len(parts()) == 2


def test_changed_settings_stop_with_what_differs_and_overwrite_redoes(command, cut_off):
    changed = [*TEXT, "--variants", "full"]
    cut_off(2, *TEXT)
    code, _, err = command(*changed)
    assert code == 2 and err == ["error: the name 'x' is taken in 'output' by an unfinished run with other settings (variants); "
                                 "choose another or add --overwrite"]
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
    add = runs.Run.add
    monkeypatch.setattr(runs.Run, "add", lambda self, layer: (measured.append(layer.step.index), add(self, layer)))
    assert command(*TEXT, "--overwrite")[0] == 0 and measured[0] == 0


def test_a_failed_run_goes_on_behind_its_steps(command, monkeypatch):
    keep = runs.Run._keep

    def full(self, distances):
        keep(self, distances)
        if len(self.steps) == 2:
            raise RunError("the memory is gone")

    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "_keep", full)
        assert command(*TEXT)[0] == 1
    assert len(parts()) == 2 and json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["status"] == "failed"
    code, out, _ = command(*TEXT)
    assert code == 0 and out[0] == "x: failed before (the memory is gone); it goes on behind the steps that are there"
    command(*TEXT, "--output-dir", "whole")
    assert tables("output") == tables("whole") and not Path("output/.partial").exists()


@pytest.mark.parametrize("placed", range(5))
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
        if placed == 4:
            command(*words)
        else:
            with pytest.raises(Killed):
                command(*words)
    assert len(count) == placed
    code, out, err = command(*words)
    assert (code, err) == (0, []) and tables("output") == tables("whole")
    assert out[0].endswith("it goes on behind the steps that are there" if placed < 4 else "--overwrite measures it again")
    assert sorted(os.listdir("output")) == sorted(os.listdir("whole"))


def test_a_part_that_does_not_fit_on_the_disk_is_said_with_its_file(command, monkeypatch):
    def full(*_):
        raise unfinished.SafetensorError("Error while serializing: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "save_file", full)
        code, _, err = command(*TEXT)
    assert code == 1 and "step_0000.safetensors could not be written: Error while serializing: No space left on device" in err[0]
    assert command(*TEXT)[0] == 0 and not Path("output/.partial").exists()


def test_steps_of_a_failed_run_are_not_forgotten_for_other_settings(command, monkeypatch):
    keep = runs.Run._keep

    def failing(self, distances):
        keep(self, distances)
        raise RunError("full")

    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "_keep", failing)
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
    batch.write_text(json.dumps({"model": "demo", "prompts": [
        {"name": name, "prompt": STORY[0], "continuation": STORY[1]} for name in "abc"]}), encoding="utf-8")
    assert command("--config", batch)[0] == 0
    keep, measured, finished = runs.Run._keep, [], []

    def kept(self, distances):
        keep(self, distances)
        measured.append((self.plan.choice.name, len(self.steps)))
        if measured[-1] == ("b", 2) and not finished:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runs.Run, "_keep", kept)
    code, out, err = command("--config", batch, "--overwrite")
    assert code == 130 and measured[-1] == ("b", 2) and len(parts("b")) == 3  # the step at work was finished
    code, out, _ = command("--config", batch)
    assert code == 0 and any("a run that was to replace it was cut off; with --overwrite it goes on" in line for line in out)
    assert len(parts("b")) == 3
    before = list(measured)
    code, out, _ = command("--config", batch, "--overwrite")
    assert code == 0 and out[0] == "a: replaced before this batch was cut off"
    assert out[1] == "b: cut off before; it goes on behind the steps that are there"
    again = measured[len(before):]
    assert again[0] == ("b", 4) and {name for name, _ in again} == {"b", "c"}
    assert not Path("output/.partial").exists()
    del measured[:]
    finished.append(True)
    assert command("--config", batch, "--overwrite")[0] == 0 and {name for name, _ in measured} == {"a", "b", "c"}


def test_an_overwriting_batch_cut_off_at_its_very_end_begins_anew_next_time(command, monkeypatch):
    batch = Path("night.yaml")
    batch.write_text(json.dumps({"model": "demo", "prompts": [{"name": name, "prompt": STORY[0]} for name in "ab"]}), encoding="utf-8")
    command("--config", batch)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("mask_impact.closing.close", killed)
        command("--config", batch, "--overwrite")
    assert [line.split(": ")[1] for line in command("--config", batch, "--overwrite")[1][:2]] == ["replaced before this batch was cut off"] * 2
    assert not Path("output/.partial").exists()
    assert "replaced before" not in "".join(command("--config", batch, "--overwrite")[1])


def test_a_missing_format_that_cannot_be_written_is_a_failure_and_nothing_is_measured(command, monkeypatch):
    command(*TEXT[:-1], "csv")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(completing.WRITERS, "json", full)
    monkeypatch.setattr(runs.Run, "__init__", None)
    code, _, err = command(*TEXT[:-1], "json")
    assert code == 1 and "x_results.json could not be written: No space left on device" in err[0]
    assert Path("output/x_results.csv").exists()


def test_what_is_left_of_a_whole_result_is_swept(command):
    command(*TEXT)
    shutil.copytree("output", "copy")
    Path("output/.partial/x").mkdir(parents=True)
    Path("output/.partial/x/.x_run.json.1.tmp").write_text("torn")
    assert command(*TEXT)[0] == 0 and sorted(os.listdir("output")) == sorted(os.listdir("copy"))


def test_ctrl_c_once_finishes_the_step_and_the_same_command_goes_on(command, monkeypatch):
    command(*TEXT, "--output-dir", "whole")
    add, seen = runs.Run.add, []

    def pressed(self, layer):
        seen.append(layer)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, layer)

    batch = Path("night.yaml")
    batch.write_text(json.dumps({"model": "demo", "prompts": [
        {"name": "x", "prompt": STORY[0], "continuation": STORY[1]}, {"name": "y", "prompt": STORY[0]}]}), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "add", pressed)
        code, out, err = command("--config", batch)
    assert code == 130 and len(parts()) == 2 and len(seen) == 6
    assert err == ["warning: x: stopped after 2 of 6 steps; the same command goes on from there",
                   "error: interrupted; what was finished is kept, and the same command goes on from there"]
    assert [line.split()[:2] for line in out[-4:-2]] == [["x", "unfinished"], ["y", "missing"]]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    code, out, err = command("--config", batch)
    assert (code, err) == (0, []) and tables("output")["x_results.csv"] == tables("whole")["x_results.csv"]


def test_ctrl_c_in_the_last_step_of_all_is_no_interruption(command, monkeypatch):
    add = runs.Run.add
    monkeypatch.setattr(runs.Run, "add", lambda self, layer: (os.kill(os.getpid(), signal.SIGINT), add(self, layer))
                        if (layer.step.index, layer.layer) == (0, 2) else add(self, layer))
    assert command("--model", "demo", "--prompt", STORY[0])[0] == 0


def test_ctrl_c_behind_a_pipe_whose_reader_has_gone(command, monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    add = runs.Run.add
    monkeypatch.setattr(os, "write", gone)
    monkeypatch.setattr(runs.Run, "add", lambda self, layer: (os.kill(os.getpid(), signal.SIGINT), add(self, layer))
                        if (layer.step.index, layer.layer) == (1, 0) else add(self, layer))
    code, _, err = command(*TEXT)
    assert code == 130 and err[0].startswith("warning: x: stopped after 2 of 6 steps") and len(parts()) == 2


def test_ctrl_c_twice_stops_at_once(command, monkeypatch):
    def pressed(self, layer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runs.Run, "add", pressed)
    code, _, err = command(*TEXT)
    assert code == 130 and err == ["error: interrupted; what was finished is kept, and the same command goes on from there"]


def test_under_nohup_ctrl_c_stays_without_effect():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupts.asked() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_result_that_another_run_measures_is_left_to_it(command):
    with locks.alone(Path("output"), "X") as held:
        assert held
        code, _, err = command(*TEXT)
    assert code == 1 and err == ["warning: x: another run is measuring it now; it is left to that one",
                                 "error: x: not finished yet by the run that measures it"]
    assert not Path("output/.partial").exists() and command(*TEXT)[0] == 0


def test_a_lock_that_a_dead_process_left_is_none(command):
    Path("output/.partial").mkdir(parents=True)
    Path(f"output/.partial/.{blake2b(b'x', digest_size=16).hexdigest()}.lock").write_text("1")
    assert command(*TEXT)[0] == 0 and not Path("output/.partial").exists()


def test_a_result_that_another_run_finished_meanwhile_is_not_redone(command, monkeypatch):
    loaded = batches.loaded

    def slowly(*words):
        with monkeypatch.context() as patch:
            patch.setattr(batches, "loaded", loaded)
            assert mask_impact_analysis.main(TEXT) == 0
        return loaded(*words)

    monkeypatch.setattr(batches, "loaded", slowly)
    code, out, err = command(*TEXT)
    assert (code, err) == (0, []) and out[-1] == "x: another run has finished it meanwhile"


def test_a_name_that_other_settings_took_meanwhile_fails_alone(command, monkeypatch):
    loaded = batches.loaded

    def slowly(*words):
        with monkeypatch.context() as patch:
            patch.setattr(batches, "loaded", loaded)
            assert mask_impact_analysis.main([*TEXT, "--variants", "full"]) == 0
        return loaded(*words)

    monkeypatch.setattr(batches, "loaded", slowly)
    code, _, err = command(*TEXT)
    assert code == 1 and "its name was taken meanwhile by a run with other settings (variants); give it another name or output_dir" in err[0]
    assert json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["settings"]["variants"] == ["full"]


def test_a_name_that_other_settings_have_at_work_fails_alone_and_unrecorded(command, monkeypatch):
    loaded = batches.loaded

    def slowly(*words):
        held = locks.alone(Path("output"), "x")
        held.__enter__()
        begun = {"status": "unfinished", "settings": {"variants": ["full"]}}
        Path("output/.partial/x").mkdir()
        Path("output/.partial/x/run.json").write_text(json.dumps(begun), encoding="utf-8")
        others.append(held)
        return loaded(*words)

    others = []
    monkeypatch.setattr(batches, "loaded", slowly)
    code, _, err = command(*TEXT)
    assert code == 1 and "its name was taken meanwhile by a run with other settings (" in err[0]
    assert not Path("output/x_run.json").exists()
    others[0].__exit__(None, None, None)


def test_memory_holds_one_step_at_a_time(command, monkeypatch):
    held = []
    record = runs.Run.record
    monkeypatch.setattr(runs.Run, "record", lambda self: (held.append(len(self.distances.more)), record(self))[1])
    assert command(*TEXT)[0] == 0 and held and set(held) == {1}


@pytest.mark.parametrize("have, want", [("csv", "json"), ("csv", "parquet,csv"), ("parquet", "csv,json"), ("json", "csv")])
def test_a_missing_format_is_made_of_the_table(have, want, command, monkeypatch):
    command(*TEXT[:-1], "csv,json,parquet", "--output-dir", "whole")
    command(*TEXT[:-1], have)
    before = Path("output/x_run.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "__init__", None)
        code, out, err = command(*TEXT[:-1], want)
    made = [form for form in want.split(",") if form != have]
    assert (code, err) == (0, []) and out == [f"{Path('output', f'x_results.{form}')}: made of the result that is there" for form in made]
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


def look(capsys, *words):
    capsys.readouterr()
    code = console.exit_code(lambda: look_up([str(word) for word in words]))
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


@pytest.mark.parametrize("word", ["output/x", "x", "output/x_run.json"])
def test_show_reads_a_run_that_is_not_finished(word, command, cut_off, capsys):
    command(*TEXT, "--output-dir", "whole")
    cut_off(3, *TEXT)
    code, out, err = look(capsys, "show", word, "--step", 2)
    whole = look(capsys, "show", "whole/x", "--step", 2)[1]
    assert (code, err) == (0, []) and out[1] == "not finished: it has steps 0-2 so far"
    assert "generated  \" blue bag.\"" in out and "step 2 of 0-2" in "\n".join(out)
    assert out[out.index(""):] == whole[whole.index(""):]


def test_report_and_compare_read_a_run_that_is_not_finished_and_export_refuses(command, cut_off, capsys):
    cut_off(3, *TEXT)
    assert look(capsys, "report", "output/x")[0] == 0
    page = Path("output/x_report.html").read_text(encoding="utf-8")
    assert 'id="report-data-2-0"' in page and 'id="report-data-3-0"' not in page
    assert "'output/x' stands for the steps" in look(capsys, "show", "output/x_results.csv")[2][0]
    code, _, err = look(capsys, "export", "output/x", "--to", "csv")
    assert code == 2 and "this run is not finished" in err[0] and not Path("output/x_results.csv").exists()
    assert look(capsys, "compare", "output/x", "output/x")[0] == 0
    assert command(*TEXT)[0] == 0 and not Path("output/x_report.html").exists()


def test_steps_that_cannot_be_read_are_one_line(cut_off, capsys):
    cut_off(1, *TEXT)
    Path("output/.partial/x/run.json").write_text("torn", encoding="utf-8")
    code, _, err = look(capsys, "show", "output/x")
    assert code == 2 and len(err) == 1 and "start it again" in err[0]
    Path("output/.partial/x/step_0000.safetensors").write_bytes(b"torn")
    code, _, err = look(capsys, "show", "output/x")
    assert code == 2 and len(err) == 1 and "no step in it can be read" in err[0]
