"""Finds results by what a user types (a name, a file, a folder), and reads them, finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mask_impact.base.errors import RequestError, first_line
from mask_impact.base.formats import FORMATS
from mask_impact.results.frame import refuse_knockouts, table_of
from mask_impact.results.paths import RESULT_FILE, results_path, run_path, unfinished_folder
from mask_impact.results.reading import read_results
from mask_impact.results.table import COLUMNS, DISTANCES, INTERACTION, ResultTable
from mask_impact.settings import readers
from mask_impact.settings.text_settings import Settings

if TYPE_CHECKING:
    import pandas as pd


KEYS = tuple(name for name in COLUMNS if name not in DISTANCES)


SMALLEST_FIRST = tuple(reversed(FORMATS))


MOST_LISTED = 20


def find(word: str) -> Path:
    """The table's file for a result file, a run file, a report or a name such as output/capital; a knock-out file.

    For an unfinished run with finished steps it is their folder. Raises RequestError, one line with the results that
    exist, if there is none.
    """
    try:
        path = Path(readers.path(word))
        match = RESULT_FILE.fullmatch(path.name)
        table = match and (match[3] or match[4])
        if path.is_file() and (match is None or table):
            return path
        name = path.name if match is None else match[1]
        below = Path(Settings.output_dir, path.parent)
        folders = [path.parent, below] if path.name == word or below.is_dir() else [path.parent]
        if not table:
            for folder in folders:
                for form in SMALLEST_FIRST:
                    if (found := results_path(folder, name, form)).is_file():
                        return found
                if any((steps := unfinished_folder(folder, name).parent).glob("step_*")):
                    return steps
        if path.is_dir():
            raise RequestError(f"{word}: this is a folder; name a result in it: {results_in([path])}")
        raise RequestError(f"{word}: {why_missing(folders, name)}")
    except (OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{readers.quoted(word)}: no result can be found there ({reason})") from None


def why_missing(folders: list[Path], name: str) -> str:
    """Why result `name` has no table: an unfinished run, or no such result, with the names that exist."""
    for folder in folders:
        if any(unfinished_folder(folder, name).parent.glob("step_*")):
            return f"this run is not finished; {str(folder / name)!r} stands for the steps that it has"
        if ended := how_it_ended(folder, name):
            return f"this run is not finished ({ended}) and has no table; run it again"
    where = " or ".join(repr(str(folder)) for folder in dict.fromkeys(folders))
    hint = readers.did_you_mean(name, names_in(folders))
    return f"there is no such result{hint or ';'} in {where} there is {results_in(folders)}"


def names_in(folders: list[Path]) -> list[str]:
    """The names of the results that lie in these folders."""
    return sorted(
        {
            match[1]
            for folder in folders
            if folder.is_dir()
            for path in folder.iterdir()
            if (match := RESULT_FILE.fullmatch(path.name)) and match[3] in FORMATS
        }
    )


def results_in(folders: list[Path]) -> str:
    """The names of the results in these folders, in a line, or "none"."""
    names = names_in(folders)
    return ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "") or "none"


def how_it_ended(folder: Path, name: str) -> str:
    """How a run without a table ended, and why, by its run file; empty without one, or if it says `complete`."""
    if not (run := run_path(folder, name)).is_file():
        return ""
    record = json.loads(run.read_bytes())
    if not isinstance(record, dict) or record.get("status") == "complete":
        return ""
    return f"{record.get('status')}: {record.get('reason', 'no reason is recorded')}"


def setting(run: Mapping[str, Any], name: str) -> Any:
    """A setting in a run record, or None."""
    settings = run.get("settings")
    return settings.get(name) if isinstance(settings, Mapping) else None


def question(run: Mapping[str, Any]) -> str:
    """The prompt of a run, or its messages one behind the other, each with its role."""
    turns = setting(run, "messages")
    known = isinstance(turns, list) and all(isinstance(turn, Mapping) for turn in turns)
    if not known:
        return str(setting(run, "prompt"))
    return "  ".join(f"{turn.get('role')}: {turn.get('content')}" for turn in turns)


def read(path: Path) -> pd.DataFrame:
    """The DataFrame of a result. Raises RequestError for a knock-out table, and if it has no rows, or a row lacks
    anything but distances."""
    frame = read_unfinished(path) if path.is_dir() else read_results(path)
    refuse_knockouts(frame, f"{path}: ")
    if frame.empty:
        raise RequestError(f"{path}: the table has no rows, so there is nothing to look at")
    if frame[list(KEYS)].isna().any(axis=None):
        raise RequestError(f"{path}: rows without a value for one of {', '.join(KEYS)}; write it again")
    return frame


def read_unfinished(folder: Path) -> pd.DataFrame:
    """The finished steps of an unfinished run. Raises RequestError if none can be read."""
    from mask_impact.runs.on_disk.finished_steps import SafetensorError, unfinished_table

    try:
        table, run = unfinished_table(folder.parent.parent, folder.name) or (None, None)
        frame = None if table is None else table.to_dataframe()
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(
            f"{folder}: cannot be read ({first_line(error)}); the run may have ended meanwhile, else start it again"
        ) from None
    if frame is None:
        raise RequestError(f"{folder}: no step in it can be read; start the run again")
    frame.attrs["run"] = run
    return frame


def as_table(path: Path, frame: pd.DataFrame) -> ResultTable:
    """The rows of a DataFrame as arrays. Raises RequestError if some are missing."""
    try:
        return table_of(frame)
    except (ValueError, TypeError):
        raise RequestError(
            f"{path}: rows are missing, or not in the order in which they were written; write it again"
        ) from None


def needs_interactions(path: Path, table: ResultTable) -> None:
    """Raise RequestError for a table that has none."""
    if INTERACTION not in table.unit_columns:
        raise RequestError(f"--metric interaction: {path} has no pairs of units; --pairs measures them")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise RequestError for a file that exists, unless `overwrite`."""
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists already; --overwrite replaces it")


def ranges(numbers: list[int]) -> str:
    """Ascending numbers as text, such as `0-2, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def abbreviated(variants: list[str]) -> list[str]:
    """The variants, with more than three heads as `Head_0 to Head_15`."""
    heads = [name for name in variants if name.startswith("Head_")]
    whole = [name for name in variants if name not in heads]
    return [*whole, f"{heads[0]} to {heads[-1]}"] if len(heads) > 3 else [*whole, *heads]
