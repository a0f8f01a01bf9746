"""Both methods against the independent implementation, on every named architecture, over three generation steps."""

import pytest
import torch
import zoo
from measuring import COSINE, FLOAT32, FLOAT64, PROMPT, errors_against_oracle, measure

from mask_impact.base.errors import RequestError
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import ModelInputs

PROBABILITY = 2e-5  # absolute
KINDS = [("renormalize", True), ("renormalize", False), ("rerun", True), ("rerun", False)]


@pytest.mark.parametrize("name", [*zoo.ARCHITECTURES, *zoo.HYBRIDS, *zoo.EXTRAS])
def test_both_methods_equal_the_plain_implementation(name):
    """With and without a cache, in float32."""
    errors = errors_against_oracle(zoo.build(name), KINDS, zoo.tokens(PROMPT).tolist())
    for kind, (l2, cosine) in errors.items():
        assert l2 <= FLOAT32, (kind, l2)
        assert cosine <= COSINE, (kind, cosine)


@pytest.mark.parametrize("name", [*zoo.ARCHITECTURES, *zoo.HYBRIDS, *zoo.EXTRAS])
def test_text_and_probabilities_of_every_step_are_those_of_a_fresh_pass(name):
    """With a cache, against a model that was built for it and sees all tokens at once."""
    steps = {m.step.index: m.step for m in measure(zoo.build(name), zoo.tokens(PROMPT).tolist(), 4).values()}
    fresh = zoo.build(name)
    for step in steps.values():
        expected = fresh(input_ids=torch.tensor([step.token_ids]), use_cache=False).logits[0, -1].float().softmax(-1)
        assert step.next_id == int(expected.argmax())
        for token, probability in [*step.top, (step.next_id, step.next_probability)]:
            assert abs(probability - float(expected[token])) <= PROBABILITY, (step.index, token)


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_float64_is_exact(name):
    with zoo.true_float64():
        model = zoo.build(name, torch.float64)
        errors = errors_against_oracle(model, [("renormalize", True), ("rerun", True)], zoo.tokens(PROMPT).tolist())
    for kind, (l2, cosine) in errors.items():
        assert l2 <= FLOAT64 and cosine <= FLOAT64, (kind, l2, cosine)


@pytest.mark.parametrize("name", zoo.HYBRIDS)
def test_hybrids_list_their_other_layers(name):
    parts, skipped = measurable_parts(zoo.build(name))
    assert parts and skipped
    assert not {part.index for part in parts} & set(skipped)
    assert all("no softmax attention" in reason for reason in skipped.values())


REASONS = {
    "gptj": "GPTJ.*outside transformers' attention interface",
    "bloom": "Bloom.*outside transformers' attention interface",
    "falcon": "Falcon.*outside transformers' attention interface",
    "mpt": "Mpt.*outside transformers' attention interface",
    "diffllama": "2 softmaxes .*DiffLlama",
    "deepseek_v32": "sparse attention",
    "mamba": "Mamba.*no softmax attention",
    "bert": "an encoder, not a decoder",
}


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_refused_by_name(name):
    with pytest.raises(RequestError, match=REASONS[name]) as error:
        measurable_parts(zoo.build(name))
    assert len(error.value.faults) == 1 and "\n" not in str(error.value)


def test_a_model_is_left_as_it_was():
    """Its attention implementation, forward functions and weights, after a run that is dropped half way as well."""
    model = zoo.build("qwen3").to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    parts, _ = measurable_parts(model)
    running = measured_layers(model, parts, ModelInputs(zoo.tokens(9).tolist(), 2))
    next(running)
    running.close()
    assert model.config._attn_implementation == "sdpa"
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_a_default_device_that_the_caller_has_set_does_no_harm():
    model, ids = zoo.build("qwen3"), zoo.tokens(9).tolist()
    plain = measure(model, ids)
    with torch.device("meta"):  # whatever is made there cannot be calculated with
        found = measure(model, ids)
    assert all((found[key].l2 == m.l2).all() for key, m in plain.items())
