"""The tokens that a heatmap's final position depends on most.

strongest_tokens(table, 3)[0].text
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mask_impact.results.table import ResultTable

STRONGEST = 3  # tokens that a run prints and records
METRICS = {"l2": "L2 distance", "cosine": "cosine distance"}  # the names of StepDistances' arrays, in words


@dataclass(frozen=True)
class StrongToken:
    """A token, its distance summed over layers, and the largest of them with its layer."""

    position: int
    text: str
    total: float
    layer: int
    largest: float


def left_out_note(table: ResultTable) -> str:
    """The end of a heading: which position is left out, if one is."""
    return "" if table.left_out is None else f", position {table.left_out} left out"


def strongest_tokens(
    table: ResultTable, count: int, step: int = 0, variant: str | None = None, metric: str = "l2"
) -> list[StrongToken]:
    """The `count` strongest tokens of step `step` (its place in the table's list), largest sum over layers first.

    `variant` is the table's first one if None. Left out are the table's `left_out` position, and tokens whose distance
    is undefined in every layer.
    """
    variant = table.heatmap_rows[0][0] if variant is None else variant
    rows = [number for number, (kind, _) in enumerate(table.heatmap_rows) if kind == variant]
    distances, positions = getattr(table.steps[step], metric)[rows].astype(np.float64), table.steps[step].positions
    defined = ~np.isnan(distances).all(axis=0)
    total = np.nansum(distances, axis=0)
    order = [
        place for place in np.argsort(-total, kind="stable") if positions[place] != table.left_out and defined[place]
    ]
    found = []
    for place in order[:count]:
        row, position = int(np.nanargmax(distances[:, place])), int(positions[place])
        layer, largest = table.heatmap_rows[rows[row]][1], float(distances[row, place])
        found.append(StrongToken(position, table.tokens[position], float(total[place]), layer, largest))
    return found
