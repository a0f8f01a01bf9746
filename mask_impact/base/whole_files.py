"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mask_impact.base.errors import RunError, first_line

# A file that is being written is touched every few seconds; one untouched this long was left by a killed process.
_ABANDONED_SECONDS = 3600


def write_whole(
    files: Mapping[Path, Callable[[Path], object]],
    outdated: Iterable[Path] = (),
    folder: Path | None = None,
    to_disk: bool = True,
) -> None:
    """Write every file under a temporary name, delete `outdated`, then give the files their names, in order.

    `files` maps each final path to the function that writes it. Temporary files lie in `folder` (on the same file
    system, written to by this process alone), or else beside the final ones. Existing files stay as they are until all
    new ones are written, and no temporary file stays, however it ends. With `to_disk` the bytes are on the disk before
    a file gets its name: a full disk raises in time, and a power cut leaves whole files. Raises RunError, one line with
    file and reason.
    """
    outdated = list(outdated)
    temporaries = {path: (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp" for path in files}
    try:
        _sweep([folder / path.name if folder else path for path in files], 0 if folder else _ABANDONED_SECONDS)
        for path, write in files.items():
            with _one_line("written", path):
                write(temporaries[path])
                if to_disk:
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
        raise RunError(
            f"{path} could not be {done}: it is open in another program, or it or its folder is "
            f"write-protected; close that program or choose another folder"
        ) from error
    except OSError as error:
        reason = (
            os.strerror(error.errno) if error.errno else first_line(error)
        )  # Arrow's own strerror says more, and less plainly
        raise RunError(f"{path} could not be {done}: {reason}; make room or choose another folder") from error


def _check_replaceable(path: Path) -> None:
    """Raise PermissionError, while the old result is still whole, for a file that a spreadsheet holds open."""
    if path.exists():
        with open(path, "r+b"):
            pass


def _to_disk(path: Path) -> None:
    """Flush the file to the disk, so that a full disk raises before the file has its name."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _sweep(files: Collection[Path], seconds: float) -> None:
    """Remove the temporary files of killed processes for these files, untouched for `seconds`.

    Each folder is listed once, as a batch's may hold thousands of files.
    """
    prefixes = tuple(f".{path.name}." for path in files)
    for folder in {path.parent for path in files}:
        with suppress(OSError):
            for path in [
                folder / name for name in os.listdir(folder) if name.startswith(prefixes) and name.endswith(".tmp")
            ]:
                _remove_abandoned(path, seconds)


def _remove_abandoned(path: Path, seconds: float) -> None:
    """Remove a temporary file that nothing has written to for `seconds`."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime >= seconds:
            path.unlink()
