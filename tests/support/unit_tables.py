"""Tables whose rows are units: hostile names, several kinds that overlap, pairs, steps that have other units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hard_tables import HOSTILE_TOKENS, hard_distances

from mask_impact.results.table import ResultTable, StepDistances, UnitLabels

HEATMAP_ROWS = [("Full", 0), ("Full", 2), ("Attn", 0), ("Attn", 2), ("Head_1", 2)]
CELLS = {  # of nine positions: text, then a picture of two rows and two columns, then text
    "token_type": pa.array(["text"] * 3 + ["vision"] * 4 + ["text"] * 2),
    "image_index": pa.array([None] * 3 + [0] * 4 + [None] * 2, pa.int64()),
    "patch_row": pa.array([None] * 3 + [0, 0, 1, 1] + [None] * 2, pa.int64()),
    "patch_col": pa.array([None] * 3 + [0, 1, 0, 1] + [None] * 2, pa.int64()),
}
# Text, kind, positions. Two spans share a name's positions; a span and a word are one cell; position 0 alone and not.
UNITS = [
    ("NA", "words", "0"),
    ("007", "words", "1-2"),
    ("img0[0,0]", "words", "3"),
    ("img0", "images", "3-6"),
    ("</script>", "spans", "3,5"),
    ('a "\n', "spans", "3,5"),
    ("", "spans", "0-8"),
    ("A + B", "pairs", "0-1,3"),
    ("\x1b[31m + \u202e", "pairs", "0,3,5"),
]


def units_table(dtype=np.float32, pairs=True, pictures=True, steps=2, units=UNITS) -> ResultTable:
    """A table of hard floats, in whose second step one word has grown and a span is gone."""
    table = ResultTable([f" t{place}" for place in range(9)], HEATMAP_ROWS, extra_columns=CELLS if pictures else {})
    own = [unit for unit in units if pairs or unit[1] != "pairs"]
    for step in range(steps):
        if step:
            own = [(text, kind, "1-3" if where == "1-2" else where) for text, kind, where in own if text]
        table.steps.append(step_of(step, own, dtype, pairs))
    return table


def step_of(number, units, dtype=np.float32, pairs=True) -> StepDistances:
    """A step of these units with hard floats; pairs alone have interactions."""
    shape = len(HEATMAP_ROWS), len(units)
    l2, cosine, interaction = (hard_distances(shape, dtype, 3 * number + which) for which in range(3))
    interaction[:, [kind != "pairs" for _, kind, _ in units]] = np.nan
    positions = np.array([int(where.replace("-", ",").split(",")[0]) for *_, where in units])
    labels = UnitLabels(*map(list, zip(*units)))
    return StepDistances(number, l2, cosine, positions, labels, interaction if pairs else None)


def told(table: ResultTable) -> list[tuple]:
    """The rows as the design describes them, one at a time, by a second implementation; None where there is nothing."""
    rows = []
    for step in table.steps:
        for row, (variant, layer) in enumerate(table.heatmap_rows):
            for place, (text, kind, where) in enumerate(zip(step.units.texts, step.units.kinds, step.units.positions)):
                first = int(where.replace("-", ",").split(",")[0])
                measured = [step.l2[row, place], step.cosine[row, place]]
                pair = [] if step.interaction is None else [step.interaction[row, place]]
                cells = [values[first].as_py() for values in table.extra_columns.values()]
                if cells and where != str(first):
                    cells[2:] = [None, None]
                row_of = [step.step, layer, text, first, variant, *measured, kind, where, *pair, *cells]
                rows.append(tuple(None if value is None or value != value else value for value in row_of))
    return rows


def tokens_as_units(table: ResultTable) -> ResultTable:
    """A plain table whose rows say that they are tokens."""
    labelled = []
    for step in table.steps:
        count = len(step.positions)
        labels = UnitLabels(table.texts(step), ["tokens"] * count, list(map(str, step.positions.tolist())))
        labelled.append(StepDistances(step.step, step.l2, step.cosine, step.positions, labels))
    return replace(table, steps=labelled)


def hostile_kinds(table: ResultTable) -> ResultTable:
    """The table with kinds and positions that nobody would name so."""
    steps = []
    for step in table.steps:
        count = len(step.positions)
        kinds = [HOSTILE_TOKENS[place % 3] for place in range(count)]
        where = [f"\x1b[2J{place}" for place in range(count)]
        steps.append(
            StepDistances(step.step, step.l2, step.cosine, step.positions, UnitLabels(table.texts(step), kinds, where))
        )
    return replace(table, steps=steps)
