"""The long table of a run: one row per generation step, variant, layer and what is hidden: a position, or a unit.

    table = ResultTable(tokens=["The", " cat"], heatmap_rows=[("Full", 0), ("Attn", 0)])
    table.steps.append(StepDistances(step=0, l2=l2, cosine=cosine))     # each (heatmap row, position)
    table.to_dataframe()

A heatmap row is one variant at one layer. The distances stay the arrays that were measured; the other columns follow
from them and are made a few hundred thousand rows at a time. Where a step has `units`, its rows are these, and two or
three columns more follow the seven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("generation_step", "layer", "token_masked", "token_position", "variant", "l2_distance", "cosine_distance")
DISTANCES = ("l2_distance", "cosine_distance")
# Where rows are units, the first two follow the seven, and where there are pairs the third.
UNIT_COLUMNS, INTERACTION = ("unit", "positions"), "interaction_l2"
# The last columns of a vision-language run.
TYPE_COLUMN, CELL_COLUMNS = "token_type", ("patch_row", "patch_col")
PICTURE_COLUMNS = ("image_index", *CELL_COLUMNS)

# One batch then takes about 12 MB, and a step of 250,000 rows is still one batch.
_BATCH_ROWS = 262_144


def column_types(distance: pa.DataType) -> dict[str, pa.DataType]:
    """The Arrow type of each of the seven columns, given that of the distances (float32 or float64)."""
    text, whole = pa.string(), pa.int64()
    return dict(zip(COLUMNS, (whole, whole, text, whole, text, distance, distance)))


def unit_column_types(distance: pa.DataType) -> dict[str, pa.DataType]:
    """The Arrow type of each column that a table of units can have after the seven, given that of the distances."""
    return {**dict.fromkeys(UNIT_COLUMNS, pa.string()), INTERACTION: distance}


@dataclass(frozen=True)
class UnitLabels:
    """What a step's rows hide, where that is not each position alone: a text, a kind and `3-5` or `3,7` for each."""

    texts: list[str]
    kinds: list[str]
    positions: list[str]

    @property
    def first(self) -> np.ndarray:
        """The first position of each: (unit,) of int64."""
        return np.array([int(where.replace("-", ",").split(",")[0]) for where in self.positions], np.int64)

    @property
    def single(self) -> list[bool]:
        """Whether each is of one position."""
        return [where.isdecimal() for where in self.positions]

    def take(self, places: Sequence[int]) -> UnitLabels:
        """Those of the units at these places."""
        return UnitLabels(*([own[place] for place in places] for own in (self.texts, self.kinds, self.positions)))


