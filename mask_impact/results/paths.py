"""Where each file of a result lies."""

from __future__ import annotations

import re
from pathlib import Path


def results_path(folder: Path, name: str, form: str) -> Path:
    """Where the table of result `name` lies in the given format."""
    return Path(folder) / f"{name}_results.{form}"


def knockout_path(folder: Path, name: str, form: str) -> Path:
    """Where the knock-out table of result `name` lies in the given format."""
    return Path(folder) / f"{name}_knockout.{form}"


def run_path(folder: Path, name: str) -> Path:
    """Where the run file of result `name` lies."""
    return Path(folder) / f"{name}_run.json"


def report_path(folder: Path, name: str) -> Path:
    """Where the report of result `name` lies."""
    return Path(folder) / f"{name}_report.html"


UNFINISHED = ".partial"  # the folder of unfinished runs, in the output folder


# A result's name; then "report", or the format of its table, or that of its knock-out table.
RESULT_FILE = re.compile(
    r"(.+)_(?:run\.json|(report)\.html|results\.([^.]+)|knockout\.([^.]+))", re.IGNORECASE | re.DOTALL
)


def unfinished_folder(folder: Path, name: str) -> Path:
    """Where the record of an unfinished run lies; its finished steps lie beside it."""
    return Path(folder) / UNFINISHED / name / "run.json"
