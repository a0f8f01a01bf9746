"""Wrong requests from Python: one line each, in the words of its arguments;
and the forms in which an argument may be given."""

from __future__ import annotations

import pytest
import torch
import zoo
from from_python import PROMPT, experiment, run_of
from transformers import LlamaModel, T5Config, T5ForConditionalGeneration

from mask_impact.base.errors import RequestError
from mask_impact.settings import python_names
from mask_impact.settings.option import options
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact_analysis import run_masking_experiment


@pytest.mark.parametrize(
    "settings, part",
    [
        ({"num_output_tokens": 0}, "num_output_tokens: expected a whole number from 1"),
        ({"layers": [3]}, "layers: 3 is out of range; the model has layers 0 to 2"),
        ({"layer": [3]}, "unknown setting 'layer', did you mean 'layers'?"),
        ({"prompt": ""}, "prompt: the prompt is empty"),
        ({"prompt": "x" * 257}, "the prompt has 257 tokens, more than the model's context of 256"),
        ({"variants": ["half"]}, "variants: expected one of full, attn, heads, found 'half'"),
        ({"chat": True}, "chat is on, but the model has no chat template"),
        ({"system": "S"}, "system needs chat"),
        ({"continuation": ""}, "continuation: expected text, found none"),
        ({"dtype": "float64"}, "dtype: a loaded model is measured as it is; leave dtype out"),
        ({"device": "cpu"}, "device: a loaded model is measured as it is; leave device out"),
        ({"model_name": "some/other"}, "model_name: give either a name or a loaded model and tokenizer"),
        ({"tokenizer": None}, "model and tokenizer go together"),
        (
            {"model": "demo"},
            "model: expected a loaded model of transformers, found a str; a model's name is given as model_name",
        ),
        ({"tokenizer": "demo"}, "tokenizer: expected a loaded tokenizer of transformers, found a str"),
        ({"prompt": None}, "prompt: give the text whose next token is to be explained"),
    ],
)
def test_a_wrong_request_raises_value_error(settings, part, model):
    python_names = {"prompt": PROMPT, "model": model, "tokenizer": zoo.tokenizer()} | settings
    with pytest.raises(ValueError) as caught:
        run_masking_experiment(**python_names)
    assert len(str(caught.value).splitlines()) == 1 and str(caught.value).startswith(part)


def test_all_faults_are_raised_at_once(model):
    with pytest.raises(ValueError) as caught:
        experiment(model, "x" * 300, layers=[1, 7, 8, 9, 10], chat=False)
    faults = str(caught.value).splitlines()
    assert len(faults) == 2 and "layers: 7, 8, 9, … are out of range" in "".join(faults)


def quantised(model):
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(96, 64, dtype=torch.int8), requires_grad=False
    )
    return model


def flash(model):
    model.config._attn_implementation = "flash_attention_2"
    return model


UNFIT = {
    "no head": (
        lambda: LlamaModel(zoo.configuration("llama")),
        "LlamaModel predicts no next token; load the model with AutoModelForCausalLM",
    ),
    "encoder": (lambda: zoo.build("bert"), "BertForMaskedLM is no decoder-only model"),
    "encoder-decoder": (
        lambda: T5ForConditionalGeneration(
            T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=320)
        ),
        "T5ForConditionalGeneration is no decoder-only model",
    ),
    "no softmax": (lambda: zoo.build("mamba"), "MambaForCausalLM has no softmax attention"),
    "quantised": (
        lambda: quantised(zoo.build("llama")),
        "LlamaForCausalLM has weights in torch.int8; load it unquantised, in one of",
    ),
    "flash attention": (
        lambda: flash(zoo.build("llama")),
        "attention implementation 'flash_attention_2' cannot be measured; load",
    ),
}


@pytest.mark.parametrize("build, part", UNFIT.values(), ids=UNFIT.keys())
def test_a_loaded_model_that_cannot_be_measured_is_refused_by_name(build, part):
    model = build().train()
    with pytest.raises(ValueError) as caught:
        experiment(model)
    assert str(caught.value).startswith(part) and model.training


def test_a_layer_without_softmax_attention_is_refused_and_the_others_are_named():
    model = zoo.build("qwen3_next")
    assert run_of(model)["layers"] == run_of(model, layers=[1])["layers"] == [1]
    with pytest.raises(
        ValueError,
        match=r"^layers: layer 0 has no softmax attention \(linear_attention\); layers that can be measured: 1$",
    ):
        experiment(model, layers=[0, 1])


