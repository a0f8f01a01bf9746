"""A unit: positions that are hidden as one."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("tokens", "words", "sentences", "lines", "messages", "images", "spans", "pairs")


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
