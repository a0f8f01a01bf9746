"""Messages for callers from Python: they name a setting by its argument, where the shared message names its flag."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mask_impact.base.errors import RequestError, RunError
from mask_impact.settings.option import options

YAML_KEY = re.compile(r" \(in YAML [^)]*\)")  # which messages give beside the flag
FUNCTIONS = {"mask_impact_analysis.py": "run_masking_experiment", "mask_impact_vl.py": "run_vl_masking_experiment"}
QUOTED = re.compile(r"""(?<!\w)('[^']*'|"[^"]*")""")


@contextmanager
def name_python_arguments(kind: type) -> Iterator[None]:
    """Make errors raised inside, or in a decorated function, name the settings of `kind` by their arguments."""
    try:
        yield
    except (RequestError, RunError) as error:
        error.args = tuple(in_python(kind, text) for text in error.args)
        raise


def in_python(kind: type, message: str) -> str:
    """The message with the name of an argument for each flag, and with True or False for a switch."""
    message = YAML_KEY.sub("", message)
    for script, function in FUNCTIONS.items():
        message = message.replace(f"run it with {script}", f"call {function}")
    pieces = QUOTED.split(message)
    for name, row in options(kind).items():
        word = row.python or name
        for place in range(0, len(pieces), 2):  # the pieces between are quotes of the caller's own words
            pieces[place] = renamed(pieces[place], row.flag, word if row.metavar else f"{word}=True", row.metavar)
            pieces[place] = renamed(pieces[place], row.off_flag, f"{word}=False") if row.off_flag else pieces[place]
            pieces[place] = (
                renamed(pieces[place], name, word) if "_" in name else pieces[place]
            )  # other names are English words too
    return "".join(pieces)


def renamed(message: str, flag: str, word: str, metavar: str = "") -> str:
    """The message with `word` in place of the flag, and of the metavar that follows it."""
    value = f"(?: {metavar})?" if metavar else ""
    return re.sub(rf"(?<![\w/\\-]){flag}{value}(?![\w/\\-])", word, message)
