"""Results whose rows are units, in a real Chromium: words, sentences, spans and pairs of a real run's positions."""

from __future__ import annotations

import csv
import json
import re
from itertools import groupby

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from viewing import FORMS, STEPS, saved

ORDER = ["words", "sentences", "spans", "pairs"]
INTERACTION = "interaction_l2"


def units_of(texts):
    """(unit, label, positions) of each row: words of two tokens, sentences by their dots, two spans and their pair."""
    text = lambda positions: "".join(texts[at] for at in positions)
    words = [list(range(at, min(at + 2, len(texts)))) for at in range(0, len(texts), 2)]
    dot = next(at for at, token in enumerate(texts) if "." in token)
    sentences = [list(range(dot + 1)), list(range(dot + 1, len(texts)))]
    place, who = [1, 2, 3, 9], [3]
    return [
        *(("words", text(word), word) for word in words),
        *(("sentences", text(sentence), sentence) for sentence in sentences),
        ("spans", "place", place),
        ("spans", "who", who),
        ("pairs", "place + who", sorted({*place, *who})),
    ]


def written_positions(positions):
    """Positions as the table has them: 3-5 or 3,7."""
    stretches = [[at for _, at in run] for _, run in groupby(enumerate(positions), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in stretches)


def measured(rows, positions):
    """Made up of a token table's rows: what hiding all of these might move."""
    return rows[rows.token_position.isin(positions)][["l2_distance", "cosine_distance"]].sum()


@pytest.fixture(scope="module")
def unit_table(run, table):
    """The run by units: steps have more words than the ones before, and their last one grows."""
    record = json.loads((run / "key_run.json").read_text(encoding="utf-8"))
    made = []
    for (step, variant, layer), rows in table.groupby(
        ["generation_step", "variant", "layer"], sort=False, observed=True
    ):
        for unit, label, positions in units_of([token["text"] for token in record["tokens"]][: len(rows)]):
            l2, cosine = measured(rows, positions)
            pair = l2 / 8 if unit == "pairs" else None
            where = written_positions(positions)
            made.append((step, layer, label, positions[0], variant, l2, cosine, unit, where, pair))
    frame = pd.DataFrame(made, columns=[*table.columns[:7], "unit", "positions", INTERACTION])
    return frame.astype(dict.fromkeys(("l2_distance", "cosine_distance", INTERACTION), "float32"))


@pytest.fixture(scope="module")
def unit_run(run, unit_table, tmp_path_factory):
    """A folder with the run by units in every format, Parquet as this tool writes it: a row group for each heatmap."""
    folder = tmp_path_factory.mktemp("units")
    record = json.loads((run / "key_run.json").read_text(encoding="utf-8")) | {"rows": len(unit_table), "name": "units"}
    text = json.dumps(record)
    (folder / "units_run.json").write_text(text, encoding="utf-8")
    unit_table.to_csv(folder / "units_results.csv", index=False)
    columns = {name: values.astype(object).where(values.notna(), None) for name, values in unit_table.items()}
    (folder / "units_results.json").write_text(json.dumps({name: list(values) for name, values in columns.items()}))
    whole = pa.Table.from_pandas(unit_table, preserve_index=False).replace_schema_metadata({"mask_impact_run": text})
    sizes = unit_table.groupby(["generation_step", "variant"], sort=False, observed=True).size()
    with pq.ParquetWriter(folder / "units_results.parquet", whole.schema, compression="snappy") as writer:
        for end, size in zip(sizes.cumsum(), sizes):
            writer.write_table(whole.slice(end - size, size))
    return folder


@pytest.fixture
def units(viewer, unit_run):
    viewer.choose(unit_run / "units_results.csv", unit_run / "units_run.json")
    return viewer


def wanted(unit_table, unit, step=0, variant="Full", column="l2_distance"):
    """One heatmap of one kind: (layer, unit), its columns in the table's order."""
    rows = unit_table[
        (unit_table.generation_step == step) & (unit_table.variant == variant) & (unit_table.unit == unit)
    ]
    return np.stack([own[column].to_numpy() for _, own in rows.groupby("layer")])


def counts(unit_table, unit, step=0):
    rows = unit_table[(unit_table.generation_step == step) & (unit_table.variant == "Full") & (unit_table.layer == 0)]
    found = []
    for text in rows[rows.unit == unit].positions:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        found.append(sum(end[-1] - end[0] + 1 for end in ends))
    return found


def hover(viewer, row, col, wide):
    """Move the mouse onto a cell of columns that are so many cells wide; what the tooltip then carries."""
    place = viewer.heatmap()
    box = viewer.at("cells").bounding_box()
    x = place["offsetX"] + (sum(wide[:col]) - sum(wide[: int(place["firstCol"])]) + wide[col] / 2) * place["cell"]
    y = place["offsetY"] + (row + 0.5) * place["cell"]
    viewer.page.mouse.move(box["x"] + x, box["y"] + y)
    viewer.page.wait_for_function("() => new Promise(requestAnimationFrame)")
    return viewer.at("tooltip").evaluate("tip => ({...tip.dataset, text: tip.textContent})")


def widths(unit_table, unit, step=0):
    return [min(6, count) for count in counts(unit_table, unit, step)]


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_in_each_format(viewer, unit_run, unit_table, form):
    viewer.choose(unit_run / f"units_results.{form}", unit_run / "units_run.json")
    assert viewer.errors() == []
    kinds = viewer.page.get_by_label("Units", exact=True).locator("option").all_inner_texts()
    assert kinds == ORDER
    for unit in ORDER:
        viewer.select("Units", unit)
        for step, variant in ((0, "Full"), (STEPS - 1, "Head_1")):
            viewer.step(step)
            viewer.select("Variant", variant)
            values, wide = wanted(unit_table, unit, step, variant), widths(unit_table, unit, step)
            assert (viewer.heatmap()["rows"], viewer.heatmap()["cols"]) == values.shape
            for row, col in ((0, 0), (1, values.shape[1] - 1)):
                assert float(hover(viewer, row, col, wide)["value"]) == pytest.approx(values[row, col], rel=2e-7)


def test_parquet_in_other_groups(viewer, unit_run, unit_table, tmp_path):
    unit_table.to_parquet(tmp_path / "units_results.parquet")
    viewer.choose(tmp_path / "units_results.parquet", unit_run / "units_run.json")
    viewer.select("Units", "pairs")
    viewer.select("Metric", "interaction")
    found = hover(viewer, 1, 0, widths(unit_table, "pairs"))
    assert float(found["value"]) == pytest.approx(wanted(unit_table, "pairs", column=INTERACTION)[1, 0], rel=2e-7)


def test_a_result_of_tokens_offers_no_units_and_no_interaction(key):
    assert not key.page.get_by_label("Units", exact=True).is_visible()
    assert key.page.locator("#metric option[value=interaction]").is_disabled()
    assert not key.at("unit-list").is_visible()


def test_interaction_is_a_metric_of_pairs_alone(units, unit_table):
    option = units.page.locator("#metric option[value=interaction]")
    assert option.is_disabled()
    units.select("Units", "pairs")
    units.select("Metric", "interaction")
    wide = widths(unit_table, "pairs")
    found = hover(units, 0, 0, wide)
    assert float(found["value"]) == pytest.approx(wanted(unit_table, "pairs", column=INTERACTION)[0, 0], rel=2e-7)
    assert "interaction" in found["text"] and "Interaction" in units.page.locator("#map-title").inner_text()
    units.select("Units", "words")
    assert units.page.get_by_label("Metric", exact=True).input_value() == "l2" and option.is_disabled()


def test_u_goes_from_kind_to_kind(units):
    units.at("cells").focus()
    found = []
    for _ in ORDER:
        units.press("u")
        found.append(units.page.get_by_label("Units", exact=True).input_value())
    assert found == [*ORDER[1:], ORDER[0]]


def test_words_are_blocks_of_the_running_text(units, unit_table):
    rows = unit_table[(unit_table.generation_step == 0) & (unit_table.variant == "Full") & (unit_table.layer == 0)]
    blocks = units.at("text").locator("[data-token]")
    assert [text.strip() for text in blocks.all_inner_texts()] == [
        text.strip() for text in rows[rows.unit == "words"].token_masked
    ]
    hover(units, 1, 3, widths(unit_table, "words"))
    assert units.at("text").locator(".hovered").all_inner_texts() == blocks.all_inner_texts()[3:4]
    blocks.nth(2).hover()
    units.settle()
    assert "at 4-5" in units.page.locator("#text p.value").inner_text()


def test_columns_follow_their_tokens(units, unit_table):
    units.select("Units", "sentences")
    cell = units.heatmap()["cell"]
    box = units.at("cells").bounding_box()
    assert box["width"] == pytest.approx(cell * sum(widths(unit_table, "sentences")), abs=1)
    units.select("Units", "words")
    labels = units.page.locator("[data-testid=heatmap] .axis-top .label:visible")
    middles = [one.bounding_box()["x"] + one.bounding_box()["width"] / 2 for one in labels.all()]
    apart = np.diff(sorted(middles)) / units.heatmap()["cell"]
    wide = np.array(widths(unit_table, "words"))
    np.testing.assert_allclose(apart, (wide[:-1] + wide[1:]) / 2, atol=0.1)


def test_a_pair_shows_both_blocks(units):
    units.select("Units", "pairs")
    units.at("unit-list").locator("[data-token='0']").hover()
    units.settle()
    marked = units.at("text").locator(".hovered")
    assert marked.count() == 2  # positions 1-3 and 9
    assert units.at("unit-list").locator(".hovered").count() == 1


def test_overlapping_spans_are_marked_and_listed(units):
    units.select("Units", "spans")
    assert units.at("unit-list").locator("[data-token]").all_inner_texts() == ["place", "who"]
    shared = units.at("text").locator(".shared")
    assert shared.count() == 1  # position 3 is in both
    units.at("unit-list").locator("[data-token='1']").click()
    assert units.at("text").locator(".pinned").all_inner_texts() == shared.all_inner_texts()
    assert "who at 3" in units.at("profile").inner_text()


def test_a_unit_is_announced_with_its_kind_and_positions(units):
    units.select("Units", "sentences")
    units.at("cells").focus()
    units.press("ArrowRight")
    units.press("ArrowRight")
    units.page.wait_for_function("() => document.querySelector('[data-testid=announce]').textContent.includes('sent')")
    said = units.at("announce").inner_text()
    assert re.search(r"sentence, positions \d+-\d+, layer 0\. L2 distance", said), said


def test_the_kind_is_in_the_address(units, unit_run):
    units.select("Units", "spans")
    units.at("unit-list").locator("[data-token='0']").click()
    units.page.wait_for_function("() => location.hash.includes('units=spans') && location.hash.includes('pins=')")
    address = units.page.url
    assert "pins=1-3.9" in address
    units.page.goto("about:blank")
    units.page.goto(address)
    units.choose(unit_run / "units_results.csv", unit_run / "units_run.json")
    assert units.page.get_by_label("Units", exact=True).input_value() == "spans"
    assert units.at("unit-list").locator(".pinned").all_inner_texts() == ["place"]
    units.page.evaluate("() => (location.hash = 'units=pairs&metric=interaction')")
    units.settle()
    assert units.page.get_by_label("Units", exact=True).input_value() == "pairs"
    assert units.page.get_by_label("Metric", exact=True).input_value() == "interaction"


def test_a_pin_stays_with_its_unit_from_step_to_step(units, unit_table):
    last = units.at("text").locator("[data-token]").count() - 1
    for token in (last, 2):
        units.at("text").locator(f"[data-token='{token}']").first.click()
    units.step(1)
    grown = counts(unit_table, "words", 1)[last] != counts(unit_table, "words", 0)[last]
    assert units.at("profile").locator("ul.pins li").count() == (1 if grown else 2)


def test_lists_and_files_name_units(units, unit_table, tmp_path):
    heads = unit_table[
        (unit_table.generation_step == 0) & unit_table.variant.str.startswith("Head") & (unit_table.unit == "words")
    ]
    strongest = heads[heads.token_position > 0].sort_values("l2_distance", ascending=False).iloc[0]
    first = units.at("top-list").locator("tbody tr").first.inner_text()
    assert strongest.positions in first and "word" in units.at("top-list").locator("thead").inner_text()
    path, name = saved(units, "CSV")
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert name == "units_step0_Full_l2_words.csv" and [row["positions"] for row in rows[:2]] == ["0-1", "2-3"]
    assert {row["unit"] for row in rows} == {"words"}
    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    units.choose(copy)
    assert units.errors() == [] and units.heatmap()["cols"] == len(counts(unit_table, "words"))
    assert saved(units, "PNG")[0].read_bytes().startswith(b"\x89PNG")


def test_without_a_run_file_labels_stand_for_the_text(viewer, unit_run, unit_table):
    viewer.choose(unit_run / "units_results.csv")
    assert viewer.at("text").locator("[data-token]").count() == len(counts(unit_table, "words"))
    viewer.select("Units", "pairs")
    assert viewer.at("unit-list").locator("[data-token]").all_inner_texts() == ["place + who"]
    assert viewer.errors() == []
