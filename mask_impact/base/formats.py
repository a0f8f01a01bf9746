"""The formats that a table can be written in, and how large their files become."""

from __future__ import annotations

FORMATS = ("csv", "json", "parquet")

# A spreadsheet's lines below the heading: Excel and LibreOffice open no more. It is 53 MB of CSV, and 10 MB of Parquet.
SPREADSHEET_ROWS = 1_048_575

# A browser tab and pandas.read_json both need several times the file's size: some 250 MB at this many rows.
JSON_ROWS = 5_000_000

# A report of this many rows is a page of 50 MB, most of it distances that gzip can do little with.
REPORT_ROWS = 5_000_000


def formats_for(
    rows: int, formats: tuple[str, ...], explicit: bool, knockouts: int = 0
) -> tuple[tuple[str, ...], str | None]:
    """The formats for a table of `rows` rows and a knock-out table, and one line to print if they are not the ones
    wanted. Both tables of a result have the same formats.

    Where they are only the default (not `explicit`), a table that no spreadsheet opens is written in Parquet alone; the
    line is for the end of the run. Past five million rows JSON gives way to Parquet also where it was asked for by
    name: call this with the most possible rows before the run, and warn with the line.
    """
    most = max(rows, knockouts)
    found = f"{rows:,} rows" if rows == most else f"{knockouts:,} rows of knock-outs"
    if not explicit and most > SPREADSHEET_ROWS:
        return ("parquet",), (
            f"{found} are more than a spreadsheet opens ({SPREADSHEET_ROWS:,}): "
            "Parquet takes the place of CSV and JSON; "
            "the same command with --formats csv writes CSV too, without measuring again"
        )
    if "json" not in formats or most <= JSON_ROWS:
        return formats, None
    kept = tuple(dict.fromkeys("parquet" if name == "json" else name for name in formats))
    return kept, (
        f"JSON was asked for, but holds up to {JSON_ROWS:,} rows and this run can have {found}: past that "
        f"Parquet takes its place; measure fewer --layers, --variants or --num-tokens to keep JSON"
    )


# Bytes per row, measured on tables of 60 to 1,024 English tokens in float32; benchmarks/tables.py prints them.
_ROW_BYTES = {"csv": 51, "json": 51, "parquet": 9}

# Parquet's bytes beside its rows, measured on runs of 3 to 28 layers: for each heatmap a row group and its footer
# entry; the run record's settings; and five numbers for each layer of a heatmap.
_GROUP_BYTES, _RECORD_BYTES, _LAYER_BYTES = 1500, 2500, 100


def file_sizes(rows: int, formats: tuple[str, ...], heatmaps: int, layers: int) -> dict[str, int]:
    """Estimated bytes of each file, for `heatmaps` pairs of generation step and variant with `layers` layers each.

    Within about a third of the truth for float32, a factor of 2 for small tables. Pictures, which Parquet's run record
    holds, come on top.
    """
    sizes = {name: rows * _ROW_BYTES[name] for name in formats}
    if "parquet" in sizes:
        sizes["parquet"] += _RECORD_BYTES + heatmaps * (_GROUP_BYTES + layers * _LAYER_BYTES)
    return sizes
