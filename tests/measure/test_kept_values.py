"""Values projected once for all further steps:
the same numbers, digits down to the smallest, and used only where they fit."""

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from asking import planned
from measuring import relative_error

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure import generation
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.closed_form.single_keys import leave_one_out
from mask_impact.measure.generation import generation_steps
from mask_impact.measure.joined import joined_rows, kept_values
from mask_impact.measure.joined.kept_values import ProjectedValues, projected_rows
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.renormalize import head_rows
from mask_impact.measure.step import Method, ModelInputs, digest
from mask_impact.sites.attention import attached
from mask_impact.sites.query import QueryView, query_view

IDS = zoo.tokens(20).tolist()
STEPS = 4
# A window shorter than the prompt, experts, a branch beside attention, and a fused product of queries, keys and values.
KEEPING = ["qwen2", "mistral", "mixtral", "stablelm_parallel", "phi3"]
WITHOUT = ["gpt2", "gpt_oss", "llama"]  # a projection with a bias: their rows do not join
LADDER = {position: -10.0 * position for position in range(1, 5)} | {6: math.log(1e-20)}


@pytest.fixture
def taken(monkeypatch):
    """The layer of each time that projected values were used."""
    seen, take_in = [], ProjectedValues.take_in

    def noted(self, parts, closed, others):
        seen.append(parts.index)
        return take_in(self, parts, closed, others)

    monkeypatch.setattr(ProjectedValues, "take_in", noted)
    return seen


def run(model, inputs, share, monkeypatch, method=Method()):
    """All measured layers, what is kept held to this share of the weights."""
    monkeypatch.setattr(kept_values, "SHARE", share)
    parts, _ = measurable_parts(model)
    return list(measured_layers(model, parts, inputs, method))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert (one.step.index, one.layer, one.step.next_id) == (other.step.index, other.layer, other.step.next_id)
        for row, variant in enumerate(one.variants):
            assert relative_error(one.l2[row], other.l2[row]) <= 1e-5, (one.step.index, one.layer, variant)
            assert relative_error(one.cosine[row], other.cosine[row]) <= 2e-5  # which goes with the square of L2


@pytest.mark.parametrize("length", [20, 1])
@pytest.mark.parametrize("name", KEEPING + WITHOUT)
def test_the_numbers_are_those_of_the_rows_own_product(name, length, taken, monkeypatch):
    """A prompt of one token has undefined distances at first."""
    model, inputs = zoo.build(name), ModelInputs(IDS[:length], STEPS)
    plain = run(model, inputs, 0, monkeypatch)
    assert taken == []
    found = run(model, inputs, 1 / 4, monkeypatch)
    assert taken == [*range(3)] * STEPS * (name in KEEPING)
    assert_same(found, plain)


def doubled(words):
    """What a call takes, its floating-point tensors in float64."""
    return {name: value.double() if torch.is_floating_point(value) else value for name, value in words.items()}


@pytest.mark.parametrize("mode", ["text", "vision", "both"])
def test_masked_positions_alone_are_kept(mode, taken, monkeypatch, tmp_path):
    """Behind a picture whose tokens stand between those of the text:
    in the mode `vision` nothing is added after the prompt.

    Held to float64: the own row's rounding differs from step to step, and this model's last layer makes much of that.
    """
    model = vision_zoo.build("qwen3_vl")
    asked = planned(model, [vision_zoo.picture(tmp_path / "p.png", 40, 24, seed=0)], mode)
    inputs = ModelInputs(
        asked.token_ids, STEPS, masked=asked.masked, further=lambda ids: asked.further(ids, torch.device("cpu"))
    )
    exact = replace(inputs, further=lambda ids: doubled(asked.further(ids, torch.device("cpu"))))
    with zoo.true_float64():
        plain = run(deepcopy(model).double(), exact, 0, monkeypatch, Method(dtype=torch.float64))
    stores, room = [], generation.values_kept
    monkeypatch.setattr(generation, "values_kept", lambda *args: stores.append(room(*args)) or stores[-1])
    assert_same(run(model, inputs, 1, monkeypatch), plain)
    assert len(taken) == STEPS * 3
    [store] = stores
    assert store.positions == len(asked.masked(len(asked.token_ids) + STEPS - 1))
    assert all(layer.there.all() for layer in store.layers.values())


