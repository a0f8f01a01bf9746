"""The default method: one set of attention weights gives all masked heads, one batch of rows the rest of the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.noise_floor import CONTROLS, one_ulp
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.measure.rows.independence import check_independent
from mask_impact.measure.rows.masked_rows import MaskedRows, Moved
from mask_impact.measure.rows.through_layer import RowPass, added_together
from mask_impact.sites.interventions import without_bias


def renormalized(
    rows: RowPass, closed: MaskedHeads, variants: tuple[str, ...], seed: int, budget: RowBudget
) -> Iterator[MaskedRows]:
    """Masked rows of one layer, chunk by chunk: of the sets that can be seen.

    The first chunk ends in the control rows, drawn by `seed`.
    """
    for number, chunk in enumerate(closed.seen.split(budget.rows(rows.parts, closed.output.dtype))):
        heads = head_rows(closed, chunk, seed if number == 0 else None)
        if rows.parts.hooked:  # by a caller, who may look at positions
            check_independent(rows, torch.cat([heads[:1], heads[0] + heads[1:]]))
        yield behind_heads(rows, heads, chunk, variants)


def head_rows(closed: MaskedHeads, sets: Tensor, seed: int | None, out: Tensor | None = None) -> Tensor:
    """The heads' output and its differences for these sets, (1 + row, head, d_v); with a seed, control rows after them.

    `out` is filled if given.
    """
    if out is None:
        out = closed.output.new_empty(row_count(sets, seed), *closed.output.shape)
    out[0] = closed.output
    closed.differences(sets, out=out[1 : 1 + len(sets)])
    if seed is not None:
        out[1 + len(sets) :] = one_ulp(closed.output, seed)
    return out


def row_count(sets: Tensor, seed: int | None) -> int:
    """How many rows `head_rows` makes of these sets."""
    return 1 + len(sets) + CONTROLS * (seed is not None)


def behind_heads(rows: RowPass, heads: Tensor, sets: Tensor, variants: tuple[str, ...]) -> MaskedRows:
    """Carry the heads' output and differences from it, (1 + row, head, d_v), through the rest of the layer."""
    added, output = {}, None
    if "attn" in variants or "full" in variants:
        module_rows, moved = projected(rows, heads)
    if "full" in variants:
        added["Full"], output = full_difference(rows, module_rows, moved)
    if "attn" in variants:
        added["Attn"] = attention_difference(rows, heads, module_rows[:1], moved)
    return MaskedRows(sets, Moved(heads[0], heads[1:]), added, output)


def projected(rows: RowPass, heads: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the attention module answers for the baseline and each masked row, (1 + row, d_model).

    `heads` (1 + row, head, d_v) are the heads' output and its differences. Beside the answers, where all that stands
    between is linear, their difference (row, d_model): it is projected by itself and keeps its digits. None elsewhere.
    """
    if not rows.parts.projects_linearly:
        return rows.project(torch.cat([heads[:1], heads[0] + heads[1:]])), None
    with without_bias(rows.parts.projection):
        answers = rows.project(heads)
    baseline = answers[0] + rows.project(torch.zeros_like(heads[:1]))[0] if rows.parts.biased else answers[0]
    return on_the_baseline(answers, baseline), answers[1:]


def on_the_baseline(answers: Tensor, baseline: Tensor) -> Tensor:
    """The baseline (d,) and, below it, its sum with each difference: `answers` (1 + row, d) but for its first row."""
    rows = answers + baseline
    rows[0] = baseline
    return rows


def full_difference(rows: RowPass, module_rows: Tensor, moved: Tensor | None) -> tuple[Moved, Tensor]:
    """The layer's update, and its unmasked output (d_model,).

    Where all is added as answered, attention's own difference `moved` is kept and only the branches' are subtracted.
    """
    if moved is None or not rows.parts.as_answered:
        updates, outputs = rows.update(module_rows)
        return Moved(updates[0], updates[1:] - updates[0]), outputs[0]
    outputs, answers = rows.output(module_rows)
    branches = added_together(answers.values(), module_rows).expand(len(module_rows), -1)
    return Moved(module_rows[0] + branches[0], (branches[1:] - branches[0]).add_(moved)), outputs[0]


def attention_difference(rows: RowPass, heads: Tensor, baseline: Tensor, moved: Tensor | None) -> Moved:
    """What attention adds to the residual stream; `baseline` (1, d_model) and `moved` (row, d_model) are its module's
    answer and the differences of that, heads (1 + row, head, d_v)."""
    if moved is None:
        difference = precise_difference(lambda each: rows.attention_added(rows.project(each)), heads[:1], heads[1:])
    elif rows.parts.linear:
        difference = rows.attention_added(moved)
    else:
        difference = precise_difference(rows.attention_added, baseline, moved)
    return Moved(rows.attention_added(baseline)[0], difference)


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
