"""What a front door says in single lines, and the code it exits with.
Imports nothing slow: a wrong flag is answered at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from mask_impact.base.errors import RequestError, RunError, as_run_error

SUCCESS, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def exit_code(main: Callable[[], int]) -> int:
    """Run a front door; turn what it raises into one line a fault on standard error, and into the exit code."""
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
        except Exception as error:  # which nobody foresaw: one line all the same, with the place that raised it
            fault(str(as_run_error(error)))
            return FAILED
        except KeyboardInterrupt:
            fault("interrupted; what was finished is kept, and the same command goes on from there")
            return INTERRUPTED


def leave(code: int) -> None:
    """End the process. An interrupted one ends at once: a download in other threads would be waited for."""
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)


def command(main: Callable[..., int], name: str) -> Callable[[], None]:
    """A front door as the function that a command of this name calls."""
    return lambda: leave(exit_code(lambda: main(program=name)))


def say(line: str, quiet: bool = False) -> None:
    """One line on standard output; whatever could drive the terminal is printed as its escape."""
    if not quiet:
        _print(escape_unprintable(line), sys.stdout)


def draw(line: str) -> None:
    """One line on standard output that is safe already (mask_impact/base/terminal.py), and may have colours."""
    _print(line, sys.stdout)


def fault(line: str) -> None:
    """One line on standard error."""
    _print(escape_unprintable(f"error: {line}"), sys.stderr)


def warn(line: str) -> None:
    """One line on standard error, for what did not stop the run."""
    _print(escape_unprintable(f"warning: {line}"), sys.stderr)


def escape_unprintable(text: str) -> str:
    """The text with escapes in place of what is not to be printed:
    control characters, and what turns the writing around."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _print(line: str, stream: TextIO) -> None:
    """Print and flush. A reader that has gone (`| head`), or a full disk under a log,
    is no reason to stop measuring."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