def test_the_projection_sees_the_models_own_rows_alone(monkeypatch):
    """20 tokens, and none in a further step, where its one row is the baseline; else the baseline, a row for each key
    and the control rows beside them."""
    model = zoo.build("qwen2")
    parts, _ = measurable_parts(model)
    rows, forward = [], parts[0].projection.forward
    monkeypatch.setattr(parts[0].projection, "forward", lambda x: rows.append(x.shape[1]) or forward(x))
    for share, expected in ((1 / 4, [20]), (0, [20 + 29, 1 + 30])):
        monkeypatch.setattr(kept_values, "SHARE", share)
        list(measured_layers(model, parts, ModelInputs(IDS, 2), Method()))
        assert rows == expected
        rows.clear()


@pytest.mark.parametrize(
    "steps, method", [(1, Method()), (2, Method(use_cache=False)), (2, Method(join_rows=False)), (2, Method("rerun"))]
)
def test_nothing_is_kept_for_one_step_nor_without_a_cache(steps, method, taken, monkeypatch):
    run(zoo.build("qwen2"), ModelInputs(IDS, steps), 1, monkeypatch, method)
    assert taken == []


def test_room_is_a_share_of_the_weights():
    """As many positions as stated for the shape of Qwen3-0.6B, whose tied head counts once."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from benchmarks.cost import CONFIG

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**CONFIG))
    qwen, _ = measurable_parts(zoo.build("qwen2"))
    parts = [
        replace(qwen[0], index=i, heads=16, projection=layer.self_attn.o_proj)
        for i, layer in enumerate(model.model.layers)
    ]
    assert kept_values.values_kept(model, parts, 324) is not None
    assert kept_values.values_kept(model, parts, 326) is None


def final(heads=6, groups=2, length=9, sink=False, hidden=(0, 1), alone=0):
    """A final query of random logits and values, with hidden keys; the first `alone` heads see the last key only."""
    generator = torch.Generator().manual_seed(0)
    visible = torch.ones(heads, length, dtype=torch.bool)
    visible[:, list(hidden)] = visible[:alone, :-1] = False
    logits = 3 * torch.randn(heads, length, generator=generator)
    return QueryView(
        logits.masked_fill(~visible, float("-inf")),
        torch.randn(groups, length, 5, generator=generator),
        torch.randn(heads, generator=generator) if sink else None,
        visible,
        first_key=3,
    )


def tokens(length):
    """Each of so many tokens alone."""
    return KeySets.alone(np.arange(length))


def layer_of(query, d_model=7):
    """Parts that say no more than what projects the heads of this query."""
    [part, *_], _ = measurable_parts(zoo.build("qwen2"))
    heads, width = len(query.logits), query.value.shape[2]
    return replace(
        part, heads=heads, projection=torch.nn.Linear(heads * width, d_model, bias=False).requires_grad_(False)
    )


@pytest.mark.parametrize(
    "query",
    [
        final(),
        final(sink=True),
        final(hidden=(0, 3, 5)),
        final(length=3),
        final(length=3, sink=True),
        final(alone=2),
        final(groups=6),
        final(heads=1, groups=1),
    ],
    ids=[
        "hidden keys",
        "sink",
        "gaps",
        "undefined",
        "one key and a sink",
        "undefined for two heads",
        "a value each",
        "one head",
    ],
)
def test_rows_are_the_projected_heads(query):
    """Baseline, masked rows and control rows, whatever the heads see and share."""
    parts, length = layer_of(query), 3 + query.logits.shape[1]
    closed = leave_one_out(query, tokens(length))
    heads = head_rows(closed, closed.seen, seed=0)
    found = projected_rows(parts, closed, heads, ProjectedValues(length))
    expected = parts.projection(heads.flatten(1))
    assert (found - expected).norm(dim=1) == pytest.approx(
        torch.zeros(len(found)), abs=1e-6 * float(expected.norm(dim=1).max())
    )


def test_a_key_heavier_than_all_others_keeps_its_digits():
    """With a weight of 1 to rounding, r is infinite: its own difference is projected."""
    query = final()
    query.logits[:, 4] = 200
    parts, closed = layer_of(query), leave_one_out(query, tokens(12))
    heads = head_rows(closed, closed.seen, seed=0)
    found = projected_rows(parts, closed, heads, ProjectedValues(12))
    assert found.isfinite().all()
    assert torch.allclose(found[3], parts.projection(heads.flatten(1))[3], rtol=1e-5)


def attention_moved(query, projection):
    """The length of what each key's masking moves attention's answer by, (key,), in float64 by the formula alone."""
    value = query.value.double().repeat_interleave(len(query.logits) // len(query.value), 0)
    weights = query.logits.double().softmax(-1)[..., None]
    moved = weights / (1 - weights) * ((weights * value).sum(1, keepdim=True) - value)
    return (moved.transpose(0, 1).flatten(1) @ projection.weight.double().T).norm(dim=1)


@pytest.mark.parametrize("name", ["qwen2", "mistral"])
def test_attention_keeps_its_digits_in_further_steps(name, taken, monkeypatch):
    """Down to a weight of 1e-20, within 1e-4 of float64; the keys at LADDER are those of the last eight, a window's."""
    model, exact = zoo.build(name), []
    parts, _ = measurable_parts(model)
    projections = {part.attention: part.projection for part in parts}

    def planted(call, first_key, dtype):
        query = query_view(call, first_key, dtype)
        if first_key + call.key.shape[2] > len(IDS):
            for position, log_weight in LADDER.items():
                query.logits[:, position - 8] = query.logits[:, -1] + log_weight
            exact.append(attention_moved(query, projections[call.module])[-8:])
        return query

    monkeypatch.setattr(joined_rows, "query_view", planted)
    found = [m for m in measured_layers(model, parts, ModelInputs(IDS, 3), Method()) if m.step.index > 0]
    assert len(found) == len(exact) == 6 and len(taken) == 9
    for m, expected in zip(found, exact):
        got = m.l2[m.variants.index("Attn")][-8:]
        assert 0 < got[6] < 1e-16
        for position in LADDER:
            assert got[position] == pytest.approx(float(expected[position]), rel=1e-4), (
                m.step.index,
                m.layer,
                position,
            )


