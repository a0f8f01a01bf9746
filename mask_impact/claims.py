"""One process at a time for each result: the lock of a name, and the plans of a batch, claimed one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from mask_impact import console, interrupts
from mask_impact.batches import failing_into, is_complete
from mask_impact.errors import RunError
from mask_impact.files import make_folder
from mask_impact.models import Subject
from mask_impact.names import Choice, Present, begun_path, fit, name_key
from mask_impact.preflight import Plan
from mask_impact.runs import begun_record
from mask_impact.unfinished import PartFiles
from mask_impact.writers import run_path

ATTEMPTS = 100  # at a lock whose file others remove in the same moment


def claimed(plans: Sequence[Plan], subject: Subject, failures: list[Plan]) -> Iterator[Plan]:
    """Each plan in turn, for as long as this process alone may write its result, until Ctrl-C is pressed.

    A plan that another process measures now, or has finished meanwhile, is passed over with a line; one that cannot be begun is
    noted in `failures`.
    """
    with interrupts.listening():
        for plan in plans:
            if interrupts.asked():
                return
            with ExitStack() as held:
                mine = None
                with failing_into(failures, plan, subject):
                    mine = claim(plan, subject, held)
                if mine is not None:
                    yield mine
                    tidy(mine)


def claim(plan: Plan, subject: Subject, held: ExitStack) -> Plan | None:
    """Take the plan's name until `held` is closed, and note what is being run; the plan as it stands now, or None where nothing is
    left to do.

    Steps of a run with other settings are forgotten. Raises RunError where such a run took the name meanwhile, or where nothing
    can be written.
    """
    folder, name = Path(plan.settings.output_dir), plan.choice.name
    if not held.enter_context(alone(folder, name)):
        console.warn(f"{name}: another run is measuring it now; it is left to that one")
        return None
    choice = fit(name, plan.settings, plan.facts, Present(folder, only=name))
    if isinstance(choice, str):
        if not plan.settings.overwrite:
            raise RunError(f"its name was taken meanwhile by {choice}; run it again")
        choice = Choice(name)
    if choice.record is not None and plan.choice.record is None:
        console.say(f"{name}: another run has finished it meanwhile", plan.settings.quiet)
        return None
    parts = parts_of(plan)
    if not choice.goes_on:
        parts.clear()
    parts.begin(begun_record(plan, subject))
    return replace(plan, choice=choice)


def tidy(plan: Plan) -> None:
    """Forget what a run that ended was made of: a whole result needs it no longer, and where no step is there it is of no use.

    It stays beside tables without a run file, of which it alone says what they are.
    """
    folder, name = Path(plan.settings.output_dir), plan.choice.name
    present = Present(folder, only=name)
    if is_complete(run_path(folder, name)) or not len(parts_of(plan)) and (present.record(name) or not present.files(name)):
        parts_of(plan).clear()


def parts_of(plan: Plan) -> PartFiles:
    """The part files of a plan."""
    return PartFiles(Path(plan.settings.output_dir), plan.choice.name)


def sweep(plan: Plan) -> None:
    """Remove what a killed process left of a run whose result is whole, unless one is at work there."""
    if begun_path(Path(plan.settings.output_dir), plan.choice.name).parent.exists():
        with suppress(RunError), alone(Path(plan.settings.output_dir), plan.choice.name) as held:
            if held:
                parts_of(plan).clear()


@contextmanager
def alone(folder: Path, name: str) -> Iterator[bool]:
    """Hold a result's name in a folder, as the one process that writes it; False where another one has it.

    The lock is the operating system's and ends with the process that holds it; its file is removed at the end. Raises RunError if
    it cannot be made.
    """
    path = begun_path(folder, name).parent.with_name(f"{name_key(name)}.lock")
    lock = _taken(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            with suppress(OSError):  # on Windows not while it is held
                path.unlink()
            lock.release()
            with suppress(OSError):
                path.unlink(missing_ok=True) if os.name == "nt" else None
                path.parent.rmdir()


def _taken(path: Path) -> FileLock | None:
    """The lock of this file, or None where another process has it.

    One that waited at a file which its holder then removed holds nothing: the file must be the same before and after.
    """
    lock = FileLock(path, is_singleton=False)
    for _ in range(ATTEMPTS):
        make_folder(path.parent)
        with suppress(FileNotFoundError):
            try:
                path.touch()
                before = path.stat().st_ino
                lock.acquire(timeout=0)
            except Timeout:
                return None
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunError(f"{path} could not be locked: {error.strerror or error}; choose another folder") from error
            if path.exists() and path.stat().st_ino == before:
                return lock
            lock.release()
    return None
