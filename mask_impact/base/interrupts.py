"""Ctrl-C: once, and the generation step at work is finished first; twice, and all stops at once."""

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
    """Whether to stop, since Ctrl-C was pressed while `deferred`."""
    return _stop_requested.is_set()


@contextmanager
def deferred() -> Iterator[None]:
    """Note the first Ctrl-C inside; a second one raises KeyboardInterrupt.

    Only a program's main thread can listen, and one that ignores Ctrl-C (under nohup) goes on ignoring it.
    """
    _stop_requested.clear()
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
    # Not by print, which may be at work in the very line that was interrupted; on a terminal behind the progress bar.
    with suppress(OSError):  # a reader that has gone, as that of a pipe does at the same Ctrl-C
        os.write(2, b"\n" * os.isatty(2) + NOTICE)
