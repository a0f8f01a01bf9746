"""What a front door says: lines before, during and after a run, faults, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mask_impact.errors import RequestError, RunError
from mask_impact.formats import file_sizes
from mask_impact.results import ResultTable
from mask_impact.models import Subject, measured_parts
from mask_impact.preflight import Plan, rows_to_come
from mask_impact.runs import Run

SUCCESS, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130
TOP = 3


def exit_code(main: Callable[[], int]) -> int:
    """Run a front door; turn what it raises into one line a fault on standard error, and into the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return main()
    except RequestError as error:
        for line in error.faults:
            fault(line)
        return WRONG_REQUEST
    except RunError as error:
        fault(str(error))
        return FAILED
    except KeyboardInterrupt:
        fault("interrupted; results that were finished are kept")
        return INTERRUPTED


def say(line: str, quiet: bool = False) -> None:
    """One line on standard output."""
    if not quiet:
        print(line, flush=True)


def fault(line: str) -> None:
    """One line on standard error."""
    print(f"error: {line}", file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """One line on standard error, for what did not stop the run."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


@contextmanager
def progress(run: Run, quiet: bool) -> Iterator[tqdm]:
    """One bar over the run's generation steps and layers, with the time left."""
    name = run.plan.choice.name[:30] if run.plan.choice else None
    total = run.plan.steps * len(run.parts)
    with tqdm(total=total, desc=name, unit="layer", leave=False, disable=quiet or None, file=sys.stderr) as bar:
        yield bar


def before(plan: Plan, subject: Subject) -> None:
    """Say, in one line, what is to come."""
    rows = rows_to_come(plan, subject)
    sizes = ", ".join(f"{form} {megabytes(size)}" for form, size in file_sizes(rows, plan.settings.formats).items())
    steps = f"{plan.steps} step{'s' * (plan.steps != 1)}"
    layers = len(measured_parts(plan.settings, subject))
    say(f"{plan.choice.name}: {len(plan.token_ids)} tokens, {steps}, {layers} layers, at most {rows:,} rows ({sizes})", plan.settings.quiet)


def megabytes(size: int) -> str:
    """A number of bytes, rounded for reading."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} KB"


def after(run: Run, paths: Sequence[Path]) -> None:
    """Say what was generated, which tokens it depended on, what was written, and how to look at it."""
    for line in conclusion(run, paths):
        say(f"  {line}", run.plan.settings.quiet)


def conclusion(run: Run, paths: Sequence[Path]) -> Iterator[str]:
    """The lines after a run."""
    first = run.steps[0]["next"]
    yield f"generated {run.generated_text!r} (first token {first['text']!r}, probability {first['probability']:.3f})"
    if ends := {"end token": "an end token", "context length": "the model's context length"}.get(run.stopped_by()):
        yield f"stopped at {ends} after {len(run.steps)} of {run.plan.steps} steps"
    table = run.table()
    if undefined := int(np.isnan(table.steps[0].l2).sum()):
        yield f"undefined: {undefined} distances, where masking leaves no key at all; they are empty in CSV and null in JSON"
    if strongest := top_tokens(table):
        shown = ", ".join(f"{text!r} at {position} ({value:.3g})" for position, text, value in strongest)
        yield f"strongest at step 0 ({table.cells[0][0]} L2 summed over layers, position 0 left out): {shown}"
    yield f"wrote {', '.join(map(str, paths))}"
    yield f"read it with mask_impact.read_results({str(paths[0])!r})"


def top_tokens(table: ResultTable, count: int = TOP) -> list[tuple[int, str, float]]:
    """The strongest positions of the first step as (position, token, L2 summed over layers) of the table's first variant.

    Position 0, the usual attention sink, is left out.
    """
    kind = table.cells[0][0]
    rows = [number for number, (variant, _) in enumerate(table.cells) if variant == kind]
    total = np.nansum(table.steps[0].l2[rows].astype(np.float64), axis=0)
    order = [int(position) for position in np.argsort(-total, kind="stable") if position > 0]
    return [(position, table.tokens[position], float(total[position])) for position in order[:count]]
