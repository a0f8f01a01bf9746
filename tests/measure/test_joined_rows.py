"""Rows that join the model's own forward pass: the same numbers, the same logits, and a model left as it was."""

import pytest
import torch
import zoo
from measuring import measure, relative_error

from mask_impact.base.errors import RunError
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.joined import joined_rows as rows
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs

IDS = zoo.tokens(20).tolist()
# Plain layers, a window shorter than the prompt, experts, a branch beside attention,
# and one that is told of all by a fused product.
JOINING = ["qwen2", "mistral", "mixtral", "qwen2_moe", "stablelm_parallel", "phi3"]
ALONE = ["gpt2", "gemma2", "olmo2", "gpt_oss", "deepseek_v3", "cohere2"]


def can_join(model):
    parts, _ = measurable_parts(model)
    return [part.can_join for part in parts]


@pytest.mark.parametrize("name", JOINING + ALONE)
def test_which_layers_join(name):
    """A bias of the projection, a norm behind attention or further arguments of the branch keep rows by themselves."""
    assert can_join(zoo.build(name)) == [name in JOINING] * 3


def scaling_hook(module, inputs, answer):
    return 1.25 * answer


@pytest.mark.parametrize("name", ["qwen2", "llama"])  # without and with a bias in the projection
@pytest.mark.parametrize(
    "where", [lambda layer: layer.self_attn.o_proj, lambda layer: layer.mlp.down_proj], ids=["projection", "branch"]
)
def test_what_a_callers_hook_makes_of_an_answer_is_measured(name, where):
    model = zoo.build(name)
    for layer in model.model.layers:
        where(layer).register_forward_hook(scaling_hook)
    fast, plain = (
        measure(model, IDS, 2, method=method, variants=("attn", "heads")) for method in ("renormalize", "rerun")
    )
    whole = measure(model, IDS, 2)  # whose identities hold too
    for key, m in fast.items():
        for row in range(len(m.variants)):
            assert relative_error(m.l2[row], plain[key].l2[row]) <= 1e-4, (key, m.variants[row])
            assert relative_error(whole[key].l2[1 + row], plain[key].l2[row]) <= 1e-4, (key, m.variants[row])


def test_a_hook_that_only_listens_sees_the_models_own_rows():
    model, seen = zoo.build("qwen2"), []
    model.model.layers[1].mlp.register_forward_hook(lambda module, inputs, answer: seen.append(answer.shape[1]))
    assert can_join(model) == [True, False, True]
    parts, _ = measurable_parts(model)
    seen.clear()
    list(measured_layers(model, parts, ModelInputs(IDS, 2), Method(variants=("attn",))))
    assert seen == [
        20,
        29,
        29,
        1,
        1,
        30,
        30,
        1,
    ]  # of each step the model's own, then ours in two orders and one by itself


def test_a_widened_layer_does_not_join():
    """Rows of a bfloat16 layer are float32:
    they cannot join its own products, but measured as the model is they can."""
    model = zoo.build("qwen2").to(torch.bfloat16)
    for dtype, expected in ((torch.float32, []), (None, [0, 1, 2])):
        parts, _ = measurable_parts(model)
        method = Method(variants=("full",), dtype=dtype)
        assert [part.index for part in parts if rows.can_join(part, method, 20, 20)] == expected


@pytest.mark.parametrize(
    "variants", [("full", "attn", "heads"), ("attn", "heads"), ("full",), ("heads",)], ids="-".join
)
@pytest.mark.parametrize("name", JOINING)
def test_rows_that_join_give_the_same_numbers(name, variants):
    """Three steps, with a cache, against the same rows run by themselves."""
    model = zoo.build(name)
    alone, along = (measure(model, IDS, 3, variants=variants, join_rows=join) for join in (False, True))
    assert alone.keys() == along.keys()
    for key, m in along.items():
        assert m.variants == alone[key].variants
        for row in range(len(m.variants)):
            assert relative_error(m.l2[row], alone[key].l2[row]) <= 1e-5, (key, m.variants[row])
        assert m.step.next_id == alone[key].step.next_id


def test_a_long_prompt_joins_only_when_decoding(monkeypatch):
    model, seen = zoo.build("qwen2"), []
    parts, _ = measurable_parts(model)
    arrive = rows.JoinedLayer.arrive

    def noted(self, *arguments):
        seen.append((self.step_info.step, self.parts.index))
        arrive(self, *arguments)

    monkeypatch.setattr(rows.JoinedLayer, "arrive", noted)
    monkeypatch.setattr(rows, "MOST_FED", 10)
    list(measured_layers(model, parts, ModelInputs(IDS, 2), Method(variants=("attn",))))
    assert seen == [(1, part.index) for part in parts]


def test_the_model_is_left_as_it_was_even_by_a_failure(monkeypatch):
    model = zoo.build("qwen2")
    parts, _ = measurable_parts(model)
    plain = model(torch.tensor([IDS])).logits
    monkeypatch.setattr(rows, "collected", lambda *arguments: (_ for _ in ()).throw(RunError("stop")))
    with pytest.raises(RunError, match="stop"):
        list(measured_layers(model, parts, ModelInputs(IDS, 1), Method()))
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(torch.tensor([IDS])).logits, plain)


def test_identities_are_checked_on_rows_that_join(monkeypatch):
    """A layer whose own heads are not those of the closed form stops the run, within the forward pass."""
    model = zoo.build("qwen2")
    parts, _ = measurable_parts(model)
    closed = rows.masked_heads
    monkeypatch.setattr(rows, "masked_heads", lambda query, sets: closed(broken(query), sets))
    with pytest.raises(RunError, match="layer 0: the identity"):
        list(measured_layers(model, parts, ModelInputs(IDS, 1), Method()))


def broken(query):
    query.logits[:] = query.logits * 1.5
    return query