def test_a_layer_that_only_the_loaded_model_shows_to_have_no_softmax(monkeypatch):
    monkeypatch.setattr("mask_impact.models.info.SOFTMAX_KINDS", ("linear_attention", "full_attention"))
    with pytest.raises(
        ValueError,
        match=r"^layers: layer 0 has no softmax attention \(linear_attention\); layers that can be measured: 1$",
    ):
        experiment(zoo.build("qwen3_next"), layers=[0, 1])


WRONG = {
    "a truth value as a number": (
        dict(num_output_tokens=True),
        "num_output_tokens: expected a whole number from 1 to 1000000, found true",
    ),
    "a setting that needs another": (
        dict(system="S"),
        "system needs chat, which is off; add chat=True or leave system out",
    ),
    "two names of one setting": (
        dict(num_tokens=2, num_output_tokens=3),
        "'num_output_tokens', 'num_tokens': two names of one setting",
    ),
    "no chat template": (dict(chat=True), "chat is on, but the model has no chat template; leave chat off: chat=False"),
    "no such folder": (dict(model_name="./gone"), "model_name './gone' is no folder; give a folder with config.json"),
    "no model": (dict(model_name="me/mine"), "; model_name demo needs no network"),
    "a revision of a folder": (dict(revision="main"), "revision 'main' does not go with the folder"),
    "an absent device": (dict(device="cuda:99"), "device cuda:99 is absent: "),
    "no standard input": (
        dict(prompt=None, prompt_file="-"),
        "prompt_file -: there is no standard input; name a file or use prompt",
    ),
}


@pytest.mark.parametrize("settings, part", WRONG.values(), ids=WRONG.keys())
def test_a_fault_names_the_argument_and_not_the_flag(settings, part, llama, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError) as caught:
        run_masking_experiment(**({"prompt": PROMPT, "model_name": llama} | settings))
    message = str(caught.value)
    assert part in message and "--" not in message and "YAML" not in message


def test_a_failure_names_the_argument_and_not_the_flag(model):
    model.model.embed_tokens.weight[zoo.tokenizer()("z")["input_ids"]] = float("nan")
    with pytest.raises(RuntimeError, match="^the logits of generation step 0 are not numbers; try another dtype$"):
        experiment(model, "The cat zz")


@pytest.mark.parametrize("name, row", options(VisionSettings).items())
def test_every_flag_has_its_argument(name, row):
    with pytest.raises(RequestError) as caught, python_names.name_python_arguments(VisionSettings):
        raise RequestError(
            f"add {row.flag} {row.metavar} (in YAML {name}: x)",
            f"{row.flag}-x",
            f"leave {row.off_flag or row.flag} out",
        )
    word = row.python or name
    assert caught.value.faults == (
        f"add {word}" if row.metavar else f"add {word}=True ",
        f"{row.flag}-x",
        f"leave {word}{'' if row.metavar else '=False' if row.off_flag else '=True'} out",
    )


def test_what_a_message_quotes_is_left_as_the_caller_wrote_it():
    said = "the model's folder '/data/--model X' and \"--chat\" are not there; leave --chat out"
    assert (
        python_names.in_python(Settings, said)
        == "the model's folder '/data/--model X' and \"--chat\" are not there; leave chat=True out"
    )


def test_a_prompt_from_a_file_and_dtype_and_device_as_torch_has_them(tmp_path):
    (tmp_path / "p.txt").write_text(PROMPT, encoding="utf-8")
    zoo.save("llama", tmp_path / "model")
    same = dict(model_name=str(tmp_path / "model"), device="cpu", dtype="float64")
    expected = run_masking_experiment(PROMPT, **same)
    found = run_masking_experiment(
        prompt_file=tmp_path / "p.txt", **same | {"device": torch.device("cpu"), "dtype": torch.float64}
    )
    assert found.equals(expected)


def test_settings_of_files_are_not_named_as_valid():
    with pytest.raises(ValueError, match="unknown setting 'output'") as caught:
        run_masking_experiment(PROMPT, output="x")
    valid = str(caught.value).partition("valid: ")[2].split(", ")
    assert (
        "prompt_file" in valid
        and "num_output_tokens" in valid
        and not {"output_dir", "formats", "report", "name"} & set(valid)
    )


def test_a_model_of_the_other_kind_names_the_function_for_it():
    assert (
        python_names.in_python(Settings, "'m' is a vision-language model; run it with mask_impact_vl.py")
        == "'m' is a vision-language model; call run_vl_masking_experiment"
    )
