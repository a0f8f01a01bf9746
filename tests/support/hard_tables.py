"""Tables that are hard to write: hostile tokens, every shape of float, and what must come back of them."""

import math

import numpy as np

from mask_impact.results.table import COLUMNS, ResultTable, StepDistances
from mask_impact.results.writing import write_results

HOSTILE_TOKENS = [
    "\r",
    "\n",
    "\r\n",
    '"',
    '""',
    ",",
    '","',
    "'",
    "\\",
    "\\n",
    "\t",
    "NA",
    "N/A",
    "null",
    "nan",
    "NaN",
    "None",
    "-inf",
    "007",
    "1e5",
    "0x1F",
    "1_000",
    "true",
    "2024-01-01",
    "",
    " ",
    "  two before and after  ",
    "</script>",
    "<!--",
    "=1+1",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u202eright to left",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469",
    "\u0301",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\x00",
    "a\x00b",
    "\x1b[31m",
    "\x85",
    "\xa0",
    "\u0120the",
    "x" * 10_000,
    "the",
    "the",
    "#",
    ";",
]

# Zero, the smallest subnormal, subnormals, the smallest normal, the largest float32; texts of every shape; and
# 7.038531e-26, the float32 whose shortest text gives the one beside it if parsed as a float64 on the way.
HARD_FLOATS = np.array(
    [
        0.0,
        1e-45,
        3e-45,
        1.1754942e-38,
        1.1754944e-38,
        3.4028235e38,
        math.nan,
        0.1,
        1 / 3,
        1.0,
        16777216.0,
        1e-7,
        9.999999e-5,
        1e10,
        123456.79,
        0.0,
    ],
    np.float32,
)
HARD_FLOATS[-1:] = np.array([0x15AE43FD], np.uint32).view(np.float32)


def hard_table(tokens=HOSTILE_TOKENS, steps=3, dtype=np.float32):
    """Heads that differ per layer, one more position per step, hard floats and random bits in every cell."""
    heatmap_rows = [("Full", 0), ("Full", 2), ("Attn", 0), ("Attn", 2), ("Head_0", 0), ("Head_0", 2), ("Head_1", 2)]
    table = ResultTable(list(tokens), heatmap_rows)
    first = len(tokens) - max(steps, 1) + 1
    for step in range(steps):
        l2, cosine = (
            hard_distances((len(heatmap_rows), first + step), dtype, seed) for seed in (2 * step, 2 * step + 1)
        )
        table.steps.append(StepDistances(step, l2, cosine))
    return table


def hard_distances(shape, dtype, seed):
    """Random bits that are at least 0 and finite or NaN, and among them the hard floats."""
    highest, bits = (2**31, np.uint32) if dtype == np.float32 else (2**63, np.uint64)
    values = np.random.default_rng(seed).integers(0, highest, shape, bits).view(dtype)
    values[~np.isfinite(values)] = np.nan
    count = min(len(HARD_FLOATS), values.size)
    values.ravel()[:count] = HARD_FLOATS[:count]
    return values


def rows_of(table):
    """The table as the design describes it, one row at a time, by a second implementation."""
    for step in table.steps:
        for cell, (variant, layer) in enumerate(table.heatmap_rows):
            for position in range(step.l2.shape[1]):
                yield (
                    step.step,
                    layer,
                    table.tokens[position],
                    position,
                    variant,
                    step.l2[cell, position],
                    step.cosine[cell, position],
                )


def assert_holds(frame, table):
    """Every token, number and bit of `table`, in its order and dtypes."""
    expected = list(zip(*rows_of(table))) or [()] * 7
    assert tuple(frame.columns[:7]) == COLUMNS
    for name, column in zip(COLUMNS[:5], expected):
        assert frame[name].tolist() == list(column)
    for name in ("generation_step", "layer", "token_position"):
        assert frame[name].dtype == np.int64
    for name, column in zip(COLUMNS[5:], expected[5:]):
        assert frame[name].dtype == table.dtype
        assert_same_bits(frame[name].to_numpy(), np.array(column, dtype=table.dtype))


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    whole = ~np.isnan(expected)
    assert found[whole].tobytes() == expected[whole].tobytes()


def written(table, folder, form, run=None, name="a"):
    return write_results(table, folder, name, (form,), {"complete": True} if run is None else run)[0]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())
