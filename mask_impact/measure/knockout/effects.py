"""The three cuts' effects on the answer, from rows through the model.

`all`: a unit's rows are the positions behind its first one. `final` and `heads`: each cut is one row at the position
that is read. What stands before is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from mask_impact.base.errors import RowsRefused
from mask_impact.base.precision import TOLERANCE, full_float32
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import Cut
from mask_impact.measure.knockout.clean import OTHERWISE, CleanPass, in_rows_dtype
from mask_impact.measure.knockout.readings import Baseline, Readings
from mask_impact.measure.knockout.rows import Segment, Walk, logits_of
from mask_impact.measure.noise_floor import CONTROLS, one_ulp
from mask_impact.measure.step import Method

TOGETHER = 64  # rows at one position that attention sees as one segment: each is a key that the others do not see


Report = Callable[[int], None]


def ignore(_: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Job:
    """A segment of rows, and for each row that is read its cut, and the number of the read it is compared with."""

    segment: Segment
    cuts: Sequence[Cut]
    reads: Sequence[int]


@dataclass(frozen=True)
class Effects:
    """What cuts do at reads: one entry of each for each row."""

    cuts: list[Cut]
    reads: np.ndarray
    readings: Readings


class Knockouts:
    """Cuts in one clean pass, read where the tokens of the answer are predicted.

    `baselines` are the uncut answer at each read, `floors` the largest changes that rows show which cut nothing.
    """

    def __init__(self, clean: CleanPass, tokens: Sequence[int], method: Method, report: Report = ignore):
        """`tokens` follow the reads; `report` is told of all rows that were read, chunk by chunk.

        Raises RowsRefused where rows that cut nothing are not the model's.
        """
        self.clean, self.method, self._report = in_rows_dtype(clean, method), method, report
        self.baselines: list[Baseline] = []
        self.floors: list[dict[str, float]] = []
        self._uncut: Tensor | None = None
        for read, token in enumerate(tokens):
            rows, _ = self._rows([control(self.clean, read)])
            logits = torch.cat(list(logits_of(self.clean, rows)))
            self._check(logits[0], clean.logits[read], clean.logits.dtype)
            self.baselines.append(Baseline(logits[0], token))
            self.floors.append(self.baselines[read].read(logits[1:]).largest())
        self._uncut = rows[0]  # of the last read

    def _check(self, rows: Tensor, plain: Tensor, dtype: torch.dtype) -> None:
        """Raise RowsRefused unless what a row that cuts nothing gives is what the model gives, but for rounding."""
        apart, largest = float((rows - plain.to(rows)).abs().max()), float(plain.abs().max())
        if not apart <= TOLERANCE[dtype] * largest:
            raise RowsRefused(
                f"rows that cut nothing are off by {apart:.3g} of at most {largest:.3g}, so they cannot stand in for "
                f"this model's passes: {OTHERWISE}"
            )

    def all(self, sets: KeySets) -> Effects:
        """Each set hidden from everyone behind it, in every layer, at every read that it can reach."""
        return self._effects([job for unit in range(len(sets)) for job in self._everywhere(sets, unit)])

    def final(self, sets: KeySets, read: int, windows: Sequence[tuple[int, int]], units: Sequence[int]) -> Effects:
        """Each of these units hidden from the read's position alone, in each window of layers (first and last)."""
        cuts = [Cut("final", unit, first, last) for first, last in windows for unit in units]
        return self._effects(self._at_read(sets, read, cuts))

    def heads(self, sets: KeySets, read: int, cells: Sequence[tuple[int, int, int]]) -> Effects:
        """Each cell (layer, head, unit) cut alone at the read's position."""
        cuts = [Cut("heads", unit, layer, layer, head) for layer, head, unit in sorted(cells)]
        return self._effects(self._at_read(sets, read, cuts))

    def _at_read(self, sets: KeySets, read: int, cuts: Sequence[Cut]) -> list[Job]:
        """Jobs of cuts at one read; those of neighbouring cuts in the same layers are one segment."""
        position, jobs = self.clean.reads[read], []
        for some in neighbours(cuts):
            heads = None if some[0].head is None else torch.tensor([cut.head for cut in some])
            segment = at_one_position(position, some[0].first, some[0].last, len(some), heads)
            row, key = map(torch.from_numpy, sets.members_of(np.array([cut.unit for cut in some])))
            segment.hides[row[key < position], key[key < position]] = True
            own = row[key == position]
            segment.hides[own, position + own] = True
            jobs.append(Job(segment, some, [read] * len(some)))
        return jobs

    def _everywhere(self, sets: KeySets, unit: int) -> Iterator[Job]:
        """The job of one set hidden from everyone, read at every read that is not before it.

        Its own positions have no rows, as nobody sees them any more, but for reads, which do not see it either.
        """
        members, reads = torch.from_numpy(sets.positions(unit)), torch.tensor(self.clean.reads)
        start = int(members[0])
        reached = reads[reads >= start]
        behind = torch.arange(start, int(reads[-1]) + 1)
        positions = behind[~torch.isin(behind, members) | torch.isin(behind, reached)]
        if len(reached):
            keys = torch.cat([torch.arange(start), positions])
            hides = torch.isin(keys, members).expand(len(positions), -1)
            cut = Cut("all", unit, 0, len(self.clean.layers) - 1)
            segment = Segment(positions, start, hides, cut.first, cut.last, torch.searchsorted(positions, reached))
            yield Job(segment, [cut] * len(reached), (reached - reads[0]).tolist())

    def _effects(self, jobs: Sequence[Job]) -> Effects:
        """The readings of all jobs, in their order."""
        rows, lost = self._rows([job.segment for job in jobs])
        reads = np.array([read for job in jobs for read in job.reads], np.int64)
        order = np.argsort(reads, kind="stable")
        by_read = [order[reads[order] == read] for read in np.unique(reads)]
        parts = [
            self.baselines[reads[some[0]]].read(logits)
            for some in by_read
            for logits in logits_of(self.clean, rows[torch.from_numpy(some)])
        ]
        readings = Readings.together(parts).at(np.argsort(order, kind="stable")).without(lost)
        return Effects([cut for job in jobs for cut in job.cuts], reads, readings)

    @full_float32()
    def _rows(self, segments: Sequence[Segment]) -> tuple[Tensor, np.ndarray]:
        """The segments' rows that are read, behind the last layer, (row, d_model), and which are undefined: (row,)."""
        rows, lost = [self.clean.layers[-1].call.hidden.new_zeros(0)], [np.zeros(0, bool)]
        for some in self._chunks(segments):
            guard = at_one_position(self.clean.reads[-1], min(each.first for each in some), 0, 1)
            read, undefined = Walk(self.clean, [*some, guard], self.method).through()
            uncut, _ = read.pop()[0], undefined.pop()
            if self._uncut is not None:
                self._check(uncut, self._uncut, uncut.dtype)
            self._report(sum(map(len, read)))
            rows += read
            lost += [each.numpy() for each in undefined]
        return torch.cat(rows[1:] or rows), np.concatenate(lost)

    def _chunks(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        """Neighbouring segments of no more rows than go through a layer at once; one that has more goes alone."""
        parts, dtype = self.clean.layers[0].parts, self.clean.layers[0].call.hidden.dtype
        most = self.method.rows.rows(parts, self.method.rows_dtype(dtype))
        some: list[Segment] = []
        count = 0
        for segment in segments:
            if some and count + len(segment.positions) > most:
                yield some
                some, count = [], 0
            some.append(segment)
            count += len(segment.positions)
        if some:
            yield some


def neighbours(cuts: Sequence[Cut]) -> Iterator[Sequence[Cut]]:
    """Neighbouring cuts in the same layers, at most TOGETHER at a time."""
    for _, same in groupby(cuts, lambda cut: (cut.first, cut.last)):
        each = list(same)
        yield from (each[first : first + TOGETHER] for first in range(0, len(each), TOGETHER))


def at_one_position(
    position: int, first: int, last: int, rows: int, head: Tensor | None = None, start: Tensor | None = None
) -> Segment:
    """A segment of rows at one position that hide nothing yet, and all of which are read."""
    return Segment(
        positions=torch.full((rows,), position),
        prefix=position,
        hides=torch.zeros(rows, position + rows, dtype=torch.bool),
        first=first,
        last=last,
        reads=torch.arange(rows),
        head=head,
        apart=True,
        start=start,
    )


def control(clean: CleanPass, read: int) -> Segment:
    """Rows that cut nothing at one read: the clean stream, and behind it the control rows, each component of it moved
    by one unit in the last place."""
    position = clean.reads[read]
    stream = clean.layers[0].call.hidden[0, position]
    moved = stream + one_ulp(stream, seed=read)
    return at_one_position(position, 0, 0, 1 + CONTROLS, start=torch.cat([stream[None], moved]))
