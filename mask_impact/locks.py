"""One process at a time for each result: the lock of its name, in OUTPUT/.partial/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mask_impact.errors import RunError
from mask_impact.files import make_folder
from mask_impact.names import begun_path, name_key

ATTEMPTS = 100  # at a lock whose file others remove in the same moment


@contextmanager
def alone(folder: Path, name: str) -> Iterator[bool]:
    """Hold a result's name in a folder, as the one process that writes it; False where another one has it.

    The lock is the operating system's and ends with the process that holds it; its file is removed at the end. Raises RunError if
    it cannot be made.
    """
    path = begun_path(folder, name).parent.with_name(f"{name_key(name)}.lock")
    lock = _taken(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            with suppress(OSError):  # on Windows not while it is held
                path.unlink()
            lock.release()
            with suppress(OSError):
                path.unlink(missing_ok=True) if os.name == "nt" else None
                path.parent.rmdir()


def _taken(path: Path) -> FileLock | None:
    """The lock of this file, or None where another process has it.

    One that waited at a file which its holder then removed holds nothing: the file must be the same before and after.
    """
    lock = FileLock(path, is_singleton=False)
    for _ in range(ATTEMPTS):
        make_folder(path.parent)
        with suppress(FileNotFoundError):
            try:
                path.touch()
                before = path.stat().st_ino
                lock.acquire(timeout=0)
            except Timeout:
                return None
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunError(f"{path} could not be locked: {error.strerror or error}; choose another folder") from error
            if path.exists() and path.stat().st_ino == before:
                return lock
            lock.release()
    return None
