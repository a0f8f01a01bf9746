"""Readers of single values: each takes what YAML or Python gave and returns it in its one stored form.

A reader raises ValueError with the rest of a sentence that begins with the setting's name, such as
"expected true or false, found 'maybe'". Readers accept their own results, so reading twice changes nothing.
"""

import datetime
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

LONGEST_QUOTE = 60
MOST_NUMBER = 10**6  # of tokens; far beyond any context, and safe to count with
MOST_PAIRED = 1000  # units; these make half a million pairs
MOST_LAYERS = 10_000  # so that "0-999999999999" is a fault and not a hang
LEAST_MEMORY, MOST_MEMORY = 10**6, 10**18  # bytes
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}

Reader = Callable[[Any], Any]
Message = dict[str, str]  # with MESSAGE_KEYS
MESSAGE_KEYS = ("role", "content")


def described(value: object) -> str:
    """A value as faults show it: short, on one line, with the remedy where YAML read text as another type."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML yes and on are true, no and off false; put text in quotes)"
    if isinstance(value, (dict, list, tuple)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number of more than 18 digits"
    if isinstance(value, (int, float, datetime.date)):
        return f"{value} (put text in quotes)" if isinstance(value, datetime.date) else str(value)
    return quoted(value)


def quoted(value: object) -> str:
    """The value's repr, cut to one short line."""
    shown = repr(value)
    return shown if len(shown) <= LONGEST_QUOTE else shown[:LONGEST_QUOTE] + "..."


def wrong_value(expected: str, value: object) -> ValueError:
    """The error of a reader that expected something else."""
    return ValueError(f"expected {expected}, found {described(value)}")


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`, did you mean 'x'?` for a near miss, otherwise nothing."""
    near = difflib.get_close_matches(word.lower(), list(valid), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def text(value: object) -> str:
    """Text that can be written as UTF-8 (a command line in another encoding leaves lone surrogates)."""
    if not isinstance(value, str):
        hint = " in quotes" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise wrong_value("text" + hint, value)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"expected UTF-8 text, found other bytes in {quoted(value)}")
    return value


def nonempty_text(value: object) -> str:
    """Text that is not empty."""
    words = text(value)
    if words == "":
        raise ValueError("expected text, found none (it is empty)")
    return words


def prompt_text(value: object) -> str | tuple[int, ...]:
    """A prompt: text, or token ids in a tuple, which only Python can give."""
    if isinstance(value, tuple):
        return token_ids(value)
    words = text(value)
    if words == "":
        raise ValueError("the prompt is empty; give the text whose next token is to be explained")
    return words


def nonempty_text_or_ids(value: object) -> str | tuple[int, ...]:
    """Text that is not empty, or token ids in a tuple."""
    return token_ids(value) if isinstance(value, tuple) else nonempty_text(value)


def messages(value: object) -> tuple[Message, ...]:
    """The turns of a conversation, in the form of transformers' `apply_chat_template`; each content is text."""
    if not isinstance(value, (list, tuple)):
        raise wrong_value("a list of messages, each with role and content", value)
    if not value:
        raise ValueError("expected at least one message, found an empty list")
    return tuple(_message(one, f"message {number}") for number, one in enumerate(value, 1))


def _message(value: object, which: str) -> Message:
    keys = " and ".join(MESSAGE_KEYS)
    if not isinstance(value, Mapping):
        raise wrong_value(f"role and content in {which}", value)
    for key in value:
        if key not in MESSAGE_KEYS:
            raise ValueError(f"{which} has the key {quoted(key)}; it takes {keys} alone")
    for key in MESSAGE_KEYS:
        if key not in value:
            raise ValueError(f"{which} has no {key}; it needs {keys}")
    return {key: _message_text(value[key], f"the {key} of {which}") for key in MESSAGE_KEYS}


def _message_text(value: object, what: str) -> str:
    try:
        return text(value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def are_messages(value: object) -> bool:
    """Whether a prompt given from Python is a list of messages, and neither text nor token ids."""
    return isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value)


def of_python(reader: Reader) -> Reader:
    """The reader of a prompt or a continuation, for what Python gives: text, or token ids in a list too."""
    return partial(_of_python, reader)


def _of_python(reader: Reader, value: object) -> object:
    if isinstance(value, (str, list, tuple)):
        return reader(tuple(value) if isinstance(value, list) else value)
    found, hint = described(value), ""
    if isinstance(value, Mapping):
        found, hint = f"a {type(value).__name__}", '; give its ["input_ids"]' if "input_ids" in value else ""
    raise ValueError(f"expected text, or token ids as a list, tuple, array or tensor, found {found}{hint}")


