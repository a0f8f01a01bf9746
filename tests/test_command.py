"""The command from end to end, on tiny saved models: what it writes, what it says, and the code it exits with."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
import zoo
from huggingface_hub import HfApi, errors
from safetensors.torch import load_file, save_file

import mask_impact_analysis
from mask_impact import checkpoints, console, read_results
from mask_impact.measure import measured_layers

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo" / "text" / "model"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of saved models; they are not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("llama", "qwen3_next", "bert", "mamba", "gptj"):
        zoo.save(name, folder / name)
    return folder


@pytest.fixture
def llama(models):
    return str(models / "llama")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, and an environment that leaks nothing out of the test."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "critical")
    return folder


@pytest.fixture
def loads(monkeypatch):
    """The folders that weights are loaded from, in order."""
    loaded, load = [], transformers.AutoModelForCausalLM.from_pretrained

    def watched(folder, **options):
        loaded.append(str(folder))
        return load(folder, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", watched)
    return loaded


def subprocess_of(*words, **options):
    """Run the command as people do, without the hub's offline switch and with an empty cache."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY")}
    environment |= {"HF_HOME": str(Path.cwd() / "hf"), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    script = [sys.executable, str(ROOT / "mask_impact_analysis.py"), *map(str, words)]
    return subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def finished(process, text=None):
    """(exit code, lines on standard output, lines on standard error), both as UTF-8."""
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out.decode("utf-8").splitlines(), err.decode("utf-8").splitlines()


def record_of(name, folder="output"):
    return json.loads(Path(folder, f"{name}_run.json").read_text(encoding="utf-8"))


def files_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def yaml_file(text, name="batch.yaml"):
    Path(name).write_text(text, encoding="utf-8")
    return name


# Success

def test_a_prompt_becomes_result_files(command, llama):
    code, out, err = command("--model", llama, "--prompt", "The cat", "--num-tokens", 2, "--output", "cat")
    assert (code, err) == (0, [])
    assert files_in("output") == ["cat_results.csv", "cat_results.json", "cat_run.json"]
    assert out[0] == "cat: 6 tokens, 2 steps, 3 layers, at most 234 rows (csv 12 KB, json 12 KB)"
    assert out[1].startswith("  strongest at step 0 (Full L2 summed over layers, position 0 left out): '")
    assert out[-1].startswith("  generated '") and "(first token's probability 0." in out[-1]
    assert out[-1].endswith("wrote output/cat_results.csv, .json and cat_run.json; "
                            "read with mask_impact.read_results('output/cat_results.csv')".replace("/", os.sep))
    table = read_results("output/cat_results.csv")
    assert len(table) == 234 and table.equals(read_results("output/cat_results.json"))
    assert "".join(table.token_masked[:6]) == "The cat" and set(table.generation_step) == {0, 1}


def test_the_run_file_says_what_produced_the_table(command, llama):
    assert command("--model", llama, "--prompt", "The cat", "--num-tokens", 2, "--layers", "0,2", "--output", "cat")[0] == 0
    run = record_of("cat")
    assert (run["schema_version"], run["status"], run["rows"], run["prompt_length"]) == (1, "complete", 6 * 2 * (6 + 7), 6)
    assert run["settings"]["prompt"] == "The cat" and run["settings"]["num_tokens"] == 2 and run["settings"]["layers"] == [0, 2]
    assert run["settings"]["model"] == llama and len(run["model_identity"]["sha256"]) == 64
    assert run["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu") and run["settings"]["device"] == "auto"
    assert run["dtypes"] == {"model": "float32", "measure": "float32", "results": "float32"}
    assert run["versions"]["torch"] == torch.__version__ and run["versions"]["transformers"] == transformers.__version__
    assert [token["text"] for token in run["tokens"][:6]] == ["T", "he", " ", "c", "a", "t"] and run["generated_text"] != ""
    assert len(run["tokens"]) == 8 and run["stopped_by"] == "num_tokens"
    assert run["layers"] == [0, 2] and run["variants"] == ["Full", "Attn", "Head_0", "Head_1", "Head_2", "Head_3"]
    assert [len(step["top"]) for step in run["steps"]] == [5, 5] and run["skipped_layers"] == [] and run["seconds"] > 0
    table, step = read_results("output/cat_results.csv"), run["steps"][1]
    assert step["top"][0] == step["next"] == run["steps"][1]["next"] and step["next"]["id"] == run["tokens"][7]["id"]
    for kind, column in (("max_l2", "l2_distance"), ("max_cosine", "cosine_distance")):
        rows = table[(table.generation_step == 1) & (table.variant == "Head_3") & (table.layer == 2) & (table.token_position > 0)]
        assert step[kind]["Head_3"][1] == pytest.approx(rows[column].max(), rel=1e-6)
    for kind in ("baseline_norm", "noise_floor_l2", "noise_floor_cosine"):
        assert all(0 <= value < 1e6 for values in step[kind].values() for value in values)
    assert all(0 < floor < norm * 1e-4 for floor, norm in zip(step["noise_floor_l2"]["Full"], step["baseline_norm"]["Full"]))


def test_the_same_settings_again_leave_the_files_alone(command, llama, loads):
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0)
    assert command(*words)[0] == 0 and files_in("output") == ["the_cat_results.csv", "the_cat_results.json", "the_cat_run.json"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    code, out, err = command(*words)
    assert (code, err, len(loads)) == (0, [], 1)
    assert out == [f"{Path('output', 'the_cat')}: this result is there, with the same settings; --overwrite measures it again"]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("output").iterdir()}
    assert command(*words, "--quiet")[1] == []


