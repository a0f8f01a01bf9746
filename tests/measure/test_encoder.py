"""The vision encoder: both methods against the plain implementation,
sets of keys that leave a softmax, and what is checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import vision_zoo
from encoder_oracle import encoder_oracle
from measuring import relative_error
from measuring_encoder import GRIDS, SIZE, blocks, cells, cells_of, encoder_parts, fed

from mask_impact.base.errors import RequestError, RunError
from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure import check_on_load, loop
from mask_impact.measure.closed_form.sets import leave_sets_out, masked_heads
from mask_impact.measure.closed_form.single_keys import leave_one_out
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.measure.step import Method
from mask_impact.sites.finding import find_layers
from mask_impact.sites.query import QueryView
from mask_impact.sites.vision_encoder import sample_pictures, vision_encoder

METHODS = [Method(), Method("rerun")]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("grids", GRIDS, ids=["one picture", "two pictures"])
@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_both_methods_equal_the_plain_implementation(name, grids, method):
    model = vision_zoo.build(name)
    pictures = sample_pictures(vision_encoder(model), grids)
    for cell in (0, 7, 14, cells_of(grids) - 1):
        expected = encoder_oracle(model, **pictures, cell=cell)
        found = blocks(model, grids, cell, method=method)
        assert len(found) == 2 and found[0].variants == ["Full", "Attn", "Head_0", "Head_1"]
        for block in found:
            for row, variant in enumerate(block.variants):
                l2, cosine = expected[variant, block.layer]
                assert relative_error(block.l2[row], l2) <= 1e-4, (cell, block.layer, variant)
                assert np.abs(block.cosine[row] - cosine.numpy()).max() <= 1e-5
                assert block.l2[row, cell] > 0  # the measured cell is masked in its turn too


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_with_eager_attention_too(method):
    model = vision_zoo.build("qwen3_vl")
    model.set_attn_implementation("eager")
    for block, own in zip(
        blocks(model, GRIDS[1], 20, method=method), blocks(vision_zoo.build("qwen3_vl"), GRIDS[1], 20)
    ):
        assert all(relative_error(block.l2[row], own.l2[row]) <= 1e-4 for row in range(4))
    assert model.config.vision_config._attn_implementation == "eager"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_in_float64_to_many_more_digits(method):
    model = vision_zoo.build("qwen3_vl").double()
    pictures = sample_pictures(vision_encoder(model), GRIDS[1])
    expected = encoder_oracle(model, **pictures, cell=17)
    for block in blocks(model, GRIDS[1], 17, method=method):
        assert block.l2.dtype == np.float64
        for row, variant in enumerate(block.variants):
            # The model takes its rotary embedding in float32 whatever its own numbers are.
            assert relative_error(block.l2[row], expected[variant, block.layer][0]) <= 1e-6
    fast, slow = (blocks(model, GRIDS[1], 17, method=one) for one in METHODS)
    assert all(relative_error(a.l2[row], b.l2[row]) <= 1e-9 for a, b in zip(fast, slow) for row in range(4))


def test_another_pictures_cells_are_not_seen():
    for cell, own in ((3, slice(0, 15)), (20, slice(15, 29))):
        for method in METHODS:
            for block in blocks(vision_zoo.build("qwen3_vl"), GRIDS[1], cell, method=method):
                seen = np.zeros(29, bool)
                seen[own] = True
                assert (
                    (block.l2[:, ~seen] == 0).all()
                    and (block.cosine[:, ~seen] == 0).all()
                    and (block.l2[:, seen] > 0).all()
                )


def test_two_pictures_are_measured_like_each_alone():
    model = vision_zoo.build("qwen3_vl")
    both = sample_pictures(vision_encoder(model), GRIDS[1])
    second = {"pixel_values": both["pixel_values"][60:], "image_grid_thw": both["image_grid_thw"][1:]}
    alone = cells([0] * 14, second, (5,))
    for one, two in zip(measured_layers(model, encoder_parts(model), alone, Method()), blocks(model, GRIDS[1], 20)):
        assert np.allclose(one.l2, two.l2[:, 15:], rtol=1e-4, atol=1e-6)


def test_all_is_the_mean_over_the_cells_of_the_same_picture():
    model = vision_zoo.build("qwen3_vl")
    single = [blocks(model, GRIDS[1], cell) for cell in range(29)]
    for index, block in enumerate(blocks(model, GRIDS[1])):
        for kind in ("l2", "cosine"):
            tables = np.stack([getattr(one[index], kind) for one in single])
            assert np.allclose(getattr(block, kind)[:, :15], tables[:15, :, :15].mean(0), rtol=1e-5)
            assert np.allclose(getattr(block, kind)[:, 15:], tables[15:, :, 15:].mean(0), rtol=1e-5)
        for kind in ("baseline_norm", "noise_floor_l2", "noise_floor_cosine"):
            assert np.allclose(
                getattr(block, kind), np.mean([getattr(one[index], kind) for one in single], 0), rtol=1e-5
            )


def test_a_picture_of_one_cell_leaves_nothing_when_it_is_masked():
    model = vision_zoo.build("qwen3_vl")
    for method in METHODS:
        for block in blocks(model, [(1, 1), (1, 2)], 0, method=method):
            assert (
                np.isnan(block.l2[:, 0]).all()
                and (block.l2[:, 1:] == 0).all()
                and np.isfinite(block.baseline_norm).all()
            )
    for block in blocks(model, [(1, 1), (1, 2)]):
        assert np.isnan(block.l2[:, 0]).all() and (block.l2[:, 1:] > 0).all()


def test_some_blocks_and_variants_alone():
    model = vision_zoo.build("qwen3_vl")
    whole, parts = blocks(model, GRIDS[0], 4), encoder_parts(model)
    for variants, rows in ((("full",), [0]), (("attn",), [1]), (("heads",), [2, 3]), (("full", "heads"), [0, 2, 3])):
        [one] = measured_layers(model, parts[1:], fed(model, GRIDS[0], 4), Method(variants=variants))
        assert one.layer == 1 and one.variants == [whole[1].variants[row] for row in rows]
        assert np.allclose(one.l2, whole[1].l2[rows], rtol=1e-5)


def test_chunks_of_rows_give_the_same():
    model, few = vision_zoo.build("qwen3_vl"), RowBudget(8 * 96 * 4)
    whole = blocks(model, GRIDS[1], 20)
    assert few.rows(encoder_parts(model)[0], torch.float32) == 8
    for one, two in zip(whole, blocks(model, GRIDS[1], 20, method=Method(rows=few))):
        assert np.allclose(one.l2, two.l2, rtol=1e-4, atol=1e-6)


def test_a_bfloat16_encoder_is_measured_in_float32():
    model = vision_zoo.build("qwen3_vl", torch.bfloat16)
    exact = blocks(model, GRIDS[0], 4, method=Method(dtype=torch.float64))
    for found, own, want in zip(
        blocks(model, GRIDS[0], 4), blocks(model, GRIDS[0], 4, method=Method(dtype=None)), exact
    ):
        for row in range(4):
            assert (
                relative_error(found.l2[row], want.l2[row]) <= 1e-4 < 1e-3 < relative_error(own.l2[row], want.l2[row])
            )
    assert all(weight.dtype == torch.bfloat16 for weight in model.parameters())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_noise_floor_lies_below_the_distances(method):
    for block in blocks(vision_zoo.build("qwen3_vl"), GRIDS[0], 4, method=method):
        for floor, distances in ((block.noise_floor_l2, block.l2), (block.noise_floor_cosine, block.cosine)):
            assert (floor > 0).all() and (floor < 1e-2 * distances.min(1)).all()


# Sets of keys that leave a softmax

KEYS = KeySets.alone(np.arange(24))
CELLS = KeySets.alone(np.arange(24 // SIZE)).spread(SIZE)


def query_with(logits, kv_heads=2):
    """A final query of four heads with these logits, on random values."""
    value = torch.randn(kv_heads, logits.shape[1], 8, generator=torch.Generator().manual_seed(3))
    return QueryView(logits, value, None, torch.ones_like(logits, dtype=torch.bool), 0)


def plain_sets(query, size):
    """o_S - o (set, head, d_v) by a softmax without the set, in float64."""
    logits, value = (
        query.logits.double(),
        query.value.double().repeat_interleave(len(query.logits) // len(query.value), 0),
    )
    output = torch.einsum("hk,hkd->hd", logits.softmax(-1), value)
    found = []
    for first in range(0, logits.shape[1], size):
        without = logits.clone()
        without[:, first : first + size] = -torch.inf
        found.append(torch.einsum("hk,hkd->hd", without.softmax(-1), value) - output)
    return torch.stack(found)


@pytest.mark.parametrize("gap", [0, 5, 20, 100, 200])
def test_sets_with_a_sink_inside_and_outside(gap):
    """To 1e-5 of each difference, however small, but for those whose weights leave float32's range."""
    logits = torch.randn(4, 24, generator=torch.Generator().manual_seed(1))
    logits[:, 9] += gap  # in set 2
    query = query_with(logits)
    closed, expected = masked_heads(query, CELLS), plain_sets(query, SIZE)
    found = closed.differences(torch.arange(6))
    inside, outside = found[2], found[[0, 1, 3, 4, 5]]
    assert (inside - expected[2]).norm() <= 1e-5 * expected[2].norm() and inside.norm() > 0.1
    want = expected[[0, 1, 3, 4, 5]]
    if gap <= 20:  # beyond, the plain subtraction has no digits left in float64
        assert ((outside - want).norm(dim=-1) <= (1e-5 if gap < 20 else 1e-4) * want.norm(dim=-1)).all()
    assert outside.isfinite().all() and outside.norm() <= 4 * np.exp(-gap) * 24 * 8
    assert closed.conservation_error(closed.conservation(torch.arange(6), found)) <= 1e-6


