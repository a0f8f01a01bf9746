"""Identities that hold for every right measurement, checked on each run's first step."""

from __future__ import annotations

import torch
from torch import Tensor

from mask_impact.base.errors import RunError
from mask_impact.base.precision import TOLERANCE
from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.rows.masked_rows import MaskedRows
from mask_impact.sites.hooks import told_of_hooks
from mask_impact.sites.layer_pass import LayerRow
from mask_impact.sites.parts import LayerParts


def check_identities(row: LayerRow, closed: MaskedHeads, rows: MaskedRows, conserved: Tensor) -> None:
    """Hold a measured layer to its identities.

    `rows` is its first chunk, and `conserved` (head, d_v) is the sum of (1 - p_S)(o_S - o) over its sets.

    Raises RunError, naming the layer, if its heads are not the model's own, if its masked heads do not sum as those of
    a renormalised softmax must, or if its output is not its input plus its updates.
    """
    tolerance = TOLERANCE[closed.output.dtype]
    # Some models take the softmax in float32 even in float64.
    own_tolerance = max(TOLERANCE[row.heads.dtype], TOLERANCE[torch.float32])
    conserved_error = conservation_error(closed, conserved)
    _hold(row.parts, "the heads' outputs equal the model's own", own_heads_error(row, closed), own_tolerance)
    _hold(row.parts, "sum_S (1 - p_S)(o_S - o) = sum_k c_k p_k (o - v_k)", conserved_error, tolerance)
    if rows.output is not None:
        error = update_error(row, rows.added["Full"].baseline, rows.output)
        _hold(row.parts, "output = input + attention and MLP updates", error, tolerance)
        if rows.output.dtype == row.output.dtype:
            error = own_output_error(row, rows.output)
            _hold(row.parts, "a row that masks nothing has the model's own output", error, own_tolerance)


def own_heads_error(row: LayerRow, closed: MaskedHeads) -> float:
    """The distance of the closed form's outputs, all heads together, from what the model's attention answered.

    Relative to the length of the latter, at least 0.
    """
    own = row.heads.to(closed.output)
    return float((closed.output - own).norm() / own.norm().clamp_min(torch.finfo(own.dtype).tiny))


def conservation_error(closed: MaskedHeads, conserved: Tensor) -> float:
    """The largest relative error of the sum `conserved` (head, d_v) over the heads, at least 0.

    Where masking a key is undefined there is no such sum, and the error counts as 0.
    """
    return 0.0 if closed.any_undefined else closed.conservation_error(conserved)


def update_error(row: LayerRow, update: Tensor, output: Tensor) -> float:
    """|x + update - output| over |x| + |update|, of the unmasked row."""
    x = row.call.hidden.flatten(0, -2)[-1].to(output)
    scale = x.norm() + update.norm()
    return float((x + update - output).norm() / scale.clamp_min(torch.finfo(scale.dtype).tiny))


def own_output_error(row: LayerRow, output: Tensor) -> float:
    """The distance of the unmasked row's output from the model's own, over the length of that."""
    own = row.output
    return float((output - own).norm() / own.norm().clamp_min(torch.finfo(own.dtype).tiny))


def _hold(parts: LayerParts, identity: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:
        raise RunError(
            f"layer {parts.index}: the identity '{identity}' fails: relative error {error:.1e}, allowed {tolerance:.0e}"
            f"{told_of_hooks(parts.layer)}"
        )
