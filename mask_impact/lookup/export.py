"""Writes an existing result in another format, bit for bit, with all its columns.

export(Path("output/capital_results.csv"), "parquet", Screen())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.base.formats import JSON_ROWS
from mask_impact.base.json_text import json_bytes
from mask_impact.base.terminal import Screen
from mask_impact.base.whole_files import write_whole
from mask_impact.lookup.find import refuse_existing
from mask_impact.results.paths import RESULT_FILE, run_path
from mask_impact.results.reading import read_table, run_record_of
from mask_impact.results.stored_table import StoredTable
from mask_impact.results.writing import WRITERS


def export(path: Path, form: str, screen: Screen, overwrite: bool = False) -> None:
    """Write the result in a file beside it, and its run file if only the Parquet file holds the run record.

    Raises RequestError for a result that cannot be read, a file that exists (unless `overwrite`), a run file of another
    run, and more rows than JSON holds; RunError if it cannot be written.
    """
    if path.is_dir():
        raise RequestError(
            f"{path}: this run is not finished; show and report can look at its steps, and the "
            "same command goes on with it"
        )
    if path.suffix.lower() == f".{form}":
        raise RequestError(f"{path} is {form} already; name another format with --to")
    target = path.with_suffix(f".{form}")
    refuse_existing(target, overwrite)
    table, run = read_table(path)
    if form == "json" and table.num_rows > JSON_ROWS:
        raise RequestError(
            f"{path}: {table.num_rows:,} rows are more than the {JSON_ROWS:,} that JSON holds; take parquet or csv"
        )
    text = json_bytes(run or {})
    files: dict[Path, Callable[[Path], object]] = {target: partial(WRITERS[form], StoredTable(table), run_text=text)}
    if form != "parquet" and run is not None and (beside := missing_run_file(path, run)):
        files[beside] = lambda temporary: temporary.write_bytes(text)
    write_whole(files)
    console.say(screen.safe(f"wrote {' and '.join(map(str, files))}: {table.num_rows:,} rows"))


def missing_run_file(path: Path, run: Mapping[str, Any]) -> Path | None:
    """The path of the run file if it is missing. Raises RequestError if another run's file is there."""
    match = RESULT_FILE.fullmatch(path.name)
    file = None if match is None else run_path(path.parent, match[1])
    if file is None or not file.exists():
        return file
    if run_record_of(file, file.read_bytes()) != run:
        raise RequestError(
            f"{file} belongs to another run than {path}; move {path.name} into a folder of its own first"
        )
    return None
