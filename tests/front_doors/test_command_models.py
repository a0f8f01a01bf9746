"""Which models the command takes and which it refuses by name, before their weights are loaded or their code is run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
import zoo
from running import files_in, record_of
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("here")


# Models that are no choice


def made_folder(name, folder, config=None, **changes):
    """A folder with a model's configuration, a tokenizer and one weight."""
    (config or zoo.configuration(name)).save_pretrained(folder)
    zoo.tokenizer().save_pretrained(folder)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    if changes:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def quantised():
    return {"quantization_config": {"quant_method": "gptq", "bits": 4}}


KINDS = {
    "encoder-only": ("bert", {}, "(bert) is an encoder, which predicts no next token; choose a causal"),
    "encoder for sentences": ("bert", {"architectures": ["BertModel"]}, "(bert) is an encoder"),
    "state-space": ("mamba", {}, "MambaForCausalLM has no softmax attention (a state-space or recurrent model)"),
    "outside the interface": (
        "gptj",
        {},
        "GPTJForCausalLM computes attention outside transformers' attention interface",
    ),
    "encoder-decoder": (
        transformers.T5Config(num_layers=1),
        {},
        "(t5) is an encoder-decoder model, which is not measured; choose",
    ),
    "vision-language": (
        transformers.Qwen3VLConfig(),
        {},
        "(qwen3_vl) is a vision-language model; run it with mask_impact_vl.py",
    ),
    "quantised": (
        "llama",
        quantised(),
        "has gptq weights, which transformers does not dequantise; choose the unquantised",
    ),
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
        config.write_text(
            config.read_text(encoding="utf-8").replace('"vocab_size": 320', '"vocab_size": 30'), encoding="utf-8"
        )


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


@pytest.mark.parametrize(
    "build, part",
    [
        (zoo.missing_weight, "lacks weights of its model, which would be random numbers: "),
        (zoo.misfitting_weight, "has weights of another shape than its configuration says: "),
        (zoo.unexpected_weight, "has weights that its model has no place for: "),
    ],
)
def test_weights_that_do_not_fit_are_refused(build, part, command, tmp_path, here):
    tensor = build("llama", tmp_path / "model")
    code, out, err = command("--model", tmp_path / "model", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, [])
    assert part + tensor in err[0] and err[0].endswith("; fetch it again, or take another checkpoint")


def test_constants_of_old_checkpoints_are_no_unexpected_weights(command, tmp_path):
    zoo.save("gpt2", tmp_path)
    weights = {
        name.removeprefix("transformer."): weight for name, weight in load_file(tmp_path / "model.safetensors").items()
    }
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
        "class MadeUpForCausalLM(LlamaForCausalLM):\n    config_class = MadeUpConfig\n",
        encoding="utf-8",
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "made_up",
        "architectures": ["MadeUpForCausalLM"],
        "auto_map": {"AutoConfig": "made_up.MadeUpConfig", "AutoModelForCausalLM": "made_up.MadeUpForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder, trace


def test_foreign_code_runs_only_where_it_is_asked_for(command, foreign, loads, here):
    folder, trace = foreign
    code, out, err = command("--model", folder, "--prompt", "P", "--layers", 0)
    assert (code, out, len(err), loads, files_in(here)) == (2, [], 1, [], [])
    assert err[0].endswith("; --trust-remote-code runs the code it brings along") and not trace.exists()
    assert command("--model", folder, "--prompt", "P", "--layers", 0, "--trust-remote-code")[0] == 0
    assert trace.exists() and record_of("p")["model_class"] == "MadeUpForCausalLM"


def test_foreign_code_beside_a_known_model_is_left_alone(command, foreign):
    folder, trace = foreign
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"made_up"', '"llama"'), encoding="utf-8")
    assert command("--model", folder, "--prompt", "P", "--layers", 0)[0] == 0
    assert record_of("p")["model_class"] == "LlamaForCausalLM" and not trace.exists()
