"""From coarse to fine: where hiding every token in turn would cost too much, larger units first, then what lies inside
the few that matter.

    found = refine(("sentences", "words", "tokens"), units_of, effect, partial(passes, tokens=2048))
    found.units, found.changes, found.refined
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from mask_impact.cuts.units import Unit

BUDGET = 24.0  # plain forward passes, of all levels together
MOST_UNITS = 48  # that are hidden one by one to begin with, or in place of one unit
SHARE, MOST_REFINED = 0.9, 4  # refined are the units that make up this share of the summed change, at most so many

Cost = Callable[[Sequence[Unit]], float]  # what hiding each of some units costs, in plain forward passes


@dataclass
class Refinement:
    """What was measured: the units level by level, and the change that hiding each made.

    `refined` says for the run file what was looked into, level by level, strongest first: its `share` of the level's
    summed change, what kind it divides `into` and how many `pieces`, how many `units` were hidden in its place, and
    their cost in `passes` of those `left`. Fewer units than pieces are neighbours hidden as one; 0 of them: too dear.
    """

    units: list[Unit] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    refined: list[dict[str, object]] = field(default_factory=list)
    passes: float = 0.0


def passes(units: Sequence[Unit], tokens: int) -> float:
    """What hiding each of these units costs, in plain forward passes of a text of so many tokens: of each one the
    positions behind its first are run again."""
    return sum(tokens - 1 - unit.positions[0] for unit in units) / tokens


def refine(
    kinds: Sequence[str],
    units_of: Callable[[str], Sequence[Unit]],
    effect: Callable[[Sequence[Unit]], Sequence[float]],
    cost: Cost,
    budget: float = BUDGET,
) -> Refinement:
    """Hide units level by level, while all together cost at most `budget` passes.

    `kinds` end with the one that no other divides, `tokens`; all of that kind are hidden at once where the budget
    allows it. `effect` hides each of some units and returns what that changes; NaN where that is undefined.
    """
    lists = sorted((units_of(kind) for kind in kinds), key=len)  # the fewer, the coarser
    found = Refinement()
    if cost(lists[-1]) <= budget:
        level = list(lists[-1])
    else:
        whole = Unit("", "all", tuple(sorted(position for unit in lists[-1] for position in unit.positions)))
        level = _next_level(found, [(whole, 1.0)], lists, cost, budget)
    while level:
        changes = effect(level)
        found.units += level
        found.changes += map(float, changes)
        found.passes += cost(level)
        level = _next_level(found, strongest(level, changes), lists, cost, budget - found.passes)
    return found


def strongest(units: Sequence[Unit], changes: Sequence[float]) -> list[tuple[Unit, float]]:
    """The units that make up SHARE of the summed change, strongest first, at most MOST_REFINED, each with its share."""
    strength = np.abs(np.nan_to_num(np.asarray(changes, dtype=np.float64)))
    if not strength.any():
        return []
    share = strength / strength.sum()
    order = np.argsort(-share, kind="stable")
    enough = int(np.searchsorted(np.cumsum(share[order]), SHARE)) + 1
    return [(units[number], float(share[number])) for number in order[: min(enough, MOST_REFINED)].tolist()]


def pieces_of(unit: Unit, lists: Sequence[Sequence[Unit]]) -> list[Unit]:
    """What divides this unit, from the first list of which several units lie in it and leave nothing out; no pieces of
    a single position."""
    held = set(unit.positions)
    for units in lists:
        inside = [piece for piece in units if held.issuperset(piece.positions)]
        if len(inside) > 1 and sum(len(piece.positions) for piece in inside) == len(held):
            return inside
    return []


def joined(units: Sequence[Unit], cost: Cost, most: float) -> list[Unit]:
    """As few neighbours as possible hidden as one, so that all cost at most so many passes; none if two cost more."""
    for size in range(max(2, ceil(len(units) / MOST_UNITS)), len(units)):
        runs = [run_of(units[start : start + size]) for start in range(0, len(units), size)]
        if cost(runs) <= most:
            return runs
    return []


def run_of(units: Sequence[Unit]) -> Unit:
    """Neighbours as one unit of their kind."""
    if len(units) == 1:
        return units[0]
    positions = sorted(position for unit in units for position in unit.positions)
    return Unit(f"{units[0].label} \u2026 {units[-1].label}", units[0].kind, tuple(positions))


def _next_level(
    found: Refinement,
    parents: Sequence[tuple[Unit, float]],
    lists: Sequence[Sequence[Unit]],
    cost: Cost,
    budget: float,
) -> list[Unit]:
    """The units to hide in place of these, which have a share each, for at most `budget` passes; noted in `found`."""
    level: list[Unit] = []
    for unit, share in parents:
        if not (pieces := pieces_of(unit, lists)):
            continue
        left = budget - cost(level)
        chosen = pieces
        if len(pieces) > MOST_UNITS or cost(pieces) > left:
            chosen = joined(pieces, cost, left / 2)  # half stays, for what lies inside
        found.refined.append(_note(unit, share, pieces, chosen, cost(chosen), left))
        level += chosen
    return level


def _note(
    unit: Unit, share: float, pieces: Sequence[Unit], chosen: Sequence[Unit], cost: float, left: float
) -> dict[str, object]:
    """The entry of `refined` for one unit."""
    where = {"text": unit.label, "unit": unit.kind, "positions": unit.where, "share": share}
    return where | {
        "into": pieces[0].kind,
        "pieces": len(pieces),
        "units": len(chosen),
        "passes": cost,
        "left": left,
    }
