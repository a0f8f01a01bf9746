"""The long table: written in three formats, read back bit for bit, and read by other programs."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_tables import HOSTILE_TOKENS, assert_holds, hard_table, written
from repository import ROOT

from mask_impact import read_results
from mask_impact.base.formats import FORMATS, JSON_ROWS, SPREADSHEET_ROWS, file_sizes, formats_for
from mask_impact.results.table import COLUMNS, ResultTable, StepDistances
from mask_impact.results.writing import write_results

# The table


def test_the_data_frame_is_the_long_table():
    assert_holds(hard_table().to_dataframe(), hard_table())


def test_length_counts_every_row():
    table = hard_table(steps=2)
    assert len(table) == 7 * (len(table.tokens) - 1) + 7 * len(table.tokens) == len(table.to_dataframe())


def test_large_steps_come_in_several_batches(monkeypatch):
    monkeypatch.setattr("mask_impact.results.table._BATCH_ROWS", 100)
    table = hard_table()
    assert max(batch.num_rows for batch in table.batches()) <= 2 * len(HOSTILE_TOKENS)
    assert_holds(table.to_dataframe(), table)


def test_misfitting_distances_are_refused():
    good = np.zeros((2, 3), np.float32)
    for l2, cosine in [(good, good[:1]), (good[0], good[0]), (good, good.astype(np.float64)), (good.astype(int),) * 2]:
        with pytest.raises(ValueError, match="distances are"):
            StepDistances(0, l2, cosine)
    for tokens, cells in [(["a"] * 2, [("Full", 0), ("Full", 1)]), (["a"] * 3, [("Full", 0)])]:
        with pytest.raises(ValueError, match=r"step 0 is \(2, 3\)"):
            ResultTable(tokens, cells, [StepDistances(0, good, good)]).to_dataframe()


# There and back


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_round_trip_is_exact(tmp_path, form, dtype, steps):
    table = hard_table(steps=steps, dtype=dtype)
    run = {"dtypes": {"results": str(table.dtype)}}
    assert_holds(read_results(written(table, tmp_path, form, run)), table)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_without_a_run_file(tmp_path, form, dtype):
    table = hard_table(dtype=dtype)
    path = written(table, tmp_path, form)
    (tmp_path / "a_run.json").unlink()
    assert_holds(read_results(path), table)


@pytest.mark.parametrize("form", FORMATS)
def test_float64_that_looks_narrow_stays_float64(tmp_path, form):
    halves = np.full((1, 1), 0.5)
    table = ResultTable(["a"], [("Full", 0)], [StepDistances(0, halves, halves)])
    assert_holds(read_results(written(table, tmp_path, form, {"dtypes": {"results": "float64"}})), table)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_float32_with_all_digits_of_a_float64_stays_float32(tmp_path, form):
    """Other programs may save it so."""
    tenths = np.full((1, 1), 0.1, np.float32)
    table = ResultTable(["a"], [("Full", 0)], [StepDistances(0, tenths, tenths)])
    path = written(table, tmp_path, form, {"dtypes": {"results": "float32"}})
    path.write_text(path.read_text().replace("0.1", "0.10000000149011612"))
    assert_holds(read_results(path), table)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("token", HOSTILE_TOKENS)
def test_a_table_of_one_position(tmp_path, form, token):
    nan = np.full((2, 1), np.nan, np.float32)
    table = ResultTable([token], [("Full", 0), ("Head_0", 0)], [StepDistances(0, nan, nan)])
    assert_holds(read_results(written(table, tmp_path, form)), table)


@pytest.mark.parametrize("form", FORMATS)
def test_the_run_record_comes_with_the_table(tmp_path, form):
    frame = read_results(written(hard_table(), tmp_path, form, {"generated": "caf\u00e9", "norm": np.float32(0.1)}))
    assert frame.attrs["run"] == {"generated": "caf\u00e9", "norm": 0.1, "rows": len(frame)}


def test_a_block_of_the_csv_may_end_within_a_token(tmp_path, monkeypatch):
    monkeypatch.setattr("mask_impact.results.reading._BLOCK_BYTES", 10_000)
    table = hard_table(tokens=["\n" * 3_000, "\r" * 3_000, "a"])
    assert_holds(read_results(written(table, tmp_path, "csv")), table)


@pytest.mark.parametrize("form", FORMATS)
def test_further_columns_are_kept(tmp_path, form):
    path = written(hard_table(), tmp_path, form)
    frame = read_results(path)
    blank = [None] * (len(frame) - 1)
    add_columns(
        path,
        {"token_type": ["text" for _ in blank] + ["vision"], "image_index": [*blank, 3], "patch_row": [*blank, None]},
    )
    again = read_results(path)
    pd.testing.assert_frame_equal(again[list(COLUMNS)], frame, check_exact=True)
    assert again["token_type"].tolist() == ["text" for _ in blank] + ["vision"]
    assert again["image_index"].isna().tolist() == [True for _ in blank] + [False]
    assert again["image_index"].iloc[-1] == 3
    assert again["patch_row"].isna().all() and again["patch_row"].dtype == np.float64


def add_columns(path, columns):
    """Columns at the right of a result, as a later version of its writer may add them."""
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8").rstrip().removesuffix("}")
        path.write_text(f"{text}, {json.dumps(columns)[1:]}", encoding="utf-8")
        return
    table = pa.Table.from_pandas(read_results(path), preserve_index=False)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pa.csv.write_csv(table, path) if path.suffix == ".csv" else pq.write_table(table, path)


# What other programs see


def test_csv_is_plain_text_with_shortest_floats(tmp_path):
    values = np.array([[0.1, 1e-45, np.nan]], np.float32)
    table = ResultTable(['say "hi"', "\r", "NA"], [("Full", 4)], [StepDistances(0, values, 2 * values)])
    assert written(table, tmp_path, "csv").read_bytes() == (
        b'"generation_step","layer","token_masked","token_position","variant","l2_distance","cosine_distance"\n'
        b'0,4,"say ""hi""",0,"Full",0.1,0.2\n0,4,"\r",1,"Full",1e-45,3e-45\n0,4,"NA",2,"Full",,\n'
    )


