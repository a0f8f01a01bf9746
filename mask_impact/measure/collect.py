"""From masked rows to distances at sequence positions, of one layer at one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from mask_impact.base.errors import RunError
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.distances import LayerDistances, Separation
from mask_impact.measure.identities import check_identities
from mask_impact.measure.noise_floor import noise_floors
from mask_impact.measure.rows.masked_rows import MaskedRows, side_by_side
from mask_impact.sites.layer_pass import LayerRow


@dataclass(frozen=True)
class StepInfo:
    """A step's index, how many tokens the model sees in it, and the sets of positions that are masked in turn.

    With `paired`, these are the unions of its pairs, whose interaction is measured too.
    """

    step: int
    length: int
    sets: KeySets
    paired: PairedSets | None = None

    @classmethod
    def of_tokens(cls, step: int, length: int) -> StepInfo:
        """A step in which every token is masked alone."""
        return cls(step, length, KeySets.alone(np.arange(length)))


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

    def distances(self, step_info: StepInfo, row: LayerRow, undefined: torch.Tensor | None) -> LayerDistances:
        """All sets' distances; 0 where no row came, NaN where `undefined` (set,).

        Raises RunError where the layer's update is not finite.
        """
        layer, norms = row.parts.index, self._norms
        if not np.isfinite(norms).all():
            raise RunError(f"the update of layer {layer} is not finite at step {step_info.step}; try another --dtype")
        sets, distances = self._found[0]
        floors = noise_floors(distances, len(sets))
        both = np.zeros((2, len(norms), len(step_info.sets)))
        for sets, distances in self._found:
            both[..., sets] = distances[..., : len(sets)]
        if undefined is not None:
            both[..., undefined.cpu().numpy()] = np.nan
        store = np.float64 if row.call.hidden.dtype == torch.float64 else np.float32
        arrays = (array.astype(store) for array in (*both, norms, *floors))
        return LayerDistances(layer, self.variants, *arrays)


def collected(
    step_info: StepInfo,
    rows: Sequence[LayerRow],
    closed: Sequence[MaskedHeads],
    chunks: Iterable[Sequence[MaskedRows]],
    heads: bool,
) -> LayerDistances:
    """Distances of all chunks, the layer's rows compared together; the identities are checked on the first step.

    With `heads`, the heads are variants too. Sets that no head sees are 0, undefined ones NaN. Raises RunError where
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
        for row, each, of_first, total in zip(rows, closed, first, conserved, strict=True):
            check_identities(row, each, of_first, total)
    undefined = closed[0].undefined if closed[0].any_undefined else None
    return collector.distances(step_info, rows[0], undefined)
