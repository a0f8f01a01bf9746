"""The plans of one command: which are done already, what a failing one leaves, what a finished one writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mask_impact import console
from mask_impact.errors import RequestError, RunError
from mask_impact.formats import formats_for
from mask_impact.models import Subject
from mask_impact.preflight import Plan, rows_to_come
from mask_impact.runs import Run, failure_record
from mask_impact.writers import write_failure, write_results

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate")


def unfinished(plans: Sequence[Plan]) -> list[Plan]:
    """The plans whose results are not there yet; a line for each of the others."""
    for plan in plans:
        for warning in plan.settings.warnings:
            console.warn(plan.settings.at(warning))
        if plan.finished:
            place = Path(plan.settings.output_dir) / plan.choice.name
            console.say(f"{place}: this result is there, with the same settings; --overwrite measures it again", plan.settings.quiet)
    return [plan for plan in plans if not plan.finished]


def announce(plans: Sequence[Plan], subject: Subject) -> None:
    """Refuse layers that have no softmax attention (RequestError, before anything is run), and warn of what JSON cannot hold."""
    faults = [fault for plan in plans for fault in skipped_layers(plan, subject)]
    if faults:
        raise RequestError(*faults)
    for plan in plans:
        _, warning = formats_for(rows_to_come(plan, subject), plan.settings.formats, explicit=True)
        if warning and "formats" in plan.settings.given:
            console.warn(f"{plan.choice.name}: {warning}")


def skipped_layers(plan: Plan, subject: Subject) -> list[str]:
    """A fault for each layer asked for that cannot be measured."""
    asked = sorted(set(plan.settings.layers or ()) & set(subject.skipped))
    measurable = ", ".join(str(part.index) for part in subject.parts)
    return [plan.settings.at(f"layers: layer {layer} has {subject.skipped[layer]}; layers that can be measured: {measurable}")
            for layer in asked]


@contextmanager
def failing_into(failures: list[Plan], plan: Plan, subject: Subject) -> Iterator[None]:
    """Let a plan fail alone: its reason is said, recorded in its run file, and the plan noted in `failures`."""
    try:
        yield
    except (RunError, RuntimeError, MemoryError, OSError) as error:
        failures.append(plan)
        reason = reason_of(error)
        console.fault(f"{plan.choice.name}: {reason}")
        try:
            write_failure(Path(plan.settings.output_dir), plan.choice.name, failure_record(plan, subject, reason))
        except RunError as second:
            console.fault(f"{plan.choice.name}: the failure could not be recorded ({second})")


def reason_of(error: BaseException) -> str:
    """One line for why a run failed."""
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or any(words in text.lower() for words in OUT_OF_MEMORY):
        return f"out of memory ({text[:200]}); measure a shorter prompt, or take a smaller model or --dtype bfloat16"
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text[:300]}"


def write(run: Run) -> list[Path]:
    """Write a finished run's files; returns their paths, tables first."""
    settings, table = run.plan.settings, run.table()
    wanted = tuple(dict.fromkeys([*settings.formats, *sorted(run.plan.choice.formats)]))
    formats, notice = formats_for(len(table), wanted, "formats" in settings.given)
    paths = write_results(table, Path(settings.output_dir), run.plan.choice.name, formats, run.record())
    if notice and "formats" not in settings.given:
        console.say(f"  {notice}", settings.quiet)
    return paths


def exit_code(plans: Sequence[Plan], failures: Sequence[Plan]) -> int:
    """The command's exit code; of several plans, a line says which failed."""
    if failures and len(plans) > 1:
        console.fault(f"{len(failures)} of {len(plans)} prompts failed: {', '.join(plan.choice.name for plan in failures)}")
    return console.FAILED if failures else console.SUCCESS
