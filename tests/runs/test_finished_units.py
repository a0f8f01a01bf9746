"""Units of finished steps: kept and read bit for bit, and the strongest of them after a run and a batch."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hard_tables import assert_same_bits
from safetensors import safe_open
from unit_tables import CELLS, HEATMAP_ROWS, UNITS, step_of

from mask_impact.lookup.find import read_unfinished
from mask_impact.measure.step import PassFingerprint
from mask_impact.results.strongest import strongest_tokens
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.runs import batch_summary, messages
from mask_impact.runs.on_disk.finished_steps import METADATA, FinishedStep, FinishedSteps


def finished(distances: StepDistances) -> FinishedStep:
    record = {"step": distances.step, "next": {"text": " x"}}
    texts = [f" t{place}" for place in range(9)]
    return FinishedStep(distances, PassFingerprint(7, "digest", {}), record, HEATMAP_ROWS, texts, CELLS, 1.5, "now")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pairs", [True, False])
def test_units_and_interactions_come_back_bit_for_bit(tmp_path, dtype, pairs):
    own = [unit for unit in UNITS if pairs or unit[1] != "pairs"]
    step = step_of(3, own, dtype, pairs)
    finished(step).save(tmp_path / "step")
    found = FinishedStep.read(tmp_path / "step").distances
    assert found.units == step.units and found.positions.tolist() == step.positions.tolist()
    for name in ("l2", "cosine", *(["interaction"] if pairs else [])):
        assert getattr(found, name).dtype == dtype
        assert_same_bits(getattr(found, name), getattr(step, name))
    assert (found.interaction is None) is not pairs


def test_a_step_of_tokens_has_nothing_of_units_in_its_file(tmp_path):
    finished(StepDistances(0, *np.ones((2, 5, 9), np.float32))).save(tmp_path / "step")
    with safe_open(tmp_path / "step", "pt") as file:
        assert set(file.keys()) == {"l2", "cosine", "positions"}
        assert "units" not in json.loads(file.metadata()[METADATA])


def test_an_unfinished_run_shows_the_units_of_its_steps(tmp_path):
    steps = FinishedSteps(tmp_path, "x")
    steps.begin({"settings": {}})
    table = ResultTable([f" t{place}" for place in range(9)], HEATMAP_ROWS, extra_columns=CELLS)
    for number, units in enumerate([UNITS, UNITS[1:]]):
        table.steps.append(step_of(number, units))
        steps.append(finished(table.steps[-1]))
    assert read_unfinished(tmp_path / ".partial" / "x").equals(table.to_dataframe())


# The strongest


def test_a_unit_is_told_with_all_its_positions_and_a_pair_with_its_interaction():
    table = ResultTable([""] * 9, HEATMAP_ROWS, [step_of(0, UNITS)])
    table.steps[0].l2[:] = table.steps[0].interaction[:, -2:] = 0.5
    assert messages.in_brief(strongest_tokens(table, 1, unit="images")[0]) == "'img0' at 3-6 (1)"
    assert messages.in_brief(strongest_tokens(table, 1, unit="pairs")[0]) == "'A + B' at 0-1,3 (1, interaction 1)"


def record(strongest) -> dict:
    return {
        "status": "complete",
        "prompt_length": 5,
        "steps": [{"next": None}],
        "rows": 9,
        "seconds": 1.0,
        "generated_text": " x",
        "strongest": [strongest],
    }


ROW = dict.fromkeys(batch_summary.COLUMNS) | {"name": "a"}
SPAN = {"position": 3, "text": "Eiffel Tower", "l2": 1.0, "unit": "spans", "positions": "3-5"}
TOKEN = {"position": 4, "text": " is", "l2": 1.0}


def test_the_batchs_table_says_which_kind_the_strongest_is():
    rows = [ROW | batch_summary.row_from_record(record(one)) for one in (SPAN, TOKEN)]
    heading, *lines, _ = batch_summary.table_lines(rows)
    place = heading.index("moves the layers most")
    assert lines[0][place:].startswith("'Eiffel Tower' at 3-5 (spans)") and lines[1][place:].startswith("' is' at 4 ")


def test_the_summary_has_columns_for_units_where_an_entry_has_them(tmp_path):
    rows = [ROW | batch_summary.row_from_record(record(one)) for one in (SPAN, TOKEN)]
    batch_summary.write_summary(rows, tmp_path / "both.csv")
    found = pd.read_csv(tmp_path / "both.csv", keep_default_na=False, dtype=str)
    assert list(found) == [*batch_summary.COLUMNS, "top_unit", "top_positions"]
    assert found[["top_position", "top_token", "top_unit", "top_positions"]].to_numpy().tolist() == [
        ["3", "Eiffel Tower", "spans", "3-5"],
        ["4", " is", "", ""],
    ]
    batch_summary.write_summary(rows[1:], tmp_path / "tokens.csv")
    assert list(pd.read_csv(tmp_path / "tokens.csv")) == list(batch_summary.COLUMNS)
