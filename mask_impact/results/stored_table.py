"""A table that was read from a file, for writing it again piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from mask_impact.results.table import coded_schema

_BATCH_ROWS = 262_144


class StoredTable:
    """An Arrow table with what the writers need of a table: `schema`, `batches`, `row_groups`; text as a dictionary."""

    def __init__(self, table: pa.Table):
        self.schema = coded_schema({field.name: field.type for field in table.schema})
        self._table = table

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table, in batches of bounded size."""
        for first in range(0, self._table.num_rows, _BATCH_ROWS):
            yield self._batch(first, min(first + _BATCH_ROWS, self._table.num_rows))

    def row_groups(self) -> Iterator[pa.RecordBatch]:
        """The whole table, one batch for each stretch of rows with the same generation step and variant, or cut."""
        kind = "variant" if "variant" in self._table.column_names else "cut"
        columns = [self._table[name].combine_chunks() for name in ("generation_step", kind)]
        step, kinds = (column.dictionary_encode().indices.to_numpy() for column in columns)
        ends = np.flatnonzero((np.diff(step) != 0) | (np.diff(kinds) != 0)) + 1
        edges = [0, *ends.tolist(), self._table.num_rows] if self._table.num_rows else []
        for first, last in pairwise(edges):
            yield self._batch(first, last)

    def _batch(self, first: int, last: int) -> pa.RecordBatch:
        columns = [column.combine_chunks() for column in self._table.slice(first, last - first).columns]
        coded = [column.dictionary_encode() if pa.types.is_string(column.type) else column for column in columns]
        return pa.RecordBatch.from_arrays(coded, schema=self.schema)
