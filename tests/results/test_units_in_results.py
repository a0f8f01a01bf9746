"""Tables whose rows are units: their columns, written in three formats and read back bit for bit, and their report."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hard_tables import assert_same_bits, hard_table, written
from report_pages import scripts_of
from unit_tables import CELLS, HEATMAP_ROWS, UNITS, step_of, tokens_as_units, told, units_table

from mask_impact import read_results
from mask_impact.base.errors import RequestError, RunError
from mask_impact.base.formats import FORMATS
from mask_impact.results import report
from mask_impact.results.frame import table_of
from mask_impact.results.reading import read_table
from mask_impact.results.strongest import left_out_note, strongest_tokens
from mask_impact.results.table import COLUMNS, ResultTable, StepDistances, UnitLabels
from mask_impact.results.writing import write_results

SHAPES = [{}, {"dtype": np.float64}, {"pairs": False}, {"pictures": False}, {"pairs": False, "pictures": False}]


def rows_of(frame: pd.DataFrame) -> list[tuple]:
    """The rows of a DataFrame, with None where there is nothing."""
    return [tuple(None if value != value else value for value in row) for row in frame.itertuples(index=False)]


def assert_tells(frame: pd.DataFrame, table: ResultTable) -> None:
    assert list(frame.columns) == list(table.types)
    assert rows_of(frame) == told(table)
    for column, name in [("l2_distance", "l2"), ("cosine_distance", "cosine"), ("interaction_l2", "interaction")]:
        if column in frame:
            expected = np.concatenate([getattr(step, name).ravel() for step in table.steps])
            assert frame[column].dtype == table.dtype
            assert_same_bits(frame[column].to_numpy(), expected)


# Columns


@pytest.mark.parametrize("shape", SHAPES)
def test_the_columns_follow_the_seven_in_their_order(shape):
    table = units_table(**shape)
    expected = [*COLUMNS, "unit", "positions"]
    expected += ["interaction_l2"] if shape.get("pairs", True) else []
    expected += [*CELLS] if shape.get("pictures", True) else []
    assert list(table.types) == table.schema.names == expected
    assert_tells(table.to_dataframe(), table)


def test_a_unit_of_several_positions_is_in_no_cell_and_one_of_one_is():
    frame = units_table(steps=1).to_dataframe().query("variant == 'Full' and layer == 0").set_index("positions")
    assert (frame.loc["3", "patch_row"], frame.loc["3", "patch_col"]) == (0, 0)
    assert frame.loc["3-6", ["image_index", "token_type"]].tolist() == [0, "vision"]
    assert frame.loc[["3-6", "3,5"], ["patch_row", "patch_col"]].isna().all(axis=None)


def test_either_every_step_has_units_or_none():
    plain = StepDistances(1, *np.zeros((2, 5, 9), np.float32))
    without = step_of(1, UNITS, pairs=False)
    for steps in ([step_of(0, UNITS), plain], [plain, step_of(0, UNITS)], [step_of(0, UNITS), without]):
        with pytest.raises(ValueError, match="for units, and the first has"):
            ResultTable(["a"] * 9, HEATMAP_ROWS, steps).to_dataframe()


def test_misfitting_labels_and_interactions_are_refused():
    good, labels = np.zeros((1, 2), np.float32), UnitLabels(["a", "b"], ["words"] * 2, ["0", "1-2"])
    first = np.array([0, 1])
    for wrong in (UnitLabels(["a"], ["words"] * 2, ["0", "1-2"]), UnitLabels(["a", "b"], ["words"] * 2, ["0"])):
        with pytest.raises(ValueError, match="2 units need as many labels"):
            StepDistances(0, good, good, first, wrong)
    for units, wrong in [(labels, good[:, :1]), (labels, good.astype(np.float64)), (None, good)]:
        with pytest.raises(ValueError, match="interactions are those of units"):
            StepDistances(0, good, good, first, units, wrong)


# There and back


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("record", [True, False])
def test_round_trip_is_exact(tmp_path, form, shape, record):
    table = units_table(**shape)
    path = written(table, tmp_path, form, {"dtypes": {"results": str(table.dtype)}})
    if not record:
        (tmp_path / "a_run.json").unlink()
    frame = read_results(path)
    assert_tells(frame, table)
    again = table_of(frame)
    assert again.to_dataframe().equals(table.to_dataframe())
    for mine, step in zip(again.steps, table.steps, strict=True):
        assert mine.units == step.units and (mine.positions == step.positions).all()


@pytest.mark.parametrize("form", FORMATS)
def test_positions_that_are_all_single_stay_text_and_pairs_without_interactions_numbers(tmp_path, form):
    nothing = np.full((1, 2), np.nan, np.float32)
    labels = UnitLabels(["1", "2"], ["tokens", "pairs"], ["0", "1"])
    table = ResultTable(["a", "b"], [("Full", 0)], [StepDistances(0, nothing, nothing, np.arange(2), labels, nothing)])
    frame = read_results(written(table, tmp_path, form, {"dtypes": {"results": "float32"}}))
    assert frame["positions"].tolist() == ["0", "1"] and frame["interaction_l2"].dtype == np.float32
    assert table_of(frame).to_dataframe().equals(table.to_dataframe())


@pytest.mark.parametrize("form", FORMATS)
def test_cells_that_no_unit_has_stay_whole_numbers(tmp_path, form):
    """So that another format of the file is what the run itself writes."""
    table = units_table(units=UNITS[3:])
    frame, _ = read_table(written(table, tmp_path, form))
    assert {str(frame.schema.field(name).type) for name in ("image_index", "patch_row", "patch_col")} == {"int64"}


def test_parquet_has_a_row_group_for_each_step_and_variant(tmp_path):
    table = units_table()
    file = pq.ParquetFile(written(table, tmp_path, "parquet"))
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    found = [(group.column(0).statistics.max, group.column(4).statistics.max, group.num_rows) for group in groups]
    assert found == [
        (step, variant, layers * (9 - step))
        for step in (0, 1)
        for variant, layers in [("Full", 2), ("Attn", 2), ("Head_1", 1)]
    ]


def test_csv_and_json_say_nothing_where_there_is_no_interaction(tmp_path):
    l2, pair = np.array([[0.5, 1]], np.float32), np.array([[np.nan, 0]], np.float32)
    labels = UnitLabels(["a", "a + b"], ["spans", "pairs"], ["1-2", "1-2,4"])
    table = ResultTable(["t"] * 5, [("Full", 0)], [StepDistances(0, l2, l2, np.array([1, 1]), labels, pair)])
    assert written(table, tmp_path, "csv").read_bytes().splitlines()[1:] == [
        b'0,0,"a",1,"Full",0.5,0.5,"spans","1-2",',
        b'0,0,"a + b",1,"Full",1,1,"pairs","1-2,4",0',
    ]
    assert json.loads(written(table, tmp_path, "json").read_bytes())["interaction_l2"] == [None, 0]


def test_an_infinite_interaction_is_refused_by_name(tmp_path):
    table = units_table()
    table.steps[1].interaction[3, 7] = math.inf
    where = "interaction_l2 is infinite at generation step 1, Attn, layer 2, pairs 0,3,5"
    with pytest.raises(RunError, match=where):
        write_results(table, tmp_path, "a", FORMATS, {})


def test_a_unit_without_kind_or_positions_is_refused():
    frame = units_table().to_dataframe()
    for name in ("unit", "positions"):
        with pytest.raises(RequestError, match="a unit needs its unit and positions"):
            table_of(frame.assign(**{name: frame[name].where(frame.index != 3)}))
    with pytest.raises(RequestError, match="every row of the table"):
        table_of(frame.iloc[::-1])


def test_one_of_the_two_columns_alone_is_somebody_elses(tmp_path):
    frame = hard_table().to_dataframe().assign(unit="mm")
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    assert table_of(read_results(tmp_path / "a.parquet")).unit_columns == ()


# A plain run

PLAIN = {
    "csv": "0c645167f2f05ea99395eb23d35a17af0166d8ed9b7f547c67fc924fbcf43403",
    "json": "2371ccca15787820db272d856aeaa6e5ea0cdaa7af7c375c5d9b400f974fdcca",
}


def plain_table() -> ResultTable:
    """Two steps of tokens, the last one longer; no number in it depends on a library."""
    table = ResultTable(["NA", " b", '"', "\n", "</script>"], [("Full", 0), ("Full", 3), ("Head_1", 3)])
    for step in range(2):
        l2 = (np.arange(3 * (4 + step), dtype=np.float32) / np.float32(7)).reshape(3, -1)
        l2[0, 0] = np.nan
        table.steps.append(StepDistances(step, l2, l2 / 8))
    return table


@pytest.mark.parametrize("form", PLAIN)
def test_tokens_alone_are_the_same_bytes_as_before_there_were_units(tmp_path, form):
    assert hashlib.sha256(written(plain_table(), tmp_path, form).read_bytes()).hexdigest() == PLAIN[form]


@pytest.mark.parametrize("form", FORMATS)
def test_tokens_among_units_are_the_rows_of_a_plain_run(tmp_path, form):
    frame = read_results(written(tokens_as_units(plain_table()), tmp_path, form))
    assert frame[list(COLUMNS)].equals(plain_table().to_dataframe())
    assert set(frame["unit"]) == {"tokens"} and frame["positions"].tolist() == list(map(str, frame["token_position"]))


# The strongest


def small_table(l2, units) -> ResultTable:
    l2 = np.array(l2, np.float32)
    first = np.array([int(where.replace("-", ",").split(",")[0]) for *_, where in units])
    pairs = np.where([kind == "pairs" for _, kind, _ in units], l2 / 10, np.nan).astype(np.float32)
    step = StepDistances(0, l2, l2, first, UnitLabels(*map(list, zip(*units))), pairs)
    return ResultTable([""] * 9, [("Full", layer) for layer in range(len(l2))], [step])


MIXED = [
    ("a", "words", "0"),
    ("b c", "words", "1-2"),
    ("d", "words", "3"),
    ("x", "spans", "0-3"),
    ("b", "pairs", "0,3"),
]


def test_the_strongest_are_those_of_one_kind_with_all_their_positions():
    table = small_table([[9, 1, 2, 50, 70], [9, 4, np.nan, 50, 80]], MIXED)
    found = [(one.text, one.unit, one.where, one.total, one.layer) for one in strongest_tokens(table, 9)]
    assert found == [("b c", "words", "1-2", 5, 1), ("d", "words", "3", 2, 0)]
    [span] = strongest_tokens(table, 9, unit="spans")  # of which position 0 is only a part
    [pair] = strongest_tokens(table, 9, unit="pairs")
    assert (span.text, span.total, span.interaction) == ("x", 100, None)
    assert (pair.where, pair.total) == ("0,3", 150) and pair.interaction == pytest.approx(15)
    assert strongest_tokens(table, 9, unit="pairs", metric="interaction")[0].total == pytest.approx(15)
    assert [left_out_note(table, kind) != "" for kind in ("words", "spans", "pairs")] == [True, False, False]
    assert span.record() == {"position": 0, "text": "x", "l2": 100.0, "unit": "spans", "positions": "0-3"}


def test_the_record_of_a_token_is_what_it_was():
    table = ResultTable(["a", "b"], [("Full", 0)], [StepDistances(0, *np.ones((2, 1, 2), np.float32))])
    assert [one.record() for one in strongest_tokens(table, 9)] == [{"position": 1, "text": "b", "l2": 1.0}]


def test_spans_that_share_their_positions_are_told_apart():
    units = [("one", "spans", "2-3"), ("other", "spans", "2-3")]
    found = strongest_tokens(small_table([[1, 2]], units), 9)
    assert [(token.text, token.place) for token in found] == [("other", 1), ("one", 0)]


# The report


@pytest.mark.parametrize("pairs", [True, False])
def test_a_report_holds_the_units_and_their_interactions(tmp_path, monkeypatch, pairs):
    page = tmp_path / "page.html"
    page.write_text("<html><body></body></html>", encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    table = units_table(pairs=pairs)
    report.write_report(table, None, tmp_path / "a_report.html")
    scripts = scripts_of(tmp_path / "a_report.html")
    about = json.loads(scripts["report-table"])
    assert about["units"] == [asdict(step.units) for step in table.steps] and about["interaction"] is pairs
    assert about["positions"] == [step.positions.tolist() for step in table.steps]
    assert about["places"][3][0] == 0 and len(about["places"]) > max(map(max, about["positions"]))
    for number, step in enumerate(table.steps):
        values = unpacked(scripts[f"report-data-{number}-1"], 3 if pairs else 2)  # Attn
        for mine, own in zip(values, [step.l2, step.cosine, step.interaction][: len(values)]):
            assert_same_bits(mine, own[2:4])
    report.write_report(table.to_dataframe(), None, tmp_path / "b_report.html")
    one, other = ((tmp_path / f"{name}_report.html").read_bytes() for name in "ab")
    assert one == other.replace(b'"name":"b"', b'"name":"a"')


def unpacked(text: str, measures: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), "<f4").reshape(measures, 2, -1)


def test_a_report_of_tokens_has_nothing_of_units(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    page.write_text("<html><body></body></html>", encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_report(plain_table(), None, tmp_path / "a_report.html")
    about = json.loads(scripts_of(tmp_path / "a_report.html")["report-table"])
    assert not {"units", "interaction"} & set(about) and about["positions"] == [4, 5]