def test_json_is_one_object_of_columns(tmp_path):
    values = np.array([[0.1, 1e-45, np.nan]], np.float32)
    table = ResultTable(['say "hi"', "\r", "</script>"], [("Full", 4)], [StepDistances(0, values, 2 * values)])
    found = json.loads(written(table, tmp_path, "json").read_text(encoding="utf-8"))
    assert found == {
        "generation_step": [0, 0, 0],
        "layer": [4, 4, 4],
        "token_masked": table.tokens,
        "token_position": [0, 1, 2],
        "variant": ["Full"] * 3,
        "l2_distance": [0.1, 1e-45, None],
        "cosine_distance": [0.2, 3e-45, None],
    }


def test_floats_are_as_short_as_any(tmp_path):
    table = hard_table()
    found = json.loads(written(table, tmp_path, "json").read_text(encoding="utf-8"), parse_float=str, parse_int=str)
    for text, value in zip(found["l2_distance"], table.to_dataframe()["l2_distance"]):
        assert text is None if np.isnan(value) else digits(text) <= digits(str(value))


def digits(text):
    return len(re.sub(r"e.*|\.", "", text).strip("0"))


def test_plain_pandas_reads_the_csv(tmp_path):
    """All but the NUL character, at which pandas 2 ends a text."""
    table = hard_table(tokens=[token for token in HOSTILE_TOKENS if "\x00" not in token])
    path = written(table, tmp_path, "csv")
    frame = pd.read_csv(path, keep_default_na=False, na_values={"l2_distance": [""], "cosine_distance": [""]})
    assert frame["token_masked"].tolist() == table.to_dataframe()["token_masked"].tolist()
    np.testing.assert_allclose(frame["l2_distance"], table.to_dataframe()["l2_distance"], rtol=1e-7, atol=1e-45)


def test_plain_read_csv_loses_the_token_na(tmp_path):
    """The reason for `read_results`, told in the guide."""
    values = np.ones((1, 2), np.float32)
    table = ResultTable(["NA", "b"], [("Full", 0)], [StepDistances(0, values, values)])
    path = written(table, tmp_path, "csv")
    assert pd.read_csv(path)["token_masked"].isna().tolist() == [True, False]
    assert read_results(path)["token_masked"].tolist() == ["NA", "b"]


def test_plain_pandas_reads_the_json(tmp_path):
    table = hard_table()
    frame = pd.read_json(written(table, tmp_path, "json"))
    expected = table.to_dataframe()
    assert list(frame.columns) == list(COLUMNS)
    for name in COLUMNS[:5]:
        assert frame[name].tolist() == expected[name].tolist()
    np.testing.assert_allclose(frame["l2_distance"], expected["l2_distance"], rtol=1e-6, atol=1e-45)


def test_plain_pandas_reads_the_parquet(tmp_path):
    table = hard_table()
    frame = pd.read_parquet(written(table, tmp_path, "parquet"))
    pd.testing.assert_frame_equal(frame, table.to_dataframe(), check_exact=True)


