"""Compares two results of the same variants, layers and positions: distances, and which tokens move the layers most.

Units are compared where both results have them: of one kind, at the same positions, and with the same text where
several stand there.

compare(Path("output/a_results.csv"), Path("output/b_results.csv"), Screen())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.base.terminal import Screen
from mask_impact.lookup.find import abbreviated, as_table, needs_interactions, ranges, read, setting
from mask_impact.lookup.heatmap_text import number
from mask_impact.results.strongest import METRICS, StrongToken, strongest_tokens
from mask_impact.results.table import ResultTable

TOP = 3
MOST_LISTED = 5
MOST_ROWS = 20  # of the table of variants and layers; of a longer one, so many of each kind of variant:
ROWS_OF_A_KIND = 5
LONGEST_PLACE = 24  # columns of the kind and positions of a unit


@dataclass(frozen=True)
class CellChange:
    """How far one variant of one layer, row `row` of the tables, lies apart over all steps and positions.

    `largest` and `mean` |A - B| are 0 where all distances are undefined in both, NaN where none is defined in both;
    `scale` is A's largest distance, `lone` how many are undefined in one of the two alone.
    """

    row: int
    variant: str
    layer: int
    largest: float
    mean: float
    scale: float
    lone: int

    @property
    def equal(self) -> bool:
        """Whether the two do not differ."""
        return self.largest == 0 and not self.lone

    @property
    def kind(self) -> str:
        """Full, Attn, or Heads: distances of one kind can be compared."""
        return "Heads" if self.variant.startswith("Head_") else self.variant

    @property
    def rank(self) -> tuple[bool, float]:
        """Smaller for a larger change; what is undefined in one alone comes first."""
        return not self.lone, -np.nan_to_num(self.largest)


@dataclass(frozen=True)
class Change:
    """One distance of A and of B, and how far they lie apart.

    `name` says what was hidden (`position 3` or `words 3-5`), `text` how it reads in A; `left_out` whether it is the
    position that lists leave out.
    """

    cell: CellChange
    step: int
    name: str
    text: str
    left_out: bool
    apart: float
    a: float
    b: float


def compare(one: Path, other: Path, screen: Screen, metric: str = "l2", whole: bool = False) -> None:
    """Print how far the two tables lie apart, in the steps and units that both have:
    where most, then the largest changes, or with `whole` all of them.

    Raises RequestError if they share no step or no unit, if their variants, layers or positions differ, or if one has
    no interactions and these are the metric.
    """
    frames = [read(path) for path in (one, other)]
    whole_a, whole_b = (as_table(path, frame) for path, frame in zip((one, other), frames))
    for path, table in zip((one, other), (whole_a, whole_b)):
        if metric == "interaction":
            needs_interactions(path, table)
    in_steps = in_shared_steps(whole_a, whole_b)
    a, b = in_shared_units(*in_steps)
    if faults := differing_axes(a, b):
        raise RequestError(*(f"{one} and {other} cannot be compared: {fault}" for fault in faults))
    ends = [measured_at(frame.attrs.get("run") or {}) for frame in frames]
    names = [screen.cut(line, screen.width) for line in (f"A  {one}{ends[0]}", f"B  {other}{ends[1]}")]
    heatmap_rows = cell_changes(a, b, metric)
    for line in [
        *names,
        *steps_left_out(whole_a, whole_b, screen),
        *units_left_out(in_steps, (a, b), screen),
        *differing_tokens(a, b, screen),
        "",
        *largest_changes(a, b, heatmap_rows, metric, screen),
        *changes(a, b, metric, screen, whole),
        *table_of_changes(heatmap_rows, metric, screen, whole),
    ]:
        console.draw(line)


def measured_at(run: Mapping[str, Any]) -> str:
    """The end of a line: at which cell a run of the encoder was measured; empty for other runs."""
    at = setting(run, "at")
    return "" if at is None else ", the mean over all measured cells" if at == "all" else f", measured at cell {at}"


def in_shared_steps(one: ResultTable, other: ResultTable) -> list[ResultTable]:
    """The two tables with only the steps that both have; unchanged if they share none."""
    shared = {step.step for step in one.steps} & {step.step for step in other.steps}
    return [
        replace(table, steps=[step for step in table.steps if step.step in shared or not shared])
        for table in (one, other)
    ]


def steps_left_out(one: ResultTable, other: ResultTable, screen: Screen) -> Iterator[str]:
    """A line with the generation steps that are not compared, as only one of the two has them."""
    a, b = ({step.step for step in table.steps} for table in (one, other))
    alone = [
        f"{ranges(sorted(own - another))} of {name}"
        for name, own, another in (("A", a, b), ("B", b, a))
        if own - another
    ]
    if alone:
        yield from screen.lines(f"left out, as the other has no such generation step: {' and '.join(alone)}")


def in_shared_units(one: ResultTable, other: ResultTable) -> list[ResultTable]:
    """The two tables with only the units that both have, in A's order; unchanged without units, or if they share none
    or have other steps."""
    same_steps = [step.step for step in one.steps] == [step.step for step in other.steps]
    if not same_steps or not (one.unit_columns or other.unit_columns):
        return [one, other]
    pairs = [shared_places(each) for each in zip(labels_of(one), labels_of(other))]
    if not any(pairs):
        return [one, other]
    return [
        replace(table, steps=[step.take([pair[side] for pair in own]) for step, own in zip(table.steps, pairs)])
        for side, table in enumerate((one, other))
    ]


def labels_of(table: ResultTable) -> list[list[tuple[str, str, str]]]:
    """The kind, positions and text of each unit of each step."""
    return [list(zip(step.kind_of_each, step.where, table.texts(step))) for step in table.steps]


def shared_places(labels: tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]) -> list[tuple[int, int]]:
    """The places in A and in B of each unit of a step that both have: by kind, positions and text, and of the rest by
    kind and positions."""
    found: dict[int, int] = {}
    for known in (3, 2):
        free: dict[tuple[str, ...], list[int]] = {}
        for place in sorted({*range(len(labels[1]))} - {*found.values()}):
            free.setdefault(labels[1][place][:known], []).append(place)
        for place, label in enumerate(labels[0]):
            if place not in found and free.get(label[:known]):
                found[place] = free[label[:known]].pop(0)
    return sorted(found.items())


def units_left_out(whole: Sequence[ResultTable], shared: Sequence[ResultTable], screen: Screen) -> Iterator[str]:
    """A line with how many units of each kind are not compared, as only one of the two has them."""
    alone = []
    for name, table, kept in zip("AB", whole, shared):
        gone = {*chain(*labels_of(table))} - {*chain(*labels_of(kept))} if kept is not table else set()
        if counts := Counter(kind for kind, _, _ in sorted(gone)):
            alone.append(f"{', '.join(f'{count} {kind}' for kind, count in counts.items())} of {name}")
    if alone:
        yield from screen.lines(f"left out, as the other has no such unit: {' and '.join(alone)}")


def differing_axes(one: ResultTable, other: ResultTable) -> list[str]:
    """Why two tables cannot be compared distance by distance, a fault for each axis that differs."""
    faults = []
    for name, pair in {
        "generation steps": [ranges([step.step for step in table.steps]) for table in (one, other)],
        "variants": [", ".join(abbreviated(variants_of(table))) for table in (one, other)],
        "layers": [ranges(sorted({layer for _, layer in table.heatmap_rows})) for table in (one, other)],
        "units": [", ".join(dict.fromkeys(chain(*(step.kinds for step in table.steps)))) for table in (one, other)],
        "positions": [positions_of(table) for table in (one, other)],
    }.items():
        if pair[0] != pair[1]:
            faults.append(f"their {name} differ ({short(pair[0])} and {short(pair[1])})")
    if not faults and one.heatmap_rows != other.heatmap_rows:
        faults.append("their layers differ in some variants")
    return faults


def positions_of(table: ResultTable) -> str:
    """The masked positions of the steps; equal ones are listed once."""
    return ", ".join(
        dict.fromkeys(
            ranges(step.positions.tolist())
            if step.units is None or all(step.units.single)
            else ", ".join(step.units.positions)
            for step in table.steps
        )
    )


def short(text: str) -> str:
    """The text, or its beginning where it is long."""
    return (text if len(text) <= 60 else f"{text[:60]}...") or "none"


def variants_of(table: ResultTable) -> list[str]:
    """The table's variants in order."""
    return list(dict.fromkeys(variant for variant, _ in table.heatmap_rows))


