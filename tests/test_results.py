"""The long table: written in three formats, read back bit for bit, and never torn."""

import errno
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mask_impact import read_results, writers
from mask_impact.errors import RequestError, RunError
from mask_impact.formats import FORMATS, JSON_ROWS, file_sizes, formats_for
from mask_impact.jsontext import json_text
from mask_impact.results import COLUMNS, ResultTable, StepDistances
from mask_impact.writers import write_failure, write_results

ROOT = Path(__file__).parent.parent

HOSTILE_TOKENS = [
    "\r", "\n", "\r\n", '"', '""', ",", '","', "'", "\\", "\\n", "\t", "NA", "N/A", "null", "nan", "NaN", "None",
    "-inf", "007", "1e5", "0x1F", "1_000", "true", "2024-01-01", "", " ", "  two before and after  ", "</script>",
    "<!--", "=1+1", "\u05e9\u05dc\u05d5\u05dd", "\u202eright to left", "\U0001f600", "\U0001f468\u200d\U0001f469",
    "\u0301", "\ufeff", "\u2028", "\u2029", "\x00", "a\x00b", "\x1b[31m", "\x85", "\xa0", "\u0120the", "x" * 10_000,
    "the", "the", "#", ";",
]

# Zero, the smallest subnormal, subnormals, the smallest normal, the largest float32; texts of every shape; and
# 7.038531e-26, the float32 whose shortest text gives the one beside it if parsed as a float64 on the way.
HARD_FLOATS = np.array([0.0, 1e-45, 3e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, math.nan, 0.1, 1 / 3, 1.0,
                        16777216.0, 1e-7, 9.999999e-5, 1e10, 123456.79, 0.0], np.float32)
HARD_FLOATS[-1:] = np.array([0x15AE43FD], np.uint32).view(np.float32)


def hard_table(tokens=HOSTILE_TOKENS, steps=3, dtype=np.float32):
    """Heads that differ per layer, one more position per step, hard floats and random bits in every cell."""
    cells = [("Full", 0), ("Full", 2), ("Attn", 0), ("Attn", 2), ("Head_0", 0), ("Head_0", 2), ("Head_1", 2)]
    table = ResultTable(list(tokens), cells)
    first = len(tokens) - max(steps, 1) + 1
    for step in range(steps):
        l2, cosine = (hard_distances((len(cells), first + step), dtype, seed) for seed in (2 * step, 2 * step + 1))
        table.steps.append(StepDistances(step, l2, cosine))
    return table


def hard_distances(shape, dtype, seed):
    """Random bits that are at least 0 and finite or NaN, and among them the hard floats."""
    highest, bits = (2**31, np.uint32) if dtype == np.float32 else (2**63, np.uint64)
    values = np.random.default_rng(seed).integers(0, highest, shape, bits).view(dtype)
    values[~np.isfinite(values)] = np.nan
    count = min(len(HARD_FLOATS), values.size)
    values.ravel()[:count] = HARD_FLOATS[:count]
    return values


def rows_of(table):
    """The table as the design describes it, one row at a time, by a second implementation."""
    for step in table.steps:
        for cell, (variant, layer) in enumerate(table.cells):
            for position in range(step.l2.shape[1]):
                yield (step.step, layer, table.tokens[position], position, variant,
                       step.l2[cell, position], step.cosine[cell, position])


def assert_holds(frame, table):
    """Every token, number and bit of `table`, in its order and dtypes."""
    expected = list(zip(*rows_of(table))) or [()] * 7
    assert tuple(frame.columns[:7]) == COLUMNS
    for name, column in zip(COLUMNS[:5], expected):
        assert frame[name].tolist() == list(column)
    for name in ("generation_step", "layer", "token_position"):
        assert frame[name].dtype == np.int64
    for name, column in zip(COLUMNS[5:], expected[5:]):
        assert frame[name].dtype == table.dtype
        assert_same_bits(frame[name].to_numpy(), np.array(column, dtype=table.dtype))


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    whole = ~np.isnan(expected)
    assert found[whole].tobytes() == expected[whole].tobytes()


def written(table, folder, form, run=None, name="a"):
    return write_results(table, folder, name, (form,), {"complete": True} if run is None else run)[0]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# The table

def test_the_data_frame_is_the_long_table():
    assert_holds(hard_table().to_dataframe(), hard_table())


