"""Knock-outs: what is hidden from whom, in which layers, down to the answer."""

from __future__ import annotations

from dataclasses import dataclass

CUTS = ("all", "final", "heads", "first_order")


@dataclass(frozen=True)
class Cut:
    """One knock-out of a unit, given by its number in the step's KeySets, in the layers `first` to `last` inclusive; in
    one head where `head` says so."""

    kind: str
    unit: int
    first: int
    last: int
    head: int | None = None


def window(layer: int, size: int, layers: int) -> tuple[int, int]:
    """The first and the last of `size` layers around one, of a model that has `layers`."""
    return max(0, layer - size // 2), min(layers, layer + (size + 1) // 2) - 1
