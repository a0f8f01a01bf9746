"""Names cut to a column's width where they are the same, so that what tells them apart stays.

short_names(["the_capital_of_france_is_the_city_of", "the_capital_of_chad_is_the_city_of"], 30)
# ["the_capital_of_france...ity_of", "the_capital_of_chad..._city_of"]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from os.path import commonprefix

from mask_impact.base.terminal import columns_of

GAP = "..."


def short_names(names: Sequence[str], most: int) -> list[str]:
    """The names, those wider than `most` columns cut;
    different names stay different, in wider columns where `most` is too few."""
    places = telling_places(set(names))
    widest = max(map(columns_of, names), default=0)
    for columns in range(most, widest):
        shown = [shortened(name, *places[name], columns) for name in names]
        if len(set(shown)) == len(places):
            return shown
    return list(names)


def telling_places(names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Of each name the stretch outside of which it is like some other name:
    the index of its first character, and past its last."""
    before, after = shared(names), shared([name[::-1] for name in names])
    ends = {name: (before[name], len(name) - after[name[::-1]]) for name in names}
    return {name: (max(0, min(a, b - 1)), min(len(name), max(a + 1, b))) for name, (a, b) in ends.items()}


def shared(names: Collection[str]) -> dict[str, int]:
    """How many of its first characters each name has in common with the name most like it."""
    ordered = sorted(names)
    common = [len(commonprefix(pair)) for pair in pairwise(ordered)]  # noqa: RUF071 (letter by letter is what is wanted)
    return dict(zip(ordered, map(max, [0, *common], [*common, 0])))


def shortened(name: str, first: int, last: int, columns: int) -> str:
    """The name in at most so many columns: without its middle where that shows both ends of what tells,
    else with what tells."""
    if columns_of(name) <= columns:
        return name
    head, tail = beginning(name, (columns - 3) // 2), ending(name, (columns - 2) // 2)
    start, stop = words(name, first, last)
    if columns_of(name[start:stop]) > columns - 2 * len(GAP):
        start, stop = first, last
    gap = range(len(head), len(name) - len(tail))
    if start < gap.start <= gap.stop < stop or stop <= gap.start or gap.stop <= start:
        return head + GAP + tail
    return around(name[:start], name[start:stop], name[stop:], columns)


def words(name: str, first: int, last: int) -> tuple[int, int]:
    """The stretch, widened to whole words."""
    while first > 0 and name[first - 1].isalnum():
        first -= 1
    while last < len(name) and name[last].isalnum():
        last += 1
    return first, last


def around(before: str, core: str, after: str, columns: int) -> str:
    """The core with what stands before and after it, as far as there is room; one of the two whole if that goes."""
    room = columns - columns_of(core)
    if room < 2 * len(GAP):
        inner = columns - 3 * len(GAP)
        return GAP + beginning(core, inner // 2) + GAP + ending(core, inner - inner // 2) + GAP
    left, right = columns_of(before), columns_of(after)
    left = left if left + len(GAP) <= room else room - right if right + len(GAP) <= room else room // 2
    start = before if columns_of(before) <= left else beginning(before, left - len(GAP)) + GAP
    rest = room - columns_of(start)
    return start + core + (after if right <= rest else GAP + ending(after, rest - len(GAP)))


def beginning(text: str, columns: int) -> str:
    """As much of the text's beginning as fits into so many columns."""
    return text[: sum(taken <= columns for taken in accumulate(map(columns_of, text)))]


def ending(text: str, columns: int) -> str:
    """As much of the text's end as fits into so many columns."""
    return beginning(text[::-1], columns)[::-1]
