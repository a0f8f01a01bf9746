"""JSON schemas of the batch files, made from the settings, for editors to complete and check keys.

    python -m mask_impact.settings.json_schema            # writes both again
    python -m mask_impact.settings.json_schema --check    # exits 1 with one line for each that is another

A schema takes whatever the setting's reader (mask_impact/settings/readers.py) takes. It also takes what no pattern can
exclude: a range of layers that runs backwards, a name of few characters but many bytes, `3.0`, which JSON does not tell
from `3`; and, where pictures may be given, an entry without a prompt, as the encoder takes none.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mask_impact.base import file_names
from mask_impact.settings import generated_files, readers
from mask_impact.settings import text_settings as settings
from mask_impact.settings.batch_file import SCOPES, STRUCTURE
from mask_impact.settings.option import Option, defaults, options
from mask_impact.settings.readers import Reader
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

ROOT = Path(__file__).parents[2]
FILES = {"prompts_config.schema.json": Settings, "prompts_config_vl.schema.json": VisionSettings}
DRAFT = "http://json-schema.org/draft-07/schema#"  # the one that editors know best
SPACE, PLAIN_SPACE = r"\s*", r"[ \t\n\r\f\v]*"
SOURCES = ("prompt", "prompt_file", "messages")  # keys of an entry that give its prompt
MEANINGS = {  # of the keys that are no settings
    "defaults": "settings of every prompt that does not say otherwise",
    "prompts": "the prompts, each with its own settings",
    "enabled": "false keeps an entry in the file without running it",
}

Schema = dict[str, Any]


def batch_schema(kind: type[Settings]) -> Schema:
    """The schema of a batch file whose entries are settings of this kind."""
    given = source("prompt", {"not": {"type": "null"}})
    named = source("prompt_file", {"type": "string", "not": {"const": "-"}})
    conversation = source("messages", {"type": "array"})
    conversation["properties"]["system"] = {"type": "null"}
    conversation["not"] = {"required": ["chat"]}
    # For the encoder; `part` may stand at another level.
    without = {"properties": nothing(SOURCES)}
    entry = {
        **members(kind, "entry"),
        "anyOf": [
            {"properties": {"enabled": {"const": False}}, "required": ["enabled"]},
            {"oneOf": [given, named, conversation, *([without] if "part" in options(kind) else [])]},
        ],
    }
    nested = {
        "defaults": members(kind, "defaults"),
        "prompts": {"type": "array", "minItems": 1, "items": entry},
        "enabled": {"type": "boolean", "default": True},
    }
    top = members(kind, "top")
    for home, level in ((top, "top"), (entry, "entry")):
        home["properties"] |= {
            key: {"description": MEANINGS[key]} | nested[key] for key, at in STRUCTURE.items() if at == level
        }
    return {"$schema": DRAFT, "title": "a batch of prompts", "required": ["prompts"], **top}


def source(name: str, value: Schema) -> Schema:
    """An entry whose prompt is given by this key, and by no other."""
    others = [other for other in SOURCES if other != name]
    return {"properties": {name: value, **nothing(others)}, "required": [name]}


def nothing(names: Iterable[str]) -> Schema:
    """Each of these keys as null, or left out."""
    return {name: {"type": "null"} for name in names}


def members(kind: type[Settings], level: str) -> Schema:
    """The settings that may stand at one level of the file, and no other keys."""
    usual = defaults(kind)
    rows = {name: row for name, row in options(kind).items() if row.scope in SCOPES[level]}
    properties = {name: described(row, usual.get(name)) for name, row in rows.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def described(row: Option, default: object) -> Schema:
    """The schema of a setting's value, with its meaning and its default."""
    meaning = row.meaning + (f" (default: {row.default_shown})" if row.default_shown else "")
    shown = {} if default is None else {"default": list(default) if isinstance(default, tuple) else default}
    return {"description": meaning.replace("`", "")} | shown | schema_of_reader(row.read)


def schema_of_reader(read: Reader) -> Schema:
    """The schema of what a reader takes. Raises KeyError for a reader that has none yet."""
    if isinstance(read, partial):
        return SCHEMA_MAKERS[read.func](*read.args)
    return SCHEMAS[read]


def optional(read: Reader) -> Schema:
    """What the reader takes, or null."""
    inner = schema_of_reader(read)
    return {"anyOf": [*inner.get("anyOf", [inner]), {"type": "null"}]}


def one_of(choices: tuple[str, ...]) -> Schema:
    """One of these words."""
    return {"enum": list(choices)}


def several_of(choices: tuple[str, ...]) -> Schema:
    """A list, or text with commas."""
    word = SPACE + f"({'|'.join(map(re.escape, choices))})" + SPACE
    return {
        "anyOf": [
            {"type": "array", "minItems": 1, "items": one_of(choices)},
            {"type": "string", "pattern": f"^{word}(,{word})*$"},
        ]
    }