def test_other_settings_do_not_take_a_given_name(command, llama, loads):
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "cat")[0] == 0
    old = record_of("cat")
    code, out, err = command("--model", llama, "--prompt", "The cat", "--layers", 1, "--output", "CAT")
    assert (code, out, len(loads)) == (2, [], 1) and record_of("cat") == old
    assert err == ["error: the name 'CAT' is taken in 'output' by a run with other settings (layers); choose another or add --overwrite"]
    assert command("--model", llama, "--prompt", "The cat", "--layers", 1, "--output", "CAT", "--overwrite")[0] == 0
    assert record_of("cat")["layers"] == [1] and len(files_in("output")) == 3
    assert command("--model", llama, "--prompt", "The cat", "--layers", 2)[0] == 0
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0)[0] == 0
    assert record_of("the_cat_2")["layers"] == [0]


def test_another_model_under_the_same_path_is_another_run(command, models, tmp_path, loads):
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    words = ("--model", folder, "--prompt", "The cat", "--layers", 0, "--output", "cat")
    assert command(*words)[0] == 0
    (folder / "README.md").write_text("not part of the model", encoding="utf-8")
    (folder / "cat_results.json").write_text("{}", encoding="utf-8")
    assert command(*words)[0] == 0 and len(loads) == 1
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = command(*words)
    assert code == 2 and "other settings (model_identity)" in err[0]


def test_a_further_format_is_written_beside_those_that_are_there(command, llama):
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "cat")
    assert command(*words, "--formats", "csv")[0] == 0
    assert command(*words, "--formats", "parquet")[0] == 0
    assert files_in("output") == ["cat_results.csv", "cat_results.parquet", "cat_run.json"]
    assert read_results("output/cat_results.parquet").equals(read_results("output/cat_results.csv"))
    assert "this result is there" in command(*words, "--formats", "csv,parquet")[1][0]


def test_parquet_that_took_the_place_of_json_is_a_finished_result(command, llama, monkeypatch, loads):
    monkeypatch.setattr("mask_impact.formats.JSON_ROWS", 10)
    words = ("--model", llama, "--prompt", "The cat", "--layers", 0)
    code, out, err = command(*words)
    assert (code, err) == (0, []) and "Parquet takes its place" in out[1]
    assert files_in("output") == ["the_cat_results.csv", "the_cat_results.parquet", "the_cat_run.json"]
    assert "this result is there" in command(*words)[1][0] and len(loads) == 1
    _, out, err = command("--model", llama, "--prompt", "A dog", "--layers", 0, "--formats", "json")
    assert len(err) == 1 and err[0].startswith("warning: a_dog: JSON was asked for, but holds up to 10 rows")


def test_settings_come_from_flag_entry_defaults_and_top_level_in_this_order(command, llama):
    config = yaml_file(f"model: {llama}\nnum_tokens: 4\nvariants: [full]\nlayers: 0\noutput_dir: elsewhere\n"
                       "defaults: {variants: [attn], num_tokens: 3, layers: 1}\n"
                       "prompts: [{name: own, prompt: The cat, num_tokens: 2}, {name: shared, prompt: A dog}, "
                       "{prompt: neither, enabled: false}]\n")
    assert command("--config", config, "--layers", 2)[0] == 0
    own, shared = record_of("own", "elsewhere"), record_of("shared", "elsewhere")
    assert [(len(run["steps"]), run["variants"], run["layers"]) for run in (own, shared)] == [(2, ["Attn"], [2]), (3, ["Attn"], [2])]
    assert len(files_in("elsewhere")) == 7 and not Path("output").exists()


def test_quiet_prints_nothing_on_success(command, llama):
    assert command("--model", llama, "--prompt", "The cat", "--layers", 0, "--quiet") == (0, [], [])