def test_parquet_has_a_row_group_for_each_step_and_variant(tmp_path):
    table = hard_table(steps=2)
    file = pq.ParquetFile(written(table, tmp_path, "parquet", {"generated": "\u00e9"}))
    found = []
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        step, variant = group.column(0).statistics, group.column(4).statistics
        assert step.min == step.max and variant.min == variant.max
        assert {group.column(column).compression for column in range(7)} == {"SNAPPY"}
        found.append((step.min, variant.min, group.num_rows // (len(table.tokens) - 1 + step.min)))
    assert found == [
        (step, variant, layers)
        for step in (0, 1)
        for variant, layers in [("Full", 2), ("Attn", 2), ("Head_0", 2), ("Head_1", 1)]
    ]
    assert json.loads(file.metadata.metadata[b"mask_impact_run"])["generated"] == "\u00e9"


def test_a_large_heatmap_stays_one_row_group(tmp_path):
    values = np.zeros((2, 600_000), np.float32)
    table = ResultTable(["a"] * 600_000, [("Full", 0), ("Full", 1)], [StepDistances(0, values, values)])
    assert pq.ParquetFile(written(table, tmp_path, "parquet")).num_row_groups == 1


# Formats and sizes


DEFAULT = ("csv", "json")


def test_json_that_was_asked_for_stays_up_to_its_limit():
    assert formats_for(JSON_ROWS, DEFAULT, explicit=True) == (DEFAULT, None)
    assert formats_for(JSON_ROWS + 1, ("csv", "parquet"), explicit=True) == (("csv", "parquet"), None)


@pytest.mark.parametrize(
    "formats, kept",
    [(DEFAULT, ("csv", "parquet")), (("json",), ("parquet",)), (("json", "parquet"), ("parquet",))],
)
def test_json_that_was_asked_for_gives_way_past_its_limit(formats, kept):
    found, notice = formats_for(JSON_ROWS + 1, formats, explicit=True)
    assert found == kept and "5,000,001" in notice and "\n" not in notice
    assert notice.startswith("JSON was asked for")


def test_what_no_spreadsheet_opens_is_parquet_where_nothing_was_asked_for():
    assert formats_for(SPREADSHEET_ROWS, DEFAULT, explicit=False) == (DEFAULT, None)
    found, notice = formats_for(SPREADSHEET_ROWS + 1, DEFAULT, explicit=False)
    assert found == ("parquet",) and "1,048,576 rows" in notice and "--formats csv" in notice and "\n" not in notice
    assert formats_for(SPREADSHEET_ROWS + 1, DEFAULT, explicit=True) == (DEFAULT, None)


def test_a_knockout_table_counts_too():
    assert formats_for(9, DEFAULT, False, SPREADSHEET_ROWS) == (DEFAULT, None)
    found, notice = formats_for(9, DEFAULT, False, SPREADSHEET_ROWS + 1)
    assert found == ("parquet",) and notice.startswith("1,048,576 rows of knock-outs are more than a spreadsheet opens")
    found, notice = formats_for(9, DEFAULT, True, JSON_ROWS + 1)
    assert found == ("csv", "parquet") and "5,000,001 rows of knock-outs" in notice
    assert formats_for(SPREADSHEET_ROWS + 2, DEFAULT, False, SPREADSHEET_ROWS + 1)[1].startswith("1,048,577 rows are")


def test_estimated_sizes_are_near_the_truth(tmp_path):
    rng = np.random.default_rng(0)
    tokens = [" " + "word"[: 1 + number % 4] + str(number) for number in range(200)]
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(16))]
    cells = [(variant, layer) for variant in variants for layer in range(28)]
    distances = [rng.lognormal(-5, 3, (len(cells), 200)).astype(np.float32) for _ in range(2)]
    table = ResultTable(tokens, cells, [StepDistances(0, *distances)])
    paths = write_results(table, tmp_path, "a", FORMATS, {})
    for path, size in zip(paths, file_sizes(len(table), FORMATS, len(variants), 28).values()):
        assert size == pytest.approx(path.stat().st_size, rel=1 / 3)


# Imports


def test_the_package_imports_nothing_heavy():
    code = (
        "import sys, mask_impact;"
        "print(mask_impact.__version__, {'torch', 'pandas', 'pyarrow'} & set(sys.modules));"
        "mask_impact.read_results; print({'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0 set()\nset()\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import mask_impact

    with pytest.raises(AttributeError, match="has no attribute 'read_result'"):
        _ = mask_impact.read_result
