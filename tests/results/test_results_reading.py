"""Files that are no results, or whole ones no longer: each is refused in one line."""

import json

import pandas as pd
import pytest
from hard_tables import hard_table, written

from mask_impact import read_results
from mask_impact.base.errors import RequestError
from mask_impact.base.formats import FORMATS
from mask_impact.results.table import COLUMNS


def test_a_missing_file(tmp_path):
    with pytest.raises(RequestError, match="a_results.csv: there is no such file"):
        read_results(tmp_path / "a_results.csv")


@pytest.mark.parametrize("name", ["a_results.xlsx", "a_results", "a_results.csv.gz"])
def test_an_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(RequestError, match="is not one of .csv, .json, .parquet"):
        read_results(str(tmp_path / name))


@pytest.mark.parametrize("form", FORMATS)
def test_foreign_columns(tmp_path, form):
    path = tmp_path / f"a_results.{form}"
    frame = pd.DataFrame({"layer": [1], "generation_step": [0], "other": ["x"]})
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
        "json": lambda: path.write_text('{"layer": [1], "generation_step": [0], "other": ["x"]}'),
    }[form]()
    assert_one_line(path, "the first columns are .*where a result has generation_step, layer")


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_cut_anywhere(tmp_path, form):
    path = written(hard_table(tokens=["a", '"', "\n", "c"], steps=1), tmp_path, form)
    whole = path.read_bytes()
    last = len(whole) - (2 if form == "json" else 1)
    for length in [*range(0, last, 31), *range(last - 31, last + 1)]:
        path.write_bytes(whole[:length])
        assert_one_line(path)


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]\n",
        "\xff\xfe\n",
        "null\n",
        "{}\n{}\n",
        "\n",
        "a,b\n1\n",
        json.dumps(dict.fromkeys(COLUMNS, 3)),
        json.dumps({name: ["x"] for name in COLUMNS}),
        json.dumps({name: [[]] for name in COLUMNS}),
    ],
)
def test_a_file_that_is_something_else(tmp_path, form, text):
    path = tmp_path / f"a_results.{form}"
    path.write_text(text, encoding="latin-1")
    assert_one_line(path)


def test_a_csv_without_its_last_line(tmp_path):
    path = written(hard_table(), tmp_path, "csv")
    path.write_bytes(path.read_bytes()[: path.read_bytes()[:-1].rfind(b"\n") + 1])
    assert_one_line(path, "rows where its run record says")


def test_a_json_of_uneven_columns(tmp_path):
    path = written(hard_table(), tmp_path, "json")
    path.write_text(path.read_text(encoding="utf-8").replace('"layer": [0,', '"layer": ['), encoding="utf-8")
    assert_one_line(path)


def test_a_number_that_is_none(tmp_path):
    path = written(hard_table(tokens=["a"], steps=1), tmp_path, "csv")
    path.write_text(path.read_text().replace(',"a",0,', ',"a",zero,', 1))
    assert_one_line(path, "not a whole result file .*zero")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_broken_run_file(tmp_path, text):
    path = written(hard_table(), tmp_path, "csv")
    (tmp_path / "a_run.json").write_text(text, encoding="latin-1")
    assert_one_line(path, "a_run.json: its run record is")


# Tables that pandas wrote

INDICES = {"numbers": None, "some rows": [3, 1, 7], "a name": pd.Index([3, 1, 7], name="row"), "words": ["a", "b", "c"]}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_index_that_pandas_wrote_is_dropped(tmp_path, form, index):
    rows = [
        [0, 1, "NA", 2, "Full", 0.1, 0.25],
        [0, 1, "", 3, "Full", 1e-45, 0.5],
        [1, 1, '"', 2, "Full", float("nan"), 0],
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"l2_distance": "float32", "cosine_distance": "float32"})
    path = tmp_path / f"mine.{form}"
    indexed = frame if index is None else frame.set_axis(index)
    (indexed.to_csv if form == "csv" else indexed.to_parquet)(path)
    table = read_results(path)
    assert [name for name in table if name != "row"] == list(COLUMNS) and table[list(COLUMNS)].equals(frame)


def test_what_pandas_writes_in_another_layout_is_refused_with_what_to_do(tmp_path):
    frame = pd.DataFrame([[0, 1, "a", 2, "Full", 0.5, 0.25]], columns=[*COLUMNS])
    frame.to_json(tmp_path / "nested.json")
    frame.to_json(tmp_path / "records.json", orient="records")
    frame.reset_index().to_csv(tmp_path / "two.csv")
    frame.set_index("variant").to_csv(tmp_path / "turned.csv")
    for path in tmp_path.iterdir():
        with pytest.raises(RequestError) as caught:
            read_results(path)
        assert str(caught.value).endswith("with to_csv(path, index=False)") and "\n" not in str(caught.value)
    frame.to_csv(tmp_path / "right.csv", index=False)
    assert len(read_results(tmp_path / "right.csv")) == 1


def test_columns_after_the_seven_are_no_index(tmp_path):
    pd.DataFrame([[0, 1, "a", 2, "Full", 0.5, 0.25, 9]], columns=[*COLUMNS, "index"]).to_csv(tmp_path / "mine.csv")
    assert list(read_results(tmp_path / "mine.csv")) == [*COLUMNS, "index"]


def assert_one_line(path, message="."):
    with pytest.raises(RequestError, match=message) as error:
        read_results(path)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)
