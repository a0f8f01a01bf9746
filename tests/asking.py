"""What the tests of mask_impact_vl.py share: a question, and two pictures to ask it about."""

from __future__ import annotations

import pytest

import mask_impact_vl

QUESTION = "Which one?"


@pytest.fixture(autouse=True)
def here(two_pictures):
    """A current folder with two pictures and nothing else."""
    return two_pictures


@pytest.fixture
def command(command):
    """Run mask_impact_vl.py, or another front door, in this process."""
    return lambda *words, door=mask_impact_vl: command(*words, door=door)


@pytest.fixture
def ask(command, vl):
    """The question about pictures, quickly."""
    return lambda *words: command("--model", vl, "--prompt", QUESTION, "--layers", 0, "--variants", "attn", *words)
