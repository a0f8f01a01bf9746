"""From masked rows to distances at sequence positions: what is known of one layer at one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mask_impact.base.errors import RunError
from mask_impact.measure.closed_form import MaskedHeads
from mask_impact.measure.distances import LayerDistances, Separation
from mask_impact.measure.identities import check_identities
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.measure.rows.vectors import MaskedRows, side_by_side
from mask_impact.sites.layer_pass import LayerRow
from mask_impact.sites.query import QueryView


@dataclass(frozen=True)
class StepInfo:
    """A generation step's index, how many tokens the model has seen by then, and at which positions they are masked in
    turn (None: at all of them)."""

    step: int
    length: int
    masked: np.ndarray | None = None


class DistanceCollector:
    """Distances of one layer's rows while they come, chunk by chunk.

    `heads` says whether the heads are variants. The first chunk has the control rows behind its sets' rows.
    """

    def __init__(self, first: MaskedRows, heads: bool):
        self.heads = heads
        self.variants = first.baseline.names(heads)
        self._found: list[tuple[np.ndarray, np.ndarray]] = []
        self._norms = self.add(first).length[:, 0]

    def add(self, chunk: MaskedRows) -> Separation:
        """Take the distances of a chunk, and give what they were made of."""
        apart = chunk.baseline.separation_of(chunk.difference, self.heads)
        self._found.append((chunk.sets.cpu().numpy(), np.stack([apart.l2, apart.cosine_distance()])))
        return apart

    def distances(
        self, step_info: StepInfo, row: LayerRow, offset: int, undefined: torch.Tensor | None
    ) -> LayerDistances:
        """All distances at their positions, the set of index 0 at `offset`;
        0 where no row came, NaN where `undefined` (set,).

        Raises RunError where the layer's update is not finite.
        """
        layer, norms = row.parts.index, self._norms
        if not np.isfinite(norms).all():
            raise RunError(f"the update of layer {layer} is not finite at step {step_info.step}; try another --dtype")
        sets, distances = self._found[0]
        floors = distances[..., len(sets) :].max(-1)
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
    """Distances of all chunks, those of the layer's rows compared together, at their positions; on the first step the
    identities are checked.

    `heads` says whether the heads are variants. Positions that no head sees, or that are not masked, are 0, undefined
    ones NaN. The identity of a renormalised softmax runs over the sets that are not masked too. Raises RunError where
    the layer's update is not finite, or where an identity fails on the first step.
    """
    conserved: list[torch.Tensor | float] = [0.0] * len(rows)
    collector = None
    for chunk in chunks:
        together = side_by_side(chunk)
        if collector is None:
            first, collector = chunk, DistanceCollector(together, heads)
        else:
            collector.add(together)
        if step_info.step == 0:
            for number, (each, of_row) in enumerate(zip(closed, chunk, strict=True)):
                moved = of_row.difference.heads[: len(of_row.sets)]
                conserved[number] = conserved[number] + each.conservation(of_row.sets, moved)
    if step_info.step == 0:
        for row, view, each, of_first, total in zip(rows, views, closed, first, conserved, strict=True):
            for sets in view.other_sets.split(budget.rows(row.parts, each.output.dtype)):
                total = total + each.conservation(sets, each.differences(sets))
            check_identities(row, each, of_first, total)
    undefined = closed[0].undefined if closed[0].any_undefined else None
    return collector.distances(step_info, rows[0], views[0].offset, undefined)