@dataclass
class StepDistances:
    """The distances of one generation step.

    `l2` and `cosine` are (heatmap row, unit), both float32 or both float64, at least 0, NaN where undefined.
    `positions` (unit,) are the positions that were masked, ascending, or with `units` the first position of each; None
    for all from 0 on. `interaction` (heatmap row, unit) has the L2 of pairs' interactions, NaN elsewhere; only steps
    with `units` have it. Raises ValueError if shapes or dtypes differ.
    """

    step: int
    l2: np.ndarray
    cosine: np.ndarray
    positions: np.ndarray
    units: UnitLabels | None
    interaction: np.ndarray | None

    def __init__(
        self,
        step: int,
        l2: np.ndarray,
        cosine: np.ndarray,
        positions: np.ndarray | None = None,
        units: UnitLabels | None = None,
        interaction: np.ndarray | None = None,
    ) -> None:
        self.step, self.l2, self.cosine, self.units, self.interaction = step, l2, cosine, units, interaction
        self.positions = np.arange(l2.shape[-1]) if positions is None else positions
        if self.l2.ndim != 2 or self.l2.shape != self.cosine.shape or self.positions.shape != self.l2.shape[1:]:
            raise ValueError(
                f"distances are (heatmap row, position): l2 has {self.l2.shape}, cosine {self.cosine.shape}, "
                f"positions {self.positions.shape}"
            )
        if self.l2.dtype != self.cosine.dtype or self.l2.dtype not in (np.float32, np.float64):
            raise ValueError(f"distances are float32 or float64: l2 has {self.l2.dtype}, cosine {self.cosine.dtype}")
        if units is not None and {*map(len, (units.texts, units.kinds, units.positions))} != {l2.shape[1]}:
            raise ValueError(f"{l2.shape[1]} units need as many labels, and there are {units}")
        if interaction is not None and (
            units is None or (interaction.shape, interaction.dtype) != (l2.shape, l2.dtype)
        ):
            raise ValueError(
                f"interactions are those of units, like l2: they are {interaction.shape} in {interaction.dtype}, l2 is "
                f"{l2.shape} in {l2.dtype}"
            )

    @property
    def kind_of_each(self) -> list[str]:
        """The kind of each unit; `tokens` where each position is masked alone."""
        return ["tokens"] * len(self.positions) if self.units is None else self.units.kinds

    @property
    def kinds(self) -> list[str]:
        """The kinds of units, each once, in order."""
        return ["tokens"] if self.units is None else list(dict.fromkeys(self.units.kinds))

    @property
    def where(self) -> list[str]:
        """The positions of each unit: `3`, `3-5` or `3,7`."""
        return list(map(str, self.positions.tolist())) if self.units is None else self.units.positions

    @property
    def unit_columns(self) -> tuple[str, ...]:
        """The columns that its units have after the seven; none without units."""
        if self.units is None:
            return ()
        return UNIT_COLUMNS if self.interaction is None else (*UNIT_COLUMNS, INTERACTION)

    def named(self, place: int) -> str:
        """Which unit stands at a place: `position 3`, or `words 3-5`."""
        if self.units is None:
            return f"position {self.positions[place]}"
        return f"{self.units.kinds[place]} {self.units.positions[place]}"

    def are(self, kind: str) -> np.ndarray:
        """Which units are of a kind: (unit,) of bool."""
        if self.units is None:
            return np.full(len(self.positions), kind == "tokens")
        return np.array([own == kind for own in self.units.kinds], bool)

    def alone(self, position: int | None) -> np.ndarray:
        """Which units are this position and no other: (unit,) of bool."""
        found = self.positions == position
        return found if self.units is None else found & np.array(self.units.single, bool)

    def take(self, places: Sequence[int]) -> StepDistances:
        """The step with these units alone, in this order."""
        chosen = np.array(places, dtype=np.int64)
        units = None if self.units is None else self.units.take(places)
        interaction = None if self.interaction is None else self.interaction[:, chosen]
        arrays = self.l2[:, chosen], self.cosine[:, chosen], self.positions[chosen]
        return StepDistances(self.step, *arrays, units, interaction)

    def of_kind(self, kind: str) -> StepDistances:
        """The step with its units of one kind."""
        if self.units is None and kind == "tokens":
            return self
        return self.take(np.flatnonzero(self.are(kind)).tolist())