def test_length_counts_every_row():
    table = hard_table(steps=2)
    assert len(table) == 7 * (len(table.tokens) - 1) + 7 * len(table.tokens) == len(table.to_dataframe())


def test_large_steps_come_in_several_batches(monkeypatch):
    monkeypatch.setattr("mask_impact.results._BATCH_ROWS", 100)
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
    monkeypatch.setattr("mask_impact.reading._BLOCK_BYTES", 10_000)
    table = hard_table(tokens=["\n" * 3_000, "\r" * 3_000, "a"])
    assert_holds(read_results(written(table, tmp_path, "csv")), table)


@pytest.mark.parametrize("form", FORMATS)
def test_further_columns_are_kept(tmp_path, form):
    path = written(hard_table(), tmp_path, form)
    frame = read_results(path)
    blank = [None] * (len(frame) - 1)
    add_columns(path, {"token_type": ["text" for _ in blank] + ["vision"], "image_index": [*blank, 3],
                       "patch_row": [*blank, None]})
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
        b'0,4,"say ""hi""",0,"Full",0.1,0.2\n0,4,"\r",1,"Full",1e-45,3e-45\n0,4,"NA",2,"Full",,\n')


def test_json_is_one_object_of_columns(tmp_path):
    values = np.array([[0.1, 1e-45, np.nan]], np.float32)
    table = ResultTable(['say "hi"', "\r", "</script>"], [("Full", 4)], [StepDistances(0, values, 2 * values)])
    found = json.loads(written(table, tmp_path, "json").read_text(encoding="utf-8"))
    assert found == {"generation_step": [0, 0, 0], "layer": [4, 4, 4], "token_masked": table.tokens,
                     "token_position": [0, 1, 2], "variant": ["Full"] * 3, "l2_distance": [0.1, 1e-45, None],
                     "cosine_distance": [0.2, 3e-45, None]}


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
    assert found == [(step, variant, layers) for step in (0, 1)
                     for variant, layers in [("Full", 2), ("Attn", 2), ("Head_0", 2), ("Head_1", 1)]]
    assert json.loads(file.metadata.metadata[b"mask_impact_run"])["generated"] == "\u00e9"


def test_a_large_heatmap_stays_one_row_group(tmp_path):
    values = np.zeros((2, 600_000), np.float32)
    table = ResultTable(["a"] * 600_000, [("Full", 0), ("Full", 1)], [StepDistances(0, values, values)])
    assert pq.ParquetFile(written(table, tmp_path, "parquet")).num_row_groups == 1


# The run file

def test_the_run_file_is_plain_json():
    record = {"a": np.float32(0.1), "nan": math.nan, "inf": np.float32(np.inf),
              "tokens": [{"id": np.int64(3), "text": "\u2028</script>"}],
              "norms": np.array([[0.1, np.nan]], np.float32), "flag": np.bool_(True), "none": None, "empty": {},
              "pair": (1, 2), "steps": [{"step": 0, "top": [{"id": 1}]}]}
    assert json_text(record) == """{
  "a": 0.1,
  "nan": null,
  "inf": null,
  "tokens": [
    {"id": 3, "text": "\u2028</script>"}
  ],
  "norms": [
    [0.1, null]
  ],
  "flag": true,
  "none": null,
  "empty": {},
  "pair": [1, 2],
  "steps": [
    {
      "step": 0,
      "top": [
        {"id": 1}
      ]
    }
  ]
}
"""


def test_nested_records_are_the_same_after_json():
    record = {"steps": [{"step": 0, "top": [{"id": 1, "p": 0.5}]}, []], "deep": [[[1], [2]], {"a": {"b": []}}],
              "text": "\x00\"\\"}
    assert json.loads(json_text(record)) == record


def test_a_prompt_with_a_lone_surrogate_is_written(tmp_path):
    write_results(hard_table(), tmp_path, "a", FORMATS, {"prompt": "caf\udce9"})
    assert json.loads((tmp_path / "a_run.json").read_bytes())["prompt"] == "caf\udce9"
    assert read_results(tmp_path / "a_results.parquet").attrs["run"]["prompt"] == "caf\udce9"


