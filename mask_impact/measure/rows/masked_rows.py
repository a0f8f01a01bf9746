"""What both methods hand to the measurement: a layer's baseline at one of its rows, and differences from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mask_impact.measure.distances import Separation


@dataclass(frozen=True)
class Moved:
    """A vector of the baseline, (...), and what masking adds to it in each row, (row, ...)."""

    baseline: Tensor
    difference: Tensor


@dataclass(frozen=True)
class MaskedRows:
    """A chunk of rows: each set of `sets` masked in turn, then any control rows.

    `heads` are the heads' outputs (head, d_v). `added` has what is added to the residual stream, (d_model,), by those
    of "Full" and "Attn" that are asked for, in this order. `output` is the layer's unmasked output (d_model,); None
    without "Full".
    """

    sets: Tensor
    heads: Moved
    added: dict[str, Moved]
    output: Tensor | None

    def variants(self, heads: bool) -> list[str]:
        """The variants' names in the order of the results: Full, Attn, Head_0, ..."""
        return [*self.added, *(f"Head_{index}" for index in range(self.heads.baseline.shape[0]) if heads)]

    def separation(self, heads: bool) -> Separation:
        """How the rows differ from the baseline, in the order of `variants`."""
        pairs = [(moved.baseline[None], moved.difference[:, None]) for moved in self.added.values()]
        return Separation.of(pairs + [(self.heads.baseline, self.heads.difference)] * heads)


def side_by_side(of_rows: Sequence[MaskedRows]) -> MaskedRows:
    """The masked rows of several of a layer's rows as those of one: heads (head, row * d_v), the others
    (row * d_model,)."""
    first = of_rows[0]
    if len(of_rows) == 1:
        return first
    added = {name: end_to_end([rows.added[name] for rows in of_rows]) for name in first.added}
    return MaskedRows(first.sets, end_to_end([rows.heads for rows in of_rows]), added, first.output)


def end_to_end(moved: Sequence[Moved]) -> Moved:
    """Vectors of several rows as one, along the last axis."""
    return Moved(torch.cat([each.baseline for each in moved], -1), torch.cat([each.difference for each in moved], -1))
