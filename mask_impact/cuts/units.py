"""A unit: positions that are hidden as one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from mask_impact.settings.text_settings import UNIT_KINDS

KINDS = (*UNIT_KINDS, "pairs")


@dataclass(frozen=True)
class Unit:
    """Positions that are hidden as one.

    `label` is its text as results show it, `kind` one of KINDS, `positions` are ascending and at least one. `pair`, of
    a pair, has the numbers of its two units in the step's list.
    """

    label: str
    kind: str
    positions: tuple[int, ...]
    pair: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """The positions as results show them: `3-5` or `3,7`."""
        runs = groupby(enumerate(self.positions), lambda item: item[1] - item[0])
        ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)
