"""A record as JSON text: numpy as plain numbers and lists, NaN as null, lists of plain values on one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_text(record: Any) -> str:
    """Indented JSON, UTF-8 characters as themselves, ending in a newline; a float32 is its shortest text."""
    return _lines(json_value(record), "") + "\n"


def json_bytes(value: Any) -> bytes:
    """The JSON text in UTF-8. A lone surrogate, which a badly encoded command line can give, becomes its escape."""
    return json_text(value).encode("utf-8", "backslashreplace")


def json_value(value: Any) -> Any:
    """`value` in dicts, lists, strings, ints and finite floats; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return [json_value(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(str(value)) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _lines(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{_flat(key)}: {_lines(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(deeper + _flat_or_lines(item, deeper) for item in value) + f"\n{indent}]"
    return _flat(value)


def _flat_or_lines(value: Any, indent: str) -> str:
    """An item of a list: on one line if it holds no container, as most do."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    nested = any(isinstance(item, (dict, list)) for item in items)
    return _lines(value, indent) if nested else _flat(value)


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
