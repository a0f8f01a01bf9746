"""An output folder: which results it has, and whether it can be written to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mask_impact.base.errors import RequestError
from mask_impact.base.file_names import name_key
from mask_impact.base.formats import FORMATS
from mask_impact.results.paths import RESULT_FILE, UNFINISHED


def folder_faults(folder: Path) -> list[str]:
    """A fault if the folder cannot be written to; the try leaves nothing in it."""
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(f"{str(nearest)!r} is a file")
        with tempfile.TemporaryFile(dir=nearest):
            return []
    except OSError as error:
        reason = error.strerror or str(error)
        return [f"--output-dir {str(folder)!r} cannot be written ({reason}); choose another folder"]


class OutputFolder:
    """The results in an output folder, or those of the name `only` in this very spelling; none if there is no such
    folder.

    Raises RequestError if the folder cannot be listed.
    """

    def __init__(self, folder: Path, only: str | None = None):
        self._files: dict[str, list[Path]] = {}
        self._spelled: dict[str, str] = {}
        found = _listed(folder) if only is None else _of_name(folder, only)
        for path in sorted(found, key=lambda path: not path.name.lower().endswith("_run.json")):
            if match := RESULT_FILE.fullmatch(path.name):
                self._files.setdefault(name_key(match[1]), []).append(path)
                self._spelled.setdefault(name_key(match[1]), match[1])
        unfinished = _listed(folder / UNFINISHED) if only is None else [folder / UNFINISHED / only]
        self._unfinished = {name_key(path.name): path for path in unfinished if path.is_dir()}

    def files(self, name: str) -> list[Path]:
        """The result files of a name, the run file first."""
        return self._files.get(name_key(name), [])

    def record(self, name: str) -> dict[str, Any] | None:
        """The record in a name's run file; None if there is no readable one."""
        files = self.files(name)
        return _record(files[0]) if files and files[0].name.lower().endswith("_run.json") else None

    def unfinished_record(self, name: str) -> dict[str, Any] | None:
        """The record of a name's unfinished run; None if there is no readable one."""
        folder = self._unfinished.get(name_key(name))
        return None if folder is None else _record(folder / "run.json")

    def spelling_of(self, name: str) -> str:
        """The name as its files in the folder spell it; as given if there are none."""
        unfinished = self._unfinished.get(name_key(name))
        return self._spelled.get(name_key(name), unfinished.name if unfinished else name)


def knockout_rows(record: Mapping[str, Any]) -> int | None:
    """How many rows a result's knock-out table has by its run record; None if it has no such table."""
    knockout = record.get("knockout")
    rows = knockout.get("rows") if isinstance(knockout, Mapping) else None
    return rows if isinstance(rows, int) else None


def whole_formats(files: Iterable[Path], record: Mapping[str, Any]) -> frozenset[str]:
    """The formats in which these result files have every table that the record tells of, and "report" if one is it."""
    found = [match for path in files if (match := RESULT_FILE.fullmatch(path.name))]
    reports, tables, knockouts = ({match[place] for match in found if match[place]} for place in (2, 3, 4))
    return frozenset(reports | (tables if knockout_rows(record) is None else tables & knockouts))


def _of_name(folder: Path, name: str) -> list[Path]:
    """The result files of a name in this spelling, looked up one by one: a folder of thousands takes long to list."""
    endings = ["run.json", "report.html", *(f"{table}.{form}" for table in ("results", "knockout") for form in FORMATS)]
    return [path for ending in endings if (path := folder / f"{name}_{ending}").exists()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        fault = f"--output-dir: cannot list {str(folder)!r} ({error.strerror}); choose another folder"
        raise RequestError(fault) from None


def _record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
