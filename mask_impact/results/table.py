"""The long table of a run: one row per generation step, variant, layer and masked position.

    table = ResultTable(tokens=["The", " cat"], heatmap_rows=[("Full", 0), ("Attn", 0)])
    table.steps.append(StepDistances(step=0, l2=l2, cosine=cosine))     # each (heatmap row, position)
    table.to_dataframe()

A heatmap row is one variant at one layer. The distances stay the arrays that were measured; the other columns follow
from them and are made a few hundred thousand rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("generation_step", "layer", "token_masked", "token_position", "variant", "l2_distance", "cosine_distance")
DISTANCES = ("l2_distance", "cosine_distance")

# One batch then takes about 12 MB, and a step of 250,000 rows is still one batch.
_BATCH_ROWS = 262_144


def column_types(distance: pa.DataType) -> dict[str, pa.DataType]:
    """The Arrow type of each of the seven columns, given that of the distances (float32 or float64)."""
    text, whole = pa.string(), pa.int64()
    return dict(zip(COLUMNS, (whole, whole, text, whole, text, distance, distance)))


@dataclass(frozen=True)
class UnitLabels:
    """What a step's rows hide, where that is not each position alone: a text, a kind and `3-5` or `3,7` for each."""

    texts: list[str]
    kinds: list[str]
    positions: list[str]


@dataclass
class StepDistances:
    """The distances of one generation step.

    `l2` and `cosine` are (heatmap row, unit), both float32 or both float64, at least 0, NaN where undefined.
    `positions` (unit,) are the positions that were masked, ascending, or with `units` the first position of each; None
    for all from 0 on. `interaction` (heatmap row, unit) has the L2 of pairs' interactions, NaN elsewhere. Raises
    ValueError if shapes or dtypes differ.
    """

    step: int
    l2: np.ndarray
    cosine: np.ndarray
    positions: np.ndarray
    units: UnitLabels | None
    interaction: np.ndarray | None

    def __init__(
        self,
        step: int,
        l2: np.ndarray,
        cosine: np.ndarray,
        positions: np.ndarray | None = None,
        units: UnitLabels | None = None,
        interaction: np.ndarray | None = None,
    ) -> None:
        self.step, self.l2, self.cosine, self.units, self.interaction = step, l2, cosine, units, interaction
        self.positions = np.arange(l2.shape[-1]) if positions is None else positions
        if self.l2.ndim != 2 or self.l2.shape != self.cosine.shape or self.positions.shape != self.l2.shape[1:]:
            raise ValueError(
                f"distances are (heatmap row, position): l2 has {self.l2.shape}, cosine {self.cosine.shape}, "
                f"positions {self.positions.shape}"
            )
        if self.l2.dtype != self.cosine.dtype or self.l2.dtype not in (np.float32, np.float64):
            raise ValueError(f"distances are float32 or float64: l2 has {self.l2.dtype}, cosine {self.cosine.dtype}")

    def listed(self, left_out: int | None) -> np.ndarray:
        """Which units take part in lists and scales: all but `left_out`, where that is a unit alone: (unit,)."""
        alone = True if self.units is None else np.array([where == str(left_out) for where in self.units.positions])
        return ~((self.positions == left_out) & alone)


