"""What the tests of questions about pictures share:
a question, two pictures to ask it about, and what is measured then."""

from __future__ import annotations

import pytest
import vision_zoo

import mask_impact_vl
from mask_impact.models.vision import qwen3_vl
from mask_impact.runs import planning
from mask_impact.settings.vision_settings import VisionSettings

QUESTION = "Which one?"


@pytest.fixture
def vl_command(command):
    """Run mask_impact_vl.py, or another front door, in this process."""
    return lambda *words, door=mask_impact_vl: command(*words, door=door)


@pytest.fixture
def vl_ask(vl_command, vl):
    """The question about pictures, quickly."""
    return lambda *words: vl_command("--model", vl, "--prompt", QUESTION, "--layers", 0, "--variants", "attn", *words)


def planned(model, paths, mask_mode="both", **settings):
    """The inputs of the question about these pictures."""
    asked = VisionSettings.from_python(prompt=QUESTION, image=paths, mask_mode=mask_mode, **settings)
    model_info = qwen3_vl.from_loaded(model, vision_zoo.tokenizer(), vision_zoo.processor(), asked)
    return planning.plan(asked, model_info).prompt
