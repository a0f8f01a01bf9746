"""From masked rows to distances at sequence positions: what is known of one layer at one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from mask_impact.base.errors import RunError
from mask_impact.measure.closed_form import MaskedHeads
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.identities import check_identities
from mask_impact.measure.row_budget import RowBudget
from mask_impact.measure.rows import MaskedRows
from mask_impact.sites.query import FinalQuery
from mask_impact.sites.recording import LayerRecord


@dataclass(frozen=True)
class StepInfo:
    """A generation step's index, how many tokens the model has seen by then, and at which positions they are masked in
    turn (None: at all of them)."""

    step: int
    length: int
    masked: np.ndarray | None = None


class DistanceCollector:
    """Distances of one layer's rows while they come, chunk by chunk.

    `heads` says whether the heads are variants. The first chunk has the control rows behind its keys' rows.
    """

    def __init__(self, heads: bool):
        self.heads = heads
        self.first: MaskedRows | None = None
        self._found: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, chunk: MaskedRows) -> None:
        """Take the distances of a chunk; of its vectors only the first's are kept."""
        apart = chunk.baseline.separation_of(chunk.difference, self.heads)
        self._found.append((chunk.keys.cpu().numpy(), np.stack([apart.l2, apart.cosine_distance()])))
        if self.first is None:
            self.first, self._norms = chunk, apart.length[:, 0]

    def distances(
        self, step_info: StepInfo, record: LayerRecord, offset: int, undefined: torch.Tensor | None
    ) -> LayerDistances:
        """All distances at their positions, the key of index 0 at `offset`; 0 where no row came, NaN where `undefined` (key,).

        Raises RunError where the layer's update is not finite.
        """
        layer, norms = record.parts.index, self._norms
        if not np.isfinite(norms).all():
            raise RunError(f"the update of layer {layer} is not finite at step {step_info.step}; try another --dtype")
        keys, distances = self._found[0]
        floors = distances[..., len(keys) :].max(-1)
        both = np.zeros((2, len(norms), step_info.length))
        for keys, distances in self._found:
            both[..., keys + offset] = distances[..., : len(keys)]
        if undefined is not None:
            both[..., undefined.nonzero().flatten().cpu().numpy() + offset] = np.nan
        store = np.float64 if record.call.hidden.dtype == torch.float64 else np.float32
        arrays = (array.astype(store) for array in (*both, norms, *floors))
        return LayerDistances(layer, self.first.baseline.names(self.heads), *arrays)


def collected(
    step_info: StepInfo,
    record: LayerRecord,
    query: FinalQuery,
    closed: MaskedHeads,
    chunks: Iterable[MaskedRows],
    heads: bool,
    budget: RowBudget,
) -> LayerDistances:
    """Distances of all chunks, at their sequence positions; on the first step the identities are checked.

    `heads` says whether the heads are variants. Positions that no head sees, or that are not masked, are 0, undefined ones
    NaN. The identity of a renormalised softmax runs over the keys that are not masked too. Raises RunError
    where the layer's update is not finite, or where an identity fails on the first step.
    """
    collector, conserved = DistanceCollector(heads), 0
    for chunk in chunks:
        collector.add(chunk)
        if step_info.step == 0:
            conserved = conserved + closed.conservation(chunk.keys, chunk.difference.heads[: len(chunk.keys)])
    if step_info.step == 0:
        for keys in (
            query.other_keys.split(budget.rows(record.parts, closed.output.dtype))
            if step_info.masked is not None
            else ()
        ):
            conserved = conserved + closed.conservation(keys, closed.differences(keys))
        check_identities(record, closed, collector.first, conserved)
    return collector.distances(step_info, record, query.offset, closed.undefined if closed.any_undefined else None)
