"""What the tests of the Python functions share: a loaded model, and measuring it."""

import pytest
import zoo

from mask_impact_analysis import run_masking_experiment

PROMPT = "The cat sat on the"


@pytest.fixture
def model():
    return zoo.build("llama")


def experiment(model, prompt=PROMPT, tokenizer=None, **settings):
    return run_masking_experiment(prompt, model=model, tokenizer=tokenizer or zoo.tokenizer(), **settings)


def run_of(*words, **settings):
    return experiment(*words, **settings).attrs["run"]
