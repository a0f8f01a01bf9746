#!/usr/bin/env python3
"""One layer measured both ways and printed, in seconds: a short tour of the package.

    python test_single_layer.py
    python test_single_layer.py --model Qwen/Qwen3-0.6B --prompt "The capital of France is"

It takes the first layer that can be measured, masks each token of the prompt in turn, and prints how far the layer's
update at the final position moves. Then it checks what must hold: the two methods agree, the model's own output of the
layer is its input plus the updates, and the masked heads add up. `pytest` runs the same on the demo model. GLOSSARY.md
explains the words.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mask_impact.base.console import exit_code
from mask_impact.base.precision import TOLERANCE, full_float32
from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.closed_form.single_keys import leave_one_out
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import MeasuredLayer, Method, ModelInputs
from mask_impact.models import info, loading
from mask_impact.models.tokens import token_texts
from mask_impact.runs import planning
from mask_impact.settings.text_settings import Settings
from mask_impact.sites.attention import attached
from mask_impact.sites.interventions import in_dtype
from mask_impact.sites.layer_pass import LayerRow
from mask_impact.sites.parts import decoder_of
from mask_impact.sites.query import query_view
from mask_impact.sites.recording import recording

PROMPT = "Anna put the key in the red box. Ben put the coin in the blue bag. The coin is in the"
AGREEMENT = 1e-4  # of the largest distance of the same variant: what the two methods are held to in float32
SHOWN = 24  # tokens


@dataclass(frozen=True)
class Check:
    """Something that must hold: a relative error, at least 0, and the largest one allowed."""

    what: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.error <= self.allowed


@dataclass(frozen=True)
class SingleLayer:
    """One layer of a model, measured by both methods."""

    tokens: list[str]
    next_token: str
    renormalize: MeasuredLayer
    rerun: MeasuredLayer
    checks: list[Check]


def measure_first_layer(model: str, prompt: str) -> SingleLayer:
    """Load a model and measure its first measurable layer. Raises RequestError for a model or prompt it cannot take."""
    settings = Settings(model=model, prompt=prompt)
    model_info = info.examine(settings)
    ids = planning.plan(settings, model_info).prompt.token_ids
    loaded = loading.load(model_info, settings)
    first = loaded.parts()[:1]
    inputs = ModelInputs(ids, steps=1)
    [fast] = measured_layers(loaded.model, first, inputs, Method("renormalize"))
    [plain] = measured_layers(loaded.model, first, inputs, Method("rerun"))
    *tokens, next_token = token_texts(loaded.tokenizer, [*ids, fast.step.next_id])
    agreement = Check("renormalize = rerun", largest_difference(fast.l2, plain.l2), AGREEMENT)
    return SingleLayer(tokens, next_token, fast, plain, [agreement, *identities(loaded, first, ids)])


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest |found - expected| of (variant, position), over the largest distance of its variant.

    Infinite where only one of the two is undefined.
    """
    if (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    scale = np.nan_to_num(expected).max(axis=1, keepdims=True)
    return float(np.max(np.abs(np.nan_to_num(found - expected)) / np.where(scale > 0, scale, 1)))


@torch.inference_mode()
@full_float32()
def identities(loaded: loading.LoadedModel, first: list, ids: list[int]) -> list[Check]:
    """Run the model once, look at the layer as the final position sees it, and try both identities."""
    with attached(decoder_of(loaded.model)):
        with recording(first, len(ids), whole=False) as recorded:
            loaded.model(input_ids=torch.tensor([ids], device=loaded.model.device))
        [layer] = recorded.layers.values()
        row = layer.at(layer.last)
        own = row.output.dtype
        dtype = torch.promote_types(own, torch.float32)
        heads = leave_one_out(query_view(row.attention, row.first_key, dtype), KeySets.alone(np.arange(len(ids))))
        with in_dtype(row.parts, dtype):
            update_error = sum_of_updates(row, heads)
    return [
        Check("output = input + attention and MLP updates", update_error, TOLERANCE[own]),
        Check("sum_j (1 - a_j)(o_j - o) = o (sum_j a_j - 1)", conservation(heads), TOLERANCE[dtype]),
    ]


def sum_of_updates(row: LayerRow, heads: MaskedHeads) -> float:
    """|x + D - y| / (|x| + |D|): y is the layer's own output, D the update made from our heads' outputs (head, d_v)."""
    rows = RowPass(row.parts, row.call.to(heads.output.dtype))
    x, y = rows.call.hidden[0, -1], row.output.to(heads.output)
    [update], _ = rows.update(rows.project(heads.output[None]))
    return float((x + update - y).norm() / (x.norm() + update.norm()))


def conservation(heads: MaskedHeads) -> float:
    """How far sum_j (1 - a_j)(o_j - o) is from o (sum_j a_j - 1), which is 0 but for a sink, over its terms' lengths.

    a are the weights (head, key), o the outputs (head, d_v), o_j those with key j masked. Of the worst head; 0 where
    some o_j is undefined.
    """
    if heads.undefined.any():
        return 0.0
    a, o = heads.weights.to(heads.output), heads.output
    moved = heads.differences(heads.seen).transpose(0, 1)
    terms = heads.kept(heads.seen).to(o)[..., None] * moved
    missed = terms.sum(1) - o * (a.sum(-1, keepdim=True) - 1)
    return float((missed.norm(dim=-1) / (terms.norm(dim=-1).sum(-1) + o.norm(dim=-1))).max())


def lines(found: SingleLayer, model: str) -> Iterator[str]:
    """The table of the strongest tokens, in the prompt's order, where any can be masked, and the checks."""
    fast, last = found.renormalize, len(found.tokens) - 1
    yield (
        f"layer {fast.layer} of {model}, final position {last} ({found.tokens[last]!r}), "
        f"which predicts {found.next_token!r}"
    )
    if np.isnan(fast.l2).any():
        remedy = "; give a longer prompt" if last == 0 else ""  # or a window of one
        yield f"nothing to mask: the layer sees a single token here, and has no update without it{remedy}"
    else:
        yield from table(found)
    yield from verdicts(found.checks)


def table(found: SingleLayer) -> Iterator[str]:
    """A line for each of the strongest tokens: both methods' distances, and the head that it moves most."""
    fast, plain = found.renormalize, found.rerun
    yield f"{'':20}{'Full L2':>22}{'Attn L2':>24}"
    yield f"{'token masked':20}{'renormalize':>13}{'rerun':>10}{'renormalize':>14}{'rerun':>10}   strongest head"
    for position in sorted(np.argsort(-fast.l2[0], kind="stable")[:SHOWN]):
        full, attn, *heads = fast.l2[:, position]
        head = int(np.argmax(heads))
        yield (
            f"{position:4} {found.tokens[position]!r:15}{full:13.4g}{plain.l2[0, position]:10.4g}"
            f"{attn:14.4g}{plain.l2[1, position]:10.4g}   {fast.variants[2 + head]} ({heads[head]:.4g})"
        )


def verdicts(checks: list[Check]) -> Iterator[str]:
    """A line for each check: whether it holds, and by how much."""
    for check in checks:
        verdict = "holds" if check.holds else "FAILS"
        yield f"{verdict}: {check.what} (relative error {check.error:.1e}, allowed {check.allowed:.0e})"


def main() -> int:
    """Print the tour; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a model of the hub, a folder, or demo (%(default)s)")
    parser.add_argument("--prompt", default=PROMPT, help="the text whose next token is explained (%(default)s)")
    asked = parser.parse_args()
    found = measure_first_layer(asked.model, asked.prompt)
    print(*lines(found, asked.model), sep="\n")
    return 0 if all(check.holds for check in found.checks) else 1


@pytest.fixture(scope="module")
def single_layer() -> SingleLayer:
    return measure_first_layer("demo", PROMPT)


def test_what_must_hold(single_layer):
    assert [check.what for check in single_layer.checks if not check.holds] == []


def test_masking_changes_every_variant(single_layer):
    measured = single_layer.renormalize
    assert measured.variants[:3] == ["Full", "Attn", "Head_0"]
    assert (measured.l2.max(axis=1) > measured.noise_floor_l2).all()
    assert (single_layer.rerun.l2.max(axis=1) > single_layer.rerun.noise_floor_l2).all()


def test_the_table_has_a_line_for_each_token(single_layer):
    printed = list(lines(single_layer, "demo"))
    assert len(printed) == 3 + len(single_layer.tokens) + 3
    assert sum(line.startswith("holds: ") for line in printed) == 3


def test_of_a_single_token_it_says_that_nothing_can_be_masked():
    printed = list(lines(measure_first_layer("demo", "The"), "demo"))
    assert (
        printed[1]
        == "nothing to mask: the layer sees a single token here, and has no update without it; give a longer prompt"
    )
    assert len(printed) == 2 + 3 and "nan" not in " ".join(printed)


if __name__ == "__main__":
    sys.exit(exit_code(main))
