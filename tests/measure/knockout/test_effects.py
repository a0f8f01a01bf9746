"""Knock-outs by rows through the model, against the independent implementation; readings; noise floors."""

import numpy as np
import pytest
import torch
import zoo
from knockout_oracle import knocked_out

from mask_impact.base.errors import RequestError, RunError
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import window
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.knockout.cells import strongest_cells
from mask_impact.measure.knockout.readings import Baseline
from mask_impact.measure.step import Method

FLOAT32, FLOAT64 = 1e-4, 1e-9  # of the largest |logit|
IDS = zoo.tokens(14).tolist()  # past the windows of 8
READS = [11, 12, 13]
TOKENS = [5, 300, 41]  # that follow the reads; any will do
# Single tokens, one of which is read, a word, scattered sets, all but one position, all that a window of 8 sees.
SETS = KeySets.of([[0], [5], [12], [2, 3, 4], [1, 7, 12], [4, 13], list(range(1, 14)), list(range(4, 14))])
CELLS = [(0, 1, 1), (1, 2, 3), (2, 0, 4), (1, 3, 5)]
ROWS_CANNOT = ("llama4", "gemma4_shared")  # whose attention counts its rows, or takes another layer's keys


def nothing_else(_ids):
    return {}


def effects(model, dtype=torch.float32, method="renormalize", by_rows=True):
    """The largest |logit|, and every effect: `all`; `final` in all layers, in single ones and at an earlier read;
    `heads`."""
    parts, _ = measurable_parts(model)
    layers = len(parts)
    with knockouts(model, parts, IDS, TOKENS, nothing_else, Method(method, dtype=dtype), by_rows) as found:
        largest = float(found.clean.logits.abs().max())
        singles = [window(layer, 1, layers) for layer in range(layers)]
        yield largest, found.all(SETS)
        yield largest, found.final(SETS, 2, [(0, layers - 1), *singles, window(1, 2, layers)], range(len(SETS)))
        yield largest, found.final(SETS, 0, [(0, layers - 1)], [1, 3])
        if by_rows:
            yield largest, found.heads(SETS, 2, CELLS)


def check(model, bound, **options):
    """Every reading against logits of the independent implementation."""
    own = [knocked_out(model, IDS[: read + 1]).double() for read in READS]
    for largest, found in effects(model, **options):
        for row, (cut, read) in enumerate(zip(found.cuts, found.reads)):
            unit = SETS.positions(cut.unit).tolist()
            logits = knocked_out(
                model, IDS[: READS[read] + 1], cut.kind, unit, range(cut.first, cut.last + 1), cut.head
            ).double()
            token, readings = TOKENS[read], found.readings
            expected = [logits - own[read], logits.log_softmax(-1) - own[read].log_softmax(-1)]
            got = [readings.logit_change[row], readings.logprob_change[row]]
            assert np.isnan(got).tolist() == [bool(one[token].isnan()) for one in expected], cut
            if np.isnan(got).any():
                assert readings.top[row] == -1
                continue
            for one, other in zip(got, expected):
                assert abs(one - float(other[token])) <= bound * largest, (cut, read)
            divergence = float((own[read].softmax(-1) * (own[read].log_softmax(-1) - logits.log_softmax(-1))).sum())
            assert abs(readings.kl_divergence[row] - divergence) <= bound * largest, (cut, read)
            assert float(logits.max() - logits[readings.top[row]]) <= bound * largest


@pytest.mark.parametrize("name", [name for name in (*zoo.ARCHITECTURES, *zoo.EXTRAS) if name not in ROWS_CANNOT])
def test_rows_equal_the_plain_implementation(name):
    check(zoo.build(name), FLOAT32)


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_float64_is_exact(name):
    with zoo.true_float64():
        check(zoo.build(name, torch.float64), FLOAT64, dtype=torch.float64)


@pytest.mark.parametrize("name", ROWS_CANNOT)
def test_rows_that_are_not_the_models_are_refused(name):
    with pytest.raises((RunError, RequestError), match="--method rerun"):
        check(zoo.build(name), FLOAT32)


