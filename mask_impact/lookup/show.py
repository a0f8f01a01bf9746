"""Shows a result in the shell, and makes its report.

show(find("output/capital"), Screen())
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.base.json_text import json_value
from mask_impact.base.terminal import Screen
from mask_impact.lookup.find import (
    abbreviated,
    as_table,
    how_it_ended,
    needs_interactions,
    question,
    ranges,
    read,
    refuse_existing,
    setting,
)
from mask_impact.lookup.heatmap_text import block_picture
from mask_impact.results.paths import report_path
from mask_impact.results.report import write_report
from mask_impact.results.rests_on import in_a_line, knockout_of, largest_units
from mask_impact.results.strongest import METRICS, StrongToken, left_out_note, strongest_tokens
from mask_impact.results.table import DISTANCES, INTERACTION, ResultTable
from mask_impact.settings.option import unknown

COLUMN = dict(zip(METRICS, (*DISTANCES, INTERACTION)))
RESTS_ON = {
    "rests_on": "rests on",
    "against": "against",
    "read_at": "read at",
}  # lists of a run record, as they are called here
ROOM_FOR_LAYERS = 60  # columns of a screen
WIDEST_POSITIONS = 16  # columns; of a unit of many scattered positions the first ones are listed


def show(
    path: Path,
    screen: Screen,
    *,
    step: int | None = None,
    variant: str | None = None,
    top: int = 10,
    metric: str = "l2",
    unit: str | None = None,
    as_json: bool = False,
    whole: bool = False,
) -> None:
    """Print the run, what its answer rests on, and the tokens that move the layers most with the block picture of one
    step and variant; with `as_json` only the lists. Where rows are units, those of one kind: `unit`, or the first.

    Raises RequestError for a table that cannot be read or is not whole, and for a step, variant, kind of units or
    metric that it does not have.
    """
    frame = read(path)
    run = frame.attrs.get("run") or {}
    steps, variants = (frame[name].unique().tolist() for name in ("generation_step", "variant"))
    if step is not None and step not in steps:
        raise RequestError(f"--step {step} is not in {path}; it has {ranges(steps)}")
    known = {name.casefold(): name for name in variants}
    if variant is not None and variant.casefold() not in known:
        raise RequestError(f"--variant: {unknown('variant', variant, abbreviated(variants))}")
    step = steps[0] if step is None else step
    variant = variants[0] if variant is None else known[variant.casefold()]
    table = as_table(path, frame[(frame["generation_step"] == step) & (frame["variant"] == variant)])
    kinds = table.steps[0].kinds
    table = in_one_kind(path, table, unit, metric)
    kind = table.steps[0].kinds[0]
    strongest = strongest_tokens(table, top, metric=metric)
    if as_json:
        chosen = {"step": step, "variant": variant, "metric": COLUMN[metric], "steps": steps, "variants": variants}
        chosen |= {"unit": kind, "units": kinds} if table.unit_columns else {}
        # In ASCII, where nothing drives a terminal.
        lists = rests_on_record(run) | {"strongest": list(map(record, strongest))}
        console.say(json.dumps(json_value(about_run(path, run) | chosen | lists)))
        return
    shown = f"step {step} of {ranges(steps)}, variant {variant} of {', '.join(abbreviated(variants))}"
    shown += f", unit {kind} of {', '.join(kinds)}" if table.unit_columns else ""
    for line in [
        *about(path, run, screen),
        *rests_on_lines(run, screen),
        *screen.lines(f"shown      {shown}", " " * 11),
        *predicted(run, step, screen),
        "",
        *strongest_lines(strongest, kind, metric, screen, left_out_note(table)),
        "",
        *block_picture(table, metric, screen, noise_floor(run, table, metric), whole),
    ]:
        console.draw(line)


def in_one_kind(path: Path, table: ResultTable, unit: str | None, metric: str) -> ResultTable:
    """A table of one step with the units of one kind: `unit` if given, for interactions pairs, else the first.

    Raises RequestError, one line, if it has no such units, or no interactions.
    """
    [step] = table.steps
    if metric == "interaction":
        needs_interactions(path, table)
        unit = "pairs" if unit is None else unit
    unit = step.kinds[0] if unit is None else unit.casefold()
    if unit not in step.kinds:
        raise RequestError(f"--unit: {unknown('unit', unit, step.kinds)}")
    if metric == "interaction" and unit != "pairs":
        raise RequestError(f"--metric interaction is of pairs, and not of {unit}; leave --unit out")
    return replace(table, steps=[step.of_kind(unit)])


def about_run(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON says of the run."""
    turns = setting(run, "messages")
    return {
        "file": str(path),
        "model": setting(run, "model"),
        "prompt": setting(run, "prompt"),
        **({"messages": turns} if turns else {}),
        "part": setting(run, "part"),
        "at": setting(run, "at"),
        "generated_text": run.get("generated_text"),
    }