@dataclass
class ResultTable:
    """Every distance of a run, with the names of its axes.

    `tokens` has the text of every position of the longest step. `heatmap_rows` has the (variant, layer) pairs,
    variant-major: Full over all layers, Attn over all layers, Head_0 over its layers, ... Step `k` covers its own
    positions, or its own units, which all steps have or none; `steps` may read it from a file each time it is used.
    `extra_columns` are the last columns by name, (position,) like `tokens`: text, or whole numbers that may be null.
    """

    tokens: list[str]
    heatmap_rows: list[tuple[str, int]]
    steps: Sequence[StepDistances] = field(default_factory=list)
    extra_columns: dict[str, pa.Array] = field(default_factory=dict)

    @property
    def left_out(self) -> int | None:
        """The position that lists and scales leave out: 0, the usual attention sink, or None if a cell is there."""
        return left_out(self.extra_columns)

    def __len__(self) -> int:
        return sum(step.l2.size for step in self.steps)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the distances; float32 if there are none."""
        return self.steps[0].l2.dtype if self.steps else np.dtype(np.float32)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The Arrow type of each column, by name, in order."""
        distance = pa.from_numpy_dtype(self.dtype)
        of_units = unit_column_types(distance)
        return (
            column_types(distance)
            | {name: of_units[name] for name in self.unit_columns}
            | {name: values.type for name, values in self.extra_columns.items()}
        )

    @property
    def unit_columns(self) -> tuple[str, ...]:
        """The columns between the seven and the extra ones, which every step has if the first does."""
        return self.steps[0].unit_columns if len(self.steps) else ()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch: all columns, text as a dictionary."""
        return coded_schema(self.types)

    def texts(self, step: StepDistances) -> list[str]:
        """The text of what each row of a heatmap row hides: a token, or a unit's own."""
        return [self.tokens[position] for position in step.positions] if step.units is None else step.units.texts

    def extra_values(self, step: StepDistances) -> dict[str, pa.Array]:
        """The extra columns at the first position of each unit, (unit,); a unit of several positions is in no cell."""
        return values_at(step.positions, self.extra_columns, None if step.units is None else step.units.single)

    def left_out_in(self, step: StepDistances) -> int | None:
        """The position that a step's lists and scales leave out: `left_out`, of units only if it is one by itself."""
        return self.left_out if step.units is None or step.alone(self.left_out).any() else None

    def columns(self, step: StepDistances, rows: slice = slice(None)) -> pa.RecordBatch:
        """The table's rows for `step`, or for some of its heatmap rows, in order; undefined distances are null.

        Raises ValueError if the step has another number of heatmap rows than the table, more positions than tokens, or
        other columns for units than the first step.
        """
        if len(step.l2) != len(self.heatmap_rows) or step.positions.max(initial=-1) >= len(self.tokens):
            raise ValueError(
                f"step {step.step} is {step.l2.shape} (heatmap row, position), its last position "
                f"{step.positions.max(initial=-1)}; the table has {len(self.heatmap_rows)} heatmap rows and "
                f"{len(self.tokens)} tokens"
            )
        if step.unit_columns != self.unit_columns:
            raise ValueError(
                f"step {step.step} has the columns {step.unit_columns} for units, and the first has {self.unit_columns}"
            )
        chosen, l2, cosine = self.heatmap_rows[rows], step.l2[rows].ravel(), step.cosine[rows].ravel()
        count = len(step.positions)
        variants = pa.array([variant for variant, _ in chosen], pa.string()).dictionary_encode()
        layers = np.array([layer for _, layer in chosen], dtype=np.int64)
        extra = self.extra_values(step).values()
        return pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(l2.size, step.step, dtype=np.int64)),
                pa.array(np.repeat(layers, count)),
                tiled(pa.array(self.texts(step), pa.string()), len(chosen)),
                pa.array(np.tile(step.positions.astype(np.int64), len(chosen))),
                pa.DictionaryArray.from_arrays(np.repeat(variants.indices, count), variants.dictionary),
                pa.array(l2, from_pandas=True),
                pa.array(cosine, from_pandas=True),
                *unit_arrays(step, rows, len(chosen)),
                *(tiled(values, len(chosen)) for values in extra),
            ],
            schema=self.schema,
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, in batches of bounded size; none for a table without rows."""
        for step in self.steps:
            rows = max(1, _BATCH_ROWS // max(1, step.l2.shape[1]))
            for first in range(0, len(self.heatmap_rows), rows):
                yield self.columns(step, slice(first, first + rows))

    def row_groups(self) -> Iterator[pa.RecordBatch]:
        """The whole table in its order, one batch for each generation step and variant."""
        for step in self.steps:
            first = 0
            for _, group in groupby(self.heatmap_rows, key=lambda row: row[0]):
                last = first + len(list(group))
                yield self.columns(step, slice(first, last))
                first = last

    def to_dataframe(self) -> pd.DataFrame:
        """The long table: int64, text, and distances in the dtype they were measured in, NaN where undefined.

        Rows are ordered by generation step, variant, layer, position.
        """
        plain = pa.schema(list(self.types.items()))
        return pa.Table.from_batches([batch.cast(plain) for batch in self.batches()], plain).to_pandas()


def coded_schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The Arrow schema of columns of these types, text as a dictionary."""
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(name, text if pa.types.is_string(kind) else kind) for name, kind in types.items()])


def values_at(
    positions: np.ndarray, columns: Mapping[str, pa.Array], single: Sequence[bool] | None
) -> dict[str, pa.Array]:
    """The values of columns (position,) at the first position of each unit, (unit,).

    A unit that is not `single` is in no cell; None for positions, each of which is.
    """
    found = {name: values.take(pa.array(positions)) for name, values in columns.items()}
    if single is not None:
        for name in found.keys() & CELL_COLUMNS:
            found[name] = pc.if_else(pa.array(single, pa.bool_()), found[name], pa.scalar(None, found[name].type))
    return found


def unit_arrays(step: StepDistances, rows: slice, times: int) -> list[pa.Array]:
    """The `unit_columns` of a step for these heatmap rows, `times` of them."""
    if step.units is None:
        return []
    labels = [tiled(pa.array(own, pa.string()), times) for own in (step.units.kinds, step.units.positions)]
    return labels if step.interaction is None else [*labels, pa.array(step.interaction[rows].ravel(), from_pandas=True)]


def left_out(extra_columns: Mapping[str, pa.Array]) -> int | None:
    """The position that lists and scales leave out, from the extra columns: 0, or None if a picture's cell is there."""
    kinds = extra_columns.get("token_type", ())
    return None if len(kinds) and kinds[0].as_py() == "vision" else 0


def tiled(values: pa.Array, times: int) -> pa.Array:
    """The values repeated `times` times in a row, text as a dictionary."""
    if pa.types.is_string(values.type):
        coded = values.dictionary_encode()
        return pa.DictionaryArray.from_arrays(np.tile(coded.indices, times), coded.dictionary)
    return values.take(pa.array(np.tile(np.arange(len(values)), times)))
