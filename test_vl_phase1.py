#!/usr/bin/env python3
"""A vision-language model seen to work, phase by phase, in seconds.

    python test_vl_phase1.py
    python test_vl_phase1.py --model Qwen/Qwen3-VL-2B-Instruct

Phase 1 is the question as text alone, phase 2 the same question about a picture, whose cells are masked as well as its
words. In each, every token is masked in turn in every layer, in the first one by both methods. It prints which tokens
the answer depends on, and whether what must hold does. VL_IMPLEMENTATION.md tells what the phases are. `pytest` runs
the same on the demo model. Exit code 0: all holds; 1: something does not; 2: a model or picture that cannot be taken.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from mask_impact.base.console import exit_code
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import MeasuredLayer, Method
from mask_impact.models import loading
from mask_impact.models.vision import qwen3_vl
from mask_impact.results.strongest import StrongToken, strongest_tokens
from mask_impact.runs import planning
from mask_impact.runs.run import Run
from mask_impact.settings.vision_settings import VisionSettings
from test_single_layer import AGREEMENT, Check, largest_difference, verdicts

PICTURE = str(Path(__file__).parent / "testimg.png")
QUESTION = "What color is the circle?"
STEPS, SHOWN = 2, 5  # generation steps, and tokens of the lists


@dataclass(frozen=True)
class Phase:
    """A prompt measured in every layer.

    `cells` (position,) is True at the picture's cells; `strongest` are the strongest tokens by Full L2, as the front
    door prints them; `answer` is what the model generated.
    """

    title: str
    cells: np.ndarray
    strongest: list[StrongToken]
    answer: str
    checks: list[Check]


def measure_phases(model: str, image: str, question: str) -> list[Phase]:
    """Load a model and measure both phases. Raises RequestError for a model, picture or question it cannot take."""
    common = {"model": model, "prompt": question, "num_tokens": STEPS}
    asked = {
        "phase 1, text alone": VisionSettings(**common),
        "phase 2, words and patches": VisionSettings(**common, image=[image], mask_mode="both"),
    }
    some = next(iter(asked.values()))
    model_info = qwen3_vl.examine(some)
    plans = {title: planning.plan(settings, model_info) for title, settings in asked.items()}
    loaded = loading.load(model_info, some)
    return [measure_phase(title, plan, loaded) for title, plan in plans.items()]


def measure_phase(title: str, plan: planning.PlannedRun, loaded: loading.LoadedModel) -> Phase:
    """Every layer by the default method, the first one of the first step by the other too, and what must hold."""
    run = Run(plan, loaded)
    with counted_calls(loaded.model.model.visual) as encoded:
        fast, *others = measured_layers(loaded.model, run.parts, run.inputs, Method("renormalize"))
    for layer in (fast, *others):
        run.add(layer)
    [plain] = measured_layers(loaded.model, run.parts[:1], replace(run.inputs, steps=1), Method("rerun"))
    cells = plan.prompt.places[:, 0] >= 0
    checks = [
        Check(f"renormalize = rerun in layer {fast.layer}", largest_difference(fast.l2, plain.l2), AGREEMENT),
        Check(
            f"the vision encoder {'runs once' if cells.any() else 'never runs'}",
            abs(len(encoded) - int(cells.any())),
            0,
        ),
        *(
            masking_bites(kind, fast, chosen)
            for kind, chosen in (("words", ~cells), ("patches", cells))
            if chosen.any()
        ),
    ]
    return Phase(title, cells, strongest_tokens(run.table(), SHOWN), run.generated_text, checks)


@contextmanager
def counted_calls(module: nn.Module) -> Iterator[list]:
    """A list with one item for each call of the module inside."""
    calls: list[int] = []
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def masking_bites(kind: str, measured: MeasuredLayer, chosen: np.ndarray) -> Check:
    """The layer's noise floor over the largest Full distance of the chosen positions (position,):
    below 1, masking them tells."""
    floor, largest = measured.noise_floor_l2[0], np.nan_to_num(measured.l2[0, chosen]).max()
    ratio = float(floor / largest) if largest > 0 else np.inf
    return Check(f"masking {kind} moves layer {measured.layer}, above noise", ratio, 1)


def lines(phase: Phase) -> Iterator[str]:
    """What was asked, the tokens that move the layers most, and the checks."""
    yield (
        f"{phase.title}: {len(phase.cells)} tokens, {phase.cells.sum()} of them of a picture; "
        f"the model answers {phase.answer!r}; what moves the layers most at step 0 (Full L2 summed over layers):"
    )
    for token in phase.strongest:
        yield f"{token.position:6} {token.text!r:20}{token.total:10.4g}"
    yield from verdicts(phase.checks)


def main(argv: list[str] | None = None) -> int:
    """Print both phases; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a Qwen3-VL of the hub, a folder, or demo (%(default)s)")
    parser.add_argument("--image", default=PICTURE, help="the picture of phase 2 (testimg.png)")
    parser.add_argument("--prompt", default=QUESTION, help="the question of both phases (%(default)s)")
    asked = parser.parse_args(argv)
    phases = measure_phases(asked.model, asked.image, asked.prompt)
    for phase in phases:
        print(*lines(phase), sep="\n")
    return 0 if all(check.holds for phase in phases for check in phase.checks) else 1


@pytest.fixture(scope="module")
def phases() -> list[Phase]:
    return measure_phases("demo", PICTURE, QUESTION)


def test_what_must_hold(phases):
    assert [(phase.title, check.what) for phase in phases for check in phase.checks if not check.holds] == []


def test_text_alone_has_no_cells_and_the_picture_all_of_its(phases):
    text, pictured = (phase.cells for phase in phases)
    assert not text.any() and pictured.sum() == 36
    assert (~text).sum() + 2 == (~pictured).sum()  # <|vision_start|> and <|vision_end|>


def test_the_answer_comes_from_the_cell_of_the_thing(phases):
    """The red circle lies in row 1, column 2; without a picture nothing can be known of it."""
    text, pictured = phases
    assert pictured.answer == "red<|im_end|>" and pictured.strongest[0].text == "img0[1,2]"
    assert not text.answer.startswith("red") and text.strongest[0].text == " circle"


def test_the_printed_lines_say_so(phases, capsys):
    for phase, checks in zip(phases, (3, 4)):
        printed = list(lines(phase))
        assert len(printed) == 1 + SHOWN + checks and sum(line.startswith("holds: ") for line in printed) == checks


def test_another_model_of_the_class(tmp_path):
    import vision_zoo

    vision_zoo.save("qwen3_vl_moe", tmp_path)
    for phase in measure_phases(str(tmp_path), PICTURE, "Which one?"):
        assert [check.what for check in phase.checks if not check.holds] == []


def test_exit_codes(phases, monkeypatch, tmp_path, capsys):
    module = sys.modules[__name__]
    assert exit_code(lambda: main(["--image", str(tmp_path / "none.png")])) == 2
    monkeypatch.setattr(module, "measure_phases", lambda *_: phases)
    assert main([]) == 0
    wrong = replace(phases[0], checks=[Check("x", 2, 1)])
    monkeypatch.setattr(module, "measure_phases", lambda *_: [wrong, phases[1]])
    assert main([]) == 1 and "FAILS: x" in capsys.readouterr().out


if __name__ == "__main__":
    sys.exit(exit_code(main))