def test_a_warning_of_the_batch_file_is_said_once(command, llama):
    config = yaml_file(f"model: {llama}\nprompts:\n  - layers: 0\n    prompt: |\n      The cat\n")
    code, _, err = command("--config", config, "--quiet")
    assert code == 0 and len(err) == 1 and err[0].startswith("warning: batch.yaml:4: the prompt ends in a line break")


def test_a_prompt_of_one_token_is_undefined_and_warned_of(command, llama):
    code, _, err = command("--model", llama, "--prompt", "x", "--layers", 0, "--quiet")
    assert (code, err) == (0, ["warning: x: 6 distances undefined, where masking leaves no key at all: empty in CSV, null in JSON"])
    assert read_results("output/x_results.csv").l2_distance.isna().all()
    assert Path("output/x_results.csv").read_text(encoding="utf-8").splitlines()[1] == '0,0,"x",0,"Full",,'
    assert record_of("x")["steps"][0]["max_l2"]["Full"] == [None]


def test_an_attention_layer_of_a_hybrid_is_measured_and_the_others_are_listed(command, models):
    assert command("--model", models / "qwen3_next", "--prompt", "The cat")[0] == 0
    run = record_of("the_cat")
    assert run["layers"] == [1] and [skipped["layer"] for skipped in run["skipped_layers"]] == [0, 2]
    assert all("linear_attention" in skipped["reason"] for skipped in run["skipped_layers"])


def test_the_words_of_a_run_and_its_versions_are_made_once(command, llama, monkeypatch):
    from mask_impact import runs
    made, asked, real, version = [], [], runs.token_texts, runs.importlib.metadata.version
    monkeypatch.setattr(runs, "token_texts", lambda tokenizer, ids: made.append(len(ids)) or real(tokenizer, ids))
    monkeypatch.setattr(runs.importlib.metadata, "version", lambda library: asked.append(library) or version(library))
    runs.versions.cache_clear()
    config = yaml_file("prompts: [{name: one, prompt: The cat}, {name: two, prompt: A dog, num_tokens: 2}]\nlayers: 0\n")
    assert command("--config", config, "--model", llama)[0] == 0
    assert sorted(count for count in made if count > 2) == [6, 7, 7]  # once more for each step that is kept; the others are the likeliest next tokens
    assert asked.count("pyarrow") == 1 and record_of("two")["versions"].keys() == {"mask_impact", "python", *runs.LIBRARIES}


def test_progress_is_one_bar_over_steps_and_layers(llama, monkeypatch, capsys):
    from mask_impact import summary
    bars = []
    monkeypatch.setattr(summary, "tqdm", lambda **options: bars.append(options) or real(**options))
    real = __import__("tqdm").tqdm
    assert mask_impact_analysis.main(["--model", llama, "--prompt", "The cat", "--num-tokens", "2", "--layers", "0-1"]) == 0
    assert [(bar["total"], bar["desc"]) for bar in bars] == [(4, "the_cat")]


# Wrong requests

def made_folder(name, folder, config=None, **changes):
    """A folder with a model's configuration, a tokenizer and one weight."""
    (config or zoo.configuration(name)).save_pretrained(folder)
    zoo.tokenizer().save_pretrained(folder)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    if changes:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


