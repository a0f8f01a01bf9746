"""Short ways for tests to measure a model."""

from __future__ import annotations

import torch

from mask_impact.load_check import measurable_parts
from mask_impact.measure import Method, ModelInputs, measured_layers


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
