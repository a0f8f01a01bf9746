"""Prints a front door's lines and gives its exit code. Imports nothing slow: a wrong flag is answered at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from mask_impact.base.errors import RequestError, RunError, as_run_error

SUCCESS, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def exit_code(main: Callable[[], int]) -> int:
    """Run a front door and return its exit code; print what it raises on standard error, one line for each fault."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            return main()
        except RequestError as error:
            for line in error.faults:
                fault(line)
            return WRONG_REQUEST
        except RunError as error:
            fault(str(error))
            return FAILED
        except ModuleNotFoundError as error:
            fault(
                f"the Python package {error.name} is not installed for {sys.executable}; run `make demo`, or "
                "`pip install -r requirements.txt`, and call the Python of that environment (.venv/bin/python)"
            )
            return WRONG_REQUEST
        except Exception as error:  # unforeseen: still one line, with the file and line that raised it
            fault(str(as_run_error(error)))
            return FAILED
        except KeyboardInterrupt:
            fault("interrupted; what was finished is kept, and the same command goes on from there")
            return INTERRUPTED


def leave(code: int) -> None:
    """End the process; after Ctrl-C without waiting for other threads, such as a download."""
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)


def command(main: Callable[..., int], name: str) -> Callable[[], None]:
    """A front door as the function that a command of this name calls."""
    return lambda: leave(exit_code(lambda: main(program=name)))


def say(line: str, quiet: bool = False) -> None:
    """Print one line on standard output, unprintable characters as their escapes."""
    if not quiet:
        _print(escape_unprintable(line), sys.stdout)


def draw(line: str) -> None:
    """Print one line on standard output as it is: safe already (mask_impact/base/terminal.py), perhaps with colours."""
    _print(line, sys.stdout)


def fault(line: str) -> None:
    """Print one fault on standard error."""
    _print(escape_unprintable(f"error: {line}"), sys.stderr)


def warn(line: str) -> None:
    """Print one warning on standard error, about something that did not stop the run."""
    _print(escape_unprintable(f"warning: {line}"), sys.stderr)


def escape_unprintable(text: str) -> str:
    """The text with unprintable characters as escapes: controls, and marks that change the direction of the writing."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _print(line: str, stream: TextIO) -> None:
    """Print and flush. A reader that has gone (`| head`) or a full disk under a log must not stop the measuring."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
