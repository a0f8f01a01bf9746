"""Which units make pairs."""

from __future__ import annotations

import numpy as np

from mask_impact.cuts.pairs import strongest
from mask_impact.cuts.units import Unit

UNITS = [
    Unit(str(positions), kind, positions)
    for kind, positions in (
        ("tokens", (0,)),
        ("tokens", (1,)),
        ("tokens", (2,)),
        ("words", (0,)),
        ("words", (1, 2)),
        ("spans", (1,)),
    )
]
STRENGTH = np.array([9.0, 5.0, 1.0, 9.0, 3.0, 5.5])


def test_the_sink_and_the_same_positions_twice_are_left_out():
    assert strongest(UNITS, STRENGTH, 3, left_out=0) == [2, 4, 5]
    assert strongest(UNITS, STRENGTH, 2, left_out=0) == [4, 5]


def test_position_0_stays_where_it_is_a_cell():
    assert strongest(UNITS, STRENGTH, 2, left_out=None) == [0, 5]
