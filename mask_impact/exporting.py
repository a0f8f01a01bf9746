"""A result in another format, bit for bit, with every column that it has.

    export(Path("output/capital_results.csv"), "parquet", Screen())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mask_impact import console
from mask_impact.errors import RequestError
from mask_impact.files import write_whole
from mask_impact.formats import JSON_ROWS
from mask_impact.jsontext import json_bytes
from mask_impact.lookup import refuse_present
from mask_impact.names import RESULT_FILE
from mask_impact.reading import read_table, run_record_of
from mask_impact.terminal import Screen
from mask_impact.writers import WRITERS, run_path

_BATCH_ROWS = 262_144


class StoredTable:
    """A table that was read, in the form that the writers take: `schema`, `batches`, `heatmaps`; text as a dictionary."""

    def __init__(self, table: pa.Table):
        text = pa.dictionary(pa.int32(), pa.string())
        coded = [text if pa.types.is_string(field.type) else field.type for field in table.schema]
        self.schema = pa.schema(list(zip(table.column_names, coded)))
        self._table = table

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table, in batches of bounded size."""
        for first in range(0, self._table.num_rows, _BATCH_ROWS):
            yield self._batch(first, min(first + _BATCH_ROWS, self._table.num_rows))

    def heatmaps(self) -> Iterator[pa.RecordBatch]:
        """The whole table, one batch for each run of rows of one generation step and variant."""
        columns = [self._table[name].combine_chunks() for name in ("generation_step", "variant")]
        step, variant = (column.dictionary_encode().indices.to_numpy() for column in columns)
        ends = np.flatnonzero((np.diff(step) != 0) | (np.diff(variant) != 0)) + 1
        edges = [0, *ends.tolist(), self._table.num_rows] if self._table.num_rows else []
        for first, last in zip(edges, edges[1:]):
            yield self._batch(first, last)

    def _batch(self, first: int, last: int) -> pa.RecordBatch:
        columns = [column.combine_chunks() for column in self._table.slice(first, last - first).columns]
        coded = [column.dictionary_encode() if pa.types.is_string(column.type) else column for column in columns]
        return pa.RecordBatch.from_arrays(coded, schema=self.schema)


def export(path: Path, form: str, screen: Screen, overwrite: bool = False) -> None:
    """Write the result in a file beside it; its run file too, where only the Parquet file holds the run.

    Raises RequestError for a result that cannot be read, a file that is there (unless `overwrite`), a run file that is another
    run's, and more rows than JSON holds; RunError if it cannot be written.
    """
    if path.is_dir():
        raise RequestError(f"{path}: this run is not finished; show and report can look at its steps, and the same command goes on with it")
    if path.suffix.lower() == f".{form}":
        raise RequestError(f"{path} is {form} already; name another format with --to")
    target = path.with_suffix(f".{form}")
    refuse_present(target, overwrite)
    table, run = read_table(path)
    if form == "json" and table.num_rows > JSON_ROWS:
        raise RequestError(f"{path}: {table.num_rows:,} rows are more than the {JSON_ROWS:,} that JSON holds; take parquet or csv")
    text = json_bytes(run or {})
    files = {target: partial(WRITERS[form], StoredTable(table), run_text=text)}
    if form != "parquet" and run is not None and (beside := missing_run_file(path, run)):
        files[beside] = lambda temporary: temporary.write_bytes(text)
    write_whole(files)
    console.say(screen.safe(f"wrote {' and '.join(map(str, files))}: {table.num_rows:,} rows"))


def missing_run_file(path: Path, run: Mapping[str, Any]) -> Path | None:
    """Where the run file belongs if it is not there. Raises RequestError if another run's is."""
    match = RESULT_FILE.fullmatch(path.name)
    file = None if match is None else run_path(path.parent, match[1])
    if file is None or not file.exists():
        return file
    if run_record_of(file, file.read_bytes()) != run:
        raise RequestError(f"{file} belongs to another run than {path}; move {path.name} into a folder of its own first")
    return None
