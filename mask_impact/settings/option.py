"""The machinery of the table of settings: one row, its reader, its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mask_impact.settings import readers
from mask_impact.settings.readers import Reader

UNREADABLE = object()  # stands for a wrong value until all faults are listed
RECORDED = object()  # no value: of a setting that run files always have


@dataclass(frozen=True)
class Option:
    """One row of the table: how a setting is given and what it means.

    `scope` says where the setting may stand in a batch file: "run" only at the top level; "prompt" at the top level,
    under `defaults` or in an entry; "entry" only in an entry; "flag" nowhere.
    """

    flag: str
    read: Reader
    meaning: str
    scope: str
    group: str
    metavar: str = ""  # empty for a switch
    off_flag: str = ""
    python: str = ""  # another name in Python
    default_shown: str = ""
    with_config: bool = True  # may the flag go with --config?
    repeatable: bool = False  # given several times, the flag's values are a list
    is_path: bool = False  # in a batch file relative to that file
    changes_numbers: bool = True  # or only where and how results are written?
    unrecorded: object = RECORDED  # what run files leave out: how it was before there was the setting
    read_flag: Reader | None = None  # of the flag's text, where that is not what YAML and Python give

    @property
    def per(self) -> str:
        """What has one value of it: a prompt, or the whole run."""
        return "prompt" if self.scope in ("prompt", "entry") else "run"

    def from_flag(self, given: Sequence[Any]) -> Any:
        """The setting's value, from all the values that its flag was given. Raises ValueError as the reader does."""
        if self.read_flag:
            return self.read_flag(given[-1])
        if self.repeatable:
            return self.read(list(given))
        return self.read(readers.number_in_flag(given[-1]) if self.read is readers.whole_number else given[-1])


def option(flag: str, read: Reader, meaning: str, default: object = dataclasses.MISSING, **columns: Any) -> Any:
    """A dataclass field that is a setting."""
    return field(default=default, metadata={"option": Option(flag, read, meaning, **columns)})


def options(kind: type) -> dict[str, Option]:
    """The table: the option of every setting, by field name, in order."""
    return {item.name: item.metadata["option"] for item in dataclasses.fields(kind) if "option" in item.metadata}


def defaults(kind: type) -> dict[str, Any]:
    """The default of every setting that has one."""
    return {
        item.name: item.default
        for item in dataclasses.fields(kind)
        if "option" in item.metadata and item.default is not dataclasses.MISSING
    }


def read_value(read: Reader, value: object, label: str, faults: list[str]) -> Any:
    """The value read; if the reader refuses it, UNREADABLE and one more of `faults`."""
    try:
        return read(value)
    except ValueError as error:
        faults.append(f"{label}{error}")
        return UNREADABLE


def unknown(what: str, word: str, valid: Iterable[str]) -> str:
    """The fault of a word that is not among the valid ones."""
    valid = list(valid)
    return f"unknown {what} {readers.quoted(word)}{readers.did_you_mean(word, valid) or ';'} valid: {', '.join(valid)}"
