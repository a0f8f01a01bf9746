"""Reading a result back, exactly as it was measured.

table = read_results("output/capital_results.csv")
table.attrs["run"]["settings"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mask_impact.base.errors import RequestError
from mask_impact.results.folder import knockout_rows
from mask_impact.results.knockout_table import KNOCKOUT_COLUMNS, READINGS, knockout_types
from mask_impact.results.paths import RESULT_FILE, run_path
from mask_impact.results.table import COLUMNS, DISTANCES, INTERACTION, PICTURE_COLUMNS, column_types, unit_column_types
from mask_impact.results.writing import RUN_KEY

if TYPE_CHECKING:
    import pandas as pd


# A row must fit in a block; tokens are at most some kilobytes long.
_BLOCK_BYTES = 1 << 24

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")

_FROM_PANDAS = "from pandas write these columns first, with to_csv(path, index=False)"

# The only float32 from 0 up whose shortest text, read as a float64 and rounded to float32, gives another number: the
# one above it. All 2,139,095,040 finite ones were tried.
_TWICE_ROUNDED = 7.038531e-26


@dataclass(frozen=True)
class Layout:
    """What every table of a kind has: its first columns, those that were measured, and the type of each known one.

    `rows` gives the number of rows by a run record; `csv` are options for reading text; `sparse` are whole numbers that
    may be missing, which pandas then writes as 1.0.
    """

    columns: tuple[str, ...]
    measured: tuple[str, ...]
    types: Callable[[pa.DataType], dict[str, pa.DataType]]
    rows: Callable[[Mapping[str, Any]], Any]
    csv: Mapping[str, Any] = field(default_factory=dict)
    sparse: tuple[str, ...] = ()


def result_types(distance: pa.DataType) -> dict[str, pa.DataType]:
    """The type of each column that is read in one type, whether a table of results has it or not."""
    return column_types(distance) | unit_column_types(distance)


RESULTS = Layout(COLUMNS, (*DISTANCES, INTERACTION), result_types, lambda run: run.get("rows"))
# Where nothing is written the text is null, and "" is the empty token.
NOTHING_IS_NULL = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}
KNOCKOUTS = Layout(KNOCKOUT_COLUMNS, READINGS, knockout_types, knockout_rows, NOTHING_IS_NULL, ("head",))


def layout_of(names: Sequence[str]) -> Layout:
    """The layout of a table with these columns, before which pandas may have written its index."""
    return KNOCKOUTS if KNOCKOUT_COLUMNS[1] in names[1:3] else RESULTS


def read_results(path: str | Path) -> pd.DataFrame:
    """The long table of {name}_results.csv, .json or .parquet; every token and every bit of a distance as measured.

    Integers are int64, tokens and units text (`NA`, `007` and the empty token included), undefined distances NaN, and
    so are interactions of what is no pair. Distances are float32, or float64 if the run record says so or, without a
    record, if float32 cannot hold the numbers. Columns after the seven are kept, an index that pandas wrote is dropped.
    Of {name}_knockout.csv, .json or .parquet it is the knock-out table, likewise; what is empty there is NaN.
    `attrs["run"]` has the run record, if the file or {name}_run.json beside it holds one. Raises RequestError, one
    line, for a file that is missing, cut short, or not a result.
    """
    table, run = read_table(path)
    frame = table.to_pandas()
    if run is not None:
        frame.attrs["run"] = run
    return frame


def read_table(path: str | Path) -> tuple[pa.Table, dict[str, Any] | None]:
    """The table of `read_results` as an Arrow table, extra columns in the file's types; and the run record or None."""
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RequestError(f"{path}: suffix {path.suffix!r} is not one of {', '.join(_READERS)}; name a result file")
    if not path.is_file():
        raise RequestError(f"{path}: there is no such file; name a file that ends in _results.csv, .json or .parquet")
    try:
        table, run = reader(path)
    except (
        pa.ArrowException,
        OSError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RequestError(f"{path}: not a whole result file ({reason[:200]}); write it again") from error
    _check_rows(path, table.num_rows, layout_of(table.column_names).rows(run or {}))
    return table, run


def _read_parquet(path: Path) -> tuple[pa.Table, dict[str, Any] | None]:
    with pq.ParquetFile(path) as file:
        table = file.read()
        text = (file.metadata.metadata or {}).get(RUN_KEY.encode())
    layout = layout_of(table.column_names)
    table = _without_index(table, layout)
    _check_columns(path, table.column_names, layout)
    run = None if text is None else run_record_of(path, text)
    return _typed(table, layout.types(table.schema.field(layout.measured[0]).type)), run


def _read_csv(path: Path) -> tuple[pa.Table, dict[str, Any] | None]:
    _check_end(path)
    layout = layout_of(_first_names(path))
    types = layout.types(pa.float64())
    table = pa.csv.read_csv(
        path,
        pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(column_types=types | dict.fromkeys(layout.sparse, pa.float64()), **layout.csv),
    )
    table = _without_index(table, layout)
    _check_columns(path, table.column_names, layout)
    run = _neighbouring_run(path)
    return _in_its_dtype(_typed(table, types), layout, run), run


def _first_names(path: Path) -> list[str]:
    """The first three names in a CSV file's heading."""
    with open(path, "rb") as file:
        return file.readline(1000).decode("utf-8-sig", "replace").replace('"', "").split(",")[:3]


def _read_json(path: Path) -> tuple[pa.Table, dict[str, Any] | None]:
    record = json.loads(path.read_bytes())
    entries = record.items() if isinstance(record, dict) else ()
    columns = {name: values for name, values in entries if isinstance(values, list)}
    if not columns:
        raise RequestError(
            f'{path}: holds no object of columns as lists ({{"layer": [0, 1], ...}}); '
            "from pandas write CSV, with to_csv(path, index=False)"
        )
    layout = layout_of(list(columns))
    _check_columns(path, list(columns), layout)
    types = layout.types(pa.float64())
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    run = _neighbouring_run(path)
    return _in_its_dtype(_typed(table, types), layout, run), run


_READERS: dict[str, Callable[[Path], tuple[pa.Table, dict[str, Any] | None]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _typed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The known columns in their types; an extra column that is empty throughout becomes numbers, all NaN."""
    kinds = {field.name: types.get(field.name, field.type) for field in table.schema}
    for name in [name for name, kind in kinds.items() if pa.types.is_null(kind)]:
        kinds[name] = pa.int64() if name in PICTURE_COLUMNS else pa.float64()
    return table.cast(pa.schema(list(kinds.items())))


def _in_its_dtype(wide: pa.Table, layout: Layout, run: dict[str, Any] | None) -> pa.Table:
    """What was measured in the dtype that the run record names; without one, in float32 if its texts are the same."""
    dtypes = (run or {}).get("dtypes")
    named = dtypes.get("results") if isinstance(dtypes, dict) else None
    if named == "float64":
        return wide
    measured = [name for name in layout.measured if name in wide.column_names]
    narrow = _narrowed(wide, measured)
    held = named == "float32" or all(
        narrow[name].cast(pa.string()).cast(pa.float64()).equals(wide[name]) for name in measured
    )
    return narrow if held else wide


def _narrowed(table: pa.Table, measured: Sequence[str]) -> pa.Table:
    """The measured columns as those float32 whose shortest texts were read as these float64."""
    for name in measured:
        wide = table[name].to_numpy()
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        for known in (_TWICE_ROUNDED, -_TWICE_ROUNDED):
            narrow[wide == known] = np.nextafter(np.float32(known), np.float32(0))
        table = table.set_column(table.column_names.index(name), name, pa.array(narrow, from_pandas=True))
    return table


def _neighbouring_run(path: Path) -> dict[str, Any] | None:
    """The record in {name}_run.json beside a table of the result; None if there is no such file."""
    match = RESULT_FILE.fullmatch(path.name)
    file = run_path(path.parent, match[1]) if match else None
    return run_record_of(file, file.read_bytes()) if file and file.is_file() else None


def run_record_of(path: Path, text: bytes) -> dict[str, Any]:
    """The run record in a file's text. Raises RequestError if the text holds none."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: its run record is not JSON ({error}); run again, or move the file away") from error
    if not isinstance(record, dict):
        raise RequestError(f"{path}: its run record is a {type(record).__name__}, not an object; run again")
    return record


def _without_index(table: pa.Table, layout: Layout) -> pa.Table:
    """The table without pandas' index: in CSV one column before the first, in Parquet those with pandas' own names."""
    names = table.column_names
    first = 1 if tuple(names[1 : 1 + len(layout.columns)]) == layout.columns else 0
    return table.select(
        [place for place, name in enumerate(names) if place >= first and not _PANDAS_INDEX.fullmatch(name)]
    )


def _check_columns(path: Path, found: list[str], layout: Layout) -> None:
    own = layout.columns
    if tuple(found[: len(own)]) != own:
        raise RequestError(
            f"{path}: the first columns are {', '.join(found[: len(own)]) or 'none'}, where a result "
            f"has {', '.join(own)}; {_FROM_PANDAS}"
        )


def _check_end(path: Path) -> None:
    """Raise RequestError for a CSV file that does not end with a line break, as most that were cut short."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if file.read(1) != b"\n":
            raise RequestError(f"{path}: ends within a line after {size:,} bytes, so it was cut short; write it again")


def _check_rows(path: Path, rows: int, expected: Any) -> None:
    """Raise RequestError if the run record counts other rows."""
    if isinstance(expected, int) and rows != expected:
        raise RequestError(
            f"{path}: has {rows:,} rows where its run record says {expected:,}: one of them was cut "
            f"short or belongs to another run; run again"
        )
