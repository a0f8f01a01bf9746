"""Sets of keys: which positions each has, and the case that is cheaper."""

from __future__ import annotations

import numpy as np

from mask_impact.cuts.key_sets import KeySets

SETS = KeySets.of([(4, 5), (0,), (2, 3, 7)])


def test_the_members_of_some_sets():
    row, position = SETS.members_of(np.array([2, 0]))
    assert row.tolist() == [0, 0, 0, 1, 1] and position.tolist() == [2, 3, 7, 4, 5]
    assert [SETS.positions(number).tolist() for number in range(3)] == [[4, 5], [0], [2, 3, 7]]
    assert SETS.first.tolist() == [4, 0, 2] and len(SETS) == 3


def test_positions_spread_over_patches():
    assert [SETS.spread(2).positions(number).tolist() for number in range(2)] == [[8, 9, 10, 11], [0, 1]]


def test_sets_that_have_a_position_of_a_range():
    assert SETS.touch(range(1, 4)).tolist() == [False, False, True]
    assert SETS.touch(range(5, 8)).tolist() == [True, False, True]


def test_single_positions_in_order_have_the_cheaper_form():
    assert KeySets.alone(np.array([1, 4])).are_alone and KeySets.of([(1,), (4,)]).are_alone
    assert not KeySets.of([(4,), (1,)]).are_alone and not SETS.are_alone
