"""How many positions a model was built for:
what its configuration says, times what its rotary embedding is scaled by."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
import zoo
from from_python import experiment

from mask_impact.base.errors import RequestError
from mask_impact.models.info import ModelInfo

LINEAR, DYNAMIC, YARN = (
    {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0} for kind in ("linear", "dynamic", "yarn")
)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 4,
}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "factor": 4.0}
LIMITS = {
    "no scaling": (None, 16),
    "linear": (LINEAR, 64),
    "dynamic": (DYNAMIC, 64),
    "yarn": (YARN, 64),
    "llama3": (LLAMA3, 16),
    "longrope": (LONG, 16),
    "a factor that is no whole number": (LINEAR | {"factor": 1.3}, 20),
    "yarn whose extended length is given": (YARN | {"original_max_position_embeddings": 4}, 16),
    "yarn that goes further than is given": (YARN | {"original_max_position_embeddings": 8}, 32),
}


def llama(rope=None, **fields):
    shape = zoo.SHAPE | {"max_position_embeddings": 16} | fields
    return transformers.LlamaConfig(**shape, rope_parameters=None if rope is None else dict(rope))


def limit(config):
    return ModelInfo("x", config, None).context_length


@pytest.mark.parametrize("rope, length", LIMITS.values(), ids=LIMITS.keys())
def test_the_limit_is_that_of_the_scaled_rotary_embedding(rope, length):
    assert limit(llama(rope)) == length


def test_the_old_name_of_rotary_scaling_counts_too(tmp_path):
    llama().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(
        file.read_text(encoding="utf-8").replace(
            '"rope_parameters": {', '"rope_scaling": {"type": "linear", "factor": 4.0}, "x": {'
        ),
        encoding="utf-8",
    )
    assert limit(transformers.AutoConfig.from_pretrained(tmp_path)) == 64


def test_of_several_kinds_of_layers_the_smallest_limit_counts():
    both = {zoo.SLIDING: {"rope_type": "default", "rope_theta": 1e4}, zoo.FULL: dict(LINEAR)}
    shape = zoo.HEAD | zoo.MIXED | {"max_position_embeddings": 16}
    assert limit(transformers.Gemma3TextConfig(**shape, rope_parameters=both)) == 16
    assert limit(transformers.Gemma3TextConfig(**shape, rope_parameters=both | {zoo.SLIDING: dict(DYNAMIC)})) == 64


@pytest.mark.filterwarnings("ignore:`rope_scaling`")
def test_learned_positions_are_a_hard_limit():
    assert limit(transformers.GPT2Config(n_positions=16, rope_scaling=dict(LINEAR))) == 16


@pytest.mark.parametrize("rope", [LINEAR, DYNAMIC, YARN], ids=lambda rope: rope["rope_type"])
def test_a_prompt_past_the_unscaled_length_is_measured_and_goes_on(rope):
    model = transformers.LlamaForCausalLM._from_config(llama(rope)).eval()
    zoo.randomize(model, 0)
    again = copy.deepcopy(model)  # a dynamic rotary embedding keeps what it grew to
    run = experiment(model, "abcdefghijklmnopqrstuv", num_output_tokens=3, variants=("full",)).attrs["run"]
    ids = [token["id"] for token in run["tokens"]]
    assert (
        run["prompt_length"] == 22
        and ids == again.generate(torch.tensor([ids[:22]]), max_new_tokens=3, do_sample=False)[0].tolist()
    )
    with pytest.raises(RequestError, match="the prompt has 65 tokens, more than the model's context of 64"):
        experiment(model, "x" * 65)
