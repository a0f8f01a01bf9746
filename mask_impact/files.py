"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mask_impact.errors import RunError, first_line

# A file that is being written is touched every few seconds; one untouched this long was left by a killed process.
_ABANDONED_SECONDS = 3600


def write_whole(files: Mapping[Path, Callable[[Path], None]], outdated: Iterable[Path] = ()) -> None:
    """Write every file under a temporary name beside it, delete `outdated`, then give the files their names, in order.

    `files` maps each final path to the function that writes it. Until all of them are written nothing that exists is
    touched; however it ends, no temporary file stays. Raises RunError, one line with file and reason.
    """
    outdated = list(outdated)
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    try:
        for path, write in files.items():
            with _one_line("written", path):
                _sweep(path)
                write(temporaries[path])
                _to_disk(temporaries[path])
        for path in [*outdated, *files]:
            with _one_line("replaced", path):
                _check_replaceable(path)
        for path in outdated:
            with _one_line("replaced", path):
                path.unlink(missing_ok=True)
        for path, temporary in temporaries.items():
            with _one_line("replaced", path):
                os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make the folder and its parents if they are not there; raises RunError, one line."""
    with _one_line("made", folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _one_line(done: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a RunError that names the file and the reason."""
    try:
        yield
    except PermissionError as error:
        raise RunError(f"{path} could not be {done}: it is open in another program, or it or its folder is "
                       f"write-protected; close that program or choose another folder") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)  # Arrow's own strerror says more, and less plainly
        raise RunError(f"{path} could not be {done}: {reason}; make room or choose another folder") from error


def _check_replaceable(path: Path) -> None:
    """Raise PermissionError while the old result is still whole: a spreadsheet that has a file open lets nobody else
    write it."""
    if path.exists():
        with open(path, "r+b"):
            pass


def _to_disk(path: Path) -> None:
    """Let a full disk show now, and not after the file has its name."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _sweep(path: Path) -> None:
    """Remove what killed processes left of this file."""
    prefix = f".{path.name}."
    for found in path.parent.iterdir():
        if found.name.startswith(prefix) and found.suffix == ".tmp":
            with suppress(OSError):
                if time.time() - found.stat().st_mtime > _ABANDONED_SECONDS:
                    found.unlink()
