"""Sets of keys, each hidden as one, as the measurement takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class KeySets:
    """Sets of positions, numbered in the order of the results. They may overlap.

    `members` (n,) are the positions of set after set, ascending in each; `ends` (set,) says where each set's end.
    """

    members: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sets: Iterable[Sequence[int]]) -> KeySets:
        """Sets of these positions."""
        each = [np.asarray(positions, dtype=np.int64) for positions in sets]
        ends = np.cumsum([len(positions) for positions in each], dtype=np.int64)
        return cls(np.concatenate([*each, np.zeros(0, np.int64)]), ends)

    @classmethod
    def alone(cls, positions: np.ndarray) -> KeySets:
        """Each of these ascending positions alone."""
        return cls(positions, np.arange(1, 1 + len(positions)))

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def sizes(self) -> np.ndarray:
        """How many positions each set has: (set,)."""
        return np.diff(self.ends, prepend=0)

    @cached_property
    def of_members(self) -> np.ndarray:
        """The number of each member's set: (n,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @cached_property
    def are_alone(self) -> bool:
        """Whether every set is one position, each another, ascending: the case that has the cheaper form."""
        return bool((self.sizes == 1).all() and (np.diff(self.members) > 0).all())

    @cached_property
    def first(self) -> np.ndarray:
        """The first position of each set: (set,)."""
        return self.members[self.ends - self.sizes]

    def positions(self, number: int) -> np.ndarray:
        """The positions of one set, ascending."""
        return self.members[self.ends[number] - self.sizes[number] : self.ends[number]]

    def members_of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each position of these sets, set after set: which of `numbers` it belongs to, and the position: both
        (n,)."""
        sizes = self.sizes[numbers]
        row = np.repeat(np.arange(len(numbers)), sizes)
        before = np.cumsum(sizes) - sizes
        return row, self.members[(self.ends[numbers] - sizes - before)[row] + np.arange(len(row))]

    def touch(self, positions: range) -> np.ndarray:
        """Whether each set has one of these neighbouring positions: (set,)."""
        there = (self.members >= positions.start) & (self.members < positions.stop)
        return np.bincount(self.of_members[there], minlength=len(self)) > 0

    def spread(self, size: int) -> KeySets:
        """The same sets where each position stands for `size` neighbouring ones."""
        if size == 1:
            return self
        members = (self.members[:, None] * size + np.arange(size)).ravel()
        return KeySets(members, self.ends * size)
