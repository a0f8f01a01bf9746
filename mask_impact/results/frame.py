"""Turns a DataFrame back into a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mask_impact.base.errors import RequestError
from mask_impact.results.table import COLUMNS, DISTANCES, ResultTable, StepDistances
from mask_impact.settings.readers import MOST_NUMBER

if TYPE_CHECKING:
    import pandas as pd


# Extra columns of a vision-language run.
TYPE_COLUMN, PICTURE_COLUMNS = "token_type", ("image_index", "patch_row", "patch_col")


def table_of(frame: pd.DataFrame) -> ResultTable:
    """The table of a DataFrame from `read_results`. Raises RequestError if rows are missing or in another order."""
    # For every one of them there would be a token.
    if len(frame) and (last := frame["token_position"].max()) >= MOST_NUMBER:
        raise RequestError(f"a result has fewer than {MOST_NUMBER:,} positions, and here one is {last:,}")
    heatmap_rows = frame[["variant", "layer"]].drop_duplicates()
    table = ResultTable([], [(variant, int(layer)) for variant, layer in heatmap_rows.itertuples(index=False)])
    steps: list[tuple[Any, pd.DataFrame]] = list(frame.groupby("generation_step"))
    if all(len(rows) % len(heatmap_rows) == 0 for _, rows in steps):
        table.steps = [step_of(int(step), rows, len(heatmap_rows)) for step, rows in steps]
        tokens = frame.drop_duplicates("token_position").set_index("token_position")
        tokens = tokens.reindex(range(tokens.index.max() + 1 if len(tokens) else 0))
        table.tokens = tokens["token_masked"].fillna("").tolist()
        table.extra_columns = {
            name: extra_column(tokens[name])
            for name in frame.columns[len(COLUMNS) :]
            if name in (TYPE_COLUMN, *PICTURE_COLUMNS)
        }
    kept = [*COLUMNS, *table.extra_columns]
    if not table.to_dataframe().equals(frame[kept].reset_index(drop=True)):
        raise RequestError("a report needs every row of the table, in the order in which it was written")
    return table


def step_of(number: int, rows: pd.DataFrame, heatmap_rows: int) -> StepDistances:
    """One step's rows as arrays (heatmap row, position), given how many heatmap rows; a text run has all positions."""
    positions = rows["token_position"].to_numpy()[: len(rows) // max(1, heatmap_rows)] if TYPE_COLUMN in rows else None
    l2, cosine = (rows[name].to_numpy().reshape(heatmap_rows, -1) for name in DISTANCES)
    return StepDistances(number, l2, cosine, positions)


def extra_column(values: pd.Series) -> pa.Array:
    """One of the extra columns, (position,): null where the table has no row."""
    if values.name == TYPE_COLUMN:
        return pa.array(values.tolist(), pa.string(), from_pandas=True)
    return pa.array(values.fillna(-1).astype("int64").to_numpy(), mask=values.isna().to_numpy())
