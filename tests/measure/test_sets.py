"""Sets of keys hidden as one: both methods against the independent implementation, and the closed form's digits."""

from dataclasses import replace

import mpmath
import numpy as np
import oracle
import pytest
import torch
import zoo
from measuring import COSINE, FLOAT32, FLOAT64, PROMPT, STEPS, relative_error

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.closed_form.interaction import head_interactions
from mask_impact.measure.closed_form.sets import leave_sets_out, masked_heads
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.query import QueryView

METHODS = ("renormalize", "rerun")


def sets_of(length):
    """Words, sets that overlap, one key, what lies before a window, all but one key, and all keys."""
    words = [range(first, min(first + size, length)) for first, size in ((0, 1), (1, 3), (4, 2), (6, 5), (11, length))]
    overlapping = [(2, 3, 4), (3, 7, length - 1), (0, 2, length - 2), (5,), (1, 2)]
    return [*map(tuple, words), *overlapping, tuple(range(length - 1)), tuple(range(1, length)), tuple(range(length))]


def measured_sets(model, method, steps=STEPS, sets=sets_of, pairs=None, dtype=torch.float32):
    """Every measured layer, with sets hidden at each step."""
    parts, _ = measurable_parts(model)
    inputs = ModelInputs(zoo.tokens(PROMPT).tolist(), steps, sets=lambda ids: KeySets.of(sets(len(ids))), pairs=pairs)
    return list(measured_layers(model, parts, inputs, Method(method, dtype=dtype)))


def expected_vectors(model, token_ids, sets):
    """{(variant, layer): (1 + set, width)} of the independent implementation, from a fresh pass of these tokens."""
    with torch.no_grad():
        calls = oracle.layer_calls(model, token_ids)
        return {
            (variant, layer): vectors
            for layer, call in calls.items()
            for variant, vectors in oracle.masked_vectors(model, call, [list(positions) for positions in sets]).items()
        }


# Both methods keep the difference from the baseline, to one unit in its last place. Where a sink leaves a head a
# millionth of its output, that is the resolution of the remainder's direction.
RESOLUTION = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}


def remainder(vectors):
    """What each set leaves of the baseline's length, at most 1; 1 where nothing is left: (set,)."""
    share = (vectors[1:].norm(dim=-1) / vectors[0].norm()).clamp_max(1)
    return torch.where(share > 0, share, 1).nan_to_num(1).numpy()


def check_against_the_oracle(model, method, dtype=torch.float32, l2_bound=FLOAT32, cosine_bound=COSINE):
    """Every distance of every step."""
    tables = {}
    for m in measured_sets(model, method, dtype=dtype):
        ids = m.step.token_ids
        if len(ids) not in tables:
            tables[len(ids)] = expected_vectors(model, ids, sets_of(len(ids)))
        for row, variant in enumerate(m.variants):
            l2, cosine = oracle.distances(tables[len(ids)][variant, m.layer])
            assert relative_error(m.l2[row], l2) <= l2_bound, (method, m.step.index, m.layer, variant)
            bound = cosine_bound + RESOLUTION[dtype] / remainder(tables[len(ids)][variant, m.layer])
            assert (np.nan_to_num(np.abs(m.cosine[row] - cosine.numpy())) <= bound).all(), (method, variant)


