"""Looking at a result in the shell: finding it by its name, showing it, making its report.

    show(find("output/capital"), Screen())
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mask_impact import console, values
from mask_impact.blocks import block_picture
from mask_impact.errors import RequestError, first_line
from mask_impact.formats import FORMATS
from mask_impact.jsontext import plain
from mask_impact.names import RESULT_FILE, begun_path
from mask_impact.reading import read_results
from mask_impact.report import table_of, write_report
from mask_impact.results import COLUMNS, DISTANCES, ResultTable
from mask_impact.settings import Settings, unknown
from mask_impact.strongest import METRICS, StrongToken, spared, strongest_tokens
from mask_impact.terminal import Screen
from mask_impact.writers import report_path, results_path, run_path

if TYPE_CHECKING:
    import pandas as pd

COLUMN = dict(zip(METRICS, DISTANCES))
KEYS = tuple(name for name in COLUMNS if name not in DISTANCES)
SMALLEST_FIRST = tuple(reversed(FORMATS))
MOST_LISTED = 20
ROOM_FOR_LAYERS = 60  # columns of a screen


def find(word: str) -> Path:
    """The table that a result file, a run file, a report or a name such as output/capital stands for; of a run that is not
    finished, but has finished steps, their folder.

    Raises RequestError, one line, if there is none, saying which results there are.
    """
    try:
        path = Path(values.path(word))
        match = RESULT_FILE.fullmatch(path.name)
        if path.is_file() and (match is None or match[3]):
            return path
        name = path.name if match is None else match[1]
        below = Path(Settings.output_dir, path.parent)
        folders = [path.parent, below] if path.name == word or below.is_dir() else [path.parent]
        if match is None or not match[3]:
            for folder in folders:
                for form in SMALLEST_FIRST:
                    if (found := results_path(folder, name, form)).is_file():
                        return found
                if any((steps := begun_path(folder, name).parent).glob("step_*")):
                    return steps
        if path.is_dir():
            raise RequestError(f"{word}: this is a folder; name a result in it: {results_in([path])}")
        raise RequestError(f"{word}: {why_missing(folders, name)}")
    except (OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{values.quoted(word)}: no result can be found there ({reason})") from None


def why_missing(folders: list[Path], name: str) -> str:
    """What is there in place of the table of result `name`."""
    for folder in folders:
        if any(begun_path(folder, name).parent.glob("step_*")):
            return f"this run is not finished; {str(folder / name)!r} stands for the steps that it has"
        if ended := ending(folder, name):
            return f"this run is not finished ({ended}), it has no table"
    where = " or ".join(repr(str(folder)) for folder in dict.fromkeys(folders))
    hint = values.did_you_mean(name, names_in(folders))
    return f"there is no such result{hint or ';'} in {where} there is {results_in(folders)}"


def names_in(folders: list[Path]) -> list[str]:
    """The names of the results that lie in these folders."""
    return sorted({match[1] for folder in folders if folder.is_dir() for path in folder.iterdir()
                   if (match := RESULT_FILE.fullmatch(path.name)) and match[3] in FORMATS})


def results_in(folders: list[Path]) -> str:
    """Those names in a line, or "none"."""
    present = names_in(folders)
    return ", ".join(present[:MOST_LISTED]) + (", ..." if len(present) > MOST_LISTED else "") or "none"


def ending(folder: Path, name: str) -> str:
    """How a run that has no table ended, and why, by its run file; empty where that is not there, or says that it is complete."""
    if not (run := run_path(folder, name)).is_file():
        return ""
    record = json.loads(run.read_bytes())
    if not isinstance(record, dict) or record.get("status") == "complete":
        return ""
    return f"{record.get('status')}: {record.get('reason', 'no reason is recorded')}"


def show(path: Path, screen: Screen, *, step: int | None = None, variant: str | None = None, top: int = 10,
         metric: str = "l2", as_json: bool = False) -> None:
    """Print what was run, the strongest tokens and the block picture of one step and variant; with `as_json` the tokens alone.

    Raises RequestError for a table that cannot be read or is not whole, and for a step or variant that it does not have.
    """
    frame = read(path)
    run = frame.attrs.get("run") or {}
    steps, variants = (frame[name].unique().tolist() for name in ("generation_step", "variant"))
    if step is not None and step not in steps:
        raise RequestError(f"--step {step} is not in {path}; it has {ranges(steps)}")
    known = {name.casefold(): name for name in variants}
    if variant is not None and variant.casefold() not in known:
        raise RequestError(f"--variant: {unknown('variant', variant, shorter(variants))}")
    step = steps[0] if step is None else step
    variant = variants[0] if variant is None else known[variant.casefold()]
    table = as_table(path, frame[(frame["generation_step"] == step) & (frame["variant"] == variant)])
    strongest = strongest_tokens(table, top, metric=metric)
    if as_json:
        console.say(json.dumps(plain({  # in ASCII, where nothing drives a terminal
            "file": str(path), "model": setting(run, "model"), "prompt": setting(run, "prompt"),
            "part": setting(run, "part"), "at": setting(run, "at"),
            "generated_text": run.get("generated_text"), "step": step, "variant": variant, "metric": COLUMN[metric],
            "steps": steps, "variants": variants,
            "strongest": [{"position": token.position, "token": token.text, "sum_over_layers": token.total, "layer": token.layer,
                           "largest": token.largest} for token in strongest]})))
        return
    shown = f"step {step} of {ranges(steps)}, variant {variant} of {', '.join(shorter(variants))}"
    for line in [*about(path, run, screen), *screen.lines(f"shown      {shown}", " " * 11), *predicted(run, step, screen), "",
                 *strongest_lines(strongest, metric, screen, spared(table)), "",
                 *block_picture(table, metric, screen, noise_floor(run, table, metric))]:
        console.draw(line)


def predicted(run: Mapping[str, Any], step: int, screen: Screen) -> Iterator[str]:
    """Which token the step predicts, where the run record has it."""
    steps = run.get("steps")
    for record in steps if isinstance(steps, list) else ():
        following = record.get("next") if isinstance(record, Mapping) and record.get("step") == step else None
        if isinstance(following, Mapping):
            yield "predicts   " + screen.quoted(str(following.get("text")), screen.width - 11)


def strongest_lines(strongest: list[StrongToken], metric: str, screen: Screen, without: str) -> Iterator[str]:
    """The strongest tokens, one to a line: position, sum over layers, the largest distance with its layer, text."""
    heading = f"Strongest tokens ({METRICS[metric]} summed over layers{without})"
    yield screen.bold(screen.cut(heading, screen.width))
    for token in strongest:
        where = f"layer {token.layer}: {token.largest:.3g}  " if screen.width >= ROOM_FOR_LAYERS else ""
        line = f"{token.position:>6} {token.total:>9.3g}  {where}"
        yield line + screen.quoted(token.text, screen.width - len(line))
    if not strongest:
        yield from screen.lines("  none: there is no defined distance but position 0's")


def about(path: Path, run: Mapping[str, Any], screen: Screen) -> Iterator[str]:
    """What was run, in a few lines."""
    yield screen.bold(screen.cut(str(path), screen.width))
    if not run:
        yield from screen.lines("without a run file beside it, so model and prompt are unknown")
        return
    if path.is_dir():
        steps, ended = ranges([step["step"] for step in run["steps"]]), ending(path.parent.parent, path.name)
        yield from screen.lines(f"not finished{ended and f' ({ended})'}: it has steps {steps} so far")
    elif run.get("status") != "complete":
        yield from screen.lines(f"warning: its run file does not say that it is complete, but {run.get('status')!r}")
    room = screen.width - 11
    yield "model      " + screen.cut(f"{setting(run, 'model')} on {run.get('device')}", room)
    encoder = setting(run, "part") == "encoder"
    if encoder:
        yield "encoder    " + screen.cut(measured_at(run), room)
    else:
        yield "prompt     " + screen.quoted(str(setting(run, "prompt")), room)
    if images := setting(run, "image"):
        yield "pictures   " + screen.cut(", ".join(map(str, images)) if isinstance(images, list) else str(images), room)
    if not encoder:
        said = "generated  " if setting(run, "continuation") is None else "given      "
        yield said + screen.quoted(str(run.get("generated_text", "")), room)


def measured_at(run: Mapping[str, Any]) -> str:
    """Where a run of the encoder was measured."""
    at = setting(run, "at")
    return "the mean over all measured cells" if at == "all" else f"measured at cell {at} (row, column)"


def setting(run: Mapping[str, Any], name: str) -> Any:
    """One of the settings in a run record, None where it has none."""
    settings = run.get("settings")
    return settings.get(name) if isinstance(settings, Mapping) else None


def noise_floor(run: Mapping[str, Any], table: ResultTable, metric: str) -> list[float | None] | None:
    """The noise floor of each layer of a table of one step and variant, where the run record has it."""
    try:
        [record] = [record for record in run["steps"] if record["step"] == table.steps[0].step]
        floors = dict(zip(run["layers"], record[f"noise_floor_{metric}"][table.cells[0][0]]))
        found = [floors.get(layer) for _, layer in table.cells]
        return found if all(isinstance(value, (int, float, type(None))) for value in found) else None
    except (KeyError, TypeError, ValueError):
        return None


def read(path: Path) -> pd.DataFrame:
    """A table that has rows, and in each of them all but the distances. Raises RequestError for any other."""
    frame = read_unfinished(path) if path.is_dir() else read_results(path)
    if frame.empty:
        raise RequestError(f"{path}: the table has no rows, so there is nothing to look at")
    if frame[list(KEYS)].isna().any(axis=None):
        raise RequestError(f"{path}: {', '.join(KEYS)} have a value in every row of a result, and here they have not; write it again")
    return frame


def read_unfinished(folder: Path) -> pd.DataFrame:
    """The steps that are there of a run that is not finished. Raises RequestError if none can be read."""
    from mask_impact.unfinished import SafetensorError, unfinished_table  # with torch, which takes seconds to import

    try:
        table, run = unfinished_table(folder.parent.parent, folder.name) or (None, None)
        frame = None if table is None else table.to_dataframe()
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(f"{folder}: cannot be read ({first_line(error)}): the run has ended meanwhile, or start it again") from None
    if frame is None:
        raise RequestError(f"{folder}: no step in it can be read; start the run again")
    frame.attrs["run"] = run
    return frame


def as_table(path: Path, frame: pd.DataFrame) -> ResultTable:
    """The rows of a DataFrame as arrays. Raises RequestError if some are missing."""
    try:
        return table_of(frame)
    except (ValueError, TypeError):
        raise RequestError(f"{path}: rows are missing, or not in the order in which they were written; write it again") from None


def report(path: Path, screen: Screen, overwrite: bool = False) -> None:
    """Write the report of a result that is there. Raises RequestError if it has one, unless `overwrite`."""
    page = report_path(path.parent.parent, path.name) if path.is_dir() else report_path(path.parent, path.stem.removesuffix("_results"))
    refuse_present(page, overwrite)
    frame = read(path)
    write_report(as_table(path, frame), frame.attrs.get("run"), page)
    console.say(screen.safe(f"wrote {page}; open it in a browser"))


def refuse_present(path: Path, overwrite: bool) -> None:
    """Raise RequestError for a file that is there, unless it may be replaced."""
    if path.exists() and not overwrite:
        raise RequestError(f"{path} is there already; --overwrite replaces it")


def ranges(numbers: list[int]) -> str:
    """`0-2, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def shorter(variants: list[str]) -> list[str]:
    """The variants, heads in a row as `Head_0 to Head_15`."""
    heads = [name for name in variants if name.startswith("Head_")]
    whole = [name for name in variants if name not in heads]
    return [*whole, f"{heads[0]} to {heads[-1]}"] if len(heads) > 3 else [*whole, *heads]
