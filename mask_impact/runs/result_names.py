"""Chooses result names: given ones, or made from a prompt; never one that another result has.

A name is taken in a folder if `{name}_run.json`, `{name}_report.html`, any `{name}_results.*` or `{name}_knockout.*`
is there, or an unfinished run of that name, `.partial/{name}/run.json`. Names are compared without case and in one
Unicode form, as some file systems ignore both.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask_impact.base.errors import RequestError
from mask_impact.base.file_names import derive_name, name_key
from mask_impact.results.folder import OutputFolder, whole_formats
from mask_impact.settings.text_settings import Settings

SPELT_OUT = ("computed_with",)  # facts whose differing entries a conflict names, with both values


@dataclass(frozen=True)
class NameChoice:
    """The name for a run, and what exists under it.

    `record` is that of a finished run of the same settings, `formats` are those that have all its tables, and "report"
    if it has one. `earlier` says how an earlier run of this name ended that left no result; `resumes` is whether that
    was this very run, whose finished steps need not be measured again.
    """

    name: str
    record: Mapping[str, Any] = field(default_factory=dict)
    formats: frozenset[str] = frozenset()
    earlier: str = ""
    resumes: bool = False


def differing_settings(record: Mapping[str, Any], settings: Settings, facts: Mapping[str, object]) -> list[str]:
    """What differs between a run record and a request, by name; empty if the numbers would be the same.

    `facts` is what the request was resolved to, under the names at the record's top level (such as device); a fact is
    compared in place of a setting of the same name.
    """
    settings_then = record.get("settings")
    then = {
        **settings.unrecorded(),
        **(settings_then if isinstance(settings_then, Mapping) else {}),
        **{key: record.get(key) for key in facts},
    }
    now = {**settings.unrecorded(), **settings.changing_numbers(), **facts}
    return [
        difference(key, then.get(key), value) for key, value in now.items() if key not in then or then[key] != value
    ]


def difference(key: str, then: object, now: object) -> str:
    """The name of what differs; for facts in SPELT_OUT each entry that differs, with both values."""
    if not isinstance(then, Mapping) or not isinstance(now, Mapping) or key not in SPELT_OUT:
        return key
    return ", ".join(
        f"{name} {then.get(name)} then and {value} now" for name, value in now.items() if then.get(name) != value
    )


def choose_names(entries: Sequence[Settings], facts: Sequence[Mapping[str, object]]) -> list[NameChoice]:
    """A name for every entry, no two alike; raises RequestError with every fault."""
    reserved = {name_key(entry.name) for entry in entries if entry.name is not None}
    existing = {folder: OutputFolder(Path(folder)) for folder in {entry.output_dir for entry in entries}}
    choices: list[NameChoice] = []
    faults: list[str] = []
    for entry, known in zip(entries, facts, strict=True):
        try:
            choices.append(choose_name(entry, known, reserved, existing[entry.output_dir]))
            reserved.add(name_key(choices[-1].name))
        except RequestError as error:
            faults.extend(error.faults)
    if faults:
        raise RequestError(*faults)
    return choices


def choose_name(
    settings: Settings,
    facts: Mapping[str, object],
    reserved: Collection[str] = (),
    existing: OutputFolder | None = None,
) -> NameChoice:
    """The name for one run. A derived name is the first of `x`, `x_2`, `x_3` ... that is free or has this very run.

    Raises RequestError for a given name that something else has, unless `overwrite` is set. `reserved` are the
    `name_key`s that a derived name must not take; `existing` is the output folder, if it was listed already.
    """
    existing = existing or OutputFolder(Path(settings.output_dir))
    if settings.name is not None:
        return _given_name(settings.name, settings, facts, existing)
    base = derive_name(settings.title)
    candidates = itertools.chain([base], (f"{base}_{n}" for n in itertools.count(2)))
    free = (name for name in candidates if name_key(name) not in reserved)
    return next(choice for name in free if isinstance(choice := try_name(name, settings, facts, existing), NameChoice))


def _given_name(name: str, settings: Settings, facts: Mapping[str, object], existing: OutputFolder) -> NameChoice:
    choice = try_name(name, settings, facts, existing)
    if isinstance(choice, NameChoice):
        return choice
    if settings.overwrite:
        return NameChoice(existing.spelling_of(name))
    raise RequestError(
        settings.with_place(
            f"the name {name!r} is taken in {settings.output_dir!r} by {choice}; choose another or add --overwrite"
        )
    )


def try_name(name: str, settings: Settings, facts: Mapping[str, object], existing: OutputFolder) -> NameChoice | str:
    """The choice of this name, or what has it already, in words."""
    own, files, record, unfinished = (
        existing.spelling_of(name),
        existing.files(name),
        existing.record(name),
        existing.unfinished_record(name),
    )
    same = unfinished is not None and not differing_settings(unfinished, settings, facts)
    resumes = unfinished is not None and same and (not settings.overwrite or unfinished.get("overwrite") is True)
    if settings.overwrite and resumes:
        return NameChoice(own, earlier="cut off before", resumes=True)
    failed = record is not None and record.get("status") == "failed"
    if unfinished is not None and not same and not settings.overwrite and (failed or record is None):
        return f"an unfinished run with other settings ({', '.join(differing_settings(unfinished, settings, facts))})"
    if record is None:
        if files and unfinished is None:
            return "files without a readable run record"
        return NameChoice(own, earlier="cut off before" if unfinished else "", resumes=resumes)
    differing = differing_settings(record, settings, facts)
    if failed and (settings.name is not None or not differing):
        return NameChoice(own, earlier=f"failed before ({record.get('reason')})", resumes=resumes)
    if differing:
        return f"a run with other settings ({', '.join(differing)})"
    if settings.overwrite or record.get("status") != "complete":
        return NameChoice(own)
    return NameChoice(own, record, whole_formats(files, record))
