"""The identities, and the check on load: each is seen to hold, and to stop the run, by name, where it is broken."""

import math
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
import zoo
from measuring import measure, worst_error
from planting import measured, planted_layer, recorded
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from mask_impact.base.errors import RequestError, RunError
from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.identities import conservation_error
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites import attention, interventions
from mask_impact.sites.query import query_view

IDS = zoo.tokens(12).tolist()


def conserved(layer, sets, scale=1.0):
    """The closed form of a layer, and its sum of (1 - p_S)(o_S - o), each term off by a factor."""
    row = layer.at(layer.last)
    closed = masked_heads(query_view(row.attention, row.first_key, torch.float32), sets)
    weights = 1 - (1 - scale) * torch.rand(len(closed.seen))
    return closed, closed.conservation(closed.seen, closed.differences(closed.seen) * weights[:, None, None])


@pytest.mark.parametrize(
    "sets",
    [
        KeySets.alone(np.arange(12)),
        KeySets.alone(np.array([2, 3, 7])),
        KeySets.of([[0, 1], [1, 2, 3], [5], [3, 9, 11]]),
    ],
    ids=["every key", "some keys", "overlapping sets"],
)
@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "gemma2"])
def test_conservation(name, sets):
    """sum_S (1 - p_S)(o_S - o) = sum_k c_k p_k (o - v_k) in every head; terms off by some per cent are seen."""
    _, _, layers = recorded(zoo.build(name), IDS)
    for layer in layers:
        closed, total = conserved(layer, sets)
        assert conservation_error(closed, total) < 1e-6
        assert conservation_error(*conserved(layer, sets, 0.95)) > 1e-4
        if name == "gpt_oss":
            assert (1 - closed.weights.sum(-1) > 1e-3).any()


def test_all_keys_masked_with_a_sink_gives_zero():
    """One visible key and a sink: masking it leaves a head output of exactly 0, a defined L2, and no cosine."""
    model = zoo.build("gpt_oss")
    parts, _ = measurable_parts(model)
    for m in measured_layers(model, parts, ModelInputs(IDS[:1], 1), Method()):
        heads = [row for row, variant in enumerate(m.variants) if variant.startswith("Head")]
        for row in heads:
            assert m.l2[row][0] == pytest.approx(float(m.baseline_norm[row]), rel=1e-6)
            assert math.isnan(m.cosine[row][0])
        assert m.l2[0][0] > 0


def test_one_token_without_a_sink_is_undefined():
    model = zoo.build("llama")
    parts, _ = measurable_parts(model)
    for method in ("renormalize", "rerun"):
        for m in measured_layers(model, parts, ModelInputs(IDS[:1], 1), Method(method)):
            assert torch.tensor(m.l2).isnan().all() and torch.tensor(m.cosine).isnan().all()
            assert torch.tensor(m.baseline_norm).isfinite().all()


def test_keys_outside_the_window_are_exactly_zero():
    model = zoo.build("mistral")
    parts, _ = measurable_parts(model)
    for method in ("renormalize", "rerun"):
        for m in measured_layers(model, parts, ModelInputs(IDS, 2), Method(method)):
            outside = len(m.step.token_ids) - zoo.WINDOW
            assert (m.l2[:, :outside] == 0).all() and (m.cosine[:, :outside] == 0).all()
            assert (m.l2[:, outside:] > 0).all()


def test_a_run_stops_when_a_layer_does_not_add_up():
    model, step, record = planted_layer({}, length=12, name="granite")
    broken = replace(record, parts=replace(record.parts, branches=()))
    with pytest.raises(RunError, match="layer 1: the identity 'output = input"):
        measured(model, step, broken)


def test_a_run_stops_when_the_heads_are_not_the_models_own():
    model, step, layer = planted_layer({}, length=12)
    [(call, answer)] = layer.attention
    broken = replace(layer, attention=((call, answer + 0.1),))
    with pytest.raises(RunError, match="layer 1: the identity 'the heads' outputs equal the model's own'"):
        measured(model, step, broken)


RESIDUALS = [("gemma4", "sum"), ("gemma4_scaled", "scaled"), ("opt", "sum"), ("opt_postnorm", "normed")]


