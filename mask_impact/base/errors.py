"""The two ways in which a run fails: the request was wrong, or something went wrong while running."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate")


class RequestError(ValueError):
    """The request was wrong: nothing was run and nothing was written (exit code 2).

    Each fault is one line: what was wrong, what was found, what to do. `str()` gives one fault per line.
    """

    def __init__(self, *faults: str):
        super().__init__(*(r"\n".join(fault.splitlines()) for fault in faults))

    @property
    def faults(self) -> tuple[str, ...]:
        """What was wrong, a line each."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.faults)


class RunError(RuntimeError):
    """Something failed that only running can show: memory, disk, not-a-number (exit code 1)."""


class RowsRefused(RunError):
    """Rows of this model do not give what the model gives, so that they cannot stand in for its passes."""


class NameTaken(RunError):
    """Another run took the result's name first; this run leaves its files alone."""


class StopRequested(Exception):
    """Ctrl-C was pressed; the generation step that was being measured is finished and kept."""


@contextmanager
def collect_faults(faults: list[str], with_place: Callable[[str], str] = str) -> Iterator[None]:
    """Add the faults of a RequestError raised inside to `faults`, each passed through `with_place`, and go on."""
    try:
        yield
    except RequestError as error:
        faults += map(with_place, error.faults)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, from any library, means that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def as_run_error(error: Exception) -> RunError:
    """The error as a RunError of one line; an error of unknown kind with the file and line that raised it."""
    if isinstance(error, RunError):
        return error
    if out_of_memory(error):
        return RunError(
            f"out of memory ({first_line(error)}); measure a shorter prompt, or take a smaller "
            "model or --dtype bfloat16"
        )
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = f"{Path(frame.f_code.co_filename).name}, line {line}"
    return RunError(f"{type(error).__name__}: {first_line(error)} ({place})")
