"""Writes an existing result, with its knock-outs, in another format, bit for bit, with all its columns.

export(Path("output/capital_results.csv"), "parquet", Screen())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.base.formats import JSON_ROWS
from mask_impact.base.json_text import json_bytes
from mask_impact.base.terminal import Screen
from mask_impact.base.whole_files import write_whole
from mask_impact.lookup.find import SMALLEST_FIRST, refuse_existing
from mask_impact.results.paths import RESULT_FILE, knockout_path, run_path
from mask_impact.results.reading import read_table, run_record_of
from mask_impact.results.stored_table import StoredTable
from mask_impact.results.writing import WRITERS

if TYPE_CHECKING:
    import pyarrow as pa


def export(path: Path, form: str, screen: Screen, overwrite: bool = False) -> None:
    """Write the result in a file beside it, its knock-out table likewise if that is not there, and its run file if only
    the Parquet file holds the run record. A knock-out table is written alone.

    Raises RequestError for a table that cannot be read, a file that exists (unless `overwrite`), a run file of another
    run, and more rows than JSON holds; RunError if it cannot be written.
    """
    if path.is_dir():
        raise RequestError(
            f"{path}: this run is not finished; show and report can look at its steps, and the "
            "same command goes on with it"
        )
    if path.suffix.lower() == f".{form}":
        raise RequestError(f"{path} is {form} already; name another format with --to")
    refuse_existing(path.with_suffix(f".{form}"), overwrite)
    tables = {
        each.with_suffix(f".{form}"): read_for(each, form) for each in (path, *knockouts_of(path, form, overwrite))
    }
    files: dict[Path, Callable[[Path], object]] = {
        target: partial(WRITERS[form], StoredTable(table), run_text=json_bytes(run or {}))
        for target, (table, run) in tables.items()
    }
    run = tables[path.with_suffix(f".{form}")][1]
    if form != "parquet" and run is not None and (beside := missing_run_file(path, run)):
        files[beside] = lambda temporary: temporary.write_bytes(json_bytes(run))
    write_whole(files)
    rows = " and ".join(f"{table.num_rows:,}" for table, _ in tables.values())
    console.say(screen.safe(f"wrote {', '.join(map(str, files))}: {rows} rows"))


def read_for(path: Path, form: str) -> tuple[pa.Table, dict[str, Any] | None]:
    """A table and its run record. Raises RequestError if it cannot be read, or has more rows than JSON holds."""
    table, run = read_table(path)
    if form == "json" and table.num_rows > JSON_ROWS:
        raise RequestError(
            f"{path}: {table.num_rows:,} rows are more than the {JSON_ROWS:,} that JSON holds; take parquet or csv"
        )
    return table, run


def knockouts_of(path: Path, form: str, overwrite: bool) -> list[Path]:
    """The result's knock-out table, to be written in this format too: in the result's own format if it is there.

    None if there is no such table, if it has the format already (unless `overwrite`), or if `path` is one itself.
    """
    match = RESULT_FILE.fullmatch(path.name)
    if match is None or not match[3] or (knockout_path(path.parent, match[1], form).exists() and not overwrite):
        return []
    others = [match[3], *SMALLEST_FIRST]
    found = [knockout_path(path.parent, match[1], other) for other in others if other != form]
    return [one for one in found if one.is_file()][:1]


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
