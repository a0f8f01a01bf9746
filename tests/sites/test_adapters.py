"""Adapters and other modules around a decoder's linear modules:
measured as `rerun` and the independent reference measure them."""

import pytest
import torch
import zoo
from adapters import AFFINE, DECODERS, DTYPES, LINEARS, OTHERS, adapted, by_dtype, full_names, plain_model
from layer_oracle import decoder_steps
from measuring import TOLERANCE, relative_error, right_or_named, wrong_numbers

IDS = zoo.tokens(4).tolist()
# By layer the modules that are wrapped. A layer's numbers depend on its own modules and its input alone, so that each
# of these is a module wrapped by itself, or all of them.
BEHIND_ATTENTION = {0: ["o_proj"], 1: ["down_proj"], 2: LINEARS}
THE_OTHERS = ({0: ["q_proj"], 1: ["k_proj"], 2: ["gate_proj"]}, {0: ["up_proj"], 1: ["v_proj"]})


@by_dtype
@pytest.mark.parametrize("name", DECODERS)
def test_the_reference_agrees_where_nothing_is_wrapped(name, dtype, monkeypatch):
    """To 1e-4 whatever the dtype, in the prompt's step and a further one."""
    monkeypatch.setitem(TOLERANCE, dtype, 1e-4)
    assert wrong_numbers(plain_model(name, dtype), zoo.tokens(10).tolist(), 2) == []


@by_dtype
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("kind", AFFINE)
def test_behind_attention(kind, name, dtype):
    """Around the projections whose rows are masked rows, and around all modules at once.

    In float32, where rows join the pass, in a further step too.
    """
    model = adapted(name, dtype, kind, BEHIND_ATTENTION)
    assert wrong_numbers(model, IDS, 2 if dtype == torch.float32 else 1) == []


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("kind", AFFINE)
def test_around_the_other_modules(kind, name):
    """One at a time; the models and dtypes have them in turn."""
    adapter, model = AFFINE.index(kind), DECODERS.index(name)
    assert wrong_numbers(adapted(name, DTYPES[(adapter + model) % 3], kind, THE_OTHERS[model % 2]), IDS) == []


@pytest.mark.parametrize("kind", AFFINE)
def test_an_adapter_that_is_left_out_would_be_seen(kind):
    """Full and Attn of a layer without the adapter of its output projection are off by 5% at least,
    for a weak one by 2e-3."""
    model = adapted("qwen3", torch.float32, kind, BEHIND_ATTENTION)
    plain = plain_model("qwen3", torch.float32)
    [(_, own)], [(_, without)] = decoder_steps(model, IDS), decoder_steps(plain, IDS)
    for variant in ("Full", "Attn"):
        assert relative_error(without[variant, 0].l2, own[variant, 0].l2) >= (2e-3 if kind == "weak" else 0.05), variant
    assert relative_error(without["Head_0", 0].l2, own["Head_0", 0].l2) <= 1e-6


@pytest.mark.parametrize("kind", AFFINE)
def test_adapters_are_where_they_are_wanted(kind):
    model = adapted("demo", torch.float32, kind, BEHIND_ATTENTION)
    plain = plain_model("demo", torch.float32)
    new = dict(model.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    names = full_names(plain, BEHIND_ATTENTION)
    assert len(names) == 9 and all(any(parameter.startswith(f"{name}.") for name in names) for parameter in new)
    assert all(any(parameter.startswith(f"{name}.") for parameter in new) for name in names)
    assert type(model) is type(plain) and not model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["mistral", "gemma2"])
@pytest.mark.parametrize("kind", OTHERS)
def test_modules_that_are_not_affine_or_mix_positions(kind, name, dtype):
    """Measured rightly, or refused by a line that names the layer;
    `q_proj`, `k_proj` and `v_proj` are taken as they answer."""
    assert wrong_numbers(adapted(name, dtype, kind, {0: ["q_proj"], 1: ["k_proj"], 2: ["v_proj"]}), IDS) == []
    for module in ("o_proj", "gate_proj", "up_proj", "down_proj"):
        right_or_named(wrong_numbers(adapted(name, dtype, kind, {1: [module]}), IDS), "layer 1")