WRONG = {
    "an empty prompt": (["--prompt", ""], "--prompt: the prompt is empty; give the text"),
    "no prompt.txt": ([], "no prompt is given and there is no prompt.txt in this folder; give one with --prompt"),
    "no tokens": (["--prompt", "P", "--num-tokens", "0"], "--num-tokens: expected a whole number from 1 to 1000000, found 0"),
    "a long prompt": (["--prompt", "x" * 257], "the prompt has 257 tokens, more than the model's context of 256; shorten it"),
    "a layer too many": (["--prompt", "P", "--layers", "1-3"], "layers: 3 is out of range; the model has layers 0 to 2"),
    "an unknown device": (["--prompt", "P", "--device", "gpu"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"),
    "an absent device": (["--prompt", "P", "--device", "cuda:99"], "--device cuda:99 is absent: "),
    "contradictory flags": (["--prompt", "P", "--no-chat", "--system", "S"], "system needs chat, which is off; add --chat"),
    "two sources": (["--prompt", "P", "--prompt-file", "x"], "--prompt does not go with --prompt-file; keep one of them"),
    "no chat template": (["--prompt", "P", "--chat"], "chat is on, but the model has no chat template; leave --chat out"),
    "a bad name": (["--prompt", "P", "--output", "../x"], "--output: a name must not contain '/', found '../x'"),
    "a missing batch": (["--config", "gone.yaml"], "gone.yaml: there is no such file; check the path"),
    "a batch that no path can name": (["--config", "a\0b"], r"--config: expected a path, found a null character in 'a\x00b'"),
    "a batch without a name": (["--config", ""], "--config: expected text, found none (it is empty)"),
    "a batch of dashes": (["--config=--"], "--: there is no such file; check the path"),
    "a path that clears the screen": (["--config", "\x1b[2J\n\u202ex"], r"\x1b[2J\n\u202ex: there is no such file; check the path"),
    "a revision of a folder": (["--prompt", "P", "--revision", "main"], "--revision 'main' does not go with the folder"),
}


@pytest.mark.parametrize("words, start", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_one_line_and_writes_nothing(words, start, command, llama, loads, here):
    code, out, err = command("--model", llama, *words)
    assert (code, out, loads, files_in(here)) == (2, [], [], [])
    assert len(err) == 1 and err[0].startswith(f"error: {start}")


@pytest.mark.parametrize("text, start", [
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
])
def test_a_wrong_batch_file_is_one_line_and_writes_nothing(text, start, command, llama, loads, here):
    code, out, err = command("--config", yaml_file(text), "--model", llama)
    assert (code, out, loads, files_in(here)) == (2, [], [], ["batch.yaml"])
    assert len(err) == 1 and err[0].startswith("error: batch.yaml:1: " + start)


@pytest.mark.parametrize("flag", ["--prompt-file", "--config"])
def test_a_file_that_never_ends_is_not_waited_for(flag, command, llama, monkeypatch):
    if not Path("/dev/zero").exists():
        pytest.skip("there is no /dev/zero here")
    monkeypatch.setattr("mask_impact.prompts.MOST_BYTES", 1000)
    code, out, err = command("--model", llama, flag, "/dev/zero")
    assert (code, out, err) == (2, [], ["error: /dev/zero: more than 1,000 bytes, which is no text for a model; name another file"])
    Path("long.txt").write_text("x" * 1001, encoding="utf-8")
    assert command("--model", llama, flag, "long.txt")[2] == ["error: long.txt" + err[0].removeprefix("error: /dev/zero")]


def test_all_faults_of_a_batch_are_listed_before_weights_are_loaded(command, llama, loads, here):
    assert command("--model", llama, "--prompt", "a", "--layers", 0, "--output", "taken")[0] == 0
    config = yaml_file("device: cuda:99\nprompts:\n  - {prompt: fine}\n  - {prompt: a, layers: 9}\n"
                       f"  - {{prompt: {'x' * 300}, chat: false, layers: [7, 8]}}\n  - {{prompt: b, chat: true}}\n")
    code, out, err = command("--config", config, "--model", llama)
    assert (code, out, len(loads)) == (2, [], 1)
    assert [line[len("error: "):][:46] for line in err] == [
        "batch.yaml:4: layers: 9 is out of range; the m", "batch.yaml:5: layers: 7, 8 are out of range; t",
        "batch.yaml:5: the prompt has 300 tokens, more ",
        "batch.yaml:6: chat is on, but the model has no", "--device cuda:99 is absent: 0 CUDA devices fou"]
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


@pytest.mark.parametrize("name", ["./gone", "../gone", "/gone", "/gone/x", "a/b/c", "~/gone/x", "C:\\models\\x", "..\\x", "file", "~no.such.user/x"])
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


def quantised():
    return {"quantization_config": {"quant_method": "gptq", "bits": 4}}


KINDS = {
    "encoder-only": ("bert", {}, "(bert) is an encoder, which predicts no next token; choose a causal"),
    "encoder for sentences": ("bert", {"architectures": ["BertModel"]}, "(bert) is an encoder"),
    "state-space": ("mamba", {}, "MambaForCausalLM has no softmax attention (a state-space or recurrent model)"),
    "outside the interface": ("gptj", {}, "GPTJForCausalLM computes attention outside transformers' attention interface"),
    "encoder-decoder": (transformers.T5Config(num_layers=1), {}, "(t5) is an encoder-decoder model, which is not measured; choose"),
    "vision-language": (transformers.Qwen3VLConfig(), {}, "(qwen3_vl) is a vision-language model; run it with mask_impact_vl.py"),
    "quantised": ("llama", quantised(), "has gptq weights, which transformers does not dequantise; choose the unquantised"),
    "no model type": ("llama", {"model_type": "never_heard_of"}, "its configuration cannot be loaded ("),
}


@pytest.mark.parametrize("made, changes, part", KINDS.values(), ids=KINDS.keys())
def test_a_model_of_another_kind_is_refused_by_name(made, changes, part, command, loads, tmp_path, here):
    folder = tmp_path / "model"
    made_folder(made, folder, None if isinstance(made, str) else made, **changes)
    code, out, err = command("--model", folder, "--prompt", "P")
    assert (code, out, loads, files_in(here), len(err)) == (2, [], [], [], 1)
    assert err[0].startswith(f"error: --model '{folder}'") and part in err[0]


def broken(folder, kind):
    """Break a saved model in one way."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    if kind in ("no weights", "pickled weights"):
        weights.rename(folder / "pytorch_model.bin") if kind == "pickled weights" else weights.unlink()
    if kind in ("missing shard", "broken index"):
        weights.unlink()
        index = '{"weight_map": {"a": "model-1-of-1.safetensors"}}' if kind == "missing shard" else '{"weight'
        (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    if kind == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    if kind == "no safetensors":
        weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    if kind in ("no configuration", "broken configuration"):
        config.unlink() if kind == "no configuration" else config.write_text('{"model_type": ', encoding="utf-8")
    if kind == "no transformers model":
        config.write_text("[]", encoding="utf-8")
    if kind in ("no tokenizer", "no tokenizer, silently"):
        for file in folder.glob("tokenizer*"):
            file.unlink()
    if kind == "no tokenizer, silently":  # transformers makes one without words for this type
        config.write_text(config.read_text(encoding="utf-8").replace('"llama"', '"qwen3"'), encoding="utf-8")
    if kind == "a foreign tokenizer":
        config.write_text(config.read_text(encoding="utf-8").replace('"vocab_size": 320', '"vocab_size": 30'), encoding="utf-8")


BROKEN = {
    "no weights": "its folder has no model.safetensors; fetch the model again",
    "pickled weights": "weights pickled in .bin files are not loaded, convert them to safetensors",
    "missing shard": "its folder has no model-1-of-1.safetensors",
    "broken index": "model.safetensors.index.json in ",
    "cut weights": "model.safetensors cannot be read (",
    "no safetensors": "model.safetensors cannot be read (",
    "no configuration": "the folder has no config.json; give a model's own folder",
    "broken configuration": "its config.json cannot be read (",
    "no transformers model": "its config.json names no model_type",
    "no tokenizer": "its tokenizer cannot be loaded (",
    "no tokenizer, silently": "its folder has no tokenizer; add the files it came with",
    "a foreign tokenizer": "but the model's vocabulary has 30: they do not belong together",
}


@pytest.mark.parametrize("kind, part", BROKEN.items())
def test_a_broken_folder_is_found_before_weights_are_loaded(kind, part, command, models, loads, tmp_path, here):
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    broken(folder, kind)
    code, out, err = command("--model", folder, "--prompt", "P")
    assert (code, out, loads, files_in(here), len(err)) == (2, [], [], [], 1)
    assert part in err[0]


@pytest.mark.parametrize("build, part", [
    (zoo.missing_weight, "lacks weights of its model, which would be random numbers: "),
    (zoo.misfitting_weight, "has weights of another shape than its configuration says: "),
    (zoo.unexpected_weight, "has weights that its model has no place for: ")])
def test_weights_that_do_not_fit_are_refused(build, part, command, tmp_path, here):
    tensor = build("llama", tmp_path / "model")
    code, out, err = command("--model", tmp_path / "model", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, [])
    assert part + tensor in err[0] and err[0].endswith("; fetch it again, or take another checkpoint")


def test_constants_of_old_checkpoints_are_no_unexpected_weights(command, tmp_path):
    zoo.save("gpt2", tmp_path)
    weights = {name.removeprefix("transformer."): weight for name, weight in load_file(tmp_path / "model.safetensors").items()}
    weights |= {f"h.{layer}.attn.{name}": torch.ones(1) for layer in range(3) for name in ("bias", "masked_bias")}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert command("--model", tmp_path, "--prompt", "P", "--layers", 0)[0] == 0


def test_weights_that_transformers_dequantises_are_measured(command, tmp_path, monkeypatch):
    """Loading leaves one of them in another dtype than was asked for, as it does with FP8."""
    zoo.save("gpt_oss", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = weights.pop(name).shape
        shape = (experts, outer, inner // 32)
        weights[f"{name}_blocks"] = torch.randint(0, 255, (*shape, 16), dtype=torch.uint8)
        weights[f"{name}_scales"] = torch.full(shape, 124, dtype=torch.uint8)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    left = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": left}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    load = transformers.AutoModelForCausalLM.from_pretrained

    def mixed(folder, **options):
        model, info = load(folder, **options)
        model.lm_head.float()
        return model, info

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", mixed)
    assert command("--model", tmp_path, "--prompt", "The cat", "--dtype", "bfloat16")[0] == 0
    run = record_of("the_cat")
    assert run["dtypes"]["model"] == "bfloat16" and run["layers"] == [0, 1, 2]


def test_layers_without_softmax_attention_are_no_choice(command, models, loads, here):
    code, out, err = command("--model", models / "qwen3_next", "--prompt", "P", "--layers", "1-2")
    assert (code, out, loads, files_in(here)) == (2, [], [], [])
    assert err == ["error: layers: layer 2 has no softmax attention (linear_attention); layers that can be measured: 1"]


def test_layers_that_only_the_loaded_model_shows_to_have_no_softmax(command, models, monkeypatch, here):
    monkeypatch.setattr("mask_impact.candidates.SOFTMAX_KINDS", ("linear_attention", "full_attention"))
    code, _, err = command("--model", models / "qwen3_next", "--prompt", "P", "--layers", "0")
    assert (code, files_in(here)) == (2, [])
    assert err == ["error: layers: layer 0 has no softmax attention (linear_attention); layers that can be measured: 1"]


# The hub

def hub_error(kind):
    """One of the hub's errors, made as its client makes them."""
    response = SimpleNamespace(headers={}, request=None, status_code=403)
    return getattr(errors, kind)("403 Client Error\n\nTen\nmore\nlines", response=response)


class Hub:
    """A hub with one model, that of `folder`; what is fetched goes to `store`."""

    def __init__(self, folder, store):
        self.folder, self.store, self.fetched = folder, store, []

    def info(self, _api, name, revision=None, timeout=None):
        names = [file.name for file in self.folder.iterdir()]
        return SimpleNamespace(sha=SHA, siblings=[SimpleNamespace(rfilename=name) for name in names])

    def snapshot(self, name, revision=None, allow_patterns=None, local_files_only=False):
        target = self.store / SHA
        if local_files_only and not target.is_dir():
            raise errors.LocalEntryNotFoundError("not in the cache")
        target.mkdir(exist_ok=True)
        for file in self.folder.iterdir():
            if allow_patterns and any(file.match(pattern) for pattern in allow_patterns) and not (target / file.name).exists():
                self.fetched.append(file.name)
                shutil.copy(file, target)
        return str(target)


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    hub = Hub(models / "llama", tmp_path / "store")
    monkeypatch.setattr(HfApi, "model_info", lambda *words, **options: hub.info(*words, **options))
    monkeypatch.setattr(checkpoints, "snapshot_download", lambda *words, **options: hub.snapshot(*words, **options))
    return hub


def test_a_model_of_the_hub_is_fetched_in_two_goes(command, hub):
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 9)[0] == 2
    assert sorted(hub.fetched) == ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 0)[0] == 0
    assert hub.fetched[-1] == "model.safetensors" and len(hub.fetched) == 5
    run = record_of("p")
    assert run["model_identity"] == {"revision": SHA} and run["settings"]["model"] == "me/mine"


@pytest.mark.parametrize("kind, part", [
    ("RepositoryNotFoundError", "--model 'me/mine' was not found on the hub (or is private); check the spelling"),
    ("GatedRepoError", "--model 'me/mine' is gated: ask for access on its page of the hub and log in"),
    ("RevisionNotFoundError", "--revision 'v2' of 'me/mine' was not found on the hub; give a branch, tag or commit"),
    ("HfHubHTTPError", "and the hub cannot be reached (403 Client Error); --model demo needs no network")])
@pytest.mark.parametrize("call", ["info", "snapshot"])
def test_what_the_hub_refuses_is_one_line(kind, part, call, command, hub, monkeypatch, here):
    def refuse(*words, local_files_only=False, **options):
        raise errors.LocalEntryNotFoundError("not in the cache") if local_files_only else hub_error(kind)

    monkeypatch.setattr(hub, call, refuse)
    code, out, err = command("--model", "me/mine", "--revision", "v2", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, []) and part in err[0]


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(command, hub, monkeypatch):
    monkeypatch.setattr(hub, "info", lambda *_, **__: SimpleNamespace(sha=SHA, siblings=[SimpleNamespace(rfilename="pytorch_model.bin")]))
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert (code, len(err), hub.fetched) == (2, 1, []) and "has no weights in safetensors" in err[0]


def test_a_hub_that_hangs_is_not_waited_for(command, hub, monkeypatch):
    monkeypatch.setattr(checkpoints, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "info", lambda *_, **__: time.sleep(20))
    started = time.monotonic()
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert time.monotonic() - started < 3
    assert (code, len(err)) == (2, 1) and "the hub cannot be reached (no answer in" in err[0]


def test_a_full_disk_while_fetching_is_a_failure(command, hub, monkeypatch):
    def full(*words, local_files_only=False, **options):
        raise errors.LocalEntryNotFoundError("x") if local_files_only else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "snapshot", full)
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert code == 1 and err == ["error: --model 'me/mine' could not be stored (No space left on device); "
                                 "make room in the hub's cache folder, or mend it"]


