"""Result names: made from a prompt, checked to be file names, and kept apart from results that exist.

A name is taken in a folder if `{name}_run.json`, `{name}_report.html` or any `{name}_results.*` is there, or a run of that
name that is not finished: `.partial/{name}/run.json`. Names are compared without case and in one Unicode form, as file
systems that ignore both would confuse them.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mask_impact.errors import RequestError
from mask_impact.formats import FORMATS

LONGEST_DERIVED = 40  # characters
LONGEST_GIVEN = 200  # bytes: file systems end at 255, and the endings need their share
PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | PORTS
SPELT_OUT = ("computed_with",)  # facts of which a conflict says more than their name
BEGUN = ".partial"  # where runs lie that are not finished
RESULT_FILE = re.compile(r"(.+)_(?:run\.json|(report)\.html|results\.([^.]+))", re.IGNORECASE | re.DOTALL)


class Run(Protocol):
    """What this module needs of a `Settings`."""

    title: str
    name: str | None
    output_dir: str
    overwrite: bool

    def numbers(self) -> dict[str, object]: ...
    def placed(self, fault: str) -> str: ...


@dataclass(frozen=True)
class Choice:
    """The name for a run; `record` is the finished run of the same settings found there, `formats` its result files.

    Among the formats is "report" if its report is there. `earlier` says what became of an earlier run of this name that is
    no result; `goes_on` is whether that was this very run, whose finished steps need not be measured again.
    """

    name: str
    record: dict | None = None
    formats: frozenset[str] = frozenset()
    earlier: str = ""
    goes_on: bool = False


def name_key(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFC", name).casefold()


def check_name(name: str) -> str | None:
    """What keeps `name` from being part of a file name on any system, or None."""
    if not name.strip():
        return "a name must not be empty"
    if bad := re.search(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:*?"<>|]', name):
        return f"a name must not contain {bad[0]!r}"
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        return "a name must not begin or end with a dot or a space"
    if name.split(".")[0].rstrip().lower() in DEVICES:
        return "this name is reserved on Windows"
    if len(name.encode()) > LONGEST_GIVEN:
        return f"a name must not be longer than {LONGEST_GIVEN} bytes"
    return None


def derive_name(prompt: str) -> str:
    """The prompt's first words in `[a-z0-9_]`, at most 40 characters; `prompt` if none remain."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", plain)
    name = "_".join(words[:1])[:LONGEST_DERIVED]
    for word in words[1:]:
        if len(name) + 1 + len(word) > LONGEST_DERIVED:
            break
        name += "_" + word
    return f"prompt_{name}" if name in DEVICES else name or "prompt"


def differing_settings(record: Mapping, settings: Run, facts: Mapping[str, object]) -> list[str]:
    """Names of what differs between a run record and a request; empty if its numbers would be the same.

    `facts` are what the request was resolved to, under the names that they have at the record's top level
    (such as device and dtype); a fact is compared in place of a setting of the same name.
    """
    settings_then = record.get("settings")
    then = {**(settings_then if isinstance(settings_then, Mapping) else {}), **{key: record.get(key) for key in facts}}
    now = {**settings.numbers(), **facts}
    return [difference(key, then.get(key), value) for key, value in now.items() if key not in then or then[key] != value]


def difference(key: str, then: object, now: object) -> str:
    """The name of what differs; of a mapping, each entry that does, with its two values."""
    if not isinstance(then, Mapping) or not isinstance(now, Mapping) or key not in SPELT_OUT:
        return key
    return ", ".join(f"{name} {then.get(name)} then and {value} now" for name, value in now.items() if then.get(name) != value)


def choose_names(entries: Sequence[Run], facts: Sequence[Mapping[str, object]]) -> list[Choice]:
    """A name for every entry, no two alike; raises RequestError with every fault."""
    reserved = {name_key(entry.name) for entry in entries if entry.name is not None}
    present = {folder: Present(Path(folder)) for folder in {entry.output_dir for entry in entries}}
    choices, faults = [], []
    for entry, known in zip(entries, facts, strict=True):
        try:
            choices.append(choose_name(entry, known, reserved, present[entry.output_dir]))
            reserved.add(name_key(choices[-1].name))
        except RequestError as error:
            faults.extend(error.faults)
    if faults:
        raise RequestError(*faults)
    return choices