def test_two_heavy_keys_in_one_set_count_together():
    """Neither has half the weight, the set has nearly all of it."""
    logits = torch.zeros(4, 24)
    logits[:, [8, 10]] = 40.0
    query = query_with(logits)
    found, expected = masked_heads(query, CELLS).differences(torch.arange(6)), plain_sets(query, SIZE)
    assert (found[2] - expected[2]).norm() <= 1e-5 * expected[2].norm() and found[2].norm() > 0.1


def test_sets_in_any_order_and_number():
    query = query_with(torch.randn(4, 24, generator=torch.Generator().manual_seed(1)))
    closed = masked_heads(query, CELLS)
    every = closed.differences(torch.arange(6))
    assert torch.allclose(closed.differences(torch.tensor([5, 0, 2])), every[[5, 0, 2]], rtol=1e-6, atol=0)


def test_a_set_of_one_is_a_key():
    query = query_with(torch.randn(4, 24, generator=torch.Generator().manual_seed(1)))
    for closed in (leave_one_out(query, KEYS), leave_sets_out(query, KEYS)):
        assert torch.allclose(closed.differences(torch.arange(24)).double(), plain_sets(query, 1), atol=1e-6)


# A planted effect, and the check on load


def test_a_planted_reader_is_found():
    """Block 1's first head made to read one patch far more than others:
    its cell is the brightest there, and not in block 0."""
    model, cell, reader = vision_zoo.build("qwen3_vl"), 11, 4
    block = vision_encoder(model).blocks[1]

    def plant(_module, _args, output):
        if len(output) != 15 * SIZE:  # the check on load has other pictures
            return
        key = output.unflatten(-1, (3, 2, -1))[:, 1, 0]
        query = output.unflatten(-1, (3, 2, -1))[reader * SIZE : (reader + 1) * SIZE, 0, 0]
        key[cell * SIZE + 2] = 6 * query.mean(0)

    def head(block):
        return int(block.l2[block.variants.index("Head_0")].argmax())

    before = [head(block) for block in blocks(model, GRIDS[0], reader)]
    block.attn.qkv.register_forward_hook(plant)
    after = [head(block) for block in blocks(model, GRIDS[0], reader)]
    assert after[1] == cell != before[1] and after[0] == before[0]