@dataclass
class ResultTable:
    """Every distance of a run, with the names of its axes.

    `tokens` has the text of every position of the longest step. `heatmap_rows` has the (variant, layer) pairs,
    variant-major: Full over all layers, Attn over all layers, Head_0 over its layers, ... Step `k` covers its own
    positions; `steps` may read it from a file each time it is used. `extra_columns` are the columns after the seven by
    name, (position,) like `tokens`: text, or whole numbers that may be null.
    """

    tokens: list[str]
    heatmap_rows: list[tuple[str, int]]
    steps: Sequence[StepDistances] = field(default_factory=list)
    extra_columns: dict[str, pa.Array] = field(default_factory=dict)

    @property
    def left_out(self) -> int | None:
        """The position that lists and scales leave out: 0, the usual attention sink, or None if a cell is there."""
        return left_out(self.extra_columns)

    def __len__(self) -> int:
        return sum(step.l2.size for step in self.steps)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the distances; float32 if there are none."""
        return self.steps[0].l2.dtype if self.steps else np.dtype(np.float32)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The Arrow type of each column, by name, in order."""
        return column_types(pa.from_numpy_dtype(self.dtype)) | {
            name: values.type for name, values in self.extra_columns.items()
        }

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch: the seven columns and the extra ones, text as a dictionary."""
        types = self.types
        coded = {
            name: pa.dictionary(pa.int32(), pa.string()) if pa.types.is_string(kind) else kind
            for name, kind in types.items()
        }
        return pa.schema(list(coded.items()))

    def columns(self, step: StepDistances, rows: slice = slice(None)) -> pa.RecordBatch:
        """The table's rows for `step`, or for some of its heatmap rows, in order; undefined distances are null.

        Raises ValueError if the step has another number of heatmap rows than the table, or more positions than tokens.
        """
        if len(step.l2) != len(self.heatmap_rows) or step.positions.max(initial=-1) >= len(self.tokens):
            raise ValueError(
                f"step {step.step} is {step.l2.shape} (heatmap row, position), its last position "
                f"{step.positions.max(initial=-1)}; the table has {len(self.heatmap_rows)} heatmap rows and "
                f"{len(self.tokens)} tokens"
            )
        chosen, l2, cosine = self.heatmap_rows[rows], step.l2[rows].ravel(), step.cosine[rows].ravel()
        count = len(step.positions)
        variants = pa.array([variant for variant, _ in chosen], pa.string()).dictionary_encode()
        layers = np.array([layer for _, layer in chosen], dtype=np.int64)
        tokens = pa.array([self.tokens[position] for position in step.positions], pa.string())
        return pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(l2.size, step.step, dtype=np.int64)),
                pa.array(np.repeat(layers, count)),
                tiled(tokens, len(chosen)),
                pa.array(np.tile(step.positions.astype(np.int64), len(chosen))),
                pa.DictionaryArray.from_arrays(np.repeat(variants.indices, count), variants.dictionary),
                pa.array(l2, from_pandas=True),
                pa.array(cosine, from_pandas=True),
                *(tiled(values.take(pa.array(step.positions)), len(chosen)) for values in self.extra_columns.values()),
            ],
            schema=self.schema,
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, in batches of bounded size; none for a table without rows."""
        for step in self.steps:
            rows = max(1, _BATCH_ROWS // max(1, step.l2.shape[1]))
            for first in range(0, len(self.heatmap_rows), rows):
                yield self.columns(step, slice(first, first + rows))

    def heatmaps(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, one batch for each generation step and variant."""
        for step in self.steps:
            first = 0
            for _, group in groupby(self.heatmap_rows, key=lambda row: row[0]):
                last = first + len(list(group))
                yield self.columns(step, slice(first, last))
                first = last

    def to_dataframe(self) -> pd.DataFrame:
        """The long table: int64, text, and distances in the dtype they were measured in, NaN where undefined.

        Rows are ordered by generation step, variant, layer, position.
        """
        plain = pa.schema(list(self.types.items()))
        return pa.Table.from_batches([batch.cast(plain) for batch in self.batches()], plain).to_pandas()


def left_out(extra_columns: Mapping[str, pa.Array]) -> int | None:
    """The position that lists and scales leave out, from the extra columns: 0, or None if a picture's cell is there."""
    kinds = extra_columns.get("token_type", ())
    return None if len(kinds) and kinds[0].as_py() == "vision" else 0


def tiled(values: pa.Array, times: int) -> pa.Array:
    """The values repeated `times` times in a row, text as a dictionary."""
    if pa.types.is_string(values.type):
        coded = values.dictionary_encode()
        return pa.DictionaryArray.from_arrays(np.tile(coded.indices, times), coded.dictionary)
    return values.take(pa.array(np.tile(np.arange(len(values)), times)))
