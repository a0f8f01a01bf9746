"""The end of a batch: a table of all its entries, and `{config stem}_summary.csv` beside their results.

Both are made from the run files, so that they have entries that were finished earlier, or failed, like the others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from mask_impact.base import console
from mask_impact.base.errors import RunError
from mask_impact.base.short_names import short_names
from mask_impact.base.terminal import columns_of
from mask_impact.base.whole_files import make_folder, write_whole
from mask_impact.results.paths import run_path, unfinished_folder
from mask_impact.runs.batch import is_done
from mask_impact.runs.on_disk.finished_steps import FinishedSteps
from mask_impact.runs.on_disk.locks import name_lock
from mask_impact.runs.planning import NamedRun

if TYPE_CHECKING:
    from mask_impact.runs.batch import Failure

COLUMNS = {
    "name": pa.string(),
    "status": pa.string(),
    "tokens": pa.int64(),
    "steps": pa.int64(),
    "rows": pa.int64(),
    "seconds": pa.float64(),
    "generated_text": pa.string(),
    "first_token_probability": pa.float64(),
    "top_position": pa.int64(),
    "top_token": pa.string(),
    "reason": pa.string(),
}
UNIT_COLUMNS = {"top_unit": pa.string(), "top_positions": pa.string()}  # last, where an entry's rows are units
SHOWN = ("name", "status", "tokens", "steps", "rows", "seconds", "strongest token", "generated text, or why not")
NUMBERS = ("tokens", "steps", "rows", "seconds")
LONGEST_NAME, LONGEST_TOKEN, LONGEST_TEXT, LONGEST_REASON = 30, 20, 40, 250  # characters in the terminal

Row = dict[str, Any]


def print_and_write(plans: Sequence[NamedRun], failures: Collection[Failure]) -> None:
    """After a batch, print its table and write its summary; do nothing for a prompt of the command line.

    `plans` are all entries, `failures` those that failed now. A summary that cannot be written is only a warning, as
    every result is there.
    """
    settings = plans[0].settings
    if settings.batch_file is None:
        return
    reasons = {failure.plan.name: failure.reason for failure in failures}
    rows = [summary_row(plan, reasons.get(plan.name)) for plan in plans]
    path = summary_path(settings.output_dir, settings.batch_file)
    for line in table_lines(rows):
        console.say(line, settings.quiet)
    try:
        with name_lock(path.parent, path.stem) as held:
            if held:
                place = FinishedSteps(path.parent, f".{path.stem}")  # no result has such a name
                make_folder(place.folder)
                try:
                    write_whole({path: lambda temporary: write_summary(rows, temporary)}, folder=place.folder)
                finally:
                    place.clear()
                console.say(f"wrote {path}", settings.quiet)
            else:
                console.warn(f"{path} is being written by another run of this batch, and not by this one")
    except RunError as error:
        console.warn(f"the summary is missing: {error}")


def summary_path(folder: str, batch_file: str) -> Path:
    """Where the summary of a batch file lies. No file of a result ends so."""
    return Path(folder) / f"{Path(batch_file).stem}_summary.csv"


def summary_row(plan: NamedRun, reason: str | None) -> Row:
    """The row of an entry from its run file; `reason` is why it failed now, which may not have been recorded."""
    row = dict.fromkeys(COLUMNS | UNIT_COLUMNS) | {"name": plan.name, "tokens": len(plan.prompt.token_ids)}
    path = run_path(plan.folder, plan.name)
    try:
        summary = row | row_from_record(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        summary = row | row_without_run_file(path.parent, plan.name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        summary = row | {"status": "unreadable", "reason": f"{path.name} cannot be read"}
    if reason is None:
        other = summary["status"] == "complete" and not is_done(plan)
        return row | {"status": "missing", "reason": "a run with other settings has this name"} if other else summary
    kept = "; the result of this name is kept" if summary["status"] == "complete" else ""
    return summary | {"status": "failed", "reason": reason + kept}


def row_without_run_file(folder: Path, name: str) -> Row:
    """The row of a run without a run file: its finished steps, if it was begun."""
    if not unfinished_folder(folder, name).exists():
        return {"status": "missing"}
    steps = len(list(unfinished_folder(folder, name).parent.glob("step_*")))
    return {"status": "unfinished", "steps": steps, "reason": "the same command goes on from there"}


def row_from_record(record: Row) -> Row:
    """The columns that a run record fills. Raises LookupError, TypeError or AttributeError if it is no run record."""
    if record["status"] != "complete":
        return {"status": str(record["status"]), "reason": str(record.get("reason") or "")}
    strongest = (record.get("strongest") or [{}])[0]  # records of earlier versions have none
    return {
        "status": "complete",
        "tokens": record["prompt_length"],
        "steps": len(record["steps"]),
        "rows": record["rows"],
        "seconds": record["seconds"],
        "generated_text": record["generated_text"],
        "first_token_probability": (record["steps"][0]["next"] or {"probability": None})["probability"],
        "top_position": strongest.get("position"),
        "top_token": strongest.get("text"),
        "top_unit": strongest.get("unit"),
        "top_positions": strongest.get("positions"),
    }


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV like the results': text and the header quoted, numbers not, missing values empty."""
    whole = [{name: utf8(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    columns = COLUMNS | (UNIT_COLUMNS if any(row.get("top_unit") is not None for row in rows) else {})
    pa.csv.write_csv(pa.Table.from_pylist(whole, pa.schema(list(columns.items()))), path)


def utf8(text: str) -> str:
    """The text with lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def table_lines(rows: Sequence[Row]) -> list[str]:
    """The table for the terminal: a line of headings, a line for each row, and how many have which status."""
    names = short_names([console.escape_unprintable(row["name"]) for row in rows], LONGEST_NAME)
    cells = [SHOWN, *map(shown, rows, names)]
    widths = [max(map(columns_of, column)) for column in zip(*cells)]
    lines = ["  ".join(aligned(*each) for each in zip(SHOWN, line, widths)).rstrip() for line in cells]
    counts = {
        status: sum(row["status"] == status for row in rows) for status in dict.fromkeys(row["status"] for row in rows)
    }
    return [*lines, ", ".join(f"{count} {status}" for status, count in counts.items())]


def shown(row: Row, name: str) -> tuple[str, ...]:
    """A row's cells for the terminal, in the order of SHOWN, its name as it is shown."""
    numbers = [
        "" if row[name] is None else f"{row[name]:,.1f}" if name == "seconds" else f"{row[name]:,}" for name in NUMBERS
    ]
    text = "" if row["generated_text"] is None else repr(row["generated_text"])
    end, longest = (text, LONGEST_TEXT) if row["status"] == "complete" else (row["reason"] or "", LONGEST_REASON)
    return (
        name,
        row["status"],
        *numbers,
        strongest_shown(row),
        cut(console.escape_unprintable(end), longest),
    )


def strongest_shown(row: Row) -> str:
    """A row's strongest token and its position, or its unit, with all its positions and its kind."""
    if row["top_position"] is None:
        return ""
    text, unit = cut(repr(row["top_token"]), LONGEST_TOKEN), row.get("top_unit")
    return f"{text} at {row['top_position']}" if unit is None else f"{text} at {row['top_positions']} ({unit})"


def cut(text: str, most: int) -> str:
    """The text without its end where it is too long."""
    return text if len(text) <= most else text[: most - 3] + "..."


def aligned(heading: str, text: str, columns: int) -> str:
    """The text in so many columns, numbers to the right."""
    gap = " " * (columns - columns_of(text))
    return gap + text if heading in NUMBERS else text + gap
