"""The two ways in which a run fails: the request was wrong, or something went wrong while running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """The request was wrong: nothing was run and nothing was written (exit code 2).

    Each fault is one line: what was wrong, what was found, what to do. `str()` gives one fault per line.
    """

    def __init__(self, *faults: str):
        self.faults: tuple[str, ...] = tuple(r"\n".join(fault.splitlines()) for fault in faults)
        super().__init__(*self.faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class RunError(RuntimeError):
    """Something failed that only running can show: memory, disk, not-a-number (exit code 1)."""


@contextmanager
def gathering(faults: list[str], placed: Callable[[str], str] = str) -> Iterator[None]:
    """Add the faults of a RequestError raised inside to `faults`, each put through `placed`, and go on after the block."""
    try:
        yield
    except RequestError as error:
        faults += map(placed, error.faults)