def token_ids(value: Sequence[Any]) -> tuple[int, ...]:
    """Token ids, of one prompt: (n,), or a batch of one, (1, n)."""
    if value and all(isinstance(row, list) for row in value):
        if len(value) > 1:
            raise ValueError(f"expected the token ids of one prompt, found a batch of {len(value)}; give one row of it")
        value = value[0]
    if not value:
        raise ValueError("expected token ids, found none (it is empty)")
    for one in value:
        if type(one) is not int or not 0 <= one < 10**18:
            raise wrong_value("token ids (whole numbers from 0, a list or an array of shape (n,) or (1, n))", one)
    return tuple(value)


def yaml_value(value: Any) -> Any:
    """A Python value in YAML's types: arrays and tensors, also inside lists, become lists and numbers."""
    with suppress(Exception):  # no array, or one without numbers, as on torch's meta device
        value = value.tolist()
    return [yaml_value(one) for one in value] if isinstance(value, (list, tuple)) else value


def path(value: object) -> str:
    """A path, a leading `~` replaced by the home folder."""
    name = nonempty_text(os.fspath(value) if isinstance(value, os.PathLike) else value)
    if "\0" in name:
        raise ValueError(f"expected a path, found a null character in {quoted(name)}")
    return os.path.expanduser(name)


def paths(value: object) -> tuple[str, ...]:
    """One path, or a list of them."""
    items = [value] if isinstance(value, (str, os.PathLike)) else [] if value is None else value
    if not isinstance(items, (list, tuple)):
        raise wrong_value("a path or a list of paths", value)
    return tuple(map(path, items))


def switch(value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong_value("true or false", value)
    return value


def whole_number(value: object) -> int:
    """A whole number from 1 to MOST_NUMBER, of any integer type but bool."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise wrong_value(f"a whole number from 1 to {MOST_NUMBER}", value)
    number = value.__index__()
    if not 1 <= number <= MOST_NUMBER:
        raise wrong_value(f"a whole number from 1 to {MOST_NUMBER}", number)
    return number


def number_in_flag(given: str) -> int | str:
    """A flag's text as a number; unchanged if it is none, so that the reader names the fault."""
    return int(given) if re.fullmatch(r"[+-]?[0-9]{1,18}", given) else given


def memory(value: object) -> int:
    """Bytes, from a number of them or from text such as 500MB or 2GB (powers of 1,000); at least a megabyte."""
    words = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?b)\s*", str(value), re.ASCII | re.IGNORECASE)
        if isinstance(value, str)
        else None
    )
    number = int(float(words[1]) * UNITS[words[2].lower()]) if words else value
    if type(number) is not int or not LEAST_MEMORY <= number <= MOST_MEMORY:
        raise wrong_value("a size from 1MB on, such as 500MB or 2GB", value)
    return number


def one_of(*choices: str) -> Reader:
    """Reader of one of these words."""
    return partial(_one_of, choices)


def _one_of(choices: tuple[str, ...], value: object) -> str:
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"expected one of {', '.join(choices)}, found {described(value)}{hint}")
    return value


def several_of(*choices: str) -> Reader:
    """Reader of a list, or of text with commas; returned as a tuple in the order of `choices`, each once."""
    return partial(_several_of, choices)


def listed(*choices: str) -> Reader:
    """Reader of the same, returned in the order given."""
    return partial(_several_of, choices, keep_order=True)


def _several_of(choices: tuple[str, ...], value: object, keep_order: bool = False) -> tuple[str, ...]:
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not items or items == [""]:
        raise wrong_value(f"one or more of {', '.join(choices)}", value)
    for item in items:
        _one_of(choices, item)
    if keep_order and not isinstance(items, (set, frozenset)):
        return tuple(dict.fromkeys(items))
    return tuple(choice for choice in choices if choice in items)


def spans(value: object) -> tuple[str, ...]:
    """Named spans, each as `NAME=TEXT`, from a mapping of names to texts or from a list of these."""
    items = [_span_of(*item) for item in value.items()] if isinstance(value, Mapping) else value
    if not isinstance(items, (list, tuple)):
        raise wrong_value("names with their texts", value)
    if not items:
        raise ValueError("expected at least one span, found none; leave it out for none")
    read = [_span(item) for item in items]
    names = [one.partition("=")[0] for one in read]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two spans have the name {quoted(name)}; give each its own")
    return tuple(read)


def _span_of(name: object, words: object) -> str:
    if not isinstance(name, str) or "=" in name:
        raise wrong_value("a span's name, without =", name)
    return f"{name}={_message_text(words, f'the span {quoted(name)}')}"