def differing_tokens(one: ResultTable, other: ResultTable, screen: Screen) -> Iterator[str]:
    """A line for each position or unit where the texts of the two differ, at most MOST_LISTED."""
    found = {
        step.named(place): texts
        for step, its_other in zip(one.steps, other.steps)
        for place, texts in enumerate(zip(one.texts(step), other.texts(its_other)))
        if texts[0] != texts[1]
    }
    for name, texts in islice(found.items(), MOST_LISTED):
        room = max(6, (screen.width - len(f"{name}: A  B ")) // 2)
        a, b = (screen.quoted(text, room) for text in texts)
        yield f"{screen.safe(name)}: A {a} B {b}"
    if len(found) > MOST_LISTED:
        what = "units" if one.unit_columns else "tokens"
        yield f"... and different {what} at {len(found) - MOST_LISTED} more positions"


def cell_changes(one: ResultTable, other: ResultTable, metric: str) -> list[CellChange]:
    """How far each variant of each layer lies apart, in the order of the tables."""
    return [
        CellChange(row, variant, layer, *distances_apart(one, other, row, metric))
        for row, (variant, layer) in enumerate(one.heatmap_rows)
    ]


def largest_changes(
    one: ResultTable, other: ResultTable, heatmap_rows: Sequence[CellChange], metric: str, screen: Screen
) -> Iterator[str]:
    """For each kind of variant the cell that changed most, with its place; one line where all is equal."""
    if all(cell.equal for cell in heatmap_rows):
        yield f"equal: every {METRICS[metric]} is the same in both"
        return
    yield screen.bold(screen.cut(f"Largest |A - B| of the {METRICS[metric]}", screen.width))
    for kind, group in by_kind(heatmap_rows).items():
        largest = largest_change(one, other, group, metric)
        yield place_of(largest, screen, f"{screen.padded(kind, 6)} ")
        if largest is not None and largest.left_out:
            further = largest_change(one, other, group, metric, without=one.left_out)
            yield place_of(further, screen, f"{'':6} without position {one.left_out}: ")
    if lone := sum(cell.lone for cell in heatmap_rows):
        yield from screen.lines(f"distances that are undefined in one of the two alone: {lone}")


def by_kind(heatmap_rows: Sequence[CellChange]) -> dict[str, list[CellChange]]:
    """The cells of each kind of variant, which stand together."""
    return {kind: list(group) for kind, group in groupby(heatmap_rows, key=lambda cell: cell.kind)}


def largest_change(
    one: ResultTable, other: ResultTable, heatmap_rows: Sequence[CellChange], metric: str, without: int | None = None
) -> Change | None:
    """The distance of these cells that changed most, the position `without` left out; None where none did."""
    rows, found = [cell.row for cell in heatmap_rows], None
    for step, its_other in zip(one.steps, other.steps):
        a, b = (getattr(each, metric)[rows].astype(np.float64) for each in (step, its_other))
        apart = np.where(step.alone(without), 0, np.nan_to_num(np.abs(a - b)))
        cell, column = divmod(int(apart.argmax()), apart.shape[1]) if apart.size else (0, 0)
        if apart.size and apart[cell, column] > (found.apart if found else 0):
            numbers = (float(values[cell, column]) for values in (apart, a, b))
            named = step.named(column), one.texts(step)[column], bool(step.alone(one.left_out)[column])
            found = Change(heatmap_rows[cell], step.step, *named, *numbers)
    return found


def place_of(change: Change | None, screen: Screen, start: str) -> str:
    """`2.49 (A 25.5, B 23): layer 29, step 0, position 613 " old"`."""
    if change is None:
        return f"{start}no change"
    head = f"{change.cell.variant}, " if change.cell.kind == "Heads" else ""
    where = (
        f"{screen.safe(head)}layer {change.cell.layer}, step {change.step}, {screen.cut(change.name, LONGEST_PLACE)} "
    )
    said = f"{start}{number(change.apart)} (A {number(change.a)}, B {number(change.b)}): {where}"
    return said + screen.quoted(change.text, max(6, screen.width - len(said)))


def table_of_changes(heatmap_rows: Sequence[CellChange], metric: str, screen: Screen, whole: bool) -> Iterator[str]:
    """A line for each variant and layer, one for a variant that is equal;
    of a long table the largest changes of each kind."""
    if all(cell.equal for cell in heatmap_rows):
        return
    short = not whole and len(heatmap_rows) > MOST_ROWS
    yield ""
    yield from screen.lines(
        f"|A - B| of the {METRICS[metric]} over all steps and positions; relative: to A's largest of that "
        f"variant and layer{'; the largest of each kind first' if short else ''}"
    )
    yield screen.bold(f"{'variant':<9}{'layer':>5}{'largest':>11}{'mean':>11}{'relative':>11}{'mean':>11}")
    yield from shortest_rows(heatmap_rows, screen) if short else all_rows(heatmap_rows, screen)


def shortest_rows(heatmap_rows: Sequence[CellChange], screen: Screen) -> Iterator[str]:
    """The rows of the largest changes of each kind, and how many more there are."""
    shown = [
        cell
        for group in by_kind(heatmap_rows).values()
        for cell in sorted(group, key=lambda cell: cell.rank)[:ROWS_OF_A_KIND]
        if not cell.equal
    ]
    yield from (row_of(cell, screen) for cell in shown)
    equal = sum(cell.equal for cell in heatmap_rows)
    more = f"... and {len(heatmap_rows) - len(shown)} more pairs of variant and layer"
    yield from screen.lines(f"{more}{f', {equal} of them equal' if equal else ''}; --all prints every one, in order")


def all_rows(heatmap_rows: Sequence[CellChange], screen: Screen) -> Iterator[str]:
    """A row for each variant and layer, or one for all layers where they are equal."""
    for variant, group in groupby(heatmap_rows, key=lambda cell: cell.variant):
        rows = list(group)
        if all(cell.equal for cell in rows):
            yield f"{screen.padded(variant, 8)} equal in all layers"
        else:
            yield from (row_of(cell, screen) for cell in rows)


def row_of(cell: CellChange, screen: Screen) -> str:
    """One line of the table."""
    pair = (cell.largest, cell.mean)
    relative = [value / cell.scale if cell.scale > 0 else 0 if value == 0 else np.nan for value in pair]
    figures = "".join(f"{number(value):>11}" for value in (*pair, *relative))
    lone = f"  {cell.lone} undefined in one alone" if cell.lone else ""
    return f"{screen.padded(cell.variant, 8)} {cell.layer:>5}{figures}{lone}"


def distances_apart(one: ResultTable, other: ResultTable, row: int, metric: str) -> tuple[float, float, float, int]:
    """The largest and mean |A - B| of a heatmap row over all steps, A's largest distance, and how many distances are
    undefined in only one of the two. Without a distance defined in both, the first two are 0 if the undefined ones
    agree, else NaN."""
    a, b = (
        np.concatenate([getattr(step, metric)[row] for step in table.steps]).astype(np.float64)
        for table in (one, other)
    )
    apart = np.abs(a - b)[~(np.isnan(a) | np.isnan(b))]
    lone, scale = int((np.isnan(a) != np.isnan(b)).sum()), float(np.nan_to_num(a).max(initial=0))
    none = np.nan if lone else 0.0
    largest, mean = (float(apart.max()), float(apart.mean())) if len(apart) else (none, none)
    return largest, mean, scale, lone


def changes(one: ResultTable, other: ResultTable, metric: str, screen: Screen, whole: bool) -> Iterator[str]:
    """The tokens, or units of each kind, that move the layers most, of each step and variant in which they differ or
    have another order."""
    cases = [
        (place, variant, kind)
        for place, step in enumerate(one.steps)
        for variant in variants_of(one)
        for kind in step.kinds
    ]
    changed = [
        (one.steps[place], variant, kind, a, b)
        for place, variant, kind in cases
        for a, b in [[strongest_tokens(table, TOP, place, variant, metric, kind) for table in (one, other)]]
        if [token.place for token in a] != [token.place for token in b]
    ]
    where = f"{len(cases) - len(changed)} of {len(cases)}" if changed else f"all {len(cases)}"
    kinds = list(dict.fromkeys(kind for _, _, kind in cases))
    single = len(kinds) == 1
    what, case = (kinds[0], "pairs of step and variant") if single else ("units", "triples of step, variant and kind")
    yield from screen.lines(
        f"the {TOP} {what} that move the layers most are the same, in the same order, in {where} {case}"
    )
    for step, variant, kind, a, b in changed if whole else changed[:MOST_LISTED]:
        left_out = one.left_out_in(step.of_kind(kind))
        without = "" if left_out is None else f" (position {left_out} left out)"
        what = f"{screen.safe(kind)} that move the layers most changed{without}"
        yield f"step {step.step}, {screen.safe(variant)}: {what}"
        yield f"  A  {tokens_in_line(a, screen)}"
        yield f"  B  {tokens_in_line(b, screen)}"
    if not whole and len(changed) > MOST_LISTED:
        yield f"... and in {len(changed) - MOST_LISTED} more; --all prints them"


def tokens_in_line(tokens: Sequence[StrongToken], screen: Screen) -> str:
    """`3 " France", 1 " capital"`, each cut so that all fit into the line."""
    room = (screen.width - 5) // max(1, len(tokens)) - 2
    texts = [
        f"{where} {screen.quoted(token.text, max(5, room - len(where) - 1))}"
        for token in tokens
        for where in [screen.cut(token.where, LONGEST_PLACE)]
    ]
    return ", ".join(texts) or "none"
