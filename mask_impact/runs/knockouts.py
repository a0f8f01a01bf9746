"""The knock-outs of a measured run: which units are cut, and what the answer does without them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mask_impact.base import console, interrupts
from mask_impact.base.errors import RowsRefused, StopRequested
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import SINGLE_LAYERS, Cut, window
from mask_impact.cuts.refine import passes, refine
from mask_impact.cuts.units import Unit
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.knockout.cells import strongest_cells
from mask_impact.measure.knockout.effects import Effects, Knockouts
from mask_impact.measure.knockout.first_order import first_order
from mask_impact.measure.knockout.literal import LiteralKnockouts
from mask_impact.measure.knockout.readings import Readings
from mask_impact.models.tokens import token_texts
from mask_impact.results.knockout_table import KnockoutRows, KnockoutTable
from mask_impact.results.rests_on import SHOWN
from mask_impact.results.table import UnitLabels
from mask_impact.runs.run import Run


@dataclass
class RunKnockouts:
    """The knock-outs of a run while they are made: their units, rows and record."""

    run: Run
    found: Knockouts | LiteralKnockouts
    units: dict[Unit, int] = field(default_factory=dict)
    tops: dict[str, int] = field(default_factory=dict)
    rows: list[KnockoutRows] = field(default_factory=list)
    all_changes: dict[Unit, float] = field(default_factory=dict)
    final_changes: dict[Unit, float] = field(default_factory=dict)
    refined: list[dict[str, object]] = field(default_factory=list)
    singles: dict[int, list[tuple[Cut, float]]] = field(default_factory=dict)
    agreement: dict[int, float] = field(default_factory=dict)
    left_out: str = ""

    @property
    def ids(self) -> list[int]:
        """The tokens of the prompt and of the answer but its last."""
        return self.found.clean.token_ids

    def at_step(self, step: int) -> list[int]:
        """The tokens that the model has seen at a step."""
        return self.ids[: self.found.clean.reads[step] + 1]

    @property
    def by_rows(self) -> bool:
        """Whether rows stand in for the model's passes, which makes cuts cheap."""
        return isinstance(self.found, Knockouts)

    def make(self) -> None:
        """All cuts that the settings ask for; where each is a pass, `all` alone unless they were asked for by name."""
        settings = self.run.plan.settings
        if "all" in settings.cuts:
            self.cut_everywhere()
        if not (self.by_rows or settings.cuts_named):
            self.left_out = (
                "final, heads and first_order, as each cut is a pass here; --knockout with their names makes them"
            )
            return
        for step in range(len(self.found.baselines)):
            asked = settings.cuts_at(step)
            units = self.run.plan.prompt.cut_units(self.at_step(step))
            if "final" in asked:
                self.cut_from_the_last(step, units)
            if "heads" in asked:
                sets = key_sets(units)
                cells = strongest_cells(self.found.clean, step, sets, settings.head_cells, self.run.method)
                self.add(units, self.found.heads(sets, step, cells))
            if "first_order" in asked and isinstance(self.found, Knockouts):
                self.add_first_order(step, units)

    def cut_everywhere(self) -> None:
        """`all`, from coarse to fine unless units or knock-outs are asked for by name; spans in any case."""
        prompt, tokens = self.run.plan.prompt, len(self.ids)
        units = prompt.cut_units(self.ids)
        if self.run.plan.settings.unlimited:
            self.changes_of(units)
            return
        if spans := [unit for unit in units if unit.kind == "spans"]:
            self.changes_of(spans)
        assert prompt.pieces is not None, "a prompt that was planned"
        cost = partial(passes, tokens=tokens) if self.by_rows else len
        self.refined = refine(
            prompt.pieces.kinds, lambda kind: prompt.of_kind(kind, self.ids), self.changes_of, cost
        ).refined

    def changes_of(self, units: Sequence[Unit]) -> list[float]:
        """What hiding each unit from everyone does to the whole answer: the sum of its log-probabilities' changes."""
        effects = self.found.all(key_sets(units))
        self.add(units, effects)
        changes = np.zeros(len(units))
        numbers = np.array([cut.unit for cut in effects.cuts], np.int64)
        np.add.at(changes, numbers, effects.readings.logprob_change)
        self.all_changes |= dict(zip(units, changes.tolist()))
        return changes.tolist()

    def cut_from_the_last(self, step: int, units: Sequence[Unit]) -> None:
        """`final`: in windows of the size asked for, or in all layers, and in single ones for the strongest units."""
        sets, size = key_sets(units), self.run.plan.settings.window
        layers = 1 + max(layer.parts.index for layer in self.found.clean.layers)
        every = range(len(units))
        if size != "all":
            each = dict.fromkeys(window(layer, int(size), layers) for layer in range(layers))
            if windows := [one for one in each if one != (0, layers - 1)]:
                self.add(units, self.found.final(sets, step, windows, every))
        whole = self.found.final(sets, step, [(0, layers - 1)], every)
        self.add(units, whole)
        changes = whole.readings.logprob_change
        if step == 0:
            self.final_changes = dict(zip(units, changes.tolist()))
        if size == "all":
            strongest = np.argsort(-np.abs(np.nan_to_num(changes)), kind="stable")[:SINGLE_LAYERS].tolist()
            singles = [window(layer, 1, layers) for layer in range(layers)]
            alone = self.found.final(sets, step, singles, sorted(strongest))
            self.add(units, alone)
            self.singles[step] = list(zip(alone.cuts, alone.readings.logprob_change.tolist()))

    def add_first_order(self, step: int, units: Sequence[Unit]) -> None:
        """`first_order` of every layer and head, and how well it agrees with the layers that are cut alone."""
        assert isinstance(self.found, Knockouts), "a model whose rows stand in for it"
        clean, run, token = self.found.clean, self.run, self.found.baselines[step].token
        cuts, effects = first_order(clean, step, token, key_sets(units), run.method, run.plan.settings.variants)
        none = np.full(len(effects), np.nan)
        readings = Readings(effects, none, none, np.full(len(effects), -1))
        self.add(units, Effects(cuts, np.full(len(cuts), step), readings))
        estimated = {(cut.first, cut.unit): one for cut, one in zip(cuts, effects) if cut.head is None}
        exact, guessed = [], []
        for cut, change in self.singles.get(step, ()):
            if (cut.first, cut.unit) in estimated:
                exact.append(change)
                guessed.append(estimated[cut.first, cut.unit])
        if len(exact) > 1:
            self.agreement[step] = rank_correlation(exact, guessed)

    def add(self, units: Sequence[Unit], effects: Effects) -> None:
        """Take effects into the table's rows, step by step."""
        numbers = np.array([self.units.setdefault(unit, len(self.units)) for unit in units], np.int64)
        cuts, readings = effects.cuts, effects.readings
        first, last, unit = (
            np.array([getattr(cut, name) for cut in cuts], np.int64) for name in ("first", "last", "unit")
        )
        head = np.array([-1 if cut.head is None else cut.head for cut in cuts], np.int64)
        for step in np.unique(effects.reads).tolist():
            here = effects.reads == step
            tops = [self.top(step, token) for token in readings.top[here].tolist()]
            self.rows.append(
                KnockoutRows(
                    step,
                    cuts[0].kind,
                    first[here],
                    last[here],
                    head[here],
                    numbers[unit[here]],
                    readings.logprob_change[here],
                    readings.logit_change[here],
                    readings.kl_divergence[here],
                    np.array(tops, np.int64),
                )
            )

    def top(self, step: int, token: int) -> int:
        """The number of a token that the model says in place of its own; -1 for none."""
        if token < 0:
            return -1
        text = token_texts(self.run.loaded.tokenizer, [self.at_step(step)[-1], token])[-1]
        return self.tops.setdefault(text, len(self.tops))

    def table(self) -> KnockoutTable:
        """The table of all rows."""
        units = list(self.units)
        labels = UnitLabels([one.label for one in units], [one.kind for one in units], [one.where for one in units])
        columns = self.run.plan.prompt.columns(len(self.ids))
        return KnockoutTable(labels, list(self.tops), self.rows, columns, self.run.distances[0].l2.dtype)

    def record(self) -> dict[str, Any]:
        """What the run file keeps."""
        steps = [
            {
                "step": step,
                "token": baseline.token,
                "logprob": baseline.logprob,
                "logit": baseline.logit,
                "noise_floor": floor,
            }
            for step, (baseline, floor) in enumerate(zip(self.found.baselines, self.found.floors))
        ]
        floor = sum(each["logprob_change"] for each in self.found.floors)
        prompt = len(self.run.plan.prompt.token_ids)
        whole = {unit: change for unit, change in finest(self.all_changes).items() if unit.positions[0] < prompt}
        read = without_sink(self.final_changes)
        return {
            "steps": steps,
            "rests_on": [told(unit, -fall) for unit, fall in largest(negative(whole), floor)],
            "against": [told(*one) for one in largest(whole, floor)],
            "read_at": [told(unit, -fall) for unit, fall in largest(negative(read), floor)],
            "refined": self.refined,
            **({"left_out": self.left_out} if self.left_out else {}),
            "first_order_rank_correlation": {str(step): found for step, found in self.agreement.items()},
        }