def test_the_encoder_is_left_as_it_was():
    model = vision_zoo.build("qwen3_vl")
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    named = [
        config._attn_implementation for config in (model.config, model.config.text_config, model.config.vision_config)
    ]
    for _ in measured_layers(model, encoder_parts(model), fed(model, GRIDS[0], 3), Method()):
        assert model.config.text_config._attn_implementation == named[1]  # the decoder is not attached
    assert named == [
        config._attn_implementation for config in (model.config, model.config.text_config, model.config.vision_config)
    ]
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_blocks_that_do_not_follow_each_other_are_found_on_load():
    model = vision_zoo.build("qwen3_vl")
    own = vision_encoder(model)
    own.blocks[1].register_forward_pre_hook(lambda _, args: None if encoder_attached(own) else (args[0] * 1.5,))
    with pytest.raises(RunError, match="watching the model changes its last block's output"):
        encoder_parts(model)


def encoder_attached(own):
    return own.config._attn_implementation.startswith("mask_impact")


def test_a_mask_that_does_not_bite_is_found_on_load(monkeypatch):
    model = vision_zoo.build("qwen3_vl")
    monkeypatch.setattr(
        loop,
        "distances_at",
        lambda *given, own=loop.distances_at: dataclasses.replace(found := own(*given), l2=np.zeros_like(found.l2)),
    )
    with pytest.raises(RunError, match="block 0: masking changes no distance"):
        encoder_parts(model)


def test_a_masked_key_that_keeps_weight_is_found_on_load(monkeypatch):
    monkeypatch.setattr(
        check_on_load, "own_weights", lambda call, mask: torch.full((2, call.key.shape[2]), 1 / call.key.shape[2])
    )
    with pytest.raises(RunError, match="layer 0: masking key 0 leaves it a weight of"):
        encoder_parts(vision_zoo.build("qwen3_vl"))


def test_an_attention_that_hides_its_masks_is_refused():
    model = vision_zoo.build("qwen3_vl")
    model.config.vision_config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(RequestError, match="'flash_attention_2' cannot be measured"):
        encoder_parts(model)


def test_a_block_whose_heads_are_not_the_models_own_fails_its_identity(monkeypatch):
    model = vision_zoo.build("qwen3_vl")
    parts = encoder_parts(model)
    wrong = lambda query, sets: masked_heads(dataclasses.replace(query, logits=query.logits * 1.01), sets)
    monkeypatch.setattr(loop, "masked_heads", wrong)
    with pytest.raises(RunError, match="layer 0: the identity 'the heads' outputs equal the model's own'"):
        list(measured_layers(model, parts, fed(model, GRIDS[0], 3), Method()))


def test_the_blocks_are_those_of_the_encoder():
    model = vision_zoo.build("qwen3_vl")
    assert list(find_layers(vision_encoder(model))) == list(model.model.visual.blocks)
    assert [part.layer for part in encoder_parts(model)] == list(model.model.visual.blocks)
