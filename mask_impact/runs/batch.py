"""The planned runs of one command: which are done already, what a failed one leaves, what a finished one writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mask_impact.base import console, interrupts
from mask_impact.base.errors import NameTaken, RunError, StopRequested, as_run_error
from mask_impact.base.formats import FORMATS, REPORT_ROWS, formats_for
from mask_impact.models import loading
from mask_impact.models.info import ModelInfo
from mask_impact.models.loading import LoadedModel
from mask_impact.results import report
from mask_impact.results.folder import OutputFolder
from mask_impact.results.paths import report_path, run_path, unfinished_folder
from mask_impact.results.writing import write_failure, write_results
from mask_impact.runs import planning
from mask_impact.runs.on_disk.finished_steps import FinishedSteps
from mask_impact.runs.on_disk.missing_formats import make_missing_files
from mask_impact.runs.on_disk.replaced import ReplacedResults
from mask_impact.runs.planning import NamedRun, rows_to_come
from mask_impact.runs.record import failure_record, loaded_warnings
from mask_impact.runs.result_names import differing_settings
from mask_impact.runs.run import Run


def still_to_measure(plans: Sequence[NamedRun], failures: list[Failure]) -> list[NamedRun]:
    """The plans that have no result yet. For each of the others, make the files that are missing and print a line.

    A plan whose missing files cannot be written is added to `failures`. Raises RequestError if reports are asked for
    and the viewer's page is missing.
    """
    print_warnings(plans)
    left, replaced = [], ReplacedResults(plans[0].settings).names()
    for plan in plans:
        if plan.name in replaced and is_done(plan):
            console.say(f"{plan.name}: replaced before this batch was cut off", plan.settings.quiet)
            continue
        if plan.finished:
            try:
                if make_missing_files(plan):
                    continue
            except Exception as error:  # as in `catch_failure`
                failures.append(Failure(plan, str(as_run_error(error))))
                console.fault(f"{plan.name}: {failures[-1].reason}")
                continue
        if plan.choice.earlier:
            what = "it goes on behind the steps that are there" if plan.choice.resumes else "it is measured again"
            console.say(f"{plan.name}: {plan.choice.earlier}; {what}", plan.settings.quiet)
        left.append(plan)
    return left


def print_warnings(plans: Sequence[NamedRun]) -> None:
    """Print the plans' warnings. Raises RequestError as `still_to_measure` does."""
    if any(plan.settings.report for plan in plans):
        report.page()
    for warning in dict.fromkeys(line for plan in plans for line in plan.warnings):
        console.warn(warning)


def load(plans: Sequence[NamedRun], model_info: ModelInfo) -> LoadedModel:
    """The model with its weights, checked; prints warnings of large results and of generation settings not followed.

    Raises RequestError for weights that do not fit, and for layers asked for that turn out to have no softmax
    attention.
    """
    with_pairs = [plan.settings for plan in plans if plan.settings.pairs is not None]  # which the experts must suit
    settings = next(iter(with_pairs), plans[0].settings)
    loaded = loading.load(model_info, settings, {plan.settings.part for plan in plans})
    planning.refuse_skipped(plans, loaded)
    warn_of_size(plans, loaded)
    for warning in dict.fromkeys(line for plan in plans for line in loaded_warnings(plan, loaded)):
        console.warn(warning)
    return loaded


def warn_of_size(plans: Sequence[NamedRun], loaded: LoadedModel) -> None:
    """Print a warning for each plan whose table can be too long for the JSON or the report asked for."""
    for plan in plans:
        rows = rows_to_come(plan, loaded)
        _, warning = formats_for(rows, plan.settings.formats, plan.settings.formats_given)
        if warning and plan.settings.formats_given:
            console.warn(f"{plan.name}: {warning}")
        if plan.settings.report and rows > REPORT_ROWS:
            console.warn(f"{plan.name}: this run can have {rows:,} rows; past {REPORT_ROWS:,} it gets no report")


@dataclass(frozen=True)
class Failure:
    """A plan that failed, and why, in one line."""

    plan: NamedRun
    reason: str


