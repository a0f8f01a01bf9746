"""Short ways for tests to measure a model and to compare what is found."""

from __future__ import annotations

import re

import torch
from layer_oracle import decoder_steps
from oracle import oracle

from mask_impact.base.errors import RequestError, RunError
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs

TOLERANCE = {
    torch.float32: 1e-4,
    torch.bfloat16: 1e-3,
    torch.float16: 1e-3,
}  # of the largest distance, by the model's dtype
PROMPT = 23  # tokens: nearly thrice the windows of 8; the third step, of 25, is alone in a chunk of Llama 4
STEPS = 3
FLOAT32, FLOAT64 = 1e-4, 1e-9  # of the largest distance of the same layer and variant
COSINE = 1e-5  # absolute, of a distance in [0, 2]


def measure(model, ids, steps=1, method="renormalize", **options):
    """Every measured layer by (step, layer)."""
    how = Method(method, **options)
    parts, _ = measurable_parts(model, how)
    return {(m.step.index, m.layer): m for m in measured_layers(model, parts, ModelInputs(ids, steps), how)}


def relative_error(found, expected):
    """The largest difference of distances (position,), over the largest expected one where that is not 0.

    NaN must stand in the same places.
    """
    found, expected = (torch.as_tensor(values, dtype=torch.float64, device="cpu") for values in (found, expected))
    assert torch.equal(found.isnan(), expected.isnan())
    error, scale = (found - expected).nan_to_num().abs().max(), expected.nan_to_num().max()
    return float(error / scale if scale > 0 else error)


def worst_error(measured, reference):
    """The largest relative error of L2, and absolute error of cosine, over variants.

    `reference(m)` gives the oracle's table: (L2, cosine) by (variant, layer).
    """
    l2 = cosine = 0.0
    for m in measured.values():
        table = reference(m)
        for row, variant in enumerate(m.variants):
            expected_l2, expected_cosine = table[variant, m.layer]
            l2 = max(l2, relative_error(m.l2[row], expected_l2))
            error = torch.as_tensor(m.cosine[row]).double() - expected_cosine.cpu()
            cosine = max(cosine, float(error.nan_to_num().abs().max()))
    return l2, cosine


def wrong_numbers(model, ids, steps=1):
    """A line for whatever of every layer's variant the default method gives otherwise than
    `rerun` or the independent reference.

    A model that is refused on load is one line, `refused:
    ` and why; one that stops while it is measured, `stopped: ` and why.
    """

    def found(parts, name):
        return list(measured_layers(model, parts, ModelInputs(ids, steps), Method(name)))

    pair, lines = measured_twice(lambda: measurable_parts(model)[0], found)
    if lines:
        return lines
    fast, slow = pair
    reference = decoder_steps(model, ids, steps)
    assert [(m.step.index, m.layer, m.variants) for m in fast] == [(m.step.index, m.layer, m.variants) for m in slow]
    assert [[*m.step.token_ids, m.step.next_id] for m in fast] == [reference[m.step.index][0] for m in fast]
    for m, by_rerun in zip(fast, slow):
        lines += other_distances(m, by_rerun, reference[m.step.index][1], TOLERANCE[model.dtype])
    return lines


def measured_twice(load, measured):
    """What `measured` gives of the parts that `load` finds by each method,
    or a line where the model is refused or stops."""
    what = "refused"
    try:
        parts = load()
        what = "stopped"
        return [measured(parts, name) for name in ("renormalize", "rerun")], []
    except (RequestError, RunError) as error:
        return None, [f"{what}: {error}"]


def other_distances(measured, by_rerun, table, tolerance):
    """The lines of one measured layer: what is off by more than `tolerance` of the largest,
    and noise floors that are above it."""
    for row, variant in enumerate(measured.variants):
        place = f"step {measured.step.index}, layer {measured.layer}, {variant}"
        for name, expected in (
            ("rerun", lambda kind: getattr(by_rerun, kind)[row]),
            ("the reference", lambda kind: getattr(table[variant, measured.layer], kind)),
        ):
            for kind in ("l2", "cosine", "baseline_norm"):
                error = relative_error(getattr(measured, kind)[row], expected(kind))
                if not error <= tolerance:
                    yield f"{place}: {kind} is off from {name} by {error:.1e}"
        if not measured.noise_floor_l2[row] <= tolerance * measured.l2[row].max():
            floor, largest = measured.noise_floor_l2[row], measured.l2[row].max()
            yield f"{place}: the noise floor is {floor:.1e}, the largest distance {largest:.1e}"


def right_or_named(lines, pattern):
    """Every number is right, or the model is refused on load by one line that matches the pattern."""
    if lines and lines[0].startswith("refused: "):
        assert re.search(pattern, lines[0]) and "\n" not in lines[0], lines[0]
    else:
        assert lines == []


def errors_against_oracle(model, kinds, ids):
    """The worst errors of L2 and cosine, by (method, whether a cache is used)."""
    tables = {}

    def reference(m):
        key = (tuple(m.step.token_ids), m.layer)
        if key not in tables:
            tables[key] = oracle(model, torch.tensor([m.step.token_ids]), layers=[m.layer])
        return tables[key]

    return {
        (method, cached): worst_error(measure(model, ids, STEPS, method, use_cache=cached), reference)
        for method, cached in kinds
    }
