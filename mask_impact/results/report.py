"""Writes a report, {name}_report.html: the viewer with one run inside, which a double click opens.

    write_report("output/capital_results.csv", None, "output/capital_report.html")

The run goes into script elements that browsers do not run, before the page's last `</body>`: `report-table` (axes and
tokens) and `report-run` (the run record) are JSON in which no `<` stands; `report-data-STEP-VARIANT`, one for each
generation step and variant, is base64 of gzip of float32: the L2 distances (layer, position), then the cosine ones.
Where rows are units, `units` in `report-table` has the texts, kinds and positions of each step's, and if `interaction`
is true, the interactions (layer, unit) follow the distances.
viewer/read/embedded.js reads them.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mask_impact.base.errors import RequestError
from mask_impact.base.formats import REPORT_ROWS
from mask_impact.base.json_text import json_value
from mask_impact.base.package_data import package_data
from mask_impact.base.whole_files import write_whole
from mask_impact.results.frame import table_of
from mask_impact.results.reading import read_results
from mask_impact.results.table import INTERACTION, PICTURE_COLUMNS, ResultTable, StepDistances

if TYPE_CHECKING:
    import pandas as pd

PAGE = package_data("visualize_results.html")
END = "</body>"
ROUNDED = "This report holds float32: distances are rounded to 7 digits. The result files hold float64."


def write_report(
    table: ResultTable | pd.DataFrame | str | Path,
    run: Mapping[str, Any] | None,
    path: str | Path,
    temporaries: Path | None = None,
) -> None:
    """Write the page with a run inside; until it is whole it lies in the folder `temporaries`, if that is given.

    `table` is a table, or a file for `read_results`. `run` is the run record; None takes the one that belongs to the
    table, if any. Raises RequestError for a table that cannot be read, has knock-outs, has more than REPORT_ROWS
    rows, or lacks rows, and if the viewer's page is missing; RunError if the report cannot be written.
    """
    path = Path(path)
    frame = read_results(table) if isinstance(table, (str, Path)) else table
    if not isinstance(frame, ResultTable):
        run = frame.attrs.get("run") if run is None else run
        if "cut" in frame:
            raise RequestError(f"{path}: no report: these are knock-outs; the results' own report shows them")
        frame = table_of(frame)
    if too_long := report_fault(len(frame)):
        raise RequestError(f"{path}: {too_long}")
    if frame.unit_columns:
        frame = table_of(frame.to_dataframe())  # a file has not the tokens within units, and a page is the same of both
    before, after = page()
    name = path.stem.removesuffix("_report")

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(before)
            file.writelines(blocks(frame, run, name))
            file.write(after)

    write_whole({path: write}, folder=temporaries)


def report_fault(rows: int) -> str | None:
    """Why a table of `rows` rows gets no report, or None."""
    if rows <= REPORT_ROWS:
        return None
    return (
        f"no report: {rows:,} rows are more than the {REPORT_ROWS:,} that a report holds; open the result itself in "
        f"{PAGE.name}, Parquet at best"
    )


def page() -> tuple[str, str]:
    """The viewer's page up to where the run goes, and the rest of it. Raises RequestError if the page is missing."""
    try:
        before, end, after = PAGE.read_text(encoding="utf-8").rpartition(END)
    except OSError as error:
        raise RequestError(
            f"--report needs {str(PAGE)!r} ({error.strerror}); fetch the repository again, or install it again"
        ) from None
    if not end:
        raise RequestError(f"--report needs a whole {PAGE.name}; {str(PAGE)!r} has no {END}")
    return before, end + after


def blocks(table: ResultTable, run: Mapping[str, Any] | None, name: str) -> Iterator[str]:
    """The script elements one by one, so that the text of only one heatmap is in memory."""
    variants = list(dict.fromkeys(variant for variant, _ in table.heatmap_rows))
    rows = {
        variant: [row for row, (other, _) in enumerate(table.heatmap_rows) if other == variant] for variant in variants
    }
    words = list(dict.fromkeys(table.tokens))
    number = {word: index for index, word in enumerate(words)}
    yield element(
        "report-table",
        "application/json",
        json_of(
            {
                "name": name,
                "rows": len(table),
                "steps": [step.step for step in table.steps],
                "variants": variants,
                "layers": sorted({layer for _, layer in table.heatmap_rows}),
                "own_layers": [[table.heatmap_rows[row][1] for row in rows[variant]] for variant in variants],
                "positions": [positions_of(step) for step in table.steps],
                "words": words,
                "codes": [number[token] for token in table.tokens],
                "places": picture_cells(table),
                **units_of(table),
                "notes": [ROUNDED] if table.dtype == np.float64 else [],
            }
        ),
    )
    if run is not None:
        yield element("report-run", "application/json", json_of(json_value(run)))
    for place, step in enumerate(table.steps):
        for index, variant in enumerate(variants):
            measured = [step.l2, step.cosine, *([] if step.interaction is None else [step.interaction])]
            values = np.stack([each[rows[variant]] for each in measured]).astype("<f4")
            packed = gzip.compress(values.tobytes(), mtime=0)  # without a time the same run gives the same bytes
            yield element(
                f"report-data-{place}-{index}",
                "application/octet-stream;base64",
                base64.b64encode(packed).decode("ascii"),
            )


def positions_of(step: StepDistances) -> int | list[int]:
    """The step's positions, of units their first; only their number if they are all from 0 on."""
    count = len(step.positions)
    return count if step.units is None and count and step.positions[-1] == count - 1 else step.positions.tolist()


def units_of(table: ResultTable) -> dict[str, Any]:
    """What the page needs where rows are units: each step's labels, and whether there are interactions."""
    if not table.unit_columns:
        return {}
    units = [asdict(step.units) for step in table.steps if step.units is not None]
    return {"units": units, "interaction": INTERACTION in table.unit_columns}


def picture_cells(table: ResultTable) -> list[list[int]] | None:
    """Picture, row and column of each token's cell, -1 in each for text; None for a run without pictures."""
    if not set(PICTURE_COLUMNS) <= set(table.extra_columns):
        return None
    return [
        list(place) for place in zip(*(table.extra_columns[name].fill_null(-1).to_pylist() for name in PICTURE_COLUMNS))
    ]


def element(name: str, kind: str, text: str) -> str:
    """A script element that browsers keep as it is."""
    return f'<script type="{kind}" id="{name}">{text}</script>\n'


def json_of(value: Any) -> str:
    """JSON in ASCII without `<`, so that nothing in it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
