"""Cuts down to the answer: the layers of a window."""

from __future__ import annotations

import pytest

from mask_impact.cuts.knockouts import CUTS, Cut, window


@pytest.mark.parametrize(
    "size, windows",
    [
        (1, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]),
        (2, [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
        (3, [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]),
        (100, [(0, 5)] * 6),
    ],
)
def test_a_window_lies_around_its_layer(size, windows):
    assert [window(layer, size, 6) for layer in range(6)] == windows


@pytest.mark.parametrize("size", range(1, 12))
def test_a_window_is_the_published_one(size):
    """Of layer l of L those from max(0, l - K // 2) on that are below min(L, l + (K + 1) // 2)."""
    for layer in range(9):
        first, last = window(layer, size, 9)
        assert range(first, last + 1) == range(max(0, layer - size // 2), min(9, layer + (size + 1) // 2))


def test_a_cut_is_of_every_head_unless_one_is_named():
    assert Cut("final", 3, 0, 5).head is None and {Cut("heads", 3, 2, 2, 1).kind, "final"} < set(CUTS)
