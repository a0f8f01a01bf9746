"""Writes a result: {name}_results.csv, .json, .parquet, and last {name}_run.json, without which it does not exist.

write_results(table, Path("output"), "capital", ("csv", "json"), run_record)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mask_impact.base.errors import RunError
from mask_impact.base.json_text import json_bytes
from mask_impact.base.whole_files import make_folder, write_whole
from mask_impact.results.paths import report_path, results_path, run_path
from mask_impact.results.table import DISTANCES, INTERACTION, ResultTable

RUN_KEY = "mask_impact_run"


def write_results(
    table: ResultTable,
    folder: Path,
    name: str,
    formats: tuple[str, ...],
    run_record: Mapping[str, Any],
    temporaries: Path | None = None,
) -> list[Path]:
    """Write the table in each of `formats`, then the run file; return the paths in that order.

    Until they are whole the files lie in the folder `temporaries`, if that is given. An earlier result of this name
    stays whole until every new file is written. Then its run file is deleted first, so that a result exists with its
    own run file or not at all; its tables in other formats and its report are deleted too. The run file gets the number
    of rows as "rows", by which readers notice a table that was cut short. Raises RunError, one line, if a file cannot
    be written or a distance is infinite; KeyError for an unknown format.
    """
    _refuse_infinities(table)
    text = json_bytes({**run_record, "rows": len(table)})
    tables = {results_path(folder, name, form): partial(WRITERS[form], table, run_text=text) for form in formats}
    run_file = run_path(folder, name)
    stale = [path for form in WRITERS if (path := results_path(folder, name, form)) not in tables]
    make_folder(folder)
    outdated = [run_file, report_path(folder, name), *stale]
    write_whole({**tables, run_file: lambda path: path.write_bytes(text)}, outdated, temporaries)
    return [*tables, run_file]


def write_failure(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Write the run file of a run that failed, with the reason in it.

    Raises RunError, one line, if the file cannot be written.
    """
    text = json_bytes(record)
    make_folder(folder)
    write_whole({run_path(folder, name): lambda path: path.write_bytes(text)})


def write_csv(table: ResultTable, path: Path, run_text: bytes = b"{}") -> None:
    """UTF-8 without a mark; text and the header quoted, numbers not; undefined distances empty.

    Floats are the shortest text that gives the value back in its dtype (float32: 0.1, not 0.10000000149011612).
    """
    with open(path, "wb") as file, pa.csv.CSVWriter(file, table.schema) as writer:
        for batch in table.batches():
            writer.write_batch(batch)


def write_json(table: ResultTable, path: Path, run_text: bytes = b"{}") -> None:
    """One object of columns, a column to a line; undefined distances null. Only one batch is in memory at a time."""
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
        return b",".join([words[code] for code in column.indices.to_pylist()])
    texts = column.cast(pa.string()).fill_null("null")
    return pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), ",")[0].as_buffer()


def write_parquet(table: ResultTable, path: Path, run_text: bytes = b"{}") -> None:
    """Snappy, one row group for each generation step and variant, the run record under `mask_impact_run`.

    `store_schema=False` leaves out Arrow's own schema, which would make other readers show text as categories.
    """
    coded = [name for name in table.schema.names if name not in (*DISTANCES, INTERACTION)]
    with pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=coded, store_schema=False) as writer:
        for heatmap in table.heatmaps():
            writer.write_batch(heatmap, row_group_size=heatmap.num_rows)
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
