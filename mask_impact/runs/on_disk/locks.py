"""Locks a result's name, so that one process at a time writes it; the lock's file is in OUTPUT/.partial/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock, Timeout

from mask_impact.base.errors import RunError
from mask_impact.base.file_names import name_key
from mask_impact.results.paths import unfinished_folder

ATTEMPTS = 100  # as other processes may remove the lock's file at the same moment


@contextmanager
def name_lock(folder: Path, name: str) -> Iterator[bool]:
    """Hold the lock of a result's name in a folder while inside; False if another process holds it.

    The lock is the operating system's and ends with the process that holds it; its file is removed at the end. Raises
    RunError if it cannot be made.
    """
    key = blake2b(
        name_key(name).encode(), digest_size=16
    ).hexdigest()  # short enough for any file system, however long the name
    path = unfinished_folder(folder, f".{key}.lock").parent
    lock = _acquired(path)
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


def _acquired(path: Path) -> FileLock | None:
    """The lock of this file, or None if another process holds it.

    A lock of a file that its last holder has just removed locks nothing: the file must be the same before and after.
    """
    lock = FileLock(path, is_singleton=False)
    for _ in range(ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            before = path.stat().st_ino
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except (FileNotFoundError, FileExistsError):  # the folder, or the file, was removed at this moment
            continue
        except OSError as error:
            raise RunError(f"{path} could not be locked: {error.strerror or error}; choose another folder") from error
        with suppress(FileNotFoundError):
            if path.stat().st_ino == before:
                return lock
        lock.release()
    raise RunError(f"{path} could not be locked in {ATTEMPTS} attempts; choose another folder")
