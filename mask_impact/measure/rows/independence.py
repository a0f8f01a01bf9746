"""Proof that each row goes through the rest of a layer by itself.

The layer's parts, a wrapper around one, or a caller's hook may mix them.
Rows stand where positions stand in the model: what looks at a position's number, at how many there are, or at the
others, would take them for positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mask_impact.base.errors import RunError
from mask_impact.base.precision import TOLERANCE
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.sites.hooks import told_of_hooks
from mask_impact.sites.parts import LayerParts


def hold(parts: LayerParts, found: Tensor, own: Tensor, what: str, tolerance: float) -> None:
    """Raise RunError, naming the layer, if `found` lies further from `own` than `tolerance` times the length of
    `own`."""
    error = float((found - own).double().norm() / own.double().norm().clamp_min(torch.finfo(torch.float32).tiny))
    if not error <= tolerance:
        raise RunError(
            f"layer {parts.index}: the parts found do not give {what} (relative {error:.1e})"
            f"{told_of_hooks(parts.layer)}"
        )


def check_independent(rows: RowPass, heads: Tensor) -> None:
    """Raise RunError if a row by itself, or rows in another order, come out otherwise; heads (row, head, d_v)."""
    parts, tolerance = rows.parts, TOLERANCE[heads.dtype]
    answers, output = both(rows, heads)
    turned, turned_output = (each.flip(0) for each in both(rows, heads.flip(0)))
    alone, alone_output = both(rows, heads[:1])
    hold(parts, turned, answers, "the same answer of its attention for rows in another order", tolerance)
    hold(parts, turned_output, output, "the same output for rows in another order", tolerance)
    hold(parts, alone, answers[:1], "the same answer of its attention for a row by itself", tolerance)
    hold(parts, alone_output, output[:1], "the same output for a row by itself", tolerance)


def both(rows: RowPass, heads: Tensor) -> tuple[Tensor, Tensor]:
    """What attention, and then the layer, gives for these heads' outputs (row, head, d_v): both (row, d_model)."""
    answers = rows.project(heads)
    return answers, rows.output(answers)[0]
