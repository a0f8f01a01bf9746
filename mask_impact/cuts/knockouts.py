"""Knock-outs: which edges are cut, in which layers, down to the answer."""

from __future__ import annotations

from dataclasses import dataclass

CUTS = ("all", "final", "heads", "first_order")


@dataclass(frozen=True)
class Cut:
    """A unit (its number among a step's units) hidden in these layers, the last one included.

    `all` hides it from every query outside it and from the final position, `final` from the final position alone,
    `heads` from that in one head.
    """

    kind: str
    unit: int
    first: int
    last: int
    head: int | None = None


def window(layer: int, size: int, layers: int) -> tuple[int, int]:
    """The first and last of `size` layers around one, of those that a model of so many layers has.

    As in Geva et al. 2023 (Dissecting Recall of Factual Associations in Auto-Regressive Language Models).
    """
    return max(0, layer - size // 2), min(layers, layer + (size + 1) // 2) - 1