def choose_name(
    settings: Run, facts: Mapping[str, object], reserved: Collection[str] = (), present: Present | None = None
) -> Choice:
    """The name for one run. A derived name is the first of `x`, `x_2`, `x_3` ... that is free or holds this very run.

    A given name that something else holds raises RequestError, unless `overwrite` is set. `reserved` are the
    `name_key`s that a derived name has to leave alone; `present` is what the output folder holds, if that is known already.
    """
    present = present or Present(Path(settings.output_dir))
    if settings.name is not None:
        return _given_name(settings, facts, present)
    base = derive_name(settings.title)
    candidates = itertools.chain([base], (f"{base}_{n}" for n in itertools.count(2)))
    free = (name for name in candidates if name_key(name) not in reserved)
    return next(choice for name in free if isinstance(choice := fit(name, settings, facts, present), Choice))


def _given_name(settings: Run, facts: Mapping[str, object], present: Present) -> Choice:
    choice = fit(settings.name, settings, facts, present)
    if isinstance(choice, Choice):
        return choice
    if settings.overwrite:
        return Choice(present.as_written(settings.name))
    raise RequestError(settings.placed(f"the name {settings.name!r} is taken in {settings.output_dir!r} by {choice}; "
                                   "choose another or add --overwrite"))


def fit(name: str, settings: Run, facts: Mapping[str, object], present: Present) -> Choice | str:
    """The choice of this name, or what holds it already."""
    own, files, record, begun = present.as_written(name), present.files(name), present.record(name), present.begun(name)
    same = begun is not None and not differing_settings(begun, settings, facts)
    goes_on = same and (not settings.overwrite or begun.get("overwrite") is True)
    if settings.overwrite and goes_on:
        return Choice(own, earlier="cut off before", goes_on=True)
    failed = record is not None and record.get("status") == "failed"
    if begun is not None and not same and not settings.overwrite and (failed or record is None):
        return f"an unfinished run with other settings ({', '.join(differing_settings(begun, settings, facts))})"
    if record is None:
        if files and begun is None:
            return "files without a readable run record"
        return Choice(own, earlier="cut off before" if begun else "", goes_on=goes_on)
    differing = differing_settings(record, settings, facts)
    if failed and (settings.name is not None or not differing):
        return Choice(own, earlier=f"failed before ({record.get('reason')})", goes_on=goes_on)
    if differing:
        return f"a run with other settings ({', '.join(differing)})"
    if settings.overwrite or record.get("status") != "complete":
        return Choice(own)
    found = (word for path in files for word in RESULT_FILE.fullmatch(path.name).groups()[1:] if word)
    return Choice(own, record, frozenset(found))


def begun_path(folder: Path, name: str) -> Path:
    """Where a run that is not finished says what it is. What else it has lies beside that."""
    return Path(folder) / BEGUN / name / "run.json"


class Present:
    """What is in an output folder, or there of one name in this very spelling; nothing, if there is no such folder.

    Raises RequestError if it cannot be listed.
    """

    def __init__(self, folder: Path, only: str | None = None):
        self._files: dict[str, list[Path]] = {}
        found = _listed(folder) if only is None else _of_name(folder, only)
        for path in sorted(found, key=lambda path: not path.name.lower().endswith("_run.json")):
            if match := RESULT_FILE.fullmatch(path.name):
                self._files.setdefault(name_key(match[1]), []).append(path)
        begun = _listed(folder / BEGUN) if only is None else [folder / BEGUN / only]
        self._begun = {name_key(path.name): path for path in begun if path.is_dir()}

    def files(self, name: str) -> list[Path]:
        """The result files of a name, run record first."""
        return self._files.get(name_key(name), [])

    def record(self, name: str) -> dict | None:
        """The run record of a name, if there is a readable one."""
        files = self.files(name)
        return _record(files[0]) if files and files[0].name.lower().endswith("_run.json") else None

    def begun(self, name: str) -> dict | None:
        """What the name's unfinished run says that it is, if there is one."""
        folder = self._begun.get(name_key(name))
        return None if folder is None else _record(folder / "run.json")

    def as_written(self, name: str) -> str:
        """The name in the spelling that it has there."""
        if files := self.files(name):
            return RESULT_FILE.fullmatch(files[0].name)[1]
        begun = self._begun.get(name_key(name))
        return begun.name if begun else name


def _of_name(folder: Path, name: str) -> list[Path]:
    """The result files of a name in this spelling, looked for one by one: a folder of thousands takes long to list."""
    endings = ["run.json", "report.html", *(f"results.{form}" for form in FORMATS)]
    return [path for ending in endings if (path := folder / f"{name}_{ending}").exists()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        fault = f"--output-dir: cannot list {str(folder)!r} ({error.strerror}); choose another folder"
        raise RequestError(fault) from None


def _record(path: Path) -> dict | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
