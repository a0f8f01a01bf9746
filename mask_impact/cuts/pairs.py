"""Pairs of units: which are made, and what hides both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.units import Unit

Pair = tuple[int, int]  # the numbers of two units


@dataclass(frozen=True)
class PairedSets:
    """Pairs of sets that share no position: `sets` are all of them, `pairs` (pair, 2) the numbers of two of them."""

    sets: KeySets
    pairs: np.ndarray

    @property
    def unions(self) -> KeySets:
        """What hides both sets of each pair."""
        each = [sorted({*self.sets.positions(one), *self.sets.positions(other)}) for one, other in self.pairs.tolist()]
        return KeySets.of(each)

    @property
    def sets_and_unions(self) -> KeySets:
        """All sets, and behind them the unions."""
        unions = self.unions
        members = np.concatenate([self.sets.members, unions.members])
        return KeySets(members, np.concatenate([self.sets.ends, len(self.sets.members) + unions.ends]))

    def spread(self, size: int) -> PairedSets:
        """The same where each position stands for `size` neighbouring ones."""
        return PairedSets(self.sets.spread(size), self.pairs)

    @classmethod
    def of(cls, sets: KeySets, pairs: Sequence[Pair]) -> PairedSets:
        """Of these sets the ones that are in some pair."""
        used = sorted({number for pair in pairs for number in pair})
        place = {number: index for index, number in enumerate(used)}
        numbers = np.array([[place[one], place[other]] for one, other in pairs], dtype=np.int64).reshape(-1, 2)
        return cls(KeySets.of(sets.positions(number).tolist() for number in used), numbers)


def strongest(units: Sequence[Unit], strength: np.ndarray, count: int, left_out: int | None) -> list[int]:
    """The numbers of the `count` strongest units, ascending; strength (unit,), NaN where undefined.

    The position `left_out` alone, the usual attention sink, is no such unit, as in every list of the strongest; nor is
    one of another kind with the same positions as a stronger one.
    """
    order = np.argsort(-np.nan_to_num(strength), kind="stable").tolist()
    once = {units[number].positions: number for number in reversed(order)}
    return sorted(
        [
            number
            for number in order
            if once[units[number].positions] == number and units[number].positions != (left_out,)
        ][:count]
    )


def pairs_among(units: Sequence[Unit], numbers: Sequence[int]) -> list[Pair]:
    """Every two of these units that share no position."""
    held = {number: set(units[number].positions) for number in numbers}
    return [(one, other) for one, other in combinations(numbers, 2) if held[one].isdisjoint(held[other])]


def pair_units(units: Sequence[Unit], pairs: Sequence[Pair]) -> list[Unit]:
    """Each pair as one more unit."""
    return [
        Unit(
            f"{units[one].label.strip()} + {units[other].label.strip()}",
            "pairs",
            tuple(sorted(units[one].positions + units[other].positions)),
            (one, other),
        )
        for one, other in pairs
    ]
