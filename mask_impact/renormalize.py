"""The default method: one set of attention weights gives all masked heads, one batch of rows the rest of the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mask_impact.leave_one_out import LeaveOneOut
from mask_impact.parts import LayerParts
from mask_impact.rows import CONTROLS, MaskedRows, Vectors, one_ulp
from mask_impact.rowpass import RowPass, without_bias

CHUNK_BYTES = 64 * 2**20  # of the widest activation of a chunk of rows


def renormalized(
    rows: RowPass, closed: LeaveOneOut, keys: Tensor, variants: tuple[str, ...], seed: int
) -> Iterator[MaskedRows]:
    """Masked rows of one layer, chunk by chunk; `keys` (key,) are the indices of the keys that can be seen.

    The first chunk ends in the control rows, drawn by `seed`.
    """
    for number, chunk in enumerate(keys.split(rows_per_chunk(rows.parts, closed.output))):
        difference = closed.differences(chunk)
        if number == 0:
            difference = torch.cat([difference, one_ulp(closed.output, seed)])
        yield behind_heads(rows, closed.output, difference, chunk, variants)


def behind_heads(
    rows: RowPass, output: Tensor, difference: Tensor, keys: Tensor, variants: tuple[str, ...]
) -> MaskedRows:
    """Carry differences (row, head, d_v) from the heads' outputs (head, d_v) through the rest of the layer."""
    attention = attention_moved = full = full_moved = layer_output = None
    if "attn" in variants or "full" in variants:
        module_rows, moved = projected(rows, output, difference)
    if "attn" in variants:
        attention, attention_moved = attention_difference(rows, output, difference, module_rows[:1], moved)
    if "full" in variants:
        updates, outputs = rows.update(module_rows)
        full, full_moved, layer_output = updates[0], updates[1:] - updates[0], outputs[0]
    baseline, moved_by = Vectors(output, attention, full), Vectors(difference, attention_moved, full_moved)
    return MaskedRows(keys, baseline, moved_by, layer_output)


def projected(rows: RowPass, output: Tensor, difference: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the attention module answers for the baseline and each masked row, (1 + row, d_model).

    Beside it, where all that stands between is linear, the masked rows' difference (row, d_model): it is projected by
    itself and keeps its digits. None elsewhere.
    """
    if not (rows.parts.direct or rows.parts.linear):
        return rows.project(torch.cat([output[None], output + difference])), None
    with without_bias(rows.parts.projection):
        baseline, moved = rows.project(torch.cat([output[None], difference])).tensor_split([1])
    bias = getattr(rows.parts.projection, "bias", None)
    baseline = baseline if bias is None else baseline + bias
    return torch.cat([baseline, baseline + moved]), moved


def attention_difference(
    rows: RowPass, output: Tensor, difference: Tensor, baseline: Tensor, moved: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What attention adds to the residual stream (d_model,), and its difference in each masked row (row, d_model)."""
    added = rows.attention_added(baseline)[0]
    if rows.parts.linear:
        return added, rows.attention_added(moved)
    if moved is not None:
        return added, precise_difference(rows.attention_added, baseline, moved)

    def through(heads: Tensor) -> Tensor:
        return rows.attention_added(rows.project(heads))

    return added, precise_difference(through, output[None], difference)


def precise_difference(function: Callable[[Tensor], Tensor], point: Tensor, difference: Tensor) -> Tensor:
    """f(x + e) - f(x) for each row e of `difference`, precise however small e is, for a smooth f that acts row by row.

    A short row is stretched about its middle m = x + e/2 to a length of h |x|, and what comes out is shrunk back:
    (f(m + c e/2) - f(m - c e/2)) / c. The truncation, h^2 / 24, and the rounding, eps / h, balance at
    h = (24 eps)^(1/3): about 1.4e-2 in float32, for an error of about 1e-5. Rows longer than that are not stretched
    (c = 1), which is plain subtraction.
    """
    step = (24 * torch.finfo(point.dtype).eps) ** (1 / 3) * point.norm()
    length = difference.flatten(1).norm(dim=1).view(-1, *[1] * (difference.dim() - 1))
    stretch = torch.where(length > 0, step / length, 1).clamp_min(1)
    ahead = function(point + (1 + stretch) / 2 * difference)
    behind = function(point + (1 - stretch) / 2 * difference)
    return (ahead - behind) / stretch.flatten(1)


def rows_per_chunk(parts: LayerParts, output: Tensor) -> int:
    """How many rows go through the layer at once: its widest activation is held to CHUNK_BYTES."""
    return max(CONTROLS, CHUNK_BYTES // (max(parts.width, output.numel()) * output.element_size()))