def counts_its_rows(model):
    """Make a layer's answer depend on how many rows it is called with."""
    branch = model.model.layers[1].mlp
    own = branch.forward
    branch.forward = lambda hidden: own(hidden) * (1 + 0.01 * hidden.shape[1])


def refused():
    return pytest.raises(RunError, match=r"^rows that cut nothing are off by .*: use --method rerun, or .*none$")


def test_rows_that_deviate_are_refused():
    """Before anything is cut, or where they do so only then."""
    model = zoo.build("qwen3")
    parts = parts_of(model)
    counts_its_rows(model)
    with refused(), knockouts(model, parts, IDS, TOKENS, nothing_else, Method(), True):
        pass
    for cut in (
        lambda found: found.all(SETS),
        lambda found: found.final(SETS, 2, [(0, 2)], range(8)),
        lambda found: found.heads(SETS, 2, CELLS),
    ):
        model = zoo.build("qwen3")
        with knockouts(model, parts_of(model), IDS, TOKENS, nothing_else, Method(), True) as found:
            counts_its_rows(model)
            with refused():
                cut(found)


def parts_of(model):
    return measurable_parts(model)[0]


@pytest.mark.parametrize("name", ["llama4", "gemma4_shared", *zoo.HYBRIDS])
def test_the_literal_method_stands_in(name):
    check(zoo.build(name), FLOAT32, method="rerun", by_rows=False)


def test_rows_of_a_bfloat16_model_are_in_float32():
    """What they say lies far nearer to the same weights in float32 than bfloat16 passes do."""
    narrow = zoo.build("qwen3", torch.bfloat16)
    wide = zoo.build("qwen3").to(torch.bfloat16).float()
    by_rows, literal, true = (
        np.concatenate([found.readings.logit_change for _, found in effects(model, method=method, by_rows=rows)][:3])
        for model, method, rows in (
            (narrow, "renormalize", True),
            (narrow, "rerun", False),
            (wide, "renormalize", False),
        )
    )
    assert np.nanmedian(np.abs(by_rows - true)) < np.nanmedian(np.abs(literal - true)) / 2


def test_nothing_cut_is_at_the_noise_floor():
    model = zoo.build("qwen3")
    parts, _ = measurable_parts(model)
    with knockouts(model, parts, IDS, TOKENS, nothing_else, Method(), True) as found:
        nothing = found.all(KeySets.of([[13]]))  # which only the last read loses
        assert nothing.reads.tolist() == [2]
        before = found.final(KeySets.of([[13]]), 0, [(0, 2)], [0])  # a later position is not seen anyway
        for name, floor in found.floors[0].items():
            assert abs(getattr(before.readings, name)[0]) <= floor < 1e-4


def test_cells_are_those_that_move_the_input_most():
    """By hand, from the attention weights and values that the independent implementation sees; position 0 left out."""
    model = zoo.build("gpt2")  # whose projection is no nn.Linear
    llama = zoo.build("llama")
    sets = KeySets.of([position] for position in range(14))
    for one in (model, llama):
        parts, _ = measurable_parts(one)
        with knockouts(one, parts, IDS, TOKENS, nothing_else, Method(), True) as found:
            cells = strongest_cells(found.clean, 2, sets, 10, Method())
            assert len(set(cells)) == 10 and all(unit > 0 for _, _, unit in cells)
            every = [(layer, head, unit) for layer in range(3) for head in range(4) for unit in range(1, 14)]
            assert set(strongest_cells(found.clean, 2, sets, 1000, Method())) == set(every)


def test_readings_by_hand():
    """P = (1/2, 1/4, 1/4) becomes (1/4, 1/2, 1/4): log p(0) falls by log 2, and KL is (log 2)/2 - (log 2)/4."""
    baseline = Baseline(torch.tensor([0.5, 0.25, 0.25]).double().log() + 3, 0)
    found = baseline.read(torch.tensor([[0.25, 0.5, 0.25]]).double().log() + 1)
    assert found.logprob_change == pytest.approx([-np.log(2)]) and found.logit_change == pytest.approx([-np.log(2) - 2])
    assert found.kl_divergence == pytest.approx([np.log(2) / 4]) and found.top.tolist() == [1]