@pytest.mark.parametrize("name, kind", RESIDUALS)
def test_how_a_layer_holds_its_input_is_found(name, kind):
    parts, _ = measurable_parts(zoo.build(name))
    assert {part.residual for part in parts} == {kind}


def broken_attention(monkeypatch, change):
    """Let every model's own attention function be something else."""
    plain = attention.own_function
    monkeypatch.setattr(attention, "own_function", lambda module, base: change(plain(module, base)))


def test_load_check_sees_a_mask_that_does_nothing(monkeypatch):
    def deaf(function):
        def run(module, q, k, v, attention_mask=None, **options):
            return function(module, q, k, v, attention_mask=None, **options)

        return run

    model = zoo.build("llama")
    broken_attention(monkeypatch, deaf)
    with pytest.raises(RunError, match="layer 0: masking key 0 leaves it a weight of"):
        measurable_parts(model)


def test_load_check_sees_weights_that_do_not_sum_to_one(monkeypatch):
    def leaky(function):
        def run(module, q, k, v, attention_mask=None, **options):
            output, weights = function(module, q, k, v, attention_mask=attention_mask, **options)
            return output * (1.0 if attention_mask is None else 0.9), weights

        return run

    broken_attention(monkeypatch, leaky)
    with pytest.raises(RunError, match="layer 0: with key 0 masked the visible weights miss their sum by 1.0e-01"):
        measurable_parts(zoo.build("llama"))


def test_load_check_sees_changed_logits(monkeypatch):
    def other(function):
        def run(module, q, k, v, attention_mask=None, **options):
            return function(module, q, k, v * 1.5, attention_mask=attention_mask, **options)

        return run

    broken_attention(monkeypatch, other)
    with pytest.raises(RunError, match="LlamaForCausalLM: watching the model changes its logits"):
        measurable_parts(zoo.build("llama"))


def test_load_check_sees_masking_that_changes_no_distance(monkeypatch):
    """Values that are all alike: whatever is masked, the heads answer the same."""
    model = zoo.build("llama")
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.data.zero_()
    with pytest.raises(RunError, match="layer 0: masking changes no distance"):
        measurable_parts(model)


def test_sinks_and_windows_are_read_from_the_models_own_mask_function(monkeypatch):
    """Registered without the base's mask function an eager model's logits are wrong: the check on load sees it."""
    register = AttentionMaskInterface.register
    sdpa = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    monkeypatch.setattr(AttentionMaskInterface, "register", lambda name, function: register(name, sdpa))
    try:
        with pytest.raises((RunError, RequestError)):
            measurable_parts(zoo.build("gpt_oss"))
    finally:
        register(attention.PREFIX + "eager", ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def test_a_projection_that_is_not_the_last_step():
    """An attention module that halves what its projection gives: rows go through the module itself."""
    model = zoo.build("llama")
    attention = model.model.layers[0].self_attn
    whole = attention.forward
    attention.forward = lambda *args, **kwargs: (whole(*args, **kwargs)[0] / 2, None)
    assert [part.direct for part in measurable_parts(model)[0]] == [False, True, True]
    table = oracle.oracle(model, torch.tensor(IDS))
    assert worst_error(measure(model, IDS), lambda m: table)[0] <= 1e-4


def test_load_check_sees_attention_that_answers_otherwise_when_it_is_called_again():
    """Its projection gives less with every call: what it gave the model is not what it gives the rows."""
    model = zoo.build("llama")
    projection = model.model.layers[1].self_attn.o_proj
    calls, whole = [], projection.forward
    projection.forward = lambda rows: whole(rows) / (calls.append(1) or len(calls))
    with pytest.raises(RunError, match="layer 1: the parts found do not give its attention module's own answer"):
        measurable_parts(model)


def test_answers_are_taken_back_after_an_error():
    [part, *_], _ = measurable_parts(zoo.build("llama"))
    layer = part.layer
    with (
        pytest.raises(KeyError, match="float64"),
        interventions.replace_forward({layer.mlp: lambda x: x}),
        interventions.in_dtype(part, torch.float64),
    ):
        raise KeyError(layer.mlp.up_proj.weight.dtype)
    assert "forward" not in vars(layer.mlp)
    assert layer.mlp.up_proj.weight.dtype == torch.float32
