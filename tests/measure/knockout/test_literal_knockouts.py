"""Knock-outs by the plain model with explicit masks, against the independent implementation."""

from itertools import pairwise

import pytest
import torch
import vision_zoo
import zoo
from asking import planned
from knockout_oracle import knocked_out

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import Cut, window
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.knockout.literal import literal_logits

FLOAT32, FLOAT64 = 1e-4, 1e-9  # of the largest |logit| at the reads
IDS = zoo.tokens(25).tolist()  # the last token is alone in a chunk of Llama 4
READS = [20, 22, 24]
# Single tokens, a word, a scattered set, and one with two of the reads in it.
SETS = KeySets.of([[5], [21], [17, 18, 19], [2, 9, 15, 19], [18, 20, 24]])
WORD, WITH_FINAL = 2, 4


def nothing_else(_ids):
    return {}


def cuts_of(parts, layers):
    """No cut; `all` of every set; `final` in windows of 1 and of 5, which are all layers here; and `heads`."""
    middle, heads = parts[len(parts) // 2].index, parts[0].heads
    yield from [None, *(Cut("all", unit, 0, layers - 1) for unit in range(len(SETS)))]
    yield Cut("final", WORD, *window(middle, 5, layers))
    for unit in (WORD, WITH_FINAL):
        yield Cut("final", unit, *window(middle, 1, layers))
        yield Cut("heads", unit, middle, middle, unit % heads)


def error(model, parts, ids, sets, cut, reads=READS, further=nothing_else):
    """The largest difference to the independent implementation over the largest |logit|; NaN stands in the same
    places."""
    found = literal_logits(model, parts, ids, sets, cut, reads, further(ids))
    asked = (
        () if cut is None else (cut.kind, sets.positions(cut.unit).tolist(), range(cut.first, cut.last + 1), cut.head)
    )
    expected = [knocked_out(model, ids[: read + 1], *asked, **further(ids[: read + 1])) for read in reads]
    return relative(found, torch.stack(expected))


def relative(found, expected):
    assert torch.equal(found.isnan(), expected.isnan())
    return float((found - expected).nan_to_num().abs().max() / expected.nan_to_num().abs().max().clamp_min(1e-30))


def errors(model):
    """Every cut with its error, `final` and `heads` read at the last token alone."""
    parts, skipped = measurable_parts(model)
    for cut in cuts_of(parts, len(parts) + len(skipped)):
        alone = cut is not None and cut.kind != "all"
        yield cut, error(model, parts, IDS, SETS, cut, READS[-1:] if alone else READS)


def plain(model, ids=IDS, reads=READS, **further):
    return model(torch.tensor([ids]), use_cache=False, **further).logits[0, reads]


@pytest.mark.parametrize("name", [*zoo.ARCHITECTURES, *zoo.HYBRIDS, *zoo.EXTRAS])
def test_every_cut_equals_the_plain_implementation(name):
    model = zoo.build(name)
    assert relative(knocked_out(model, IDS), plain(model)[-1]) <= FLOAT32
    for cut, off in errors(model):
        assert off <= FLOAT32, (cut, off)


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_float64_is_exact(name):
    with zoo.true_float64():
        for cut, off in errors(zoo.build(name, torch.float64)):
            assert off <= FLOAT64, (cut, off)


@pytest.mark.parametrize("name", ["llama", "mistral", "llama4"])
def test_additive_and_boolean_masks_and_none(name):
    """The masks of both implementations, of a sequence beyond the window and of one within it."""
    model = zoo.build(name)
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        parts, _ = measurable_parts(model)
        for ids, sets, unit, reads in ((IDS, SETS, WITH_FINAL, READS), (IDS[:7], KeySets.of([[1, 4]]), 0, [4, 6])):
            off = error(model, parts, ids, sets, Cut("all", unit, 0, 2), reads)
            assert off <= FLOAT32, (implementation, len(ids), off)


def test_windows_in_a_deep_model():
    model = zoo.build("llama", num_hidden_layers=10)
    parts, _ = measurable_parts(model)
    found = []
    for size in (1, 5, 9, 10):
        cut = Cut("final", WORD, *window(5, size, 10))
        assert error(model, parts, IDS, SETS, cut, READS[-1:]) <= FLOAT32, cut
        found.append(literal_logits(model, parts, IDS, SETS, cut, READS[-1:], {}))
    assert min(relative(one, other) for one, other in pairwise(found)) > 1e-3


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_what_nobody_reads_might_as_well_not_be_there(name):
    """Positions count only by their distance here: hiding the first four tokens is the text that begins behind them."""
    with zoo.true_float64():
        model = zoo.build(name, torch.float64)
        found = literal_logits(
            model, measurable_parts(model)[0], IDS, KeySets.of([range(4)]), Cut("all", 0, 0, 2), READS, {}
        )
        without = plain(model, IDS[4:], [read - 4 for read in READS])
    assert relative(found, without) <= 1e-6  # the rotary speeds are rounded to float32
    assert relative(found, plain(model)) > 1e-2


def test_final_and_heads_leave_earlier_reads_alone():
    model = zoo.build("qwen3")
    parts, own = measurable_parts(model)[0], plain(model)
    for cut in (Cut("final", WORD, 0, 2), Cut("heads", WORD, 1, 1, 3)):
        found = literal_logits(model, parts, IDS, SETS, cut, READS, {})
        assert relative(found[:2], own[:2]) <= FLOAT32 < 1e-3 < relative(found[2], own[2])


# The last token's whole window of 8, and all tokens.
WINDOW_AND_ALL = KeySets.of([range(17, 25), range(25)])


@pytest.mark.parametrize(
    "name, cut, undefined",
    [
        ("mistral", Cut("final", 0, 1, 1), True),
        ("mistral", Cut("all", 0, 0, 2), True),
        ("olmo3", Cut("final", 0, 2, 2), False),  # the layer without a window
        ("olmo3", Cut("final", 0, 1, 2), True),
        ("llama", Cut("heads", 1, 1, 1, 2), True),
        ("gpt_oss", Cut("heads", 1, 1, 1, 2), False),
        ("gpt_oss", Cut("all", 1, 0, 2), False),
        ("jamba", Cut("final", 1, 0, 0), False),  # no softmax there
        ("jamba", Cut("final", 1, 0, 1), True),
    ],
)
def test_a_read_without_any_key_and_sink_is_undefined(name, cut, undefined):
    """In both implementations of attention; the reads before it are what they would be."""
    model = zoo.build(name)
    for implementation in ["eager"] if name == "gpt_oss" else ["eager", "sdpa"]:
        model.set_attn_implementation(implementation)
        parts, _ = measurable_parts(model)
        assert error(model, parts, IDS, WINDOW_AND_ALL, cut, [24]) <= FLOAT32
        found = literal_logits(model, parts, IDS, WINDOW_AND_ALL, cut, [15, 24], {})
        assert bool(found[1].isnan().all()) == undefined and not found[0].isnan().any()


def test_all_is_undefined_at_every_read_of_a_unit_that_is_everything():
    model = zoo.build("llama")
    found = literal_logits(model, measurable_parts(model)[0], IDS, WINDOW_AND_ALL, Cut("all", 1, 0, 2), READS, {})
    assert found.isnan().all()


def test_half_precision():
    model = zoo.build("llama", torch.bfloat16)
    assert error(model, measurable_parts(model)[0], IDS, SETS, Cut("all", WORD, 0, 2)) <= 0.05


def test_a_cut_that_is_no_mask_is_refused():
    model = zoo.build("llama")
    with pytest.raises(ValueError, match="first_order"):
        literal_logits(model, measurable_parts(model)[0], IDS, SETS, Cut("first_order", 0, 0, 2), READS, {})


@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_pictures(name, tmp_path):
    """Cells of a picture, the whole picture, a word behind it, and the last token."""
    model = vision_zoo.build(name)
    inputs = planned(model, [vision_zoo.picture(tmp_path / "p.png", 40, 24)])
    ids = [*inputs.token_ids, 40, 41]
    cells = [place for place, token in enumerate(ids) if token == model.config.image_token_id]
    last = len(ids) - 1
    sets = KeySets.of([[cells[7]], cells[3:6], cells, [last - 8, last - 7], [cells[0], last]])
    parts, _ = measurable_parts(model)

    def further(tokens):
        model.model.rope_deltas = None
        return inputs.further(tokens, torch.device("cpu"))

    own = plain(model, ids, [last], **further(ids))
    assert relative(literal_logits(model, parts, ids, sets, None, [last], further(ids)), own) <= FLOAT32
    for unit in range(len(sets)):
        reads = [last - 2, last]
        assert error(model, parts, ids, sets, Cut("all", unit, 0, 2), reads, further) <= FLOAT32, unit
        assert error(model, parts, ids, sets, Cut("final", unit, 1, 1), [last], further) <= FLOAT32, unit
        assert error(model, parts, ids, sets, Cut("heads", unit, 1, 1, 3), [last], further) <= FLOAT32, unit
