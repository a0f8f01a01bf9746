"""Numbers that are not noise: bfloat16 models, sinks, distances far below rounding, and the floor under Full."""

import math

import pytest
import torch
import vision_zoo
import zoo
from measuring import measure, relative_error
from measuring_encoder import GRIDS, blocks
from planting import measured, own_numbers_errors, planted_layer, recorded, weights_of

from mask_impact.base.precision import rounding_settings
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.distances import Separation
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs

DOUBLE = Method(dtype=torch.float64)
RERUN = Method("rerun")


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma3", "olmo2", "granite", "gpt2", "qwen3_moe"])
def test_bfloat16_models_are_measured_from_their_own_numbers(name):
    """Within 1e-3, every layer and variant."""
    errors = own_numbers_errors(zoo.build(name).to(torch.bfloat16))
    assert max(errors.values()) <= 1e-3, errors


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma2", "gpt_oss"])
def test_methods_agree_on_bfloat16_models(name):
    model = zoo.build(name).to(torch.bfloat16)
    ids = zoo.tokens(16).tolist()
    fast, slow = (measure(model, ids, 3, method) for method in ("renormalize", "rerun"))
    assert fast.keys() == slow.keys()
    for key, m in fast.items():
        for row in range(len(m.variants)):
            assert relative_error(m.l2[row], slow[key].l2[row]) <= 1e-4, (key, m.variants[row])


def test_rows_in_the_models_dtype_are_worse():
    """The setting `measure_dtype: model` reaches the rows: it is far from float64 where float32 is not."""
    model = zoo.build("llama").to(torch.bfloat16)
    model, step, records = recorded(model, zoo.tokens(24).tolist())
    exact = measured(model, step, records[2], DOUBLE)
    methods = [Method(dtype=dtype) for dtype in (torch.float32, None)]
    errors = [relative_error(measured(model, step, records[2], how).l2[0], exact.l2[0]) for how in methods]
    assert errors[0] < 1e-4 < 1e-3 < errors[1]


def test_planted_sink():
    """A key holding 1 - 1e-6 of the weight: both methods agree to 1e-3 in float32."""
    model, step, record = planted_layer({0: math.log(1e6)}, method=RERUN)
    assert weights_of(record)[:, 0] == pytest.approx(1 - 1e-6, abs=1e-7)
    fast, slow = measured(model, step, record), measured(model, step, record, RERUN)
    for row in range(len(fast.variants)):
        assert relative_error(fast.l2[row], slow.l2[row]) <= 1e-3, fast.variants[row]


@pytest.mark.parametrize("gap", [20, 100, 200])
def test_logit_gaps(gap):
    """The heaviest key by a gap of e^gap: finite, equal numbers, and the others' weights may vanish altogether."""
    model, step, record = planted_layer({3: float(gap)}, method=RERUN)
    fast, slow, exact = (measured(model, step, record, method) for method in (Method(), RERUN, DOUBLE))
    for row, variant in enumerate(fast.variants):
        assert torch.tensor(fast.l2[row]).isfinite().all()
        assert fast.l2[row][3] > 1e-3
        assert relative_error(fast.l2[row], slow.l2[row]) <= 1e-3, variant
        assert relative_error(fast.l2[row], exact.l2[row]) <= 1e-3, variant


LADDER = {position: -10.0 * position for position in range(1, 5)} | {6: math.log(1e-20)}


