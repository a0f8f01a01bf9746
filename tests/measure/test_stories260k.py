"""A fact about a really trained model: where its last layer looks for the name of the dog."""

from __future__ import annotations

import numpy as np
import pytest
from repository import ROOT

from mask_impact_analysis import run_masking_experiment

MODEL = ROOT.parent / "shared" / "models" / "stories260K"
PROMPT = (
    "Once upon a time, there was a girl named Lily. She had a dog named Max. Lily and the dog played in the park. "
    'Lily said, "I love you,'
)

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="stories260K is not there")


@pytest.mark.parametrize("method", ["renormalize", "rerun"])
def test_the_last_layer_reads_the_name_of_the_dog(method):
    table = run_masking_experiment(PROMPT, str(MODEL), method=method, layers="4", variants=["full"])
    assert table.attrs["run"]["steps"][0]["next"]["text"] == " M"
    assert list(table.token_position) == list(range(len(table))) and set(table.variant) == {"Full"}
    top = table.iloc[int(np.argmax(table.l2_distance))]
    assert (top.token_position, top.token_masked) == (21, " M")
