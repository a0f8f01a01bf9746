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
from mask_impact.results.rests_on import HEADS, SMALLEST_SHOWN, knockout_of, largest_units
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
# Behind them, each where an entry has something there: where rows are units, and of knock-outs the first unit and its
# change of the log-probability, in nats.
UNIT_COLUMNS = {"top_unit": pa.string(), "top_positions": pa.string()}
KNOCKOUT_COLUMNS = {
    f"{name}{end}": kind
    for name in HEADS
    for end, kind in {"": pa.string(), "_positions": pa.string(), "_change": pa.float64()}.items()
}
NUMBERS = ("tokens", "steps", "rows", "seconds")
RESTS_ON = "rests on"  # a heading; left out where no entry has it
SHOWN = ("name", "status", *NUMBERS, RESTS_ON, "moves the layers most", "generated text, or why not")
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
    row = dict.fromkeys(COLUMNS | UNIT_COLUMNS | KNOCKOUT_COLUMNS) | {
        "name": plan.name,
        "tokens": len(plan.prompt.token_ids),
    }
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
        **knockout_cells(record),
    }


def knockout_cells(record: Row) -> Row:
    """The columns that a run record with knock-outs fills: what the answer rests on most, and where it is read."""
    cells: Row = {}
    for name in HEADS:
        for unit in largest_units(knockout_of(record), name)[:1]:
            change = float(unit["logprob_change"])
            cells |= {name: unit["text"], f"{name}_positions": unit["positions"], f"{name}_change": change}
    return cells


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV like the results': text and the header quoted, numbers not, missing values empty."""
    whole = [{name: utf8(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    columns = COLUMNS.copy()
    for names in (UNIT_COLUMNS, KNOCKOUT_COLUMNS):
        columns |= names if any(row.get(name) is not None for row in rows for name in names) else {}
    pa.csv.write_csv(pa.Table.from_pylist(whole, pa.schema(list(columns.items()))), path)


def utf8(text: str) -> str:
    """The text with lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def table_lines(rows: Sequence[Row]) -> list[str]:
    """The table for the terminal: a line of headings, a line for each row, and how many have which status."""
    names = short_names([console.escape_unprintable(row["name"]) for row in rows], LONGEST_NAME)
    columns = [each for each in zip(SHOWN, *map(shown, rows, names)) if each[0] != RESTS_ON or any(each[1:])]
    texts = [aligned(each) for each in columns]
    lines = ["  ".join(line).rstrip() for line in zip(*texts)]
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
        rests_on_shown(row),
        strongest_shown(row),
        cut(console.escape_unprintable(end), longest),
    )


def rests_on_shown(row: Row) -> str:
    """The unit that a row's answer rests on most, and the change without it; nothing if that is 0.00."""
    change = row.get("rests_on_change")
    if change is None or abs(change) < SMALLEST_SHOWN:
        return ""
    return f"{cut(repr(row['rests_on']), LONGEST_TOKEN)} {change:+.2f}"


def strongest_shown(row: Row) -> str:
    """A row's token that moves the layers most, and its position; of a unit all its positions and its kind."""
    if row["top_position"] is None:
        return ""
    text, unit = cut(repr(row["top_token"]), LONGEST_TOKEN), row.get("top_unit")
    return f"{text} at {row['top_position']}" if unit is None else f"{text} at {row['top_positions']} ({unit})"


def cut(text: str, most: int) -> str:
    """The text without its end where it is too long."""
    return text if len(text) <= most else text[: most - 3] + "..."


def aligned(column: Sequence[str]) -> list[str]:
    """The texts of a column, its heading first, all as wide as the widest; numbers to the right."""
    width = max(map(columns_of, column))
    gaps = [" " * (width - columns_of(text)) for text in column]
    return [gap + text if column[0] in NUMBERS else text + gap for text, gap in zip(column, gaps)]
