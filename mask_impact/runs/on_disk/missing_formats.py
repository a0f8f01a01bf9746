"""Makes the files that an existing result lacks (formats, report) from its tables, without measuring again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from mask_impact.base import console
from mask_impact.base.errors import RequestError, RunError
from mask_impact.base.formats import FORMATS
from mask_impact.base.json_text import json_bytes
from mask_impact.base.whole_files import write_whole
from mask_impact.results import report
from mask_impact.results.folder import OutputFolder, knockout_rows
from mask_impact.results.paths import knockout_path, report_path, results_path, unfinished_folder
from mask_impact.results.reading import read_table
from mask_impact.results.stored_table import StoredTable
from mask_impact.results.writing import WRITERS
from mask_impact.runs.on_disk.finished_steps import FinishedSteps
from mask_impact.runs.on_disk.locks import name_lock
from mask_impact.runs.planning import NamedRun

READ_FIRST = ("parquet", "csv", "json")


def make_missing_files(plan: NamedRun) -> bool:
    """Make the files that a finished result lacks and print a line for each; False if its table cannot be read.

    Raises RunError if a file cannot be written.
    """
    folder, name, quiet = plan.folder, plan.name, plan.settings.quiet
    replacing = (OutputFolder(folder, only=name).unfinished_record(name) or {}).get("overwrite") is True
    if replacing:
        console.say(f"{folder / name}: a run that was to replace it was cut off; with --overwrite it goes on", quiet)
    elif unfinished_folder(folder, name).parent.exists():
        with suppress(RunError):
            clear_killed_run(folder, name)
    if not plan.missing_files:
        console.say(
            f"{folder / name}: this result is there, with the same settings; --overwrite measures it again", quiet
        )
        return True
    try:
        made = [*write_missing_formats(plan), *write_missing_report(plan)]
    except RequestError as error:
        console.warn(f"{name}: {error}; it is measured again")
        return False
    for path in made:
        console.say(f"{path}: made from the result that is there", quiet)
    return True


def clear_killed_run(folder: Path, name: str) -> None:
    """Remove what a killed process left of a run whose result is whole, unless another process is at work there."""
    with name_lock(folder, name) as held:
        if held:
            FinishedSteps(folder, name).clear()


def table_path(plan: NamedRun, path_of: Callable[[Path, str, str], Path] = results_path) -> Path:
    """The result's table, or another that `path_of` finds, in the format that is read fastest."""
    form = next(form for form in READ_FIRST if form in plan.choice.formats)
    return path_of(plan.folder, plan.name, form)


def write_missing_formats(plan: NamedRun) -> list[Path]:
    """Write the missing formats. Raises RequestError for a table that cannot be read, RunError if writing fails."""
    missing = [form for form in plan.missing_files if form in FORMATS]
    if not missing:
        return []
    files: dict[Path, Callable[[Path], object]] = {}
    for path_of in (results_path,) if knockout_rows(plan.choice.record) is None else (results_path, knockout_path):
        table, run = read_table(table_path(plan, path_of))
        text, stored = json_bytes(run or plan.choice.record), StoredTable(table)
        files |= {
            path_of(plan.folder, plan.name, form): partial(WRITERS[form], stored, run_text=text) for form in missing
        }
    write_whole(files)
    return list(files)


def write_missing_report(plan: NamedRun) -> list[Path]:
    """Write the missing report; warn if the table is too long for one. Raises as `write_missing_formats` does."""
    if "report" not in plan.missing_files:
        return []
    if too_long := report.report_fault(plan.choice.record.get("rows", 0)):
        console.warn(f"{plan.name}: {too_long}")
        return []
    path = report_path(plan.folder, plan.name)
    report.write_report(table_path(plan), plan.choice.record, path)
    return [path]
