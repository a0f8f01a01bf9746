"""The tokens, or units of one kind, that a heatmap's final position depends on most.

strongest_tokens(table, 3)[0].text
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mask_impact.results.table import ResultTable, StepDistances

STRONGEST = 3  # tokens that a run prints and records
# The names of StepDistances' arrays, in words; the last is there for pairs alone.
METRICS = {"l2": "L2 distance", "cosine": "cosine distance", "interaction": "L2 of the interaction"}


@dataclass(frozen=True)
class StrongToken:
    """A token or a unit, its distance summed over layers, and the largest of them with its layer.

    `place` is its column in the step, `position` the first of its positions, `where` all of them (`3-5`), `unit` its
    kind, None for a token of a run without units, `interaction` of a pair the L2 of its interaction summed over layers.
    """

    place: int
    position: int
    where: str
    unit: str | None
    text: str
    total: float
    layer: int
    largest: float
    interaction: float | None

    def record(self) -> dict[str, Any]:
        """Its entry in a run record."""
        of_unit = {} if self.unit is None else {"unit": self.unit, "positions": self.where}
        return {"position": self.position, "text": self.text, "l2": self.total, **of_unit}


def left_out_note(table: ResultTable, unit: str | None = None) -> str:
    """The end of a heading over units of one kind of the first step: which position is left out, if one is."""
    step = table.steps[0]
    position = table.left_out_in(step if unit is None else step.of_kind(unit))
    return "" if position is None else f", position {position} left out"


def strongest_tokens(
    table: ResultTable,
    count: int,
    step: int = 0,
    variant: str | None = None,
    metric: str = "l2",
    unit: str | None = None,
) -> list[StrongToken]:
    """The `count` strongest tokens of step `step` (its place in the table's list), largest sum over layers first.

    `variant` is the table's first one if None; `unit`, where rows are units, the step's first kind: of several kinds
    the larger unit would always be the stronger one. Left out are the table's `left_out` position, of units only one
    that is this position alone, and what is undefined in every layer.
    """
    variant = table.heatmap_rows[0][0] if variant is None else variant
    rows = [number for number, (kind, _) in enumerate(table.heatmap_rows) if kind == variant]
    own = table.steps[step]
    unit = "".join(own.kinds[:1]) if unit is None else unit
    distances = getattr(own, metric)[rows].astype(np.float64)
    total = np.nansum(distances, axis=0)
    listed = ~np.isnan(distances).all(axis=0) & ~own.alone(table.left_out) & own.are(unit)
    order = [int(place) for place in np.argsort(-total, kind="stable") if listed[place]]
    return [strong_token(table, own, rows, place, distances[:, place], float(total[place])) for place in order[:count]]


def strong_token(
    table: ResultTable, step: StepDistances, rows: list[int], place: int, distances: np.ndarray, total: float
) -> StrongToken:
    """The token or unit at a place of a step, with its distances in these heatmap rows of the table, and their sum."""
    position, layer = int(step.positions[place]), int(np.nanargmax(distances))
    units, interaction = step.units, None
    if step.interaction is not None and not np.isnan(own := step.interaction[rows, place].astype(np.float64)).all():
        interaction = float(np.nansum(own))
    return StrongToken(
        place,
        position,
        str(position) if units is None else units.positions[place],
        None if units is None else units.kinds[place],
        table.tokens[position] if units is None else units.texts[place],
        total,
        table.heatmap_rows[rows[layer]][1],
        float(distances[layer]),
        interaction,
    )
