"""Whole runs whose rows are units: the table, the record, and pairs by what the layers show."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import zoo

from mask_impact.cuts.units import Unit
from mask_impact.results.table import COLUMNS
from mask_impact_analysis import run_masking_experiment

PROMPT = "Red boxes, ten of them, and more of them than last year"


def run(**settings):
    """The table of a tiny model, over two steps."""
    return run_masking_experiment(
        PROMPT, model=zoo.build("qwen3"), tokenizer=zoo.tokenizer(), num_output_tokens=2, **settings
    )


def test_units_stand_behind_one_another_with_their_columns():
    table = run(units=["words", "tokens"], spans={"red": "Red", "them": "them"}, pairs="spans")
    assert tuple(table.columns) == (*COLUMNS, "unit", "positions", "interaction_l2")
    row = table[(table.generation_step == 0) & (table.variant == "Full") & (table.layer == 0)]
    assert list(dict.fromkeys(row.unit)) == ["words", "tokens", "spans", "pairs"]
    assert row[row.unit == "pairs"].token_masked.tolist() == ["red + them"]
    assert (table.interaction_l2.notna() == (table.unit == "pairs")).all() and table.interaction_l2.max() > 0
    assert {one["unit"] for one in table.attrs["run"]["strongest"]} == {"words", "tokens", "spans", "pairs"}


def test_tokens_among_units_are_those_of_a_plain_run():
    plain, among = run(), run(units=["tokens"], spans={"red": "Red"})
    assert tuple(plain.columns) == COLUMNS
    tokens = among[among.unit == "tokens"]
    assert tokens.token_masked.tolist() == plain.token_masked.tolist()
    assert np.allclose(tokens.l2_distance, plain.l2_distance, rtol=1e-4, atol=1e-6)


def test_pairs_of_the_strongest_leave_position_0_out():
    """By Full's L2 summed over layers, at each step anew."""
    table = run(pairs=3)
    for _, step in table.groupby("generation_step"):
        full = step[(step.variant == "Full") & (step.unit == "tokens") & (step.token_position > 0)]
        strongest = full.groupby("token_position").l2_distance.sum().nlargest(3).index
        pairs = set(step[step.unit == "pairs"].positions)
        assert pairs == {Unit("", "pairs", pair).where for pair in combinations(sorted(strongest), 2)}


def test_full_interaction_past_its_most_pairs_is_empty_and_told():
    """24 units make 276 pairs: Full's interaction is empty, the heads' is there, and a warning says so."""
    with pytest.warns(UserWarning, match="Full's interaction stays empty"):
        table = run(pairs=24, variants=["full", "heads"])
    pairs = table[(table.unit == "pairs") & (table.generation_step == 0) & (table.layer == 0)]
    assert len(pairs[pairs.variant == "Full"]) == 276
    assert pairs[pairs.variant == "Full"].interaction_l2.isna().all()
    assert pairs[pairs.variant == "Head_0"].interaction_l2.notna().all()
    assert run(pairs=23, variants=["full"]).interaction_l2.max() > 0


def test_the_literal_method_has_full_interaction_for_all_pairs(recwarn):
    table = run(pairs=24, variants=["full"], layers=[0], method="rerun")
    assert not [one for one in recwarn if "interaction" in str(one.message)]
    pairs = table[(table.unit == "pairs") & (table.generation_step == 0)]
    assert len(pairs) == 276 and pairs.interaction_l2.notna().all()
