"""Takes the plans of a batch one by one, each under its name's lock, so that one process at a time writes a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from mask_impact.base import console, interrupts
from mask_impact.base.errors import NameTaken, RunError
from mask_impact.models.loading import LoadedModel
from mask_impact.results.folder import OutputFolder
from mask_impact.runs.batch import Failure, catch_failure, is_done
from mask_impact.runs.on_disk.finished_steps import FinishedSteps
from mask_impact.runs.on_disk.locks import name_lock
from mask_impact.runs.on_disk.replaced import ReplacedResults
from mask_impact.runs.planning import NamedRun
from mask_impact.runs.record import unfinished_record
from mask_impact.runs.result_names import NameChoice, differing_settings, try_name


def locked_plans(plans: Sequence[NamedRun], loaded: LoadedModel, failures: list[Failure]) -> Iterator[NamedRun]:
    """Each plan in turn, with its name locked until the next is taken; ends when Ctrl-C is pressed.

    A plan that another process is measuring, or has finished meanwhile, is skipped with a line; one that cannot be
    begun is added to `failures`.
    """
    with interrupts.deferred():
        for plan in plans:
            if interrupts.stop_requested():
                return
            with ExitStack() as held:
                locked = None
                with catch_failure(failures, plan, loaded):
                    locked = lock_plan(plan, loaded, held)
                if locked is not None:
                    yield locked
                    with catch_failure(failures, plan, loaded):
                        if not finished_steps_of(locked).record_file.exists() and is_done(locked):
                            ReplacedResults(locked.settings).add(locked.name)
                        clear_leftovers(locked)


def lock_plan(plan: NamedRun, loaded: LoadedModel, held: ExitStack) -> NamedRun | None:
    """Lock the plan's name until `held` is closed, and write the record of what is being run.

    Returns the plan with its choice of name brought up to date, or None if nothing is left to do. Finished steps of a
    run with other settings are deleted. Raises RunError if such a run took the name meanwhile, or if nothing can be
    written.
    """
    folder, name = plan.folder, plan.name
    if not held.enter_context(name_lock(folder, name)):
        other = OutputFolder(folder, only=name).unfinished_record(name)
        if other is not None and (differing := differing_settings(other, plan.settings, plan.facts)):
            raise NameTaken(
                f"its name was taken meanwhile by a run with other settings ({', '.join(differing)}); "
                "give it another name or output_dir"
            )
        console.warn(f"{name}: another run is measuring it now; it is left to that one")
        return None
    choice = try_name(name, plan.settings, plan.facts, OutputFolder(folder, only=name))
    if isinstance(choice, str):
        if not plan.settings.overwrite:
            raise NameTaken(f"its name was taken meanwhile by {choice}; give it another name or output_dir")
        choice = NameChoice(name)
    if choice.record and not plan.choice.record:
        console.say(f"{name}: another run has finished it meanwhile", plan.settings.quiet)
        return None
    steps = finished_steps_of(plan)
    if not choice.resumes:
        steps.clear()
    try:
        steps.begin(unfinished_record(plan, loaded))
    except RunError:
        clear_leftovers(plan)
        raise
    return replace(plan, choice=choice)


def clear_leftovers(plan: NamedRun) -> None:
    """Delete the finished steps of a run whose result is written, and the folder of a run that has none.

    The folder stays beside tables without a run file, as only its record says what they are.
    """
    existing, steps = OutputFolder(plan.folder, only=plan.name), finished_steps_of(plan)
    if not steps.record_file.exists() or (
        not len(steps) and (existing.record(plan.name) or not existing.files(plan.name))
    ):
        steps.clear()


def finished_steps_of(plan: NamedRun) -> FinishedSteps:
    """The finished steps of a plan."""
    return FinishedSteps(plan.folder, plan.name)
