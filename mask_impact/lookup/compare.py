"""Compares two results of the same variants, layers and positions: distances, and which strongest tokens changed.

compare(Path("output/a_results.csv"), Path("output/b_results.csv"), Screen())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.base.terminal import Screen
from mask_impact.lookup.find import abbreviated, as_table, ranges, read, setting
from mask_impact.lookup.heatmap_text import number
from mask_impact.results.strongest import METRICS, StrongToken, strongest_tokens
from mask_impact.results.table import ResultTable

TOP = 3
MOST_LISTED = 5


def compare(one: Path, other: Path, screen: Screen, metric: str = "l2") -> None:
    """Print how far the two tables lie apart, in the steps that both have.

    Raises RequestError if they share no step, or if their variants, layers or positions differ.
    """
    frames = [read(path) for path in (one, other)]
    whole_a, whole_b = (as_table(path, frame) for path, frame in zip((one, other), frames))
    a, b = in_shared_steps(whole_a, whole_b)
    if faults := differing_axes(a, b):
        raise RequestError(*(f"{one} and {other} cannot be compared: {fault}" for fault in faults))
    ends = [measured_at(frame.attrs.get("run") or {}) for frame in frames]
    names = [screen.cut(line, screen.width) for line in (f"A  {one}{ends[0]}", f"B  {other}{ends[1]}")]
    for line in [
        *names,
        *steps_left_out(whole_a, whole_b, screen),
        *differing_tokens(a, b, screen),
        "",
        *differences(a, b, metric, screen),
        "",
        *changes(a, b, metric, screen),
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


def differing_axes(one: ResultTable, other: ResultTable) -> list[str]:
    """Why two tables cannot be compared distance by distance, a fault for each axis that differs."""
    faults = []
    for name, pair in {
        "generation steps": [ranges([step.step for step in table.steps]) for table in (one, other)],
        "variants": [", ".join(abbreviated(variants_of(table))) for table in (one, other)],
        "layers": [ranges(sorted({layer for _, layer in table.heatmap_rows})) for table in (one, other)],
        "positions": [positions_of(table) for table in (one, other)],
    }.items():
        if pair[0] != pair[1]:
            faults.append(f"their {name} differ ({short(pair[0])} and {short(pair[1])})")
    if not faults and one.heatmap_rows != other.heatmap_rows:
        faults.append("their layers differ in some variants")
    return faults


def positions_of(table: ResultTable) -> str:
    """The masked positions of the steps; equal ones are listed once."""
    return ", ".join(dict.fromkeys(ranges(step.positions.tolist()) for step in table.steps))


def short(text: str) -> str:
    """The text, or its beginning where it is long."""
    return (text if len(text) <= 60 else f"{text[:60]}...") or "none"


def variants_of(table: ResultTable) -> list[str]:
    """The table's variants in order."""
    return list(dict.fromkeys(variant for variant, _ in table.heatmap_rows))


def differing_tokens(one: ResultTable, other: ResultTable, screen: Screen) -> Iterator[str]:
    """A line for each position where the tokens of the two differ, at most MOST_LISTED."""
    places = sorted({int(position) for step in one.steps for position in step.positions})
    found = [place for place in places if one.tokens[place] != other.tokens[place]]
    for place in found[:MOST_LISTED]:
        room = max(6, (screen.width - len(f"position {place}: A  B ")) // 2)
        a, b = (screen.quoted(table.tokens[place], room) for table in (one, other))
        yield f"position {place}: A {a} B {b}"
    if len(found) > MOST_LISTED:
        yield f"... and different tokens at {len(found) - MOST_LISTED} more positions"


def differences(one: ResultTable, other: ResultTable, metric: str, screen: Screen) -> Iterator[str]:
    """For each variant a line for each layer, or a single line if all its layers are equal."""
    if all(
        np.array_equal(getattr(a, metric), getattr(b, metric), equal_nan=True) for a, b in zip(one.steps, other.steps)
    ):
        yield f"equal: every {METRICS[metric]} is the same in both"
        return
    yield from screen.lines(
        f"|A - B| of the {METRICS[metric]} over all steps and positions; relative: to A's largest of that "
        "variant and layer"
    )
    yield screen.bold(f"{'variant':<9}{'layer':>5}{'largest':>11}{'mean':>11}{'relative':>11}{'mean':>11}")
    for variant in variants_of(one):
        rows = [row for row, (kind, _) in enumerate(one.heatmap_rows) if kind == variant]
        lines = [(one.heatmap_rows[row][1], *distances_apart(one, other, row, metric)) for row in rows]
        if all(largest == 0 and not lone for _, largest, _, _, lone in lines):
            yield f"{screen.padded(variant, 8)} equal in all layers"
            continue
        for layer, largest, mean, scale, lone in lines:
            relative = [value / scale if scale > 0 else 0 if value == 0 else np.nan for value in (largest, mean)]
            figures = "".join(f"{number(value):>11}" for value in (largest, mean, *relative))
            yield f"{screen.padded(variant, 8)} {layer:>5}{figures}" + (
                f"  {lone} undefined in one alone" if lone else ""
            )


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


def changes(one: ResultTable, other: ResultTable, metric: str, screen: Screen) -> Iterator[str]:
    """The strongest tokens of each step and variant in which they differ or have another order."""
    total = changed = 0
    without = "" if one.left_out is None else f" (position {one.left_out} left out)"
    for place, step in enumerate(one.steps):
        for variant in variants_of(one):
            a, b = (strongest_tokens(table, TOP, place, variant, metric) for table in (one, other))
            total += 1
            if [token.position for token in a] != [token.position for token in b]:
                changed += 1
                yield f"step {step.step}, {screen.safe(variant)}: the {TOP} strongest tokens{without} changed"
                yield f"  A  {tokens_in_line(a, screen)}"
                yield f"  B  {tokens_in_line(b, screen)}"
    where = f"all {total}" if not changed else f"{total - changed} of {total}"
    yield from screen.lines(
        f"the {TOP} strongest tokens are the same, in the same order, in {where} pairs of step and variant"
    )


def tokens_in_line(tokens: Sequence[StrongToken], screen: Screen) -> str:
    """`3 " France", 1 " capital"`, each cut so that all fit into the line."""
    room = (screen.width - 5) // max(1, len(tokens)) - 2
    texts = [
        f"{token.position} {screen.quoted(token.text, max(5, room - len(str(token.position)) - 1))}" for token in tokens
    ]
    return ", ".join(texts) or "none"
