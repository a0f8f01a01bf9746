"""What the viewer opens, in a real Chromium: every format of a real run, and every file that is none."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_tables import HOSTILE_TOKENS
from viewing import FORMS, STEPS, agrees, matrix, written

import mask_impact_analysis


def shown(viewer, rows, cols):
    """Every value that hovering tells, as (layer, token)."""
    return np.array([[number(viewer.hover(row, col)["value"]) for col in range(cols)] for row in range(rows)])


def number(text):
    return math.nan if text == "undefined" else float(text)


@pytest.mark.parametrize("form", FORMS)
def test_a_real_run_in_each_format(viewer, run, table, form):
    viewer.choose(run / f"key_results.{form}", run / "key_run.json")
    assert viewer.runs() == ["key"] and viewer.errors() == []
    for step, variant, column, metric in ((0, "Full", "l2_distance", "l2"), (2, "Head_1", "cosine_distance", "cosine")):
        viewer.step(step)
        viewer.select("Variant", variant)
        viewer.select("Metric", metric)
        wanted = matrix(table, step, variant, column)
        assert (viewer.heatmap()["rows"], viewer.heatmap()["cols"]) == wanted.shape
        agrees(viewer, wanted)


@pytest.mark.parametrize("form", FORMS)
def test_without_its_run_file_it_says_what_is_missing(viewer, run, table, form):
    viewer.choose(run / f"key_results.{form}")
    agrees(viewer, matrix(table))
    assert viewer.errors() == []
    said = viewer.at("notes").inner_text()
    # A Parquet file has its run inside.
    assert ("No run file (key_run.json)" in said) == (form != "parquet")


def test_a_whole_heatmap_value_by_value(viewer, run, table):
    viewer.choose(run / "key_results.csv")
    wanted = matrix(table)
    np.testing.assert_allclose(shown(viewer, *wanted.shape), wanted, rtol=2e-7)


TABLES = {
    "plain": lambda table, path: table.to_csv(path, index=False),
    "with an index": lambda table, path: table.to_csv(path),
    "shuffled columns": lambda table, path: table[list(table.columns[::-1])].to_csv(path, index=False),
    "shuffled rows": lambda table, path: table.sample(frac=1, random_state=0).to_csv(path, index=False),
    "one column more": lambda table, path: table.assign(note='a, "b"\nc').to_csv(path, index=False),
    "Windows' line ends": lambda table, path: table.to_csv(path, index=False, lineterminator="\r\n"),
    "a byte-order mark": lambda table, path: table.to_csv(path, index=False, encoding="utf-8-sig"),
    "JSON records": lambda table, path: table.to_json(path, orient="records", double_precision=15),
    "JSON records, indented": lambda table, path: table.to_json(path, orient="records", indent=2, double_precision=15),
    "Parquet by pandas": lambda table, path: table.to_parquet(path),
}


@pytest.mark.parametrize("way", TABLES)
def test_a_table_written_by_pandas(viewer, run, table, tmp_path, way):
    path = tmp_path / ("anything.parquet" if "Parquet" in way else "anything.json" if "JSON" in way else "anything.csv")
    TABLES[way](table, path)
    viewer.choose(path)
    assert viewer.errors() == [] and viewer.runs() == ["anything"]
    agrees(viewer, matrix(table))
    viewer.step(1)
    agrees(viewer, matrix(table, step=1))


def test_the_output_folder_lists_every_run(viewer, run, table, tmp_path):
    for name in ("alpha", "beta_2"):
        shutil.copy(run / "key_results.csv", tmp_path / f"{name}_results.csv")
        record = json.loads((run / "key_run.json").read_text(encoding="utf-8")) | {"name": name}
        (tmp_path / f"{name}_run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "deeper").mkdir()
    shutil.copy(run / "key_results.parquet", tmp_path / "deeper" / "gamma_results.parquet")
    (tmp_path / "notes.txt").write_text("not a result")
    viewer.at("folder").set_input_files(str(tmp_path))
    viewer.settle()
    assert sorted(viewer.runs()) == ["alpha", "beta_2", "gamma"]
    for name in ("gamma", "alpha"):
        viewer.at("runs").get_by_role("button", name=name, exact=True).click()
        viewer.settle()
        agrees(viewer, matrix(table))


def test_files_dropped_on_the_page(viewer, run, table):
    texts = {path.name: path.read_text(encoding="utf-8") for path in (run / "key_results.csv", run / "key_run.json")}
    viewer.page.evaluate(
        """(texts) => {
             const dropped = new DataTransfer();
             for (const [name, text] of Object.entries(texts)) dropped.items.add(new File([text], name));
             const event = { bubbles: true, cancelable: true, dataTransfer: dropped };
             for (const kind of ["dragenter", "dragover", "drop"])
               document.body.dispatchEvent(new DragEvent(kind, event));
           }""",
        texts,
    )
    viewer.page.wait_for_function("() => document.querySelector('[data-testid=heatmap]').dataset.state === 'drawn'")
    assert viewer.runs() == ["key"]
    agrees(viewer, matrix(table))


def test_a_name_that_is_taken_stays_apart(viewer, run):
    viewer.choose(run / "key_results.csv")
    viewer.choose(run / "key_results.json")
    assert len(set(viewer.runs())) == len(viewer.runs()) == 2


# Hostile tokens and numbers


@pytest.mark.parametrize("form", FORMS)
def test_hostile_tokens_are_only_text(viewer, tmp_path, form):
    tokens = [
        "start",
        "<img src=x onerror=\"document.title='broken'\">",
        "</script><script>document.title='broken'</script>",
        "<b>bold</b>",
        *HOSTILE_TOKENS,
    ]
    values = np.arange(1, 2 * len(tokens) + 1, dtype=np.float32).reshape(2, -1)
    viewer.choose(written(tmp_path, form, tokens, values))
    assert viewer.errors() == []
    assert viewer.heatmap()["cols"] == len(tokens)
    assert float(viewer.hover(1, 1)["value"]) == values[1, 1]
    title = viewer.page.title()
    assert title != "broken" and viewer.page.locator("img[src=x], b:text-is('bold')").count() == 0
    texts = viewer.at("text").locator("[data-token]").all_inner_texts()
    assert len(texts) == len(tokens) and "<b>bold</b>" in texts[3] and all(text.strip() for text in texts)


ODD = {
    "zeros": [[0, 0, 0], [0, 0, 0]],
    "undefined": [[math.nan] * 3] * 2,
    "all equal": [[5, 5, 5], [5, 5, 5]],
    "one cell": [[1]],
    "one undefined cell": [[math.nan]],
    "one zero": [[0]],
    "mixed": [[3, 0, math.nan], [0, 2, 0]],
    "extreme": [[0, 1e-45, 3e38], [1, 2, 3]],
}


@pytest.mark.parametrize(
    "name, form",
    [*((name, "csv") for name in ODD), *((name, form) for name in ("mixed", "extreme") for form in FORMS[1:])],
)
def test_odd_numbers(viewer, tmp_path, form, name):
    values = np.array(ODD[name], np.float32)
    viewer.choose(written(tmp_path, form, "abc"[: values.shape[1]], values))
    for metric in ("l2", "cosine"):
        viewer.select("Metric", metric)
        for exclude in (False, True):
            viewer.check("Exclude position 0", exclude)
            np.testing.assert_allclose(shown(viewer, *values.shape), values / (1 if metric == "l2" else 2), rtol=2e-7)
            assert "NaN" not in viewer.page.locator("body").inner_text()
    assert viewer.errors() == []


def test_zero_undefined_and_absent_look_different(viewer, tmp_path):
    frame = pd.DataFrame(
        {
            "generation_step": 0,
            "layer": [0, 0, 0, 1, 1, 1, 2],
            "token_masked": list("abcabca"),
            "token_position": [0, 1, 2, 0, 1, 2, 0],
            "variant": "Full",
            "l2_distance": [9, 0, math.nan, 9, 1, 2, 9],
            "cosine_distance": [0, 0, math.nan, 0, 1, 2, 0],
        }
    )
    frame.to_csv(tmp_path / "holes.csv", index=False)
    viewer.choose(tmp_path / "holes.csv")
    assert [viewer.hover(row, col)["value"] for row, col in ((0, 1), (0, 2), (2, 2))] == ["0", "undefined", "absent"]
    box = viewer.at("cells").bounding_box()
    pictures = set()
    for row, col in ((0, 1), (0, 2), (2, 2), (0, 0)):
        x, y = viewer.centre(row, col)
        half = viewer.heatmap()["cell"] / 2 - 1
        viewer.page.mouse.move(2, 2)
        pictures.add(
            viewer.page.screenshot(
                clip={"x": box["x"] + x - half, "y": box["y"] + y - half, "width": 2 * half, "height": 2 * half}
            )
        )
    assert len(pictures) == 4


def test_a_run_of_one_token_opens(viewer, tmp_path):
    code = mask_impact_analysis.main(
        ["--model", "demo", "--prompt", "The", "--output", "one", "--output-dir", str(tmp_path), "--quiet"]
    )
    assert code == 0
    viewer.choose(tmp_path / "one_results.csv", tmp_path / "one_run.json")
    assert viewer.hover(0, 0)["value"] == "undefined" and viewer.errors() == []


# Files that are broken


def cut(source, path, share=0.6):
    """The first part of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def changed(source, path, old, new, count=1):
    text = source.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def twice(source, path):
    """Its first row stands at its end again."""
    data = source.read_bytes()
    path.write_bytes(data + data.split(b"\n")[1] + b"\n")


