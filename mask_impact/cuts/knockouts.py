"""Cuts down to the answer: what is hidden from whom, in which layers."""

from __future__ import annotations

from dataclasses import dataclass

from mask_impact.settings.text_settings import CUTS as CUTS

SINGLE_LAYERS = 8  # units with the largest change by `final`, which each layer alone is cut for too


@dataclass(frozen=True)
class Cut:
    """One set of positions, hidden in the layers from `first` to `last`.

    `kind` is one of CUTS, `unit` the set's number among the step's. `head` is the one head in which it is hidden; None
    for every head.
    """

    kind: str
    unit: int
    first: int
    last: int
    head: int | None = None


def window(layer: int, size: int, layers: int) -> tuple[int, int]:
    """The first and the last of `size` layers around one, of a model that has `layers`; fewer at both ends."""
    return max(0, layer - size // 2), min(layers, layer + (size + 1) // 2) - 1
