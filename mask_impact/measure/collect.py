"""From masked rows to distances at sequence positions, of one layer at one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from mask_impact.base.errors import RunError
from mask_impact.measure.closed_form import MaskedHeads
from mask_impact.measure.distances import LayerDistances, Separation
from mask_impact.measure.identities import check_identities
from mask_impact.measure.noise_floor import noise_floors
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.measure.rows.masked_rows import MaskedRows, side_by_side
from mask_impact.sites.layer_pass import LayerRow
from mask_impact.sites.query import QueryView


@dataclass(frozen=True)
class StepInfo:
    """A step's index, how many tokens the model sees in it, and the positions masked in turn (None: all of them)."""

    step: int
    length: int
    masked: np.ndarray | None = None


class DistanceCollector:
    """Distances of one layer's rows while they come, chunk by chunk.

    With `heads`, the heads are variants too. The first chunk has the control rows behind its sets' rows.
    """

    def __init__(self, first: MaskedRows, heads: bool):
        self.heads = heads
        self.variants = first.variants(heads)
        self._found: list[tuple[np.ndarray, np.ndarray]] = []
        self._norms = self.add(first).length[:, 0]

    def add(self, chunk: MaskedRows) -> Separation:
        """Take the distances of a chunk, and give what they were made of."""
        apart = chunk.separation(self.heads)
        self._found.append((chunk.sets.cpu().numpy(), np.stack([apart.l2, apart.cosine_distance()])))
        return apart

    def distances(
        self, step_info: StepInfo, row: LayerRow, offset: int, undefined: torch.Tensor | None
    ) -> LayerDistances:
        """All distances at their positions, set 0 at `offset`; 0 where no row came, NaN where `undefined` (set,).

        Raises RunError where the layer's update is not finite.
        """
        layer, norms = row.parts.index, self._norms
        if not np.isfinite(norms).all():
            raise RunError(f"the update of layer {layer} is not finite at step {step_info.step}; try another --dtype")
        sets, distances = self._found[0]
        floors = noise_floors(distances, len(sets))
        both = np.zeros((2, len(norms), step_info.length))
        for sets, distances in self._found:
            both[..., sets + offset] = distances[..., : len(sets)]
        if undefined is not None:
            both[..., undefined.nonzero().flatten().cpu().numpy() + offset] = np.nan
        store = np.float64 if row.call.hidden.dtype == torch.float64 else np.float32
        arrays = (array.astype(store) for array in (*both, norms, *floors))
        return LayerDistances(layer, self.variants, *arrays)


def collected(
    step_info: StepInfo,
    rows: Sequence[LayerRow],
    views: Sequence[QueryView],
    closed: Sequence[MaskedHeads],
    chunks: Iterable[Sequence[MaskedRows]],
    heads: bool,
    budget: RowBudget,
) -> LayerDistances:
    """Distances of all chunks at their positions, the layer's rows compared together; the identities are checked on the
    first step.

    With `heads`, the heads are variants too. Positions that no head sees, or that are not masked, are 0, undefined
    ones NaN. The identity of a renormalised softmax runs over the sets that are not masked too. Raises RunError where
    the layer's update is not finite, or where an identity fails on the first step.
    """
    conserved = [torch.zeros_like(each.output) for each in closed]
    further = iter(chunks)
    first = next(further)
    collector = DistanceCollector(side_by_side(first), heads)
    for chunk in chain([first], further):
        if chunk is not first:
            collector.add(side_by_side(chunk))
        if step_info.step == 0:
            for each, of_row, total in zip(closed, chunk, conserved, strict=True):
                total += each.conservation(of_row.sets, of_row.heads.difference[: len(of_row.sets)])
    if step_info.step == 0:
        for row, view, each, of_first, total in zip(rows, views, closed, first, conserved, strict=True):
            for sets in view.other_sets.split(budget.rows(row.parts, each.output.dtype)):
                total += each.conservation(sets, each.differences(sets))
            check_identities(row, each, of_first, total)
    undefined = closed[0].undefined if closed[0].any_undefined else None
    return collector.distances(step_info, rows[0], views[0].offset, undefined)
