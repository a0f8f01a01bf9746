"""Lines printed before, during and after a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mask_impact.base import console
from mask_impact.base.formats import file_sizes, formats_for
from mask_impact.models.loading import LoadedModel
from mask_impact.results import rests_on
from mask_impact.results.strongest import STRONGEST, StrongToken, left_out_note, strongest_tokens
from mask_impact.runs import costs
from mask_impact.runs.planning import NamedRun, PlannedRun, heads_of_layers, most_heatmaps, most_rows
from mask_impact.runs.run import Run

LONGEST_SHOWN = 80  # characters of the generated text


@contextmanager
def progress(run: Run, quiet: bool) -> Iterator[tqdm[Any]]:
    """A progress bar over the run's generation steps and layers, with the time left; none outside a terminal."""
    name = console.escape_unprintable(run.plan.name[:30]) if run.plan.name else None
    total = run.plan.steps * len(run.parts)
    begun = len(run.steps) * len(run.parts)
    with tqdm(
        total=total,
        initial=begun,
        desc=name,
        unit=run.plan.prompt.site.layer,
        leave=False,
        disable=quiet or None,
        file=sys.stderr,
    ) as bar:
        yield bar


def before(plan: NamedRun, loaded: LoadedModel) -> None:
    """Print one line with what will be measured."""
    heads = heads_of_layers(plan, loaded)
    formats, _ = formats_for(most_rows(plan, heads), plan.settings.formats, plan.settings.formats_given)
    console.say(
        f"{plan.name}: {counts(plan, len(heads))}, {extent(plan, heads, formats)}{knockout_cost(plan, loaded)}",
        plan.settings.quiet,
    )


def knockout_cost(plan: PlannedRun, loaded: LoadedModel) -> str:
    """The end of that line: what the knock-outs cost at most, in forward passes and time; empty if none are made."""
    config = loaded.model_info.measured_config(plan.settings)
    parts, skipped = loaded.sites[plan.settings.part]
    by_rows = plan.settings.method == "renormalize" and not skipped
    return costs.in_words(*costs.knockout_cost(plan, config, len(parts) + len(skipped), by_rows))


def counts(plan: PlannedRun, layers: int) -> str:
    """What is measured: tokens, steps, layers."""
    steps = [plural(plan.steps, "step")] if plan.prompt.site.generates else []
    return ", ".join([plan.prompt.described(), *steps, plural(layers, plan.prompt.site.layer)])


def extent(plan: PlannedRun, heads: Sequence[int], formats: tuple[str, ...]) -> str:
    """The most rows of a plan's table, and the bytes of its files, for layers with these numbers of heads."""
    rows = most_rows(plan, heads)
    found = file_sizes(rows, formats, most_heatmaps(plan, heads), len(heads))
    sizes = ", ".join(f"{form} {readable_size(size)}" for form, size in found.items())
    return f"at most {rows:,} rows ({sizes})"


def plural(number: int, what: str) -> str:
    """A number with its noun: `1 step`, `2 steps`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def readable_size(size: int) -> str:
    """A number of bytes as text, in KB, MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} KB"


def after(run: Run, paths: Sequence[Path]) -> None:
    """Print warnings, what the answer rests on, what was generated and written, and how to look at it."""
    if run.undefined:
        console.warn(
            f"{run.plan.name}: {plural(run.undefined, 'distance')} undefined, where masking leaves no key at "
            "all: empty in CSV, null in JSON"
        )
    if times := run.method.rows.halvings:
        console.warn(
            f"{run.plan.name}: the GPU's memory ran out, so {2**times} times fewer rows went through a layer at once "
            "(rows_halved in the run file); a smaller --max-memory does so from the start"
        )
    for line in run.knockouts_left_out():
        if run.knockout and run.knockout[0]:
            console.say(f"  {line}", run.plan.settings.quiet)
        else:
            console.warn(f"{run.plan.name}: {line}")
    for line in conclusion(run, paths):
        console.say(f"  {line}", run.plan.settings.quiet)


def conclusion(run: Run, paths: Sequence[Path]) -> Iterator[str]:
    """The lines after a run: why it stopped, what the answer rests on, what moves the layers most, the generated text,
    the files."""
    table, first = run.table(), run.steps[0]["next"]
    endings = {"end token": "an end token", "context length": "the model's context length"}
    if ends := endings.get(run.stopped_by() or ""):
        yield f"stopped at {ends} after {len(run.steps)} of {plural(run.plan.steps_asked, 'step')}"
    if run.knockout and first:
        answer = shortened(run.generated_text or "")
        yield from rests_on.conclusion(run.knockout[1], answer, rounded(first["probability"]))
    layers = f"{run.plan.prompt.site.layer}s"
    for unit in table.steps[0].kinds:
        variant = table.heatmap_rows[0][0]
        what = f"{unit} that move the {layers} most" if table.unit_columns else f"moves the {layers} most"
        shown = ", ".join(map(in_brief, strongest_tokens(table, STRONGEST, unit=unit)))
        if not shown:
            continue
        shown = "none, every distance is at or below its noise floor" if only_noise(run.steps[0], variant) else shown
        summed = f"{variant} L2 summed over {layers}{left_out_note(table, unit)}"
        yield f"{what}{' at step 0' if first else ''} ({summed}): {shown}"
    said = "given" if run.plan.continuation_ids else "generated"
    text = shortened(run.generated_text or "")
    answer = f"{said} {text!r} (first token's probability {rounded(first['probability'])}); " if first else ""
    *tables, record = (path for path in paths if path.suffix != ".html")
    results = [path for path in tables if not path.stem.endswith("_knockout")]
    written = ", ".join([str(results[0]), *(path.suffix for path in results[1:])])
    if cut := [path for path in tables if path not in results]:
        written += ", " + ", ".join([cut[0].name, *(path.suffix for path in cut[1:])])
    yield (f"{answer}wrote {written} and {record.name}; read with mask_impact.read_results({str(tables[0])!r})")
    for report in paths:
        if report.suffix == ".html":
            yield f"to see it, open {report} in a browser"


def in_brief(token: StrongToken) -> str:
    """A token or unit, where it stands and its distance; a pair's interaction beside its own."""
    interaction = "" if token.interaction is None else f", interaction {token.interaction:.3g}"
    return f"{token.text!r} at {token.where} ({token.total:.3g}{interaction})"


def only_noise(step: Mapping[str, Any], variant: str) -> bool:
    """Whether no L2 distance of a step's variant is above its layer's noise floor; undefined ones do not count."""
    pairs = zip(step["max_l2"][variant], step["noise_floor_l2"][variant])
    return not any(most > floor for most, floor in pairs if most is not None)


def rounded(probability: float) -> str:
    """A probability with three decimals, or with two digits where these would be 0."""
    return f"{probability:.3f}" if probability >= 0.001 else f"{probability:.2g}"


def shortened(text: str) -> str:
    """The text, or its beginning where it is too long for a line."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