@contextmanager
def reporting(run: Run, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over the rows of knock-outs, none outside a terminal; what it is told ends a run that is to stop.

    Raises StopRequested where Ctrl-C was pressed meanwhile.
    """
    name = f"{console.escape_unprintable((run.plan.name or '')[:30])} knock-outs"
    with tqdm(desc=name, unit="row", leave=False, disable=quiet or None, file=sys.stderr) as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            if interrupts.stop_requested():
                raise StopRequested(
                    "stopped in the knock-outs; the same command goes on behind the steps that are there, and makes "
                    "the knock-outs anew"
                )

        yield report


def make_knockouts(run: Run, quiet: bool = True) -> tuple[KnockoutTable | None, dict[str, Any]] | None:
    """The knock-outs that a measured run's settings ask for, as a table and a record; None if there are none.

    Where rows cannot stand in for the model's passes, RowsRefused is raised if they were asked for by name; else the
    record says that they are left out, and why.
    """
    plan = run.plan
    if not plan.settings.cuts:
        return None
    parts, skipped = run.loaded.sites[plan.settings.part]
    ids, answer = run.all_ids[:-1], run.all_ids[len(plan.prompt.token_ids) :]
    model, by_rows, further = run.loaded.model, not skipped, run.inputs.further
    try:
        with (
            reporting(run, quiet) as report,
            knockouts(model, parts, ids, answer, further, run.method, by_rows, report) as found,
        ):
            made = RunKnockouts(run, found)
            made.make()
            return made.table(), made.record()
    except RowsRefused as error:
        if plan.settings.cuts_named:
            raise
        return None, {"left_out": str(error)}


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation, in [-1, 1]; NaN where one is constant or undefined."""
    return float(pd.Series(one).rank().corr(pd.Series(other).rank()))


def key_sets(units: Sequence[Unit]) -> KeySets:
    """The units' positions."""
    return KeySets.of(unit.positions for unit in units)


def finest(changes: dict[Unit, float]) -> dict[Unit, float]:
    """Of units that lie within each other the ones in which no other lies, and all spans."""
    held = {unit: set(unit.positions) for unit in changes}
    return {
        unit: change
        for unit, change in changes.items()
        if unit.kind == "spans" or not any(other < held[unit] for other in held.values())
    }


def without_sink(changes: dict[Unit, float]) -> dict[Unit, float]:
    """All but position 0 alone, which the final position reads as a sink, whatever it holds."""
    return {unit: change for unit, change in changes.items() if unit.positions != (0,)}


def negative(changes: dict[Unit, float]) -> dict[Unit, float]:
    """How far each falls."""
    return {unit: -change for unit, change in changes.items()}


def largest(changes: dict[Unit, float], floor: float) -> list[tuple[Unit, float]]:
    """The units with the largest changes above the noise floor, the largest first."""
    found = [(unit, change) for unit, change in changes.items() if change > floor]
    return sorted(found, key=lambda one: -one[1])[:SHOWN]


def told(unit: Unit, change: float) -> dict[str, Any]:
    """A unit with its change, as the run file keeps it."""
    return {
        "text": unit.label,
        "position": unit.positions[0],
        "positions": unit.where,
        "unit": unit.kind,
        "logprob_change": change,
    }