def test_a_store_filled_again_holds_the_same_bits():
    """By the values alone that each step's attention calls hold, without measuring."""
    model = zoo.build("mistral")
    parts, _ = measurable_parts(model)
    first, again = ProjectedValues(24), ProjectedValues(24)
    with torch.inference_mode(), attached(model.get_decoder()):
        for step, layers in generation_steps(model, parts, ModelInputs(IDS, STEPS), Method(join_rows=False)):
            for record in (layer.at(layer.last) for layer in layers):
                query = query_view(record.attention, record.first_key, torch.float32)
                closed = leave_one_out(query, step.sets)
                projected_rows(record.parts, closed, head_rows(closed, closed.seen, step.index), first)
                again.take_in_again(record.parts, closed)
                places = closed.seen
                found = [store.layers[record.parts.index].projected[places].clone() for store in (first, again)]
                again.take_in_again(record.parts, closed)
                assert torch.equal(found[0], found[1])
                assert torch.equal(found[1], again.layers[record.parts.index].projected[places])
                value = query.value[:, closed.keys[places]].repeat_interleave(2, 0).transpose(0, 1)
                expected = torch.einsum("khv,dhv->khd", value, record.parts.projection.weight.view(64, 4, -1))
                assert torch.allclose(found[0], expected, atol=1e-6 * float(expected.abs().max()))


def test_the_own_row_of_a_model_in_bfloat16_goes_its_own_way(taken, monkeypatch):
    """By head its rounding would be another:
    there the logits are those of the model that is not watched, to the last bit."""
    model = zoo.build("qwen2", torch.bfloat16)
    found = run(model, ModelInputs(IDS, STEPS), 1, monkeypatch, Method(dtype=None))
    assert len(taken) == STEPS * 3
    cache, fed = None, IDS
    for step in (layer.step for layer in found[::3]):
        answer = model(torch.tensor([fed]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        assert step.fingerprint.digest == digest(answer.logits[0, -1]), step.index
        cache, fed = answer.past_key_values, [step.next_id]