@pytest.mark.parametrize("name", [*zoo.ARCHITECTURES, *zoo.HYBRIDS, *zoo.EXTRAS])
def test_both_methods_equal_the_plain_implementation(name):
    model = zoo.build(name)
    for method in METHODS:
        check_against_the_oracle(model, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_float64_is_exact(name, method):
    with zoo.true_float64():
        check_against_the_oracle(zoo.build(name, torch.float64), method, torch.float64, FLOAT64, FLOAT64)


def test_sets_of_one_key_are_tokens():
    """The two closed forms agree, whichever order the sets stand in."""
    model = zoo.build("qwen3")
    tokens = measured_sets(model, "renormalize", 1, lambda length: [(position,) for position in range(length)])
    turned = measured_sets(model, "renormalize", 1, lambda length: [(position,) for position in range(length)][::-1])
    for one, other in zip(tokens, turned):
        for row in range(len(one.variants)):
            assert relative_error(other.l2[row, ::-1].copy(), one.l2[row]) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_sets_of_hardly_any_weight_hold_the_identities(method):
    """Where the sets have next to no weight, the rounding of what is subtracted is more than what they move."""
    model = zoo.build("qwen3")
    for layer in model.model.layers:
        layer.self_attn.q_norm.weight.mul_(4)
    found = measured_sets(model, method, 1, lambda length: [(position,) for position in (2, 7)] + [(2, 7)])
    assert len(found) == 3 and all((m.l2 < 1e3).all() for m in found)


# Pairs

PAIRED = [(0, 2), (1, 3), (3, 5), (4, 8)]  # of the sets in sets_of: no two share a position


def interactions_of(vectors, count):
    """The lengths of v_ST - v_S - v_T + v in float64: `vectors` (1 + set + pair, width), the pairs last."""
    one, other = torch.tensor(PAIRED).T
    both = vectors[1 + count :]
    return (both - vectors[1 + one] - vectors[1 + other] + vectors[0]).norm(dim=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss", "granite", "olmo2", "phi", "gpt2", "mixtral"])
def test_pairs_and_their_interaction(name, method):
    """Against the independent implementation, in float64, over two steps."""
    with zoo.true_float64():
        model = zoo.build(name, torch.float64)
        found = measured_sets(model, method, 2, pairs=lambda ids, layers: PAIRED, dtype=torch.float64)
        assert {m.step.index for m in found} == {0, 1}
        for m in found:
            sets = sets_of(len(m.step.token_ids))
            unions = [tuple(sorted({*sets[one], *sets[other]})) for one, other in PAIRED]
            table = expected_vectors(model, m.step.token_ids, [*sets, *unions])
            assert m.l2.shape[1] == m.interaction.shape[1] == len(sets) + len(PAIRED)
            for row, variant in enumerate(m.variants):
                vectors = table[variant, m.layer]
                assert relative_error(m.l2[row], oracle.distances(vectors)[0]) <= FLOAT64
                expected = interactions_of(vectors, len(sets)).numpy()
                bound = 1e-5 * expected + 1e-12 * float(vectors[0].norm())
                got = m.interaction[row, len(sets) :]
                assert (np.isnan(got) == np.isnan(expected)).all() and not np.isnan(got).all()
                assert (np.nan_to_num(np.abs(got - expected)) <= np.nan_to_num(bound)).all(), (m.layer, variant)
                assert np.isnan(m.interaction[row, : len(sets)]).all()


def test_pairs_are_chosen_by_what_the_layers_show():
    """`pairs` gets the step's tokens and every layer's distances of the sets; without any pair nothing is added."""
    seen = []
    model = zoo.build("qwen3")
    choose = lambda ids, layers: seen.append((len(ids), [one.l2.shape[1] for one in layers])) or []
    found = measured_sets(model, "renormalize", 2, pairs=choose)
    assert seen == [(PROMPT, [13] * 3), (PROMPT + 1, [13] * 3)]
    assert all(m.l2.shape[1] == 13 and np.isnan(m.interaction).all() for m in found)


# The closed form's digits


def view(logits, value, sink=None):
    """One query's view: logits (head, key), value (kv_head, key, d_v)."""
    return QueryView(logits, value, sink, torch.ones_like(logits, dtype=torch.bool), 0)


def exact_heads(query, sets):
    """o_S - o of each set in each head, (set, head, d_v), by the definition, in 200 digits."""
    with mpmath.workdps(200):
        found = [[[float(x) for x in head] for head in exact_vectors(query, positions)] for positions in sets]
        return torch.tensor(found, dtype=torch.float64)


def exact_vectors(query, hidden):
    """o_S - o of one set, by head."""
    vectors = []
    for head, logits in enumerate(query.logits.tolist()):
        powers = [mpmath.exp(mpmath.mpf(logit)) for logit in logits]
        sink = 0 if query.sink is None else mpmath.exp(mpmath.mpf(float(query.sink[head])))
        value = query.value[head * len(query.value) // len(query.logits)].tolist()
        vectors.append(difference(powers, sink, value, hidden))
    return vectors


def difference(powers, sink, value, hidden):
    """The head's output without the hidden keys, minus that with them."""

    def output(keys):
        whole = sum(powers[key] for key in keys) + sink
        return [
            sum(powers[key] * mpmath.mpf(value[key][axis]) for key in keys) / whole for axis in range(len(value[0]))
        ]

    every = range(len(powers))
    return [a - b for a, b in zip(output([key for key in every if key not in hidden]), output(every))]


OVERLAPPING = [(0,), (3,), (3, 4), (3, 7), (0, 1, 2), (5, 6), (1, 3, 5, 7), tuple(range(1, 8)), (8,), (2, 8)]


@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("heavy", [(3,), (3, 8)], ids=["one above half", "two above half together"])
@pytest.mark.parametrize("gap", [0, 20, 100, 200])
def test_sets_keep_their_digits(gap, heavy, sink, offset):
    """To 1e-6 of each difference, whatever its size; what float32 cannot hold is 0."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 9, generator=generator)
    logits[:, list(heavy)] += gap
    value = torch.randn(2, 9, 5, generator=generator) + offset
    query = view(logits, value, torch.randn(4, generator=generator) + gap / 2 if sink else None)
    found = leave_sets_out(query, KeySets.of(OVERLAPPING)).differences(torch.arange(len(OVERLAPPING))).double()
    expected = exact_heads(query, OVERLAPPING)
    error, length = (found - expected).norm(dim=-1), expected.norm(dim=-1)
    held = length > 1e-36
    assert (error[held] <= 1e-6 * length[held]).all() and (found[~held].abs() < 1e-35).all()


@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("gap", [0, 20, 100, 200])
def test_interactions_keep_their_digits(gap, sink):
    """Of disjoint sets, light and heavy, to 1e-5 of each interaction."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 9, generator=generator)
    logits[:2, 3] += gap
    logits[2, [0, 8]] += gap
    query = view(logits.double(), torch.randn(2, 9, 5, generator=generator).double() + 100, SINK if sink else None)
    sets = [(0,), (3, 4), (1, 2), (8,), (5, 6, 7)]
    pairs = [(one, other) for one in range(5) for other in range(one + 1, 5)]
    found = head_interactions(query, PairedSets.of(KeySets.of(sets), pairs))
    expected = exact_interactions(query, sets, pairs)
    length = expected.norm(dim=-1)
    held = length > 1e-300
    assert ((found - expected).norm(dim=-1)[held] <= 1e-5 * length[held]).all() and held.sum() > 20


SINK = torch.tensor([0.3, -1.0, 2.0, 0.0]).double()


def exact_interactions(query, sets, pairs):
    """(o_ST - o) - (o_S - o) - (o_T - o), (pair, head, d_v), in 200 digits."""
    with mpmath.workdps(200):
        found = []
        for one, other in pairs:
            hidden = [
                exact_vectors(query, positions) for positions in (sets[one] + sets[other], sets[one], sets[other])
            ]
            found.append([[float(a - b - c) for a, b, c in zip(*head)] for head in zip(*hidden)])
        return torch.tensor(found, dtype=torch.float64)


def test_three_keys_by_hand():
    """Weights 1/6, 1/3, 1/2 on the values 6, 0, 12: o is 7, without key 0 it is 36/5, without key 1 it is 21/2, without
    both it is 12; so the interaction is 12 - 36/5 - 21/2 + 7 = 13/10."""
    query = view(torch.tensor([[1.0, 2.0, 3.0]]).double().log(), torch.tensor([[[6.0], [0.0], [12.0]]]).double())
    sets = KeySets.of([(0,), (1,), (0, 1)])
    closed = leave_sets_out(query, sets)
    assert closed.output.item() == pytest.approx(7)
    assert closed.differences(torch.arange(3)).flatten().tolist() == pytest.approx([1 / 5, 7 / 2, 5])
    paired = PairedSets.of(sets, [(0, 1)])
    assert head_interactions(query, paired).item() == pytest.approx(13 / 10)


def test_a_layer_that_is_linear_in_its_heads_carries_their_interaction_on():
    """With an MLP that answers nothing, Full's and Attn's interaction are that of the heads, projected."""
    model = zoo.build("llama")
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.zero_()
        if layer.mlp.down_proj.bias is not None:
            layer.mlp.down_proj.bias.zero_()
    for m in measured_sets(model, "renormalize", 1, pairs=lambda ids, layers: PAIRED):
        full, attention = (m.interaction[m.variants.index(name), -len(PAIRED) :] for name in ("Full", "Attn"))
        assert (attention > 0).all() and full == pytest.approx(attention, rel=1e-5)


def test_a_set_without_a_visible_key_is_zero_and_one_of_all_keys_undefined():
    query = view(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4, 3))
    closed = masked_heads(replace(query, first_key=6), KeySets.of([(0, 5), (6, 7), (5, 6, 7, 8, 9)]))
    assert closed.seen.tolist() == [1, 2] and closed.undefined.tolist() == [False, False, True]
    assert (closed.differences(torch.tensor([2])) == 0).all()
