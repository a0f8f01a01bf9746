"""A heatmap as text: a row for each layer, a column for each token or unit, a block for each distance.

for line in block_picture(table, "l2", Screen()):
    print(line)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mask_impact.base.terminal import BLOCKS, LEVELS, RAMP, Screen
from mask_impact.results.strongest import METRICS, strongest_tokens
from mask_impact.results.table import CELL_COLUMNS, ResultTable

UNDEFINED, ZERO, ROUNDING = -2, -1, 0  # levels beside those from 1 to LEVELS
MARKS = {True: {UNDEFINED: "?", ZERO: "·", ROUNDING: "~"}, False: {UNDEFINED: "?", ZERO: ".", ROUNDING: "~"}}
# Columns of a token, the gap included: at most, and where the picture does not fit into one piece.
WIDEST, FOLDED = 10, 5
BESIDE = 16  # columns of the screen that the layer and its largest distance take
MOST_LINES = 100  # of a picture; three pieces of 30 layers


def block_picture(
    table: ResultTable,
    metric: str,
    screen: Screen,
    floor: Sequence[float | None] | None = None,
    whole: bool = False,
) -> Iterator[str]:
    """The lines of the picture of a table of one step, one variant and one kind of units.

    A unit stands under its first position. `floor` is the noise floor of each layer (None where unknown). Each layer
    has its own scale, up to its largest distance without position 0; a larger one at position 0 looks the same. A
    picture that is too wide for the screen is cut into pieces.
    """
    [step], texts = table.steps, labels(table)
    values, apart = getattr(step, metric).astype(np.float64), step.alone(table.left_out)
    largest = scales(values, apart)
    levels = levels_of(values, largest, floor)
    names = [f"{layer:>5} {number(value):>9} " for (_, layer), value in zip(table.heatmap_rows, largest)]
    shown = np.arange(len(texts))
    width, count = side_by_side(texts, step.positions, screen)
    lines, fitting = -(-len(texts) // count) * (len(names) + 3), max(1, (screen.width - BESIDE + 1) // width)
    if lines > MOST_LINES and len(texts) > fitting and not whole:
        shown = strongest_columns(table, metric, fitting)
        yield from screen.lines(
            f"The {len(shown)} of {len(texts)} {step.kinds[0]} that move the layers most, in their order; "
            f"--all draws every one ({lines:,} lines)"
        )
    yield from pieces(names, step.positions[shown], [texts[place] for place in shown], levels[:, shown], screen)
    left_out, drawn = table.left_out_in(step), bool(apart[shown].any())
    yield from screen.lines(legend(levels[:, shown], metric, screen, left_out, drawn))


def pieces(
    names: Sequence[str], positions: np.ndarray, texts: Sequence[str], levels: np.ndarray, screen: Screen
) -> Iterator[str]:
    """The picture of levels (layer, column) in pieces as wide as the screen, an empty line behind each."""
    width, count = side_by_side(texts, positions, screen)
    for first in range(0, len(texts), count):
        part = slice(first, first + count)
        yield f"{'layer':>5} {'largest':>9} " + "".join(f"{position:<{width}}" for position in positions[part]).rstrip()
        yield " " * BESIDE + "".join(screen.padded(text, width - 1) + " " for text in texts[part]).rstrip()
        for name, row in zip(names, levels[:, part]):
            yield name + " ".join(screen.painted(mark(level, screen) * (width - 1), level) for level in row)
        yield ""


def strongest_columns(table: ResultTable, metric: str, count: int) -> np.ndarray:
    """The places of the `count` columns that move the layers most, ascending; of the first ones where no distance is
    defined."""
    [step] = table.steps
    places = np.array(sorted(token.place for token in strongest_tokens(table, count, metric=metric)), dtype=np.int64)
    return places if len(places) else np.arange(min(count, len(step.positions)))


def scales(values: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """The largest distance of each layer (layer,) without the columns left out (column,); with them if all others are
    0, -1 if none is defined."""
    rest = values[:, ~left_out]
    rest = np.where(np.isnan(rest), 0, rest).max(1, initial=0)
    return np.where(rest > 0, rest, np.where(np.isnan(values), -1, values).max(1, initial=-1))


def levels_of(values: np.ndarray, largest: np.ndarray, floor: Sequence[float | None] | None = None) -> np.ndarray:
    """The level of each distance (layer, position): UNDEFINED, ZERO, ROUNDING (at or below the noise floor), or 1 to
    LEVELS in proportion to the layer's largest."""
    floors = np.array([0 if value is None else value for value in floor or [None] * len(values)], dtype=np.float64)[
        :, None
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.ceil(values / largest[:, None] * LEVELS)
    levels = np.clip(np.nan_to_num(parts, nan=1), 1, LEVELS).astype(int)
    levels[values <= floors] = ROUNDING
    levels[values == 0] = ZERO
    levels[np.isnan(values)] = UNDEFINED
    return levels


def labels(table: ResultTable) -> list[str]:
    """The heading of each column: its text without the first space, a picture's cell as `row,column`."""
    [step] = table.steps
    texts = [column_heading(text) for text in table.texts(step)]
    if not set(CELL_COLUMNS) <= set(table.extra_columns) or set(step.kinds) - {"tokens"}:
        return texts
    cells = zip(*(table.extra_values(step)[name].to_pylist() for name in CELL_COLUMNS))
    return [text if row is None else f"{row},{column}" for text, (row, column) in zip(texts, cells)]


def column_heading(token: str) -> str:
    """A token without its first space, which takes room and says little; a token of spaces as underscores."""
    return token.removeprefix(" ") if token.strip(" ") else "_" * len(token)


def side_by_side(texts: Sequence[str], positions: np.ndarray, screen: Screen) -> tuple[int, int]:
    """Columns for each token with the gap behind it, and how many tokens stand side by side on the screen."""
    widths, last = [screen.columns(text) for text in texts], int(positions.max(initial=0))
    return column_widths(widths, last, screen.width - BESIDE)


def column_widths(texts: Sequence[int], last: int, room: int) -> tuple[int, int]:
    """Columns for each token and its gap, and how many tokens stand side by side in `room` columns."""
    least = len(str(last)) + 1
    width = max(least, min(WIDEST, max(texts, default=0) + 1))
    if len(texts) * width > room:
        width = max(least, min(width, max(FOLDED, room // max(1, len(texts)))))
    side_by_side = max(1, (room + 1) // width)
    pieces = max(1, -(-len(texts) // side_by_side))
    return width, max(1, -(-len(texts) // pieces))


def mark(level: int, screen: Screen) -> str:
    """The character of a level."""
    return (BLOCKS if screen.unicode else RAMP)[level - 1] if level > 0 else MARKS[screen.unicode][level]


def legend(levels: np.ndarray, metric: str, screen: Screen, left_out: int | None = 0, drawn: bool = True) -> str:
    """What the characters mean; those outside the scale only if they occur."""
    words = {ZERO: "exactly 0", ROUNDING: "at or below the noise floor", UNDEFINED: "undefined, no key is left"}
    others = "".join(f"; {mark(level, screen)} {said}" for level, said in words.items() if (levels == level).any())
    ramp = BLOCKS if screen.unicode else RAMP
    without = "" if left_out is None else f" without position {left_out}"
    larger = f" Position {left_out} may be larger than it is drawn." if without and drawn else ""
    return (
        f"Each layer has its own scale: {ramp} from 0 to the layer's largest {METRICS[metric]}{without}, the "
        f"number beside the layer{others}.{larger}"
    )


def number(value: float) -> str:
    """A distance in three digits; a dash if it is undefined."""
    return f"{value:.3g}" if value >= 0 else "-"