def plain_differences(record):
    """o_j - o (head, position, d_v) and o (head, d_v), in float64 by the formula alone."""
    weights, value = weights_of(record), record.attention[0][0].value[0].double()
    value = value.repeat_interleave(len(weights) // len(value), 0)
    output = weights[:, None] @ value
    return (weights / (1 - weights))[..., None] * (output - value), output[:, 0]


def behind_norm(norm, base, moved):
    """What an RMS norm makes of differences `moved` (row, d_model) from `base` (d_model,): if tiny, by derivative."""

    def through(x):
        return x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt() * norm.weight.double()

    small = moved.norm(dim=-1, keepdim=True) < 1e-7 * base.norm()
    linear = torch.stack([torch.func.jvp(through, (base,), (row,))[1] for row in moved])
    return torch.where(small, linear, through(base + moved) - through(base))


@pytest.mark.parametrize("name", ["llama", "olmo2"])
def test_heads_and_attention_keep_their_digits(name):
    """Down to a weight of 1e-20, within 1e-4 of float64: through a plain projection, and through a norm behind it."""
    model, step, record = planted_layer(LADDER, name=name)
    assert weights_of(record)[:, 6].log10() == pytest.approx(-20, abs=0.5)
    found = measured(model, step, record)
    difference, output = plain_differences(record)
    exact = Separation.of([(output, difference.transpose(0, 1))]).l2
    for head, l2 in enumerate(exact):
        row = found.variants.index(f"Head_{head}")
        for position in LADDER:
            assert found.l2[row][position] == pytest.approx(float(l2[position]), rel=1e-4)
    projection = record.parts.projection.weight.double()
    moved = difference.transpose(0, 1).flatten(1) @ projection.T
    base = output.flatten() @ projection.T + record.parts.projection.bias.double()
    if name == "olmo2":
        moved = behind_norm(record.parts.layer.post_attention_layernorm, base, moved)
    for position in LADDER:
        got = found.l2[found.variants.index("Attn")][position]
        assert got == pytest.approx(float(moved[position].norm()), rel=1e-4), position


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "olmo2"])
def test_noise_floor_of_full(name):
    """Above 0, and within a factor of 10 of Full's largest error on keys of weights from 1e-4 down to 1e-20."""
    ladder = {position: -9.0 - 2.3 * position for position in range(1, 17)} | {18: math.log(1e-20)}
    for layer in range(3):
        model, step, record = planted_layer(ladder, length=24, layer=layer, name=name)
        found = measured(model, step, record)
        with zoo.true_float64():
            exact = measured(model, step, record, DOUBLE)
        error = max(abs(float(found.l2[0][p]) - float(exact.l2[0][p])) for p in ladder)
        assert 0.1 <= found.noise_floor_l2[0] / error <= 10, (layer, found.noise_floor_l2[0], error)


@pytest.fixture
def tf32():
    """As a caller sets it: products in TF32, beside the convolutions that take it by themselves."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def tf32_state():
    return [getattr(place, name) for place, name, _ in rounding_settings()]


def test_tf32_is_off_in_every_pass_and_as_it_was_while_the_caller_is_at_work(tf32):
    """Also where two measurements take turns and end in the order in which they began."""
    models, before, seen = [zoo.build("llama") for _ in range(2)], tf32_state(), []
    for model in models:
        model.model.layers[0].register_forward_hook(lambda *_: seen.append(tf32_state()))
    runs = [
        measured_layers(model, measurable_parts(model)[0], ModelInputs(zoo.tokens(9).tolist(), 2)) for model in models
    ]
    for _ in zip(*runs):
        assert tf32_state() == before
    assert len(seen) >= 4 and not any({"tf32", True} & set(state) for state in seen)
    assert tf32_state() == before and torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32


def test_tf32_is_off_in_the_vision_encoder(tf32):
    model, seen = vision_zoo.build("qwen3_vl"), []
    for module in (model.model.visual.patch_embed, model.model.visual.blocks[0].mlp):
        module.register_forward_hook(lambda *_: seen.append(tf32_state()))
    before = tf32_state()
    blocks(model, GRIDS[1], 7)
    assert len(seen) > 3 and not any({"tf32", True} & set(state) for state in seen) and tf32_state() == before


def test_before_torch_2_9_the_older_switches_serve(monkeypatch):
    """There `cudnn.conv` is not there to be asked."""
    monkeypatch.delattr(type(torch.backends.cudnn), "conv")
    assert [name for _, name, _ in rounding_settings()] == ["allow_tf32", "allow_tf32"]
