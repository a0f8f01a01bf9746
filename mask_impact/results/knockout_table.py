"""The knock-out table of a run: one row per generation step, cut, window of layers, head and unit.

    rows = KnockoutRows(0, "final", first, last, head, unit, logprob_change, logit_change, kl_divergence, top)
    table = KnockoutTable(UnitLabels(["The", " cat"], ["tokens"] * 2, ["0", "1"]), [" sat"], [rows])
    table.to_dataframe()

Rows may be given in any order. The table puts them in its own and makes the columns a few hundred thousand rows at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mask_impact.results.table import UnitLabels, coded_schema, values_at
from mask_impact.settings.text_settings import CUTS

if TYPE_CHECKING:
    import pandas as pd

READINGS = ("logprob_change", "logit_change", "kl_divergence")
ARRAYS = ("layer_first", "layer_last", "head", "unit", *READINGS, "top")  # of rows
KNOCKOUT_COLUMNS = (
    "generation_step",
    "cut",
    "layer_first",
    "layer_last",
    "head",
    "token_masked",
    "token_position",
    "unit",
    "positions",
    *READINGS,
    "top_token",
)
TEXTS = ("cut", "token_masked", "unit", "positions", "top_token")

_BATCH_ROWS = 262_144


def knockout_types(reading: pa.DataType) -> dict[str, pa.DataType]:
    """The Arrow type of each column, given that of the three changes (float32 or float64)."""
    own = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(READINGS, reading)
    return {name: own.get(name, pa.int64()) for name in KNOCKOUT_COLUMNS}


@dataclass(frozen=True)
class KnockoutRows:
    """Rows of one step and one cut; every array is (row,).

    Layers are inclusive, `head` is -1 where a cut is not in one head; `unit` and `top` are places in the table's
    `units` and `tops`. Changes are float64, NaN where undefined, and `top` is then -1; `first_order` has
    `logprob_change` alone. Raises ValueError for another cut or arrays of several lengths.
    """

    step: int
    cut: str
    layer_first: np.ndarray
    layer_last: np.ndarray
    head: np.ndarray
    unit: np.ndarray
    logprob_change: np.ndarray
    logit_change: np.ndarray
    kl_divergence: np.ndarray
    top: np.ndarray

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ARRAYS}
        if self.cut not in CUTS or {*shapes.values()} != {(len(self.unit),)}:
            raise ValueError(
                f"rows of a knock-out are (row,), their cut is one of {', '.join(CUTS)}: {self.cut} {shapes}"
            )

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, places: np.ndarray | slice) -> KnockoutRows:
        """The rows at these places, in this order."""
        return KnockoutRows(self.step, self.cut, *(getattr(self, name)[places] for name in ARRAYS))


@dataclass(frozen=True)
class KnockoutTable:
    """Every change of a run's answer, for each step, cut and unit.

    `units` are those of all steps, `tops` the texts of what the model says after a cut. `columns` are the last columns
    by name, (position,): text, or whole numbers that may be null. `dtype` is that of the changes in columns and files.
    Raises ValueError for rows of units or tops that are not there.
    """

    units: UnitLabels
    tops: list[str]
    rows: Sequence[KnockoutRows]
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))

    def __post_init__(self) -> None:
        units, tops = len(self.units.texts), len(self.tops)
        for rows in filter(len, self.rows):
            if min(rows.unit.min(), rows.top.min() + 1) < 0 or rows.unit.max() >= units or rows.top.max() >= tops:
                raise ValueError(f"step {rows.step}, {rows.cut}: rows beyond the {units} units and {tops} tops")

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The Arrow type of each column, by name, in order."""
        extra = {name: values.type for name, values in self.columns.items()}
        return knockout_types(pa.from_numpy_dtype(self.dtype)) | extra

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch: all columns, text as a dictionary."""
        return coded_schema(self.types)

    @cached_property
    def ordered(self) -> list[KnockoutRows]:
        """The rows of each step and cut that has some, in the table's order."""
        key = lambda rows: (rows.step, CUTS.index(rows.cut))
        groups = groupby(sorted(filter(len, self.rows), key=key), key=key)
        return [self._in_order(joined(list(parts))) for _, parts in groups]

    def _in_order(self, rows: KnockoutRows) -> KnockoutRows:
        """The rows by their layers, head and unit's first position."""
        first = self.units.first[rows.unit]
        return rows.take(np.lexsort((rows.unit, first, rows.head, rows.layer_last, rows.layer_first)))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, in batches of bounded size; none for a table without rows."""
        for rows in self.ordered:
            for first in range(0, len(rows), _BATCH_ROWS):
                yield self._batch(rows.take(slice(first, first + _BATCH_ROWS)))

    def row_groups(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, one batch for each generation step and cut."""
        yield from map(self._batch, self.ordered)

    def _batch(self, rows: KnockoutRows) -> pa.RecordBatch:
        """The table's columns for some rows, in order; what is undefined or empty is null."""
        units, first = self.units, self.units.first
        extra = values_at(first, self.columns, units.single).values()
        chosen = pa.array(rows.unit)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(len(rows), rows.step, np.int64)),
                coded([rows.cut], np.zeros(len(rows), np.int64)),
                pa.array(rows.layer_first, pa.int64()),
                pa.array(rows.layer_last, pa.int64()),
                pa.array(rows.head, pa.int64(), mask=rows.head < 0),
                coded(units.texts, rows.unit),
                pa.array(first[rows.unit]),
                coded(units.kinds, rows.unit),
                coded(units.positions, rows.unit),
                *(changes(getattr(rows, name), self.dtype) for name in READINGS),
                coded(self.tops, rows.top),
                *(
                    values.dictionary_encode().take(chosen) if pa.types.is_string(values.type) else values.take(chosen)
                    for values in extra
                ),
            ],
            schema=self.schema,
        )

    def to_arrow(self) -> pa.Table:
        """The whole table, text as text."""
        plain = pa.schema(list(self.types.items()))
        return pa.Table.from_batches([batch.cast(plain) for batch in self.batches()], plain)

    def to_dataframe(self) -> pd.DataFrame:
        """The whole table as `read_results` gives it: int64, text, changes in `dtype`; NaN for what is null."""
        return self.to_arrow().to_pandas()


def joined(parts: Sequence[KnockoutRows]) -> KnockoutRows:
    """Rows of one step and one cut, at least one of them, as one."""
    arrays = [np.concatenate([getattr(rows, name) for rows in parts]) for name in ARRAYS]
    return KnockoutRows(parts[0].step, parts[0].cut, *arrays)


def changes(values: np.ndarray, dtype: np.dtype) -> pa.Array:
    """The values in this dtype, NaN as null; 0 without a sign, as JSON's `-0` is read as a whole number."""
    return pa.array(values.astype(dtype) + 0.0, from_pandas=True)


def coded(texts: Sequence[str | None], places: np.ndarray) -> pa.DictionaryArray:
    """The texts at these places, null for a negative one, as a dictionary."""
    return pa.array(texts, pa.string()).dictionary_encode().take(pa.array(places, mask=places < 0))
