"""Windows of layers in deep models, as a run makes them, against the independent implementation."""

from __future__ import annotations

import pytest
import torch
import zoo
from knockout_oracle import knocked_out

from mask_impact.models import info, loading
from mask_impact.runs import planning
from mask_impact.settings.text_settings import Settings
from mask_impact_analysis import measure

LAYERS, FLOAT32 = 12, 1e-4  # of the largest |logit|
PROMPT, UNITS = "Put the key in the red box, then", [3, -6, -3, -1]  # tokens, of which sliding windows lose the first
ALTERNATE = {"layer_types": [zoo.SLIDING, zoo.FULL] * (LAYERS // 2)}
DEEP = {
    "qwen3": {},
    "mistral": {},
    "gemma2": ALTERNATE | {"final_logit_softcapping": 50.0},
    "gpt_oss": ALTERNATE,
}
# First and last layer of the windows around layers 0 to 11, by the formula [max(0, l - K//2), min(L, l + (K+1)//2)).
BOUNDS = {
    "1": [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10), (11, 11)],
    "5": [(0, 2), (0, 3), (0, 4), (1, 5), (2, 6), (3, 7), (4, 8), (5, 9), (6, 10), (7, 11), (8, 11), (9, 11)],
    "9": [(0, 4), (0, 5), (0, 6), (0, 7), (0, 8), (1, 9), (2, 10), (3, 11), (4, 11), (5, 11), (6, 11), (7, 11)],
}


def final_rows(model, window):
    """What a run with `final` alone measures: the prompt's tokens, the one that follows, and its rows."""
    tokenizer = zoo.tokenizer()
    asked = Settings.from_python(prompt=PROMPT, knockout=["final"], window=window, layers="0", variants=["attn"])
    model_info = info.from_loaded(model, tokenizer, asked)
    with loading.ready(model_info, asked, model) as loaded:
        run = measure(planning.plan(asked, model_info), loaded)
    table, record = run.knockout
    return run.all_ids[:-1], record["steps"][0]["token"], table.rows


@pytest.mark.parametrize("window", ["1", "5", "9", "all"])
@pytest.mark.parametrize("name", DEEP)
def test_windows_equal_the_plain_implementation(name, window):
    """Of every layer each, and all layers at once; with `all`, single layers of the eight strongest tokens too."""
    model = zoo.build(name, num_hidden_layers=LAYERS, **DEEP[name])
    ids, token, parts = final_rows(model, window if window == "all" else int(window))
    units = [range(len(ids))[unit] for unit in UNITS]
    rows = [
        (int(first), int(last), int(unit), change)
        for part in parts
        for first, last, unit, change in zip(part.layer_first, part.layer_last, part.unit, part.logit_change)
    ]
    everywhere = [(0, LAYERS - 1, unit) for unit in range(len(ids))]
    if window == "all":
        assert [row[:3] for row in rows[: len(ids)]] == everywhere
        alone = [row[:2] for row in rows[len(ids) :]]
        assert alone == [bounds for bounds in BOUNDS["1"] for _ in range(8)]
    else:
        assert [row[:3] for row in rows] == [
            *((*bounds, unit) for bounds in BOUNDS[window] for unit in range(len(ids))),
            *everywhere,
        ]
    own = knocked_out(model, ids).double()
    largest, changes = float(own.abs().max()), []
    for first, last, unit, change in rows:
        if unit in units:
            logits = knocked_out(model, ids, "final", [unit], range(first, last + 1)).double()
            assert abs(change - float(logits[token] - own[token])) <= FLOAT32 * largest, (first, last, unit)
            changes.append(change)
    assert torch.tensor(changes).abs().median() > 3 * FLOAT32 * largest