def rests_on_record(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON of a run with knock-outs has beside that of another: what the answer rests on, where it is read."""
    knockout = knockout_of(run)
    return {name: largest_units(knockout, name) for name in RESTS_ON} if knockout else {}


def record(token: StrongToken) -> dict[str, Any]:
    """A strong token or unit in the JSON."""
    return {
        "position": token.position,
        "token": token.text,
        "sum_over_layers": token.total,
        "layer": token.layer,
        "largest": token.largest,
        **of_unit(token),
    }


def of_unit(token: StrongToken) -> dict[str, Any]:
    """What the JSON of a unit has beside that of a token: all positions, and of a pair its interaction."""
    interaction = {} if token.interaction is None else {"interaction": token.interaction}
    return {} if token.unit is None else {"positions": token.where, **interaction}


def rests_on_lines(run: Mapping[str, Any], screen: Screen) -> Iterator[str]:
    """A line each for what the answer rests on and where it is read, if the run record says so."""
    for name, label in RESTS_ON.items():
        if units := in_a_line(knockout_of(run), name):
            yield f"{label:<11}" + screen.cut(units, screen.width - 11)


def predicted(run: Mapping[str, Any], step: int, screen: Screen) -> Iterator[str]:
    """A line with the token that the step predicts, if the run record has it."""
    steps = run.get("steps")
    for record in steps if isinstance(steps, list) else ():
        following = record.get("next") if isinstance(record, Mapping) and record.get("step") == step else None
        if isinstance(following, Mapping):
            yield "predicts   " + screen.quoted(str(following.get("text")), screen.width - 11)


def strongest_lines(
    strongest: list[StrongToken], kind: str, metric: str, screen: Screen, without: str
) -> Iterator[str]:
    """The tokens or units that move the layers most, one to a line: positions, sum over layers, a pair's interaction
    beside it, the largest distance with its layer, text."""
    paired = metric != "interaction" and any(token.interaction is not None for token in strongest)
    beside = "; beside it, the interaction's" if paired else ""
    heading = f"{kind[:1].upper()}{kind[1:]} that move the layers most (summed {METRICS[metric]}{beside}{without})"
    yield from map(screen.bold, screen.lines(heading))
    columns = min(WIDEST_POSITIONS, max([6, *(len(token.where) for token in strongest)]))
    for token in strongest:
        interaction = f"{'' if token.interaction is None else f'{token.interaction:.3g}':>9} " if paired else ""
        where = f"layer {token.layer}: {token.largest:.3g}  " if screen.width >= ROOM_FOR_LAYERS else ""
        line = f"{screen.cut(token.where, columns):>{columns}} {token.total:>9.3g} {interaction} {where}"
        yield line + screen.quoted(token.text, screen.width - len(line))
    if not strongest:
        yield from screen.lines("  none: no distance is defined, except perhaps at position 0")


def about(path: Path, run: Mapping[str, Any], screen: Screen) -> Iterator[str]:
    """A few lines on the run: file, model, prompt or encoder, pictures, generated text."""
    yield screen.bold(screen.cut(str(path), screen.width))
    if not run:
        yield from screen.lines("there is no run file beside it, so model and prompt are unknown")
        return
    if path.is_dir():
        steps, ended = ranges([step["step"] for step in run["steps"]]), how_it_ended(path.parent.parent, path.name)
        yield from screen.lines(f"not finished{ended and f' ({ended})'}: it has steps {steps} so far")
    elif run.get("status") != "complete":
        yield from screen.lines(f"warning: the status in its run file is {run.get('status')!r}, not 'complete'")
    room = screen.width - 11
    yield "model      " + screen.cut(f"{setting(run, 'model')} on {run.get('device')}", room)
    encoder = setting(run, "part") == "encoder"
    if encoder:
        yield "encoder    " + screen.cut(measured_at(run), room)
    else:
        yield "prompt     " + screen.quoted(question(run), room)
    if images := setting(run, "image"):
        yield "pictures   " + screen.cut(", ".join(map(str, images)) if isinstance(images, list) else str(images), room)
    if not encoder:
        said = "generated  " if setting(run, "continuation") is None else "given      "
        yield said + screen.quoted(str(run.get("generated_text", "")), room)


def measured_at(run: Mapping[str, Any]) -> str:
    """At which cell a run of the encoder was measured."""
    at = setting(run, "at")
    return "the mean over all measured cells" if at == "all" else f"measured at cell {at} (row, column)"


def noise_floor(run: Mapping[str, Any], table: ResultTable, metric: str) -> list[float | None] | None:
    """The noise floor of each layer of a table of one step and variant; None if the run record lacks it."""
    try:
        [record] = [record for record in run["steps"] if record["step"] == table.steps[0].step]
        floors = dict(zip(run["layers"], record[f"noise_floor_{metric}"][table.heatmap_rows[0][0]]))
        found = [floors.get(layer) for _, layer in table.heatmap_rows]
        return found if all(isinstance(value, (int, float, type(None))) for value in found) else None
    except (KeyError, TypeError, ValueError):
        return None


def report(path: Path, screen: Screen, overwrite: bool = False) -> None:
    """Write the report of an existing result. Raises RequestError if it has one, unless `overwrite`."""
    page = (
        report_path(path.parent.parent, path.name)
        if path.is_dir()
        else report_path(path.parent, path.stem.removesuffix("_results"))
    )
    refuse_existing(page, overwrite)
    frame = read(path)
    write_report(as_table(path, frame), frame.attrs.get("run"), page)
    console.say(screen.safe(f"wrote {page}; open it in a browser"))