def foreign_parquet(path):
    pq.write_table(pa.table({"name": ["a"], "price": [1.0]}), path)


def newer_parquet(run, path):
    made = pq.read_table(run / "key_results.parquet")
    metadata = {
        key: value.replace(b'"schema_version": 1', b'"schema_version": 2').replace(
            b'"schema_version":1', b'"schema_version":2'
        )
        for key, value in made.schema.metadata.items()
    }
    assert metadata != made.schema.metadata
    pq.write_table(made.replace_schema_metadata(metadata), path)


# What is written, and what the sentence has to name beside the file.
BROKEN = {
    "cut.csv": (lambda run, path: cut(run / "key_results.csv", path), ["row"]),
    "cut.json": (lambda run, path: cut(run / "key_results.json", path), []),
    "cut.parquet": (lambda run, path: cut(run / "key_results.parquet", path), []),
    "empty.csv": (lambda run, path: path.write_bytes(b""), ["empty"]),
    "empty.json": (lambda run, path: path.write_bytes(b""), ["empty"]),
    "empty.parquet": (lambda run, path: path.write_bytes(b""), ["empty"]),
    "foreign.csv": (lambda run, path: path.write_text("name,price\na,1\n"), ["generation_step"]),
    "foreign.json": (lambda run, path: path.write_text('{"name": ["a"], "price": [1]}'), ["generation_step"]),
    "records.json": (lambda run, path: path.write_text('[{"name": "a", "price": 1}]'), ["generation_step"]),
    "scalar.json": (lambda run, path: path.write_text("42"), []),
    "binary.csv": (lambda run, path: path.write_bytes(bytes(range(256)) * 40), []),
    "foreign.parquet": (lambda run, path: foreign_parquet(path), ["generation_step"]),
    "word.csv": (
        lambda run, path: changed(run / "key_results.csv", path, '"Full",', '"Full",x'),
        ["l2_distance", "row 1"],
    ),
    "fields.csv": (lambda run, path: changed(run / "key_results.csv", path, '"Full",', '"Full",1,'), ["row 1"]),
    "variant.csv": (
        lambda run, path: changed(run / "key_results.csv", path, '"Full"', '"Fool"'),
        ["variant", "row 1", "Fool"],
    ),
    "lengths.json": (
        lambda run, path: changed(run / "key_results.json", path, '"layer": [0,0,', '"layer": [0,'),
        ["layer"],
    ),
    "newer_run.json": (
        lambda run, path: changed(run / "key_run.json", path, '"schema_version": 1', '"schema_version": 2'),
        ["schema_version", "2"],
    ),
    "newer.parquet": (newer_parquet, ["schema_version", "2"]),
    "twice.csv": (lambda run, path: twice(run / "key_results.csv", path), ["row"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_one_sentence_and_loses_nothing(viewer, run, table, tmp_path, name):
    make, named = BROKEN[name]
    viewer.choose(run / "key_results.csv", run / "key_run.json")
    make(run, tmp_path / name)
    viewer.choose(tmp_path / name, wait=False)
    viewer.page.wait_for_function(
        "() => document.querySelector('[data-testid=errors] [role=alert]')?.textContent.trim()"
    )
    viewer.settle()
    [said] = viewer.errors()
    assert name in said and "\n" not in said and all(word in said for word in named), said
    assert "undefined" not in said and "[object" not in said and "TypeError" not in said, said
    assert viewer.heatmap()["state"] == "drawn"
    agrees(viewer, matrix(table))


def test_of_several_files_the_good_ones_open(viewer, run, table, tmp_path):
    (tmp_path / "bad.csv").write_text("name,price\na,1\n")
    viewer.choose(tmp_path / "bad.csv", run / "key_results.csv", run / "key_run.json")
    # A table is read when it is shown; the broken one says so then, at the latest.
    if "bad" in viewer.runs():
        viewer.at("runs").get_by_role("button", name="bad", exact=True).click()
        viewer.settle()
        viewer.at("runs").get_by_role("button", name="key", exact=True).click()
        viewer.settle()
    assert len(viewer.errors()) == 1 and "bad.csv" in viewer.errors()[0]
    agrees(viewer, matrix(table))


def test_parquet_is_read_by_row_group(viewer, run, table, tmp_path):
    """The first heatmap needs the footer and its own row group: the rest may be rubbish, until it is asked for."""
    path = tmp_path / "key.parquet"
    shutil.copy(run / "key_results.parquet", path)
    groups, variants = pq.ParquetFile(path).metadata, list(table.variant.unique())
    assert groups.num_row_groups == STEPS * len(variants)
    data = bytearray(path.read_bytes())
    for column in range(groups.num_columns):
        chunk = groups.row_group(variants.index("Head_0")).column(column)
        start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    viewer.choose(path)
    assert viewer.errors() == []
    agrees(viewer, matrix(table))
    viewer.select("Variant", "Head_1")
    agrees(viewer, matrix(table, variant="Head_1"))
    viewer.select("Variant", "Head_0")
    viewer.page.wait_for_function(
        "() => document.querySelector('[data-testid=errors] [role=alert]')?.textContent.trim()"
    )
    assert len(viewer.errors()) == 1 and "key.parquet" in viewer.errors()[0]
    viewer.select("Variant", "Full")
    agrees(viewer, matrix(table))
