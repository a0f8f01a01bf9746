"""What fails while the command runs: the reason in one line and in the run file, the others go on, nothing is torn."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
import zoo
from repository import ROOT
from running import files_in, record_of, yaml_file
from safetensors.torch import load_file, save_file

import mask_impact_analysis
from mask_impact import read_results
from mask_impact.base import console
from mask_impact.measure.loop import measured_layers

pytestmark = pytest.mark.usefixtures("here")


BATCH = (
    "prompts: [{name: one, prompt: The cat}, {name: bad, prompt: The cat zz}, {name: two, prompt: A dog}]\nlayers: 0\n"
    "knockout: none\n"
)


@contextmanager
def failing(monkeypatch, error):
    """The loop raises `error` on every prompt with a z."""

    def measured(model, parts, inputs, method):
        if len(inputs.token_ids) == 9:
            raise error
        return measured_layers(model, parts, inputs, method)

    with monkeypatch.context() as patch:
        patch.setattr("mask_impact.measure.loop.measured_layers", measured)
        yield


def test_logits_that_are_no_numbers_fail_one_prompt(command, models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][zoo.tokenizer()("z")["input_ids"]] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, out, err = command("--config", yaml_file(BATCH), "--model", folder)
    assert code == 1 and err[-1] == "error: 1 of 3 prompts failed: bad" and len(err) == 2
    assert err[0] == "error: bad: the logits of generation step 0 are not numbers; try another --dtype"
    assert files_in("output") == [
        "bad_run.json",
        "batch_summary.csv",
        "one_results.csv",
        "one_results.json",
        "one_run.json",
        "two_results.csv",
        "two_results.json",
        "two_run.json",
    ]
    bad = record_of("bad")
    assert bad["status"] == "failed" and bad["reason"] in err[0] and bad["settings"]["prompt"] == "The cat zz"
    code, out, err = command("--config", "batch.yaml", "--model", folder)
    one, two = str(Path("output", "one")), str(Path("output", "two"))
    assert code == 1 and [line.split(":")[0] for line in out[:4]] == [one, "bad", two, "bad"]
    assert out[1] == f"bad: failed before ({bad['reason']}); it is measured again"


@pytest.mark.parametrize(
    "error, reason",
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
            (
                "out of memory (CUDA out of memory. Tried to allocate 2 GiB); "
                "measure a shorter prompt, or take a smaller model"
            ),
        ),
        (MemoryError(), "out of memory (MemoryError); "),
        (IndexError("index 7 is out of range"), "IndexError: index 7 is out of range (test_command_failures.py, line "),
    ],
)
def test_what_fails_one_prompt_is_recorded_and_the_others_go_on(error, reason, command, llama, monkeypatch):
    with failing(monkeypatch, error):
        code, _, err = command("--config", yaml_file(BATCH), "--model", llama)
    assert code == 1 and len(err) == 2 and err[0].startswith(f"error: bad: {reason}")
    assert record_of("bad")["reason"] == err[0].removeprefix("error: bad: ")
    assert record_of("one")["status"] == record_of("two")["status"] == "complete"
    assert command("--config", "batch.yaml", "--model", llama)[0] == 0 and record_of("bad")["status"] == "complete"


def test_a_failure_leaves_the_result_that_it_was_to_replace(command, llama, monkeypatch):
    words = ("--model", llama, "--prompt", "The cat zz", "--layers", 0, "--output", "bad")
    assert command(*words)[0] == 0
    with failing(monkeypatch, MemoryError()):
        code, _, err = command(*words, "--overwrite")
    assert code == 1 and err[1:] == ["warning: bad: the result of this name is kept"]
    assert record_of("bad")["status"] == "complete" and len(read_results("output/bad_results.csv")) == 54


def test_weights_that_do_not_fit_into_memory(command, llama, monkeypatch, here):
    def full(*words, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    code, _, err = command("--model", llama, "--prompt", "P")
    assert (code, len(err), files_in(here)) == (1, 1, []) and err[0].startswith(
        "error: out of memory (DefaultCPUAllocator"
    )


def test_a_missing_package_is_one_line(capsys):
    assert mask_impact_analysis.console.exit_code(lambda: importlib.import_module("no_such_package_here")) == 2
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.startswith("error: the Python package no_such_package_here is not installed")
        and err.count("\n") == 1
    )


def test_an_interruption_is_one_line(command, llama, monkeypatch):
    with failing(monkeypatch, KeyboardInterrupt()):
        code, _, err = command("--config", yaml_file(BATCH), "--model", llama)
    assert (code, err) == (
        130,
        ["error: interrupted; what was finished is kept, and the same command goes on from there"],
    )
    assert [name for name in files_in("output") if name != ".partial"] == [
        "one_results.csv",
        "one_results.json",
        "one_run.json",
    ]


def test_a_reader_that_has_gone_does_not_stop_the_run(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        console.say("one")
        console.say("two")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_log_on_a_full_disk_does_not_stop_the_run(llama, stream):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    words = [sys.executable, str(ROOT / "mask_impact_analysis.py"), "--model", llama, "--layers", "0", "--prompt"]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*words, "x"], **{"stdout": subprocess.DEVNULL, stream: full}
        )  # one undefined distance: a warning
    assert ended.returncode == 0 and record_of("x")["status"] == "complete"


def test_an_interrupted_process_does_not_wait_for_its_threads():
    program = (
        "import time, concurrent.futures as f; from mask_impact.base import console; "
        "f.ThreadPoolExecutor().submit(time.sleep, 30); console.leave(console.INTERRUPTED)"
    )
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 130
    assert time.monotonic() - started < 15


def test_an_unforeseen_error_of_the_loaded_model_is_one_line(command, llama, monkeypatch, here):
    def fail(*words):
        raise TypeError("forward() got an unexpected keyword\nmore")

    monkeypatch.setattr("mask_impact.models.loading.measurable_parts", fail)
    code, _, err = command("--model", llama, "--prompt", "P")
    assert (
        code == 1
        and len(err) == 1
        and err[0].startswith("error: TypeError: forward() got an unexpected keyword (test_command_failures.py, line ")
    )


def test_an_unforeseen_error_anywhere_else_is_one_line(command, llama, monkeypatch, here):
    monkeypatch.setattr("mask_impact.runs.planning.plan_all", lambda *words: {}["plan"])
    code, out, err = command("--model", llama, "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (1, [], 1, []) and err[0].startswith(
        "error: KeyError: 'plan' (test_command_failures.py, line "
    )


def test_no_name_drives_the_terminal(command, llama):
    code, out, err = command(
        "--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "a\u202eb", "--output-dir", "x\x1b[2J"
    )
    assert (code, err) == (0, []) and out[0].startswith(r"a\u202eb: 6 tokens") and r"wrote x\x1b[2J" in out[-1]
    assert all(line.isprintable() for line in out) and Path("x\x1b[2J", "a\u202eb_run.json").is_file()