def _span(value: object) -> str:
    name, equals, words = text(value).partition("=")
    if not equals or not name.strip():
        raise wrong_value("NAME=TEXT", value)
    if not words:
        raise ValueError(f"the span {quoted(name.strip())} has no text; write NAME=TEXT")
    return f"{name.strip()}={words}"


def number_or(word: str, least: int, most: int) -> Reader:
    """Reader of this word, or of a whole number from `least` to `most`."""
    return partial(_number_or, word, least, most)


def _number_or(word: str, least: int, most: int, value: object) -> int | str:
    if value == word:
        return word
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= value.__index__() <= most:
        raise wrong_value(f"a whole number from {least} to {most}, or {word}", value)
    return value.__index__()


pairs = number_or("spans", 2, MOST_PAIRED)
window = number_or("all", 1, MOST_LAYERS)


def in_flag(read: Reader) -> Reader:
    """The same reader for a flag's text."""
    return lambda given: read(number_in_flag(given))


def layer_numbers(value: object) -> tuple[int, ...]:
    """`3`, `[0, 1, 3]` or `"0-3,10"` as a sorted tuple without duplicates."""
    return _numbers(value, "layer", MOST_LAYERS, "leave it out for all layers")


def step_numbers(value: object) -> tuple[int, ...] | str:
    """The same of generation steps, or `all`."""
    return "all" if value == "all" else _numbers(value, "step", MOST_NUMBER, "leave it out for step 0")


def _numbers(value: object, what: str, end: int, instead: str) -> tuple[int, ...]:
    if isinstance(value, str):
        numbers = {number for part in value.split(",") for number in _number_range(part.strip(), what, end)}
    elif isinstance(value, Iterable) and not isinstance(value, (dict, bytes)):
        numbers = {_number(item, what, end) for item in value}
    else:
        numbers = {_number(value, what, end)}
    if not numbers:
        raise ValueError(f"expected at least one {what}, found an empty list; {instead}")
    return tuple(sorted(numbers))


def _number(value: object, what: str, end: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value.__index__() < end:
        raise wrong_value(f"{what} numbers counted from 0, such as 0-3,10", value)
    return value.__index__()


def _number_range(part: str, what: str, end: int) -> range:
    ends = re.fullmatch(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", part, re.ASCII)
    if not ends:
        raise wrong_value(f"{what} numbers counted from 0, such as 0-3,10", part)
    first, last = (_number(int(number), what, end) for number in (ends[1], ends[2] or ends[1]))
    if last < first:
        raise ValueError(f"the range {part} runs backwards; write {last}-{first}")
    return range(first, last + 1)


CELL = re.compile(r"\s*(?:([0-9]{1,6})\s*:\s*)?([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*", re.ASCII)


def cell(value: object) -> str:
    """`all`, or a picture's cell as `ROW,COL` or `IMAGE:ROW,COL`, or as two or three numbers; stored as text, without
    spaces and without the first picture's 0."""
    if (
        isinstance(value, (list, tuple))
        and len(value) in (2, 3)
        and all(type(one) is int and 0 <= one < MOST_NUMBER for one in value)
    ):
        value = ("{}:{},{}" if len(value) == 3 else "{},{}").format(*value)
    if isinstance(value, str) and value.strip(" \t\n\r\f\v") == "all":
        return "all"
    if not isinstance(value, str) or not CELL.fullmatch(value):
        number = type(value) in (int, float)  # inside braces YAML reads 1,2 as 1, and 1:2,3 as 62
        raise wrong_value(
            "a cell as ROW,COL or IMAGE:ROW,COL, counted from 0, or all" + " (in YAML in quotes)" * number, value
        )
    image, row, column = cell_numbers(value)
    return f"{image}:{row},{column}" if image else f"{row},{column}"


def cell_numbers(value: str) -> tuple[int, ...]:
    """Picture, row and column of a cell in the form that `cell` returns."""
    [numbers] = CELL.findall(value)
    return tuple(int(number or 0) for number in numbers)


def device_name(value: object) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", value, re.ASCII):
        hint = did_you_mean(value, ("auto", "cpu", "cuda", "mps")) if isinstance(value, str) else ""
        raise ValueError(f"expected auto, cpu, cuda, cuda:N or mps, found {described(value)}{hint}")
    return value


def optional(reader: Reader) -> Reader:
    """A reader that also takes None (null in YAML), which stands for the default."""
    return partial(_optional, reader)


def _optional(reader: Reader, value: object) -> object:
    return None if value is None else reader(value)
