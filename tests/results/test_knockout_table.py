"""The knock-out table: its columns and order, written in three formats and read back bit for bit, beside its result."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hard_tables import HOSTILE_TOKENS, assert_same_bits, hard_distances, hard_table, names_in
from unit_tables import CELLS

from mask_impact import read_results
from mask_impact.base.errors import RequestError, RunError
from mask_impact.base.formats import FORMATS
from mask_impact.base.json_text import json_bytes
from mask_impact.lookup.find import find
from mask_impact.results.folder import OutputFolder, whole_formats
from mask_impact.results.knockout_table import CUTS, KNOCKOUT_COLUMNS, READINGS, KnockoutRows, KnockoutTable
from mask_impact.results.reading import read_table
from mask_impact.results.stored_table import StoredTable
from mask_impact.results.table import UnitLabels
from mask_impact.results.writing import WRITERS, write_results
from mask_impact.runs.on_disk.missing_formats import write_missing_formats
from mask_impact.runs.result_names import NameChoice

# Kind and positions of each; the texts are hostile.
WHERE = [("spans", "3,5"), ("images", "3-6"), ("words", "1-2"), ("words", "0"), ("words", "3"), ("tokens", "8")]
PLACES = {  # first layer, last layer, head
    "all": [(0, 3, -1)],
    "final": [(2, 2, -1), (0, 3, -1), (0, 0, -1)],
    "heads": [(2, 2, 1), (1, 1, 0), (2, 2, 0)],
    "first_order": [(1, 1, 0), (1, 1, -1), (0, 0, -1)],
}


def signed(count: int, dtype: type, seed: int) -> np.ndarray:
    """Hard floats of both signs that the dtype holds, as float64; some are NaN."""
    values = hard_distances((count,), dtype, seed).astype(np.float64)
    return np.where(np.arange(count) % 3, values, -values)


def rows_of(step: int, cut: str, units: int, tops: int, dtype: type = np.float32) -> KnockoutRows:
    """Rows of every place and unit in a random order."""
    places = np.repeat(PLACES[cut], units, axis=0)
    count, seed = len(places), 10 * step + CUTS.index(cut)
    changes = [signed(count, dtype, 3 * seed + which) for which in range(3)]
    top = np.arange(count) % (tops + 1) - 1
    if cut == "first_order":
        changes[1:] = np.full((2, count), np.nan)
        top = np.full(count, -1)
    rows = KnockoutRows(step, cut, *places.T, np.tile(np.arange(units), len(places) // units), *changes, top)
    return rows.take(np.random.default_rng(seed).permutation(count))


def knockout_table(texts=HOSTILE_TOKENS, cuts=CUTS, pictures=False, dtype=np.float32) -> KnockoutTable:
    """Two steps of these cuts over a unit for each text, the later step and cut first."""
    kinds, positions = map(list, zip(*(WHERE[place % len(WHERE)] for place in range(len(texts)))))
    rows = [rows_of(step, cut, len(texts), len(HOSTILE_TOKENS), dtype) for step in (1, 0) for cut in reversed(cuts)]
    units = UnitLabels(list(texts), kinds, positions)
    return KnockoutTable(units, HOSTILE_TOKENS, rows, CELLS if pictures else {}, np.dtype(dtype))


def told(table: KnockoutTable) -> list[tuple]:
    """The rows as the design describes them, one at a time, by a second implementation; None where there is nothing."""
    found = []
    for rows in table.rows:
        for row in range(len(rows)):
            unit, head, top = rows.unit[row], rows.head[row], rows.top[row]
            where = table.units.positions[unit]
            first = int(re.match("[0-9]+", where)[0])
            place = [rows.step, rows.cut, rows.layer_first[row], rows.layer_last[row], None if head < 0 else head]
            labels = [table.units.texts[unit], first, table.units.kinds[unit], where]
            changes = [None if math.isnan(value := getattr(rows, name)[row]) else value + 0.0 for name in READINGS]
            cells = [values[first].as_py() for values in table.columns.values()]
            if cells and where != str(first):
                cells[2:] = [None, None]
            order = (rows.step, CUTS.index(rows.cut), *place[2:4], head, first, unit)
            found.append((order, (*place, *labels, *changes, None if top < 0 else table.tops[top], *cells)))
    return [row for _, row in sorted(found, key=lambda item: item[0])]


def assert_tells(frame: pd.DataFrame, table: KnockoutTable) -> None:
    """Every token, number and bit of the table, in its order and dtypes."""
    expected = told(table)
    assert list(frame.columns) == [*KNOCKOUT_COLUMNS, *table.columns]
    assert [
        tuple(None if value != value else value for value in row) for row in frame.itertuples(index=False)
    ] == expected
    for name in READINGS:
        values = [row[KNOCKOUT_COLUMNS.index(name)] for row in expected]
        assert frame[name].dtype == table.dtype
        assert_same_bits(frame[name].to_numpy(), np.array(values, dtype=table.dtype))
    for name in ("generation_step", "layer_first", "layer_last", "token_position"):
        assert frame[name].dtype == np.int64


def written(table: KnockoutTable, folder, form: str, record=None):
    """The path of the table, written beside a result."""
    record = {"status": "complete", "dtypes": {"results": str(table.dtype)}} if record is None else record
    return write_results(hard_table(), folder, "a", (form,), record, knockout=table)[1]


# Columns and order


@pytest.mark.parametrize("shape", [{}, {"pictures": True}, {"dtype": np.float64}])
def test_columns_and_order_are_those_of_the_design(shape):
    table = knockout_table(**shape)
    frame = table.to_dataframe()
    assert ",".join(KNOCKOUT_COLUMNS) == (
        "generation_step,cut,layer_first,layer_last,head,token_masked,token_position,unit,positions,"
        "logprob_change,logit_change,kl_divergence,top_token"
    )
    assert_tells(frame, table)
    assert len(table) == len(frame) == table.to_arrow().num_rows


def test_rows_of_a_step_and_cut_that_come_in_parts_are_one_order():
    table = knockout_table()
    parts = [rows.take(slice(place, place + 7)) for rows in table.rows for place in range(0, len(rows), 7)]
    assert replace(table, rows=parts[::-1]).to_dataframe().equals(table.to_dataframe())


def test_batches_are_bounded_and_say_the_same(monkeypatch):
    table = knockout_table(pictures=True)
    whole = table.to_arrow()
    monkeypatch.setattr("mask_impact.results.knockout_table._BATCH_ROWS", 11)
    assert table.to_arrow().equals(whole) and max(batch.num_rows for batch in table.batches()) == 11


def test_rows_that_fit_nothing_are_refused():
    rows = knockout_table().rows[0]
    for wrong in ({"cut": "none"}, {"top": rows.top[1:]}, {"unit": rows.unit[:, None]}):
        with pytest.raises(ValueError, match="rows of a knock-out are"):
            replace(rows, **wrong)
    few = UnitLabels(["a"], ["tokens"], ["0"])
    for wrong in (
        {"units": few},
        {"tops": ["a"]},
        *({"rows": [replace(rows, **{name: getattr(rows, name) - 1})]} for name in ("unit", "top")),
    ):
        with pytest.raises(ValueError, match=r"step 1, \w+: rows beyond"):
            replace(knockout_table(), **wrong)


# There and back


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("shape", [{}, {"pictures": True}, {"dtype": np.float64}])
def test_round_trip_is_exact(tmp_path, form, record, shape):
    table = knockout_table(**shape)
    path = written(table, tmp_path, form)
    if not record:
        (tmp_path / "a_run.json").unlink()
    frame = read_results(path)
    assert path.name == f"a_knockout.{form}"
    assert_tells(frame, table)
    assert frame.equals(table.to_dataframe())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("cuts", [("first_order",), ("all",), ()])
def test_columns_that_are_empty_throughout_keep_their_types(tmp_path, form, cuts):
    table = knockout_table(["1", "2"], cuts)
    found, _ = read_table(written(table, tmp_path, form))
    assert found.equals(table.to_arrow())


@pytest.mark.parametrize("form", FORMATS)
def test_the_run_is_in_its_attributes_and_counts_its_rows(tmp_path, form):
    table = knockout_table()
    run = read_results(written(table, tmp_path, form, {"knockout": {"rests_on": []}, "x": 1})).attrs["run"]
    assert run == {"knockout": {"rests_on": [], "rows": len(table)}, "x": 1, "rows": len(hard_table())}
    assert read_results(tmp_path / f"a_results.{form}").attrs["run"] == run


@pytest.mark.parametrize("form", FORMATS)
def test_another_format_of_a_file_is_what_the_run_itself_writes(tmp_path, form):
    table = knockout_table(pictures=True)
    paths = write_results(hard_table(), tmp_path, "a", FORMATS, {"dtypes": {"results": "float32"}}, knockout=table)
    own = next(path for path in paths if path.name == f"a_knockout.{form}")
    for path in paths[3:6]:
        stored, run = read_table(path)
        WRITERS[form](StoredTable(stored), tmp_path / "again", run_text=json_bytes(run))
        if form == "parquet":
            assert pq.read_table(tmp_path / "again").equals(pq.read_table(own))
            assert row_groups(tmp_path / "again") == row_groups(own)
        else:
            assert (tmp_path / "again").read_bytes() == own.read_bytes()


def row_groups(path) -> list[tuple]:
    """Step, cut and number of rows of each."""
    file = pq.ParquetFile(path).metadata
    groups = [file.row_group(number) for number in range(file.num_row_groups)]
    return [(group.column(0).statistics.max, group.column(1).statistics.max, group.num_rows) for group in groups]


def test_parquet_has_a_row_group_for_each_step_and_cut(tmp_path):
    table = knockout_table(["a", "b"])
    path = written(table, tmp_path, "parquet")
    counts = {cut: 2 * len(places) for cut, places in PLACES.items()}
    assert row_groups(path) == [(step, cut, counts[cut]) for step in (0, 1) for cut in CUTS]
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "SNAPPY"


def small_table() -> KnockoutTable:
    """One row with everything and one of first order; the empty token is said after the cut."""
    one, nothing = np.array([0]), np.array([np.nan])
    rows = [
        KnockoutRows(0, "heads", one, one, one + 2, one, one - 0.5, one + 0.25, one + 1.0, one),
        KnockoutRows(0, "first_order", one, one, one - 1, one + 1, one - 0.1, nothing, nothing, one - 1),
    ]
    return KnockoutTable(UnitLabels(['a "\r', "NA"], ["words", "tokens"], ["1-2", "4"]), [""], rows)


def test_csv_quotes_text_and_leaves_what_is_null_empty(tmp_path):
    heading, *lines = written(small_table(), tmp_path, "csv").read_bytes().split(b"\n")
    assert heading.decode() == ",".join(f'"{name}"' for name in KNOCKOUT_COLUMNS)
    assert lines == [
        b'0,"heads",0,0,2,"a ""\r",1,"words","1-2",-0.5,0.25,1,""',
        b'0,"first_order",0,0,,"NA",4,"tokens","4",-0.1,,,',
        b"",
    ]


def test_json_is_one_object_of_columns(tmp_path):
    found = json.loads(written(small_table(), tmp_path, "json").read_bytes())
    assert list(found) == list(KNOCKOUT_COLUMNS)
    assert found["top_token"] == ["", None] and found["head"] == [2, None]
    assert found["logprob_change"] == [-0.5, -0.1] and found["kl_divergence"] == [1, None]


def test_what_pandas_writes_again_is_read_alike(tmp_path):
    """But for a lone CR and the empty token, which pandas leaves without quotes."""
    texts = [text for text in HOSTILE_TOKENS if text and "\r" not in text]
    table = replace(knockout_table(texts), tops=[text if text in texts else "NA" for text in HOSTILE_TOKENS])
    frame = table.to_dataframe()
    for index in (True, False):
        frame.to_csv(tmp_path / "mine.csv", index=index)
        assert_tells(read_results(tmp_path / "mine.csv"), table)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_cut_anywhere(tmp_path, form):
    path = written(knockout_table(["a", '"', "\n", "c"]), tmp_path, form)
    whole = path.read_bytes()
    last = len(whole) - (2 if form == "json" else 1)
    lines = [place for place in range(last) if whole[place : place + 1] == b"\n"]
    for length in [*range(0, last, 97), *(place + 1 for place in lines), last]:
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError) as caught:
            read_results(path)
        assert "\n" not in str(caught.value)


def test_a_table_that_lacks_a_column_is_refused_by_name(tmp_path):
    small_table().to_dataframe().replace("\r", "", regex=True).drop(columns="head").to_csv(
        tmp_path / "a.csv", index=False
    )
    with pytest.raises(RequestError, match="where a result has generation_step, cut, layer_first, layer_last, head"):
        read_results(tmp_path / "a.csv")


# Beside its result


def test_every_table_appears_before_the_run_file(tmp_path, monkeypatch):
    replaced, order = os.replace, []
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append(target.name), replaced(source, target)))
    paths = write_results(hard_table(), tmp_path, "a", ("csv", "parquet"), {}, knockout=small_table())
    assert (
        order
        == [path.name for path in paths]
        == [
            "a_results.csv",
            "a_results.parquet",
            "a_knockout.csv",
            "a_knockout.parquet",
            "a_run.json",
        ]
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_cannot_be_written_leaves_the_old_result(tmp_path, form, monkeypatch):
    written(small_table(), tmp_path, form, {"run": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    writer = WRITERS[form]

    def full(table, path, run_text):
        writer(table, path, run_text)
        if "knockout" in path.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, form, full)
    with pytest.raises(RunError, match=f"a_knockout.{form} could not be written: No space left"):
        written(knockout_table(), tmp_path, form, {"run": 2})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_killed_overwrite_leaves_no_complete_result(tmp_path, monkeypatch):
    written(small_table(), tmp_path, "csv", {"run": 1})
    replaced = os.replace

    def killed(source, target):
        if "knockout" in target.name:
            raise SystemExit
        replaced(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        written(knockout_table(), tmp_path, "csv", {"run": 2})
    assert names_in(tmp_path) == ["a_knockout.csv", "a_results.csv"]


def test_knockouts_of_an_earlier_run_go(tmp_path):
    write_results(hard_table(), tmp_path, "a", FORMATS, {}, knockout=small_table())
    write_results(hard_table(), tmp_path, "a_knockout", ("csv",), {}, knockout=small_table())
    write_results(hard_table(), tmp_path, "a", ("json",), {}, knockout=small_table())
    others = ["a_knockout_knockout.csv", "a_knockout_results.csv", "a_knockout_run.json"]
    assert names_in(tmp_path) == ["a_knockout.json", *others, "a_results.json", "a_run.json"]
    write_results(hard_table(), tmp_path, "a", ("json",), {})
    assert names_in(tmp_path) == [*others, "a_results.json", "a_run.json"]


@pytest.mark.parametrize("name", ["logprob_change", "logit_change", "kl_divergence"])
def test_an_infinite_change_is_not_written(tmp_path, name):
    table = small_table()
    rows = [table.rows[0], replace(table.rows[1], **{name: np.array([-math.inf])})]
    with pytest.raises(RunError, match=f"{name} is infinite at generation step 0, cut first_order, tokens 4"):
        written(replace(table, rows=rows), tmp_path, "csv")
    assert names_in(tmp_path) == []


NAMES = ["a", "a_knockout", "a_results", "a_knockout_results", "a_results_knockout"]


def test_names_that_end_like_files_do_not_collide(tmp_path):
    for name in NAMES:
        write_results(hard_table(steps=1), tmp_path, name, ("csv",), {"name": name}, knockout=small_table())
    assert len(names_in(tmp_path)) == 3 * len(NAMES)
    for name in NAMES:
        own = {tmp_path / f"{name}_{ending}" for ending in ("run.json", "results.csv", "knockout.csv")}
        for folder in (OutputFolder(tmp_path), OutputFolder(tmp_path, only=name)):
            assert {*folder.files(name)} == own and folder.record(name)["name"] == name
        for table in ("results", "knockout"):
            assert read_results(tmp_path / f"{name}_{table}.csv").attrs["run"]["name"] == name
        for table in ("results", "knockout"):
            assert find(str(tmp_path / f"{name}_{table}.csv")) == tmp_path / f"{name}_{table}.csv"
        assert find(str(tmp_path / name)) == tmp_path / f"{name}_results.csv"


@pytest.mark.parametrize("have, want", [("csv", "json"), ("parquet", "csv"), ("json", "csv")])
def test_a_missing_format_is_made_of_both_tables(tmp_path, have, want):
    record, tables = {"dtypes": {"results": "float32"}}, (hard_table(), knockout_table(pictures=True))
    for folder, form in [("whole", want), ("made", have)]:
        write_results(tables[0], tmp_path / folder, "a", (form,), record, knockout=tables[1])
    choice = NameChoice("a", OutputFolder(tmp_path / "made").record("a"), frozenset([have]))
    made = write_missing_formats(
        SimpleNamespace(folder=tmp_path / "made", name="a", choice=choice, missing_files=[want])
    )
    assert [path.name for path in made] == [f"a_results.{want}", f"a_knockout.{want}"]
    for path in made:
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_a_format_counts_only_with_every_table(tmp_path):
    paths = write_results(hard_table(), tmp_path, "a", ("csv", "json"), {}, knockout=small_table())
    record = json.loads(paths[-1].read_bytes())
    assert whole_formats(paths, record) == {"csv", "json"}
    assert whole_formats([path for path in paths if path.name != "a_knockout.csv"], record) == {"json"}
    assert whole_formats([path for path in paths if "knockout" not in path.name], record) == set()
    assert whole_formats([tmp_path / "a_report.html", *paths[:1]], {"knockout": {"steps": []}}) == {"csv", "report"}
    assert whole_formats([], record) == set()
