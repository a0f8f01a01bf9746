"""Writes a result: its table {name}_results.csv, .json, .parquet, its knock-out table {name}_knockout.csv, .json,
.parquet if it has one, and last {name}_run.json, without which it does not exist.

write_results(table, Path("output"), "capital", ("csv", "json"), run_record)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mask_impact.base.errors import RunError
from mask_impact.base.json_text import json_bytes
from mask_impact.base.whole_files import make_folder, write_whole
from mask_impact.results.knockout_table import READINGS, KnockoutTable
from mask_impact.results.paths import knockout_path, report_path, results_path, run_path
from mask_impact.results.table import DISTANCES, INTERACTION, ResultTable

RUN_KEY = "mask_impact_run"


class LongTable(Protocol):
    """What the writers need of a table."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch, text as a dictionary."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table, in batches of bounded size."""

    def row_groups(self) -> Iterator[pa.RecordBatch]:
        """The whole table, in the pieces that a reader of Parquet may want alone."""


def write_results(
    table: ResultTable,
    folder: Path,
    name: str,
    formats: tuple[str, ...],
    run_record: Mapping[str, Any],
    temporaries: Path | None = None,
    knockout: KnockoutTable | None = None,
) -> list[Path]:
    """Write the table, then the knock-out table, in each of `formats`, then the run file; return the paths in that
    order.

    Until they are whole the files lie in the folder `temporaries`, if that is given. An earlier result of this name
    stays whole until every new file is written. Then its run file is deleted first, so that a result exists with its
    own run file or not at all; its other tables and its report are deleted too. The run file gets the number of rows
    as "rows", and in its "knockout" that of the knock-out table, by which readers notice a table that was cut short.
    Raises RunError, one line, if a file cannot be written or a number is infinite; KeyError for an unknown format.
    """
    _refuse_infinities(table)
    record = {**run_record, "rows": len(table)}
    if knockout is not None:
        _refuse_infinite_changes(knockout)
        record["knockout"] = {**record.get("knockout", {}), "rows": len(knockout)}
    text = json_bytes(record)
    tables = {
        place(folder, name, form): partial(WRITERS[form], own, run_text=text)
        for place, own in ((results_path, table), (knockout_path, knockout))
        for form in formats
        if own is not None
    }
    run_file = run_path(folder, name)
    every = [place(folder, name, form) for place in (results_path, knockout_path) for form in WRITERS]
    make_folder(folder)
    outdated = [run_file, report_path(folder, name), *(path for path in every if path not in tables)]
    write_whole({**tables, run_file: lambda path: path.write_bytes(text)}, outdated, temporaries)
    return [*tables, run_file]


def write_failure(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Write the run file of a run that failed, with the reason in it.

    Raises RunError, one line, if the file cannot be written.
    """
    text = json_bytes(record)
    make_folder(folder)
    write_whole({run_path(folder, name): lambda path: path.write_bytes(text)})


def write_csv(table: LongTable, path: Path, run_text: bytes = b"{}") -> None:
    """UTF-8 without a mark; text and the header quoted, numbers not; nothing where there is none.

    Floats are the shortest text that gives the value back in its dtype (float32: 0.1, not 0.10000000149011612).
    """
    with open(path, "wb") as file, pa.csv.CSVWriter(file, table.schema) as writer:
        for batch in table.batches():
            writer.write_batch(batch)


def write_json(table: LongTable, path: Path, run_text: bytes = b"{}") -> None:
    """One object of columns, a column to a line; null where there is none. Only one batch is in memory at a time."""
    with open(path, "wb") as file:
        for column, name in enumerate(table.schema.names):
            file.write(f'{"," if column else "{"}\n"{name}": ['.encode())
            for number, batch in enumerate(table.batches()):
                file.write(b"," if number else b"")
                file.write(_joined(batch.column(column)))
            file.write(b"]")
        file.write(b"\n}\n")


def _joined(column: pa.Array) -> pa.Buffer | bytes:
    """The JSON texts of a column's values with commas between them; text columns come as dictionaries."""
    if pa.types.is_dictionary(column.type):
        words = [json.dumps(word, ensure_ascii=False).encode() for word in column.dictionary.to_pylist()]
        return b",".join([b"null" if code is None else words[code] for code in column.indices.to_pylist()])
    texts = column.cast(pa.string()).fill_null("null")
    return pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), ",")[0].as_buffer()


def write_parquet(table: LongTable, path: Path, run_text: bytes = b"{}") -> None:
    """Snappy, one row group for each generation step and variant or cut, the run record under `mask_impact_run`.

    `store_schema=False` leaves out Arrow's own schema, which would make other readers show text as categories.
    """
    coded = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    with pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=coded, store_schema=False) as writer:
        for group in table.row_groups():
            writer.write_batch(group, row_group_size=group.num_rows)
        writer.add_key_value_metadata({RUN_KEY: run_text})


WRITERS: dict[str, Callable[..., None]] = {"csv": write_csv, "json": write_json, "parquet": write_parquet}


def _refuse_infinities(table: ResultTable) -> None:
    """Raise RunError, naming the place, if a distance is infinite."""
    for step in table.steps:
        for column, distances in zip((*DISTANCES, INTERACTION), (step.l2, step.cosine, step.interaction)):
            if distances is not None and len(found := np.argwhere(np.isinf(distances))):
                row, place = found[0]
                variant, layer = table.heatmap_rows[row]
                raise RunError(
                    f"{column} is infinite at generation step {step.step}, {variant}, layer {layer}, "
                    f"{step.named(place)}: nothing was written; try --dtype float32"
                )


def _refuse_infinite_changes(table: KnockoutTable) -> None:
    """Raise RunError, naming the place, if a change is infinite."""
    for rows in table.rows:
        for name in READINGS:
            if len(found := np.flatnonzero(np.isinf(getattr(rows, name)))):
                unit = rows.unit[found[0]]
                raise RunError(
                    f"{name} is infinite at generation step {rows.step}, cut {rows.cut}, {table.units.kinds[unit]} "
                    f"{table.units.positions[unit]}: nothing was written; try --dtype float32"
                )
