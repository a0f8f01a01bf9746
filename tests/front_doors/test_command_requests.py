"""Requests that are wrong: one line that says what, and nothing is loaded or written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from running import files_in, yaml_file

from mask_impact.models import checkpoints

pytestmark = pytest.mark.usefixtures("here")
WRONG = {
    "an empty prompt": (["--prompt", ""], "--prompt: the prompt is empty; give the text"),
    "no prompt.txt": ([], "no prompt is given and there is no prompt.txt in this folder; give one with --prompt"),
    "no tokens": (
        ["--prompt", "P", "--num-tokens", "0"],
        "--num-tokens: expected a whole number from 1 to 1000000, found 0",
    ),
    "a long prompt": (
        ["--prompt", "x" * 257],
        "the prompt has 257 tokens, more than the model's context of 256; shorten it",
    ),
    "a layer too many": (
        ["--prompt", "P", "--layers", "1-3"],
        "layers: 3 is out of range; the model has layers 0 to 2",
    ),
    "an unknown device": (
        ["--prompt", "P", "--device", "gpu"],
        "--device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'",
    ),
    "an absent device": (["--prompt", "P", "--device", "cuda:99"], "--device cuda:99 is absent: "),
    "contradictory flags": (
        ["--prompt", "P", "--no-chat", "--system", "S"],
        "system needs chat, which is off; add --chat",
    ),
    "two sources": (
        ["--prompt", "P", "--prompt-file", "x"],
        "--prompt does not go with --prompt-file; keep one of them",
    ),
    "no chat template": (
        ["--prompt", "P", "--chat"],
        "chat is on, but the model has no chat template; leave chat off: --no-chat (in YAML chat: false)",
    ),
    "a bad name": (["--prompt", "P", "--output", "../x"], "--output: a name must not contain '/', found '../x'"),
    "a missing batch": (["--config", "gone.yaml"], "gone.yaml: there is no such file; check the path"),
    "a batch that no path can name": (
        ["--config", "a\0b"],
        r"--config: expected a path, found a null character in 'a\x00b'",
    ),
    "a batch without a name": (["--config", ""], "--config: expected text, found none (it is empty)"),
    "a batch of dashes": (["--config=--"], "--: there is no such file; check the path"),
    "a path that clears the screen": (
        ["--config", "\x1b[2J\n\u202ex"],
        r"\x1b[2J\n\u202ex: there is no such file; check the path",
    ),
    "a revision of a folder": (
        ["--prompt", "P", "--revision", "main"],
        "--revision 'main' does not go with the folder",
    ),
}


@pytest.mark.parametrize("words, start", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_one_line_and_writes_nothing(words, start, command, llama, loads, here):
    code, out, err = command("--model", llama, *words)
    assert (code, out, loads, files_in(here)) == (2, [], [], [])
    assert len(err) == 1 and err[0].startswith(f"error: {start}")


@pytest.mark.parametrize(
    "text, start",
    [
        ("prompts: [", "not YAML: "),
        ("prompts: [{prompt: a, promt: b}]", "unknown key 'promt', did you mean 'prompt'?"),
        ("prompts: [{prompt: a, prompt: b}]", "'prompt' stands twice (also on line 1); keep one"),
        ("prompts: [{prompt: yes}]", "prompt: expected text, found true"),
        ("prompts: [{prompt: a, num_tokens: many}]", "num_tokens: expected a whole number"),
        ("prompts: [{prompt: a, name: N}, {prompt: b, name: n}]", "the name 'n' is also on line 1"),
        ("prompts: [{prompt: a, name: ../x}]", "name: a name must not contain '/'"),
        ("prompts: [{prompt: a, name: a/b}]", "name: a name must not contain '/'"),
        ("prompts: [{prompt: a, name: CON}]", "name: this name is reserved on Windows"),
        ("prompts: [{prompt: a, name: ''}]", "name: a name must not be empty"),
        ("prompts: [{prompt: a, enabled: false}]", "no entry of prompts is enabled"),
        ("prompts: [{prompt: ''}]", "prompt: the prompt is empty"),
    ],
)
def test_a_wrong_batch_file_is_one_line_and_writes_nothing(text, start, command, llama, loads, here):
    code, out, err = command("--config", yaml_file(text), "--model", llama)
    assert (code, out, loads, files_in(here)) == (2, [], [], ["batch.yaml"])
    assert len(err) == 1 and err[0].startswith("error: batch.yaml:1: " + start)


@pytest.mark.parametrize("flag", ["--prompt-file", "--config"])
def test_a_file_that_never_ends_is_not_waited_for(flag, command, llama, monkeypatch):
    if not Path("/dev/zero").exists():
        pytest.skip("there is no /dev/zero here")
    monkeypatch.setattr("mask_impact.settings.prompt_files.MOST_BYTES", 1000)
    code, out, err = command("--model", llama, flag, "/dev/zero")
    assert (code, out, err) == (
        2,
        [],
        ["error: /dev/zero: more than 1,000 bytes, too long for a prompt; name another file"],
    )
    Path("long.txt").write_text("x" * 1001, encoding="utf-8")
    assert command("--model", llama, flag, "long.txt")[2] == [
        "error: long.txt" + err[0].removeprefix("error: /dev/zero")
    ]


def test_all_faults_of_a_batch_are_listed_before_weights_are_loaded(command, llama, loads, here):
    assert command("--model", llama, "--prompt", "a", "--layers", 0, "--output", "taken")[0] == 0
    config = yaml_file(
        "device: cuda:99\nprompts:\n  - {prompt: fine}\n  - {prompt: a, layers: 9}\n"
        f"  - {{prompt: {'x' * 300}, chat: false, layers: [7, 8]}}\n  - {{prompt: b, chat: true}}\n"
    )
    code, out, err = command("--config", config, "--model", llama)
    assert (code, out, len(loads)) == (2, [], 1)
    assert [line[len("error: ") :][:46] for line in err] == [
        "batch.yaml:4: layers: 9 is out of range; the m",
        "batch.yaml:5: layers: 7, 8 are out of range; t",
        "batch.yaml:5: the prompt has 300 tokens, more ",
        "batch.yaml:6: chat is on, but the model has no",
        f"--device cuda:99 is absent: {torch.cuda.device_count()} CUDA devices fou",
    ]
    config = yaml_file("prompts: [{prompt: b, layers: 9}, {prompt: other, name: taken}]\n")
    code, _, err = command("--config", config, "--model", llama)
    assert code == 2 and [("out of range" in line, "taken" in line) for line in err] == [(True, False), (False, True)]


@pytest.mark.parametrize("place", ["file", "file/inside", "/proc/results"])
def test_an_output_folder_that_cannot_be_written(place, command, llama, loads, here):
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    Path("file").write_text("", encoding="utf-8")
    code, out, err = command("--model", llama, "--prompt", "P", "--output-dir", place)
    assert (code, out, loads, files_in(here)) == (2, [], [], ["file"])
    assert len(err) == 1 and err[0].startswith(f"error: --output-dir '{place}' cannot be written (")


def test_model_and_output_folder_are_both_named(command, here):
    Path("file").write_text("", encoding="utf-8")
    code, _, err = command("--model", "./gone", "--prompt", "P", "--output-dir", "file")
    assert code == 2 and [line.split()[1] for line in err] == ["--output-dir", "--model"]


@pytest.mark.parametrize(
    "name",
    ["./gone", "../gone", "/gone", "/gone/x", "a/b/c", "~/gone/x", "C:\\models\\x", "..\\x", "file", "~no.such.user/x"],
)
def test_a_path_that_is_no_folder(name, command, here):
    Path("file").write_text("", encoding="utf-8")
    code, out, err = command("--model", name, "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, ["file"])
    assert err[0].endswith("is no folder; give a folder with config.json and model.safetensors, or a hub name")


@pytest.mark.parametrize("name", ["not a name", "x" * 300])
def test_a_name_that_the_hub_cannot_have(command, name):
    code, _, err = command("--model", name, "--prompt", "P")
    assert (code, len(err)) == (2, 1) and "is neither a folder nor a possible hub name" in err[0]


def test_the_demo_model_may_be_missing(command, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "DEMO", tmp_path / "gone")
    code, _, err = command("--model", "demo", "--prompt", "P")
    assert (code, len(err)) == (2, 1) and err[0].startswith("error: --model demo: there is no ")


def test_layers_without_softmax_attention_are_no_choice(command, models, loads, here):
    code, out, err = command("--model", models / "qwen3_next", "--prompt", "P", "--layers", "1-2")
    assert (code, out, loads, files_in(here)) == (2, [], [], [])
    assert err == ["error: layers: layer 2 has no softmax attention (linear_attention); layers that can be measured: 1"]


def test_layers_that_only_the_loaded_model_shows_to_have_no_softmax(command, models, monkeypatch, here):
    monkeypatch.setattr("mask_impact.models.info.SOFTMAX_KINDS", ("linear_attention", "full_attention"))
    code, _, err = command("--model", models / "qwen3_next", "--prompt", "P", "--layers", "0")
    assert (code, files_in(here)) == (2, [])
    assert err == ["error: layers: layer 0 has no softmax attention (linear_attention); layers that can be measured: 1"]