def test_a_model_in_the_local_cache_needs_no_network(command, models, tmp_path, monkeypatch):
    place = tmp_path / "cache" / "models--me--mine"
    snapshot = place / "snapshots" / SHA
    shutil.copytree(models / "llama", snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(SHA, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    calls = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: calls.append(words) or (_ for _ in ()).throw(OSError()))
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 0)[0] == 0
    assert record_of("p")["model_identity"] == {"revision": SHA} and calls == []
    (snapshot / "model.safetensors").unlink()
    code, _, err = command("--model", "me/mine", "--prompt", "P", "--layers", 0)
    assert code == 2 and "the hub cannot be reached" in err[0] and calls != []


def test_offline_says_so(command, here):
    code, out, err = command("--model", "me/mine", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, [])
    assert "neither a folder nor in the local cache, and the hub cannot be reached (" in err[0] and "--model demo" in err[0]


# Foreign code

@pytest.fixture
def foreign(models, tmp_path, monkeypatch):
    """A model that brings its code along, which leaves a file where it runs."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder, trace = tmp_path / "foreign", tmp_path / "code_ran"
    shutil.copytree(models / "llama", folder)
    (folder / "made_up.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(trace)!r}).write_text('')\n\n\nclass MadeUpConfig(LlamaConfig):\n    model_type = 'made_up'\n\n\n"
        "class MadeUpForCausalLM(LlamaForCausalLM):\n    config_class = MadeUpConfig\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "made_up", "architectures": ["MadeUpForCausalLM"],
               "auto_map": {"AutoConfig": "made_up.MadeUpConfig", "AutoModelForCausalLM": "made_up.MadeUpForCausalLM"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder, trace


def test_foreign_code_runs_only_where_it_is_asked_for(command, foreign, loads, here):
    folder, trace = foreign
    code, out, err = command("--model", folder, "--prompt", "P", "--layers", 0)
    assert (code, out, len(err), loads, files_in(here)) == (2, [], 1, [], [])
    assert err[0].endswith("; --trust-remote-code runs the code it brings along") and not trace.exists()
    assert command("--model", folder, "--prompt", "P", "--layers", 0, "--trust-remote-code") [0] == 0
    assert trace.exists() and record_of("p")["model_class"] == "MadeUpForCausalLM"


def test_foreign_code_beside_a_known_model_is_left_alone(command, foreign):
    folder, trace = foreign
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"made_up"', '"llama"'), encoding="utf-8")
    assert command("--model", folder, "--prompt", "P", "--layers", 0)[0] == 0
    assert record_of("p")["model_class"] == "LlamaForCausalLM" and not trace.exists()


# Failures while running

BATCH = "prompts: [{name: one, prompt: The cat}, {name: bad, prompt: The cat zz}, {name: two, prompt: A dog}]\nlayers: 0\n"


@contextmanager
def failing(monkeypatch, error):
    """The loop raises `error` on every prompt with a z."""
    def measured(model, parts, inputs, method):
        if len(inputs.token_ids) == 9:
            raise error
        return measured_layers(model, parts, inputs, method)

    with monkeypatch.context() as patch:
        patch.setattr("mask_impact.measure.measured_layers", measured)
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
    assert files_in("output") == ["bad_run.json", "batch_summary.csv", "one_results.csv", "one_results.json", "one_run.json",
                                  "two_results.csv", "two_results.json", "two_run.json"]
    bad = record_of("bad")
    assert bad["status"] == "failed" and bad["reason"] in err[0] and bad["settings"]["prompt"] == "The cat zz"
    code, out, err = command("--config", "batch.yaml", "--model", folder)
    one, two = str(Path("output", "one")), str(Path("output", "two"))
    assert code == 1 and [line.split(":")[0] for line in out[:4]] == [one, "bad", two, "bad"]
    assert out[1] == f"bad: failed before ({bad['reason']}); it is measured again"


@pytest.mark.parametrize("error, reason", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
     "out of memory (CUDA out of memory. Tried to allocate 2 GiB); measure a shorter prompt, or take a smaller model"),
    (MemoryError(), "out of memory (MemoryError); "),
    (IndexError("index 7 is out of range"), "IndexError: index 7 is out of range (test_command.py, line ")])
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
    assert (code, len(err), files_in(here)) == (1, 1, []) and err[0].startswith("error: out of memory (DefaultCPUAllocator")


def test_a_missing_package_is_one_line(capsys):
    assert mask_impact_analysis.console.exit_code(lambda: importlib.import_module("no_such_package_here")) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: the Python package no_such_package_here is not installed") and err.count("\n") == 1


def test_an_interruption_is_one_line(command, llama, monkeypatch):
    with failing(monkeypatch, KeyboardInterrupt()):
        code, _, err = command("--config", yaml_file(BATCH), "--model", llama)
    assert (code, err) == (130, ["error: interrupted; what was finished is kept, and the same command goes on from there"])
    assert [name for name in files_in("output") if name != ".partial"] == ["one_results.csv", "one_results.json", "one_run.json"]


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
        ended = subprocess.run([*words, "x"], **{"stdout": subprocess.DEVNULL, stream: full})  # one undefined distance: a warning
    assert ended.returncode == 0 and record_of("x")["status"] == "complete"


def test_an_interrupted_process_does_not_wait_for_its_threads():
    program = ("import time, concurrent.futures as f; from mask_impact import console; "
               "f.ThreadPoolExecutor().submit(time.sleep, 30); console.leave(console.INTERRUPTED)")
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 130
    assert time.monotonic() - started < 15


def test_an_unforeseen_error_of_the_loaded_model_is_one_line(command, llama, monkeypatch, here):
    def fail(*words):
        raise TypeError("forward() got an unexpected keyword\nmore")

    monkeypatch.setattr("mask_impact.models.measurable_parts", fail)
    code, _, err = command("--model", llama, "--prompt", "P")
    assert code == 1 and len(err) == 1 and err[0].startswith("error: TypeError: forward() got an unexpected keyword (test_command.py, line ")


def test_an_unforeseen_error_anywhere_else_is_one_line(command, llama, monkeypatch, here):
    monkeypatch.setattr("mask_impact.preflight.plan_all", lambda *words: {}["plan"])
    code, out, err = command("--model", llama, "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (1, [], 1, []) and err[0].startswith("error: KeyError: 'plan' (test_command.py, line ")


def test_no_name_drives_the_terminal(command, llama):
    code, out, err = command("--model", llama, "--prompt", "The cat", "--layers", 0, "--output", "a\u202eb", "--output-dir", "x\x1b[2J")
    assert (code, err) == (0, []) and out[0].startswith(r"a\u202eb: 6 tokens") and r"wrote x\x1b[2J" in out[-1]
    assert all(line.isprintable() for line in out) and Path("x\x1b[2J", "a\u202eb_run.json").is_file()


# Real processes

def test_a_process_in_another_folder_and_another_encoding(llama):
    """Standard input and output are UTF-8 whatever Python was told, and transformers prints nothing of its own."""
    process = subprocess_of("--model", llama, "--prompt-file", "-", "--output", "naïve", "--layers", 0,
                            stdin=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    code, out, err = finished(process, "Ein Café 😀\n".encode())
    assert (code, err, len(out)) == (0, [], 3) and out[0].startswith("naïve: 13 tokens, 1 step, 1 layer")
    assert record_of("naïve")["settings"]["prompt"] == "Ein Café 😀"
    assert len(read_results("output/naïve_results.csv")) == 6 * 13


def test_the_demo_model_is_found_from_anywhere():
    if not (DEMO / "model.safetensors").is_file():
        pytest.skip("the demo model demo/text/model is not there")
    code, out, err = finished(subprocess_of("--model", "demo", "--prompt", "The capital of France is"))
    assert (code, err) == (0, []) and "generated ' Paris'" in out[-1]


def test_a_full_disk_leaves_no_torn_file(llama):
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX alone")

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = subprocess_of("--model", llama, "--prompt", "The cat " * 10, "--output", "cat", preexec_fn=small_disk)
    code, out, err = finished(process)
    assert code == 1 and err[0].startswith("error: cat: ") and "could not be written: File too large" in err[0]
    assert [name for name in files_in("output") if name != "cat_run.json"] == []
    assert record_of("cat")["status"] == "failed"


def test_a_process_interrupted_twice_ends_at_once_with_130(llama):
    process = subprocess_of("--model", llama, "--prompt", "x" * 250, "--method", "rerun", "--num-tokens", 7)
    assert b"250 tokens" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(b"stopping after the generation step at work; Ctrl-C again")
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert (code, err) == (130, ["error: interrupted; what was finished is kept, and the same command goes on from there"])
    assert files_in("output") == [".partial"]


def test_a_hub_that_never_answers_is_given_up_within_five_seconds():
    """A busy machine may start Python slowly, hence 8."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        code, out, err = finished(subprocess_of("--prompt", "P", env={"HF_ENDPOINT": address}))
    assert time.monotonic() - started < 8
    assert (code, out, len(err)) == (2, [], 1)
    assert "Qwen/Qwen3-0.6B" in err[0] and "the hub cannot be reached (no answer in 3.5 seconds); --model demo" in err[0]


def test_a_wrong_flag_is_answered_without_torch():
    program = "import sys, mask_impact_analysis as m; c = m.console.exit_code(lambda: m.main(['--wat'])); print(c, 'torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["2", "False"] and answer.stderr.startswith("error: unknown flag '--wat'")