def test_paths_are_returned_with_the_run_file_last(tmp_path):
    paths = write_results(hard_table(), tmp_path / "new" / "folder", "a", ("parquet", "csv"), {})
    assert [path.name for path in paths] == ["a_results.parquet", "a_results.csv", "a_run.json"]
    assert names_in(tmp_path / "new" / "folder") == sorted(path.name for path in paths)


def test_the_record_of_a_failure_replaces_that_of_the_result(tmp_path):
    """The tables stay, for a person to judge; without a complete run file they are no result."""
    write_results(hard_table(), tmp_path, "a", ("csv",), {"status": "complete"})
    write_failure(tmp_path, "a", {"status": "failed", "reason": "caf\udce9"})
    assert json.loads((tmp_path / "a_run.json").read_bytes()) == {"status": "failed", "reason": "caf\udce9"}
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json"]


# Nothing torn

def test_tables_of_an_earlier_run_go(tmp_path):
    write_results(hard_table(), tmp_path, "a", FORMATS, {"run": 1})
    write_results(hard_table(steps=1), tmp_path, "a", ("csv",), {"run": 2})
    write_results(hard_table(), tmp_path, "ab", ("json",), {"run": 3})
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json", "ab_results.json", "ab_run.json"]
    assert read_results(tmp_path / "a_results.csv").attrs["run"]["run"] == 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_the_old_result_and_nothing_else(tmp_path, form, monkeypatch):
    old = hard_table(steps=1)
    write_results(old, tmp_path, "a", FORMATS, {"run": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails_half_way(table, path, run_text):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(writers.WRITERS, form, fails_half_way)
    with pytest.raises(RunError, match=rf"a_results\.{form} could not be written: No space left on device") as error:
        write_results(hard_table(), tmp_path, "a", FORMATS, {"run": 2})
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(table, path, run_text):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(writers.WRITERS, "json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert names_in(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from mask_impact.errors import RunError
from mask_impact.results import ResultTable, StepDistances
from mask_impact.writers import write_failure, write_results
values = np.random.default_rng(0).random((200, 500), dtype=np.float32)
table = ResultTable(["a"] * 500, [("Full", layer) for layer in range(200)], [StepDistances(0, values, values)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_results(table, Path(sys.argv[1]), "a", (sys.argv[2],), {})
except RunError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit on a file's size")
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_too_large_for_the_system(tmp_path, form):
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path), form], cwd=ROOT,
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert re.fullmatch(rf".*a_results\.{form} could not be written: .*File too large.*\n", done.stderr)
    assert names_in(tmp_path) == []


def test_a_killed_overwrite_leaves_no_complete_result(tmp_path, monkeypatch):
    """Killed between two replacements: the first table is new, the second old, and no run file vouches for either."""
    write_results(hard_table(steps=1), tmp_path, "a", ("csv", "json"), {"run": 1})
    replace, seen = os.replace, []

    def killed_at_the_second(source, target):
        if seen:
            raise SystemExit
        seen.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(SystemExit):
        write_results(hard_table(), tmp_path, "a", ("csv", "json"), {"run": 2})
    assert names_in(tmp_path) == ["a_results.csv", "a_results.json"]


def test_the_run_file_appears_after_every_table(tmp_path, monkeypatch):
    replace, order = os.replace, []
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append(target.name), replace(source, target)))
    write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert order == ["a_results.csv", "a_results.json", "a_results.parquet", "a_run.json"]


def test_a_file_that_another_program_holds_open(tmp_path, monkeypatch):
    """On Windows a spreadsheet lets nobody replace the file it shows; the old result stays."""
    write_results(hard_table(steps=1), tmp_path, "a", ("csv",), {"run": 1})
    held = lambda path, mode="r": (_ for _ in ()).throw(PermissionError(13, "Permission denied"))  # noqa: E731
    monkeypatch.setattr("mask_impact.files._check_replaceable", held)
    with pytest.raises(RunError, match="a_run.json could not be replaced: it is open in another program") as error:
        write_results(hard_table(), tmp_path, "a", ("csv",), {"run": 2})
    assert "\n" not in str(error.value)
    assert read_results(tmp_path / "a_results.csv").attrs["run"]["run"] == 1
    assert names_in(tmp_path) == ["a_results.csv", "a_run.json"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken could not be made"):
        write_results(hard_table(), tmp_path / "taken", "a", ("csv",), {})


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    names = (".a_results.csv.1.tmp", ".a_results.csv.2.tmp", ".b_results.csv.1.tmp")
    old, fresh, other = (tmp_path / name for name in names)
    for path in (old, fresh, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    write_results(hard_table(), tmp_path, "a", ("csv",), {})
    assert names_in(tmp_path) == [fresh.name, other.name, "a_results.csv", "a_run.json"]


def test_a_folder_is_listed_once_for_a_result(tmp_path, monkeypatch):
    """A batch's folder can hold thousands of files."""
    listed, real = [], os.listdir
    monkeypatch.setattr("mask_impact.files.os.listdir", lambda folder: listed.append(folder) or real(folder))
    write_results(hard_table(), tmp_path, "a", FORMATS, {})
    assert listed == [tmp_path]


def test_an_infinite_distance_is_not_written(tmp_path):
    table = hard_table()
    table.steps[1].cosine[5, 2] = np.inf
    with pytest.raises(RunError, match="cosine_distance is infinite at generation step 1, Head_0, layer 2, position 2"):
        write_results(table, tmp_path / "new", "a", FORMATS, {})
    assert names_in(tmp_path) == []


# Bad files

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
    {"csv": lambda: frame.to_csv(path, index=False), "parquet": lambda: frame.to_parquet(path),
     "json": lambda: path.write_text('{"layer": [1], "generation_step": [0], "other": ["x"]}')}[form]()
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
@pytest.mark.parametrize("text", [
    "[1, 2]\n", "\xff\xfe\n", "null\n", "{}\n{}\n", "\n", "a,b\n1\n", json.dumps(dict.fromkeys(COLUMNS, 3)),
    json.dumps(dict.fromkeys(COLUMNS, ["x"])), json.dumps(dict.fromkeys(COLUMNS, [[]]))])
def test_a_file_that_is_something_else(tmp_path, form, text):
    path = tmp_path / f"a_results.{form}"
    path.write_text(text, encoding="latin-1")
    assert_one_line(path)


def test_a_csv_without_its_last_line(tmp_path):
    path = written(hard_table(), tmp_path, "csv")
    path.write_bytes(path.read_bytes()[:path.read_bytes()[:-1].rfind(b"\n") + 1])
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


def assert_one_line(path, message="."):
    with pytest.raises(RequestError, match=message) as error:
        read_results(path)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)


# Formats and sizes

def test_json_stays_up_to_its_limit():
    assert formats_for(JSON_ROWS, ("csv", "json"), explicit=False) == (("csv", "json"), None)
    assert formats_for(JSON_ROWS + 1, ("csv", "parquet"), explicit=True) == (("csv", "parquet"), None)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("formats, kept", [(("csv", "json"), ("csv", "parquet")), (("json",), ("parquet",)),
                                           (("json", "parquet"), ("parquet",))])
def test_json_gives_way_past_its_limit(explicit, formats, kept):
    found, notice = formats_for(JSON_ROWS + 1, formats, explicit)
    assert found == kept and "5,000,001" in notice and "\n" not in notice
    assert notice.startswith("JSON was asked for") == explicit


def test_estimated_sizes_are_near_the_truth(tmp_path):
    rng = np.random.default_rng(0)
    tokens = [" " + "word"[: 1 + number % 4] + str(number) for number in range(200)]
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(16))]
    cells = [(variant, layer) for variant in variants for layer in range(28)]
    distances = [rng.lognormal(-5, 3, (len(cells), 200)).astype(np.float32) for _ in range(2)]
    table = ResultTable(tokens, cells, [StepDistances(0, *distances)])
    paths = write_results(table, tmp_path, "a", FORMATS, {})
    for path, size in zip(paths, file_sizes(len(table), FORMATS).values()):
        assert size == pytest.approx(path.stat().st_size, rel=1 / 3)


# Imports

def test_the_package_imports_nothing_heavy():
    code = ("import sys, mask_impact;"
            "print(mask_impact.__version__, {'torch', 'pandas', 'pyarrow'} & set(sys.modules));"
            "mask_impact.read_results; print({'torch', 'pandas'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0 set()\nset()\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import mask_impact
    with pytest.raises(AttributeError, match="has no attribute 'read_result'"):
        mask_impact.read_result
