"""Turns a DataFrame back into a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mask_impact.base.errors import RequestError
from mask_impact.results.knockout_table import KNOCKOUT_COLUMNS
from mask_impact.results.table import (
    COLUMNS,
    DISTANCES,
    INTERACTION,
    PICTURE_COLUMNS,
    TYPE_COLUMN,
    UNIT_COLUMNS,
    ResultTable,
    StepDistances,
    UnitLabels,
)
from mask_impact.settings.readers import MOST_NUMBER

if TYPE_CHECKING:
    import pandas as pd


def table_of(frame: pd.DataFrame) -> ResultTable:
    """The table of a DataFrame from `read_results`; where rows are units, its `tokens` are empty texts.

    Raises RequestError if rows are missing or in another order, or if a unit has no kind or positions; and for a
    knock-out table.
    """
    refuse_knockouts(frame)
    # For every one of them there would be a token.
    if len(frame) and (last := frame["token_position"].max()) >= MOST_NUMBER:
        raise RequestError(f"a result has fewer than {MOST_NUMBER:,} positions, and here one is {last:,}")
    if of_units(frame) and frame[list(UNIT_COLUMNS)].isna().any(axis=None):
        raise RequestError(f"a unit needs its {' and '.join(UNIT_COLUMNS)}, and here are rows without")
    heatmap_rows = frame[["variant", "layer"]].drop_duplicates()
    table = ResultTable([], [(variant, int(layer)) for variant, layer in heatmap_rows.itertuples(index=False)])
    steps: list[tuple[Any, pd.DataFrame]] = list(frame.groupby("generation_step"))
    if all(len(rows) % len(heatmap_rows) == 0 for _, rows in steps):
        table.steps = [step_of(int(step), rows, len(heatmap_rows)) for step, rows in steps]
        tokens = first_rows(frame)
        tokens = tokens.reindex(range(tokens.index.max() + 1 if len(tokens) else 0))
        table.tokens = [""] * len(tokens) if of_units(frame) else tokens["token_masked"].fillna("").tolist()
        table.extra_columns = {
            name: extra_column(tokens[name])
            for name in frame.columns[len(COLUMNS) :]
            if name in (TYPE_COLUMN, *PICTURE_COLUMNS)
        }
    if not table.to_dataframe().equals(frame[list(table.types)].reset_index(drop=True)):
        raise RequestError("a report needs every row of the table, in the order in which it was written")
    return table


def refuse_knockouts(frame: pd.DataFrame, start: str = "") -> None:
    """Raise RequestError, which begins with `start`, for a table of knock-outs, which has no heatmaps."""
    if KNOCKOUT_COLUMNS[1] in frame.columns and "variant" not in frame.columns:
        raise RequestError(
            f"{start}this is a knock-out table: mask_impact.read_results reads it, and `python -m mask_impact export` "
            "writes it in other formats; name the result itself, of which `show` says what the answer rests on"
        )


def of_units(frame: pd.DataFrame) -> bool:
    """Whether its rows are units; one of the two columns alone is somebody else's."""
    return set(UNIT_COLUMNS) <= set(frame.columns)


def first_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each position that a row of the table begins with, by position.

    Of units that begin alike, one has no cell where another, of one position, has; so the first value counts.
    """
    if not of_units(frame):
        return frame.drop_duplicates("token_position").set_index("token_position")
    return frame.drop_duplicates(["token_position", "positions"]).groupby("token_position").first()


def step_of(number: int, rows: pd.DataFrame, heatmap_rows: int) -> StepDistances:
    """One step's rows as arrays (heatmap row, unit), given how many heatmap rows; a text run has all positions."""
    l2, cosine = (rows[name].to_numpy().reshape(heatmap_rows, -1) for name in DISTANCES)
    first = rows[: l2.shape[1]]
    if not of_units(rows):
        return StepDistances(number, l2, cosine, first["token_position"].to_numpy() if TYPE_COLUMN in rows else None)
    labels = UnitLabels(*(first[name].tolist() for name in ("token_masked", *UNIT_COLUMNS)))
    interaction = rows[INTERACTION].to_numpy().reshape(heatmap_rows, -1) if INTERACTION in rows else None
    return StepDistances(number, l2, cosine, first["token_position"].to_numpy(), labels, interaction)


def extra_column(values: pd.Series) -> pa.Array:
    """One of the extra columns, (position,): null where the table has no row."""
    if values.name == TYPE_COLUMN:
        return pa.array(values.tolist(), pa.string(), from_pandas=True)
    return pa.array(values.fillna(-1).astype("int64").to_numpy(), mask=values.isna().to_numpy())
