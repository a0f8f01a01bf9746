"""Ctrl-C: pressed once, the current generation step is finished first; pressed twice, everything stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOTICE = b"stopping after the generation step at work; Ctrl-C again stops at once\n"

_stop_requested = threading.Event()


def stop_requested() -> bool:
    """Whether Ctrl-C was pressed inside `deferred`."""
    return _stop_requested.is_set()


def forget() -> None:
    """Ask nothing of the next command that was asked of this one."""
    _stop_requested.clear()


@contextmanager
def deferred() -> Iterator[None]:
    """Remember the first Ctrl-C inside without raising; the second raises KeyboardInterrupt.

    Does nothing outside the main thread, which alone can handle signals, and in a program that ignores Ctrl-C (under
    nohup).
    """
    forget()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, _note_first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _note_first(_signal: int, _frame: Any) -> None:
    _stop_requested.set()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Not by print, as the signal may have interrupted a print; on a terminal below the progress bar.
    with suppress(OSError):  # the reader of a pipe ends at the same Ctrl-C
        os.write(2, b"\n" * os.isatty(2) + NOTICE)