@contextmanager
def catch_failure(failures: list[Failure], plan: NamedRun, loaded: LoadedModel) -> Iterator[None]:
    """Catch what a plan raises inside, so that the others go on; print it, record it in its run file and `failures`."""
    try:
        yield
    except StopRequested as stopped:
        console.warn(f"{plan.name}: {stopped}")
    except Exception as error:  # whatever one prompt raises, a batch goes on overnight
        reason = str(as_run_error(error))
        failures.append(Failure(plan, reason))
        console.fault(f"{plan.name}: {reason}")
        try:
            if not isinstance(error, NameTaken):
                record_failure(plan, loaded, reason)
        except RunError as second:
            console.fault(f"{plan.name}: the failure could not be recorded ({second})")


def record_failure(plan: NamedRun, loaded: LoadedModel, reason: str) -> None:
    """Write the reason into the plan's run file, unless a whole result has that name. Raises RunError."""
    folder, name = plan.folder, plan.name
    if is_complete(run_path(folder, name)):
        console.warn(f"{name}: the result of this name is kept")
    else:
        write_failure(folder, name, failure_record(plan, loaded, reason))


def is_complete(path: Path) -> bool:
    """Whether this is the run file of a whole result."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("status") == "complete"
    except (OSError, ValueError, AttributeError):
        return False


def write(plan: NamedRun, run: Run) -> list[Path]:
    """Write a finished run's files and return their paths, the run file last.

    The table is written in the formats asked for and those that its result has already; so is the report.
    """
    settings, table, choice, record = plan.settings, run.table(), plan.choice, run.record()
    knockout = run.knockout[0] if run.knockout else None
    cut = 0 if knockout is None else len(knockout)
    wanted, notice = formats_for(len(table), settings.formats, settings.formats_given, cut)
    formats = tuple(form for form in FORMATS if form in wanted or form in choice.formats)
    workplace = unfinished_folder(plan.folder, plan.name).parent
    *tables, run_file = write_results(table, plan.folder, plan.name, formats, record, workplace, knockout)
    FinishedSteps(plan.folder, plan.name).finish()
    if notice and not settings.formats_given:
        console.say(f"  {notice}", settings.quiet)
    elif notice and cut > len(table):  # of the table itself it was said before the run
        console.warn(f"{plan.name}: {notice}")
    if not settings.report and "report" not in choice.formats:
        return [*tables, run_file]
    if too_long := report.report_fault(len(table)):
        console.warn(f"{plan.name}: {too_long}")
        return [*tables, run_file]
    page = report_path(plan.folder, plan.name)
    report.write_report(table, record, page, workplace)
    return [*tables, page, run_file]


def exit_code(plans: Sequence[NamedRun], failures: Sequence[Failure]) -> int:
    """The command's exit code; prints which of several plans failed, and which are not finished."""
    failed = [failure.plan.name for failure in failures]
    left = [plan.name for plan in plans if plan.name not in failed and not is_done(plan)]
    stopped = interrupts.stop_requested()
    interrupts.forget()
    if stopped and (left or is_cut_off(plans, failed)):
        console.fault("interrupted; what was finished is kept, and the same command goes on from there")
        return console.INTERRUPTED
    ReplacedResults(plans[0].settings).forget()
    if failed and len(plans) > 1:
        console.fault(f"{len(failed)} of {len(plans)} prompts failed: {', '.join(failed)}")
    if left:
        console.fault(f"{', '.join(left)}: not finished yet by the run that measures it")
    return console.FAILED if failed or left else console.SUCCESS


def is_cut_off(plans: Sequence[NamedRun], failed: Sequence[str]) -> bool:
    """Whether a plan was begun and not ended, or has yet to replace its result; `failed` are names of failed ones."""
    begun = any(unfinished_folder(plan.folder, plan.name).exists() for plan in plans)
    replaced = ReplacedResults(plans[0].settings)
    return begun or (replaced.path is not None and not {plan.name for plan in plans} <= {*replaced.names(), *failed})


def is_done(plan: NamedRun) -> bool:
    """Whether the plan's own result exists, whole."""
    record = OutputFolder(plan.folder, only=plan.name).record(plan.name)
    return (
        record is not None
        and record.get("status") == "complete"
        and not differing_settings(record, plan.settings, plan.facts)
    )