def file_name() -> Schema:
    """Text that mask_impact/base/file_names.py takes as a file name; its length in bytes is not checked."""
    devices = "|".join("".join(any_case(one) for one in name) for name in sorted(file_names.RESERVED_NAMES))
    return {
        "type": "string",
        "maxLength": file_names.LONGEST_GIVEN,
        "pattern": (
            rf"^(?![. ])(?!({devices})\s*(\.|$))(?=[\s\S]*\S)"
            r"""[^\u0000-\u001f\u007f-\u009f/\\:*?"<>|]*[^\u0000-\u001f\u007f-\u009f/\\:*?"<>|. ]$"""
        ),
    }


def any_case(character: str) -> str:
    """A pattern for a letter in both cases, as JSON Schema knows no flags."""
    return f"[{character}{character.upper()}]" if character.isalpha() else re.escape(character)


def cell() -> Schema:
    """`all`, or picture, row and column in text or as numbers."""
    text = f"^{PLAIN_SPACE}(all{PLAIN_SPACE}|({CELL_NUMBER}:{PLAIN_SPACE})?{CELL_NUMBER},{PLAIN_SPACE}{CELL_NUMBER})$"
    numbers = {"type": "integer", "minimum": 0, "maximum": readers.MOST_NUMBER - 1}
    return {
        "anyOf": [
            {"type": "string", "pattern": text},
            {"type": "array", "minItems": 2, "maxItems": 3, "items": numbers},
        ]
    }


def memory() -> Schema:
    """A number of bytes, or text with a unit, in which only the reader finds too few or too many bytes."""
    number = {"type": "integer", "minimum": readers.LEAST_MEMORY, "maximum": readers.MOST_MEMORY}
    return {
        "anyOf": [
            number,
            {
                "type": "string",
                "pattern": f"^{PLAIN_SPACE}[0-9]+(\\.[0-9]+)?{PLAIN_SPACE}[kKmMgGtT]?[bB]{PLAIN_SPACE}$",
            },
        ]
    }


def numbers(end: int) -> Schema:
    """Numbers below a power of ten; in text they may have up to nine digits, with zeros in front."""
    number = {"type": "integer", "minimum": 0, "maximum": end - 1}
    width = len(str(end - 1))
    digits = f"0{{0,{9 - width}}}[0-9]{{1,{width}}}"
    part = f"{SPACE}{digits}({PLAIN_SPACE}-{PLAIN_SPACE}{digits})?{SPACE}"
    return {
        "anyOf": [
            number,
            {"type": "array", "minItems": 1, "items": number},
            {"type": "string", "pattern": f"^{part}(,{part})*$"},
        ]
    }


def messages() -> Schema:
    """A list of messages, each with its role and its text."""
    message = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in readers.MESSAGE_KEYS},
        "required": list(readers.MESSAGE_KEYS),
        "additionalProperties": False,
    }
    return {"type": "array", "minItems": 1, "items": message}


def spans() -> Schema:
    """Names with texts: as a mapping, or each as `NAME=TEXT` in a list, in which two may have one name."""
    name = "[^=]*[^=\\s][^=]*"
    mapping = {"type": "object", "minProperties": 1, "propertyNames": {"pattern": f"^{name}$"}}
    words = {"type": "string", "minLength": 1}
    return {
        "anyOf": [
            mapping | {"additionalProperties": words},
            {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": f"^{name}=[\\s\\S]"}},
        ]
    }


def number_or(word: str, least: int, most: int) -> Schema:
    """A number, or the word."""
    return {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, {"const": word}]}


def steps() -> Schema:
    """Numbers of generation steps, or the word for all."""
    return {"anyOf": [*numbers(readers.MOST_NUMBER)["anyOf"], {"const": "all"}]}


CELL_NUMBER = f"[0-9]{{1,6}}{PLAIN_SPACE}"
PATH: Schema = {"type": "string", "pattern": "^[^\\u0000]+$"}
SCHEMAS: dict[Reader, Schema] = {
    readers.text: {"type": "string"},
    readers.nonempty_text: {"type": "string", "minLength": 1},
    readers.nonempty_text_or_ids: {"type": "string", "minLength": 1},
    readers.prompt_text: {"type": "string", "minLength": 1},
    readers.messages: messages(),
    readers.path: PATH,
    readers.paths: {"anyOf": [PATH, {"type": "array", "items": PATH}, {"type": "null"}]},
    readers.switch: {"type": "boolean"},
    readers.whole_number: {"type": "integer", "minimum": 1, "maximum": readers.MOST_NUMBER},
    readers.layer_numbers: numbers(readers.MOST_LAYERS),
    readers.step_numbers: steps(),
    readers.spans: spans(),
    readers.memory: memory(),
    readers.device_name: {"type": "string", "pattern": "^(auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?)$"},
    readers.cell: cell(),
    settings._file_name: file_name(),
}
SCHEMA_MAKERS: dict[Callable[..., Any], Callable[..., Schema]] = {
    readers._optional: optional,
    readers._one_of: one_of,
    readers._several_of: several_of,
    readers._number_or: number_or,
}


def schema_text(kind: type[Settings]) -> str:
    """The schema as it is written."""
    return json.dumps(batch_schema(kind), indent=2, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    sys.exit(generated_files.write({ROOT / name: schema_text(kind) for name, kind in FILES.items()}, sys.argv[1:]))
