"""Checks of every entry before weights are loaded: whatever settings, tokenizer and file headers can reveal."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mask_impact.errors import RequestError
from mask_impact.models import Candidate, Subject, measured_parts
from mask_impact.names import Choice, choose_names
from mask_impact.settings import Settings
from mask_impact.tokens import continuation_ids, prompt_ids


@dataclass(frozen=True)
class Plan:
    """One entry, ready to run: its token ids, the most steps it can take, and the name of its results."""

    settings: Settings
    token_ids: list[int]
    steps: int
    continuation_ids: list[int] | None = None
    choice: Choice | None = None

    @property
    def finished(self) -> bool:
        """Whether the result is there already, in every format asked for."""
        return self.choice.record is not None and set(self.settings.formats) <= self.choice.formats


def plan_all(entries: Sequence[Settings], candidate: Candidate) -> list[Plan]:
    """A plan for each entry; raises RequestError with the faults of all of them."""
    plans, faults = [], []
    for settings in entries:
        try:
            plans.append(plan(settings, candidate))
        except RequestError as error:
            faults += map(settings.at, error.faults)
    faults += folder_faults(Path(entries[0].output_dir))
    if faults:
        raise RequestError(*faults)
    facts = {"device": str(candidate.device), "model_identity": candidate.identity}
    choices = choose_names(entries, [facts] * len(entries))
    return [Plan(p.settings, p.token_ids, p.steps, p.continuation_ids, choice) for p, choice in zip(plans, choices)]


def plan(settings: Settings, candidate: Candidate) -> Plan:
    """The entry's token ids and steps. Raises RequestError with its faults."""
    faults = layer_faults(settings, candidate.layers)
    ids, continuation = [], None
    try:
        ids = prompt_ids(candidate.tokenizer, settings)
        continuation = None if settings.continuation is None else continuation_ids(candidate.tokenizer, settings.continuation)
    except RequestError as error:
        faults += error.faults
    limit = candidate.context_length
    if limit is not None and len(ids) > limit:
        faults.append(f"the prompt has {len(ids)} tokens, more than the model's context of {limit}; shorten it")
    if faults:
        raise RequestError(*faults)
    most = settings.most_steps or len(continuation)
    return Plan(settings, ids, most if continuation is None else min(most, len(continuation)), continuation)


def layer_faults(settings: Settings, layers: int) -> list[str]:
    """A fault if a layer asked for is not there."""
    beyond = [layer for layer in settings.layers or () if layer >= layers]
    return [f"layers: {beyond[0]} is out of range; the model has layers 0 to {layers - 1}"] if beyond else []


def folder_faults(folder: Path) -> list[str]:
    """A fault if results could not be written into the folder; nothing is left in it."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(f"{str(nearest)!r} is a file")
        with tempfile.TemporaryFile(dir=nearest):
            return []
    except OSError as error:
        reason = error.strerror or str(error)
        return [f"--output-dir {str(folder)!r} cannot be written ({reason}); choose another folder"]


def rows_to_come(plan: Plan, subject: Subject) -> int:
    """The most rows that the plan's table can have."""
    heads = [part.heads for part in measured_parts(plan.settings, subject)]
    kinds = {"full": len(heads), "attn": len(heads), "heads": sum(heads)}
    cells = sum(kinds[variant] for variant in plan.settings.variants)
    return cells * sum(len(plan.token_ids) + step for step in range(plan.steps))
