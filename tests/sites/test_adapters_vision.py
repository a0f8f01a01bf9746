"""Adapters and other modules around a vision encoder's linear modules:
as `rerun` and the independent reference measure them."""

import pytest
import torch
from adapters import AFFINE, DTYPES, ENCODER_LINEARS, OTHERS, adapted, by_dtype, plain_model
from layer_oracle import encoder_table
from measuring import TOLERANCE, measured_twice, other_distances, relative_error, right_or_named

from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.site import MeasuredAt
from mask_impact.sites.vision_encoder import VISION_ENCODER

ENCODERS = ("demo", "qwen3_vl")
CELLS = [(1, 3), (1, 2)]  # rows and columns of two pictures
MEASURED = 1
# By block the modules that are wrapped, each by itself, or all of them.
BEHIND_ATTENTION = {0: ["proj"], 1: ENCODER_LINEARS}
THE_OTHERS = ({0: ["qkv"], 1: ["linear_fc2"]}, {0: ["linear_fc1"]})


def pictures(model):
    """Two pictures of noise as the encoder takes them."""
    config = model.config.vision_config
    patches, numbers = (
        5 * config.spatial_merge_size**2,
        config.in_channels * config.temporal_patch_size * config.patch_size**2,
    )
    pixels = torch.randn(patches, numbers, generator=torch.Generator().manual_seed(0)).to(model.dtype)
    return {
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in CELLS]),
    }


def wrong_blocks(model):
    """As `wrong_numbers`, of the encoder's blocks."""
    shown = pictures(model)
    inputs = ModelInputs([0] * 5, 1, further=lambda _: shown, site=VISION_ENCODER, at=MeasuredAt((MEASURED,), 4))

    def found(parts, name):
        return list(measured_layers(model, parts, inputs, Method(name)))

    pair, lines = measured_twice(lambda: measurable_parts(model, site=VISION_ENCODER)[0], found)
    if lines:
        return lines
    fast, slow = pair
    table = encoder_table(model, **shown, cell=MEASURED)
    assert len(fast) == len(slow) == len(model.model.visual.blocks)
    return [line for pair in zip(fast, slow) for line in other_distances(*pair, table, TOLERANCE[model.dtype])]


@by_dtype
@pytest.mark.parametrize("name", ENCODERS)
def test_the_reference_agrees_where_nothing_is_wrapped(name, dtype, monkeypatch):
    """To 1e-4 whatever the dtype."""
    monkeypatch.setitem(TOLERANCE, dtype, 1e-4)
    assert wrong_blocks(plain_model(name, dtype)) == []


@by_dtype
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", AFFINE)
def test_behind_attention(kind, name, dtype):
    """Around attention's projection, and around all modules at once."""
    assert wrong_blocks(adapted(name, dtype, kind, BEHIND_ATTENTION, encoder=True)) == []


@pytest.mark.parametrize("places", THE_OTHERS, ids=["qkv and linear_fc2", "linear_fc1"])
@pytest.mark.parametrize("kind", AFFINE)
def test_around_the_other_modules(kind, places):
    """One at a time; the models and dtypes have them in turn."""
    number = AFFINE.index(kind) + THE_OTHERS.index(places)
    assert wrong_blocks(adapted(ENCODERS[number % 2], DTYPES[number % 3], kind, places, encoder=True)) == []


@pytest.mark.parametrize("kind", AFFINE)
def test_an_adapter_that_is_left_out_would_be_seen(kind):
    """Full and Attn of a block without the adapter of its projection are off by 5% at least, for a weak one by 2e-3."""
    model, plain = (
        adapted("qwen3_vl", torch.float32, kind, BEHIND_ATTENTION, encoder=True),
        plain_model("qwen3_vl", torch.float32),
    )
    own, without = (encoder_table(one, **pictures(one), cell=MEASURED) for one in (model, plain))
    for variant in ("Full", "Attn"):
        assert relative_error(without[variant, 0].l2, own[variant, 0].l2) >= (2e-3 if kind == "weak" else 0.05), variant
    assert relative_error(without["Head_0", 0].l2, own["Head_0", 0].l2) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("kind", OTHERS)
def test_modules_that_are_not_affine_or_mix_patches(kind, dtype):
    """Measured rightly, or refused by a line that names the block."""
    for modules in [[name] for name in ENCODER_LINEARS]:
        right_or_named(wrong_blocks(adapted("qwen3_vl", dtype, kind, {1: modules}, encoder=True)), "block 1|layer 1")
