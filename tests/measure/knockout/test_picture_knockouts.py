"""Knock-outs of questions about pictures by rows through the model, against the independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from asking import planned
from knockout_oracle import knocked_out

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import window
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.step import Method

FLOAT32, FLOAT64 = 1e-4, 1e-9  # of the largest |logit|
ANSWER = [40, 41, 90]
LAYERS = 3
SEEN_AT_FIRST = [0, 1, 2, 3, 5, 6, 7]  # the sets of the prompt alone


class Asked:
    """A question about one picture, its answer of three tokens, and what is hidden of it."""

    def __init__(self, model, folder):
        self.model, self.inputs = model, planned(model, [vision_zoo.picture(folder / "p.png", 40, 24)])
        self.ids = [*self.inputs.token_ids, *ANSWER[:-1]]
        last = len(self.ids) - 1
        self.reads = [last - 2, last - 1, last]
        cells = [place for place, token in enumerate(self.ids) if token == model.config.image_token_id]
        words = [cells[-1] + 3, cells[-1] + 4]
        # A position before, in and behind the picture; one of the answer; cells, a picture, a word, and parts of both.
        self.sets = KeySets.of(
            [[0], [cells[0]], [cells[7]], [words[0]], [last - 1], cells[3:6], cells, words, [cells[2], *words, last]]
        )

    def further(self, ids):
        """The pictures, for a model that knows no earlier ones."""
        self.model.model.rope_deltas = None
        pictures = self.inputs.further(ids, torch.device("cpu"))
        return pictures | {"pixel_values": pictures["pixel_values"].to(self.model.dtype)}

    def plain(self, read, *cut):
        """The independent implementation's logits at a read."""
        ids = self.ids[: self.reads[read] + 1]
        return knocked_out(self.model, ids, *cut, **self.further(ids)).double()

    def effects(self, method=None, by_rows=True):
        """The largest |logit|, and every effect: `all` at each step, `final` in all windows, `heads`."""
        every = range(len(self.sets))
        windows = [*(window(layer, 1, LAYERS) for layer in range(LAYERS)), window(1, 2, LAYERS), window(1, 9, LAYERS)]
        cells = [(unit % LAYERS, unit % 4, unit) for unit in every]
        parts, _ = measurable_parts(self.model)
        with knockouts(self.model, parts, self.ids, ANSWER, self.further, method or Method(), by_rows) as found:
            largest = float(found.clean.logits.abs().max())
            yield largest, found.all(self.sets)
            yield largest, found.final(self.sets, 2, windows, every)
            yield largest, found.final(self.sets, 0, [(0, LAYERS - 1)], SEEN_AT_FIRST)
            yield largest, found.heads(self.sets, 2, cells)


def check(asked, bound, **options):
    """The changes of the answer's logit and log-probability, and undefined ones, against plain passes."""
    own = [asked.plain(read) for read in range(len(ANSWER))]
    for largest, found in asked.effects(**options):
        for row, (cut, read) in enumerate(zip(found.cuts, found.reads)):
            unit = asked.sets.positions(cut.unit).tolist()
            logits = asked.plain(read, cut.kind, unit, range(cut.first, cut.last + 1), cut.head)
            expected = [logits - own[read], logits.log_softmax(-1) - own[read].log_softmax(-1)]
            got = [found.readings.logit_change[row], found.readings.logprob_change[row]]
            assert not np.isnan(got).any()
            for one, other in zip(got, expected):
                assert abs(one - float(other[ANSWER[read]])) <= bound * largest, (cut, read)
            assert float(logits.max() - logits[found.readings.top[row]]) <= bound * largest


@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_rows_equal_the_plain_implementation(name, tmp_path):
    check(Asked(vision_zoo.build(name), tmp_path), FLOAT32)


def test_float64_is_exact(tmp_path):
    with zoo.true_float64():
        check(Asked(vision_zoo.build("qwen3_vl", torch.float64), tmp_path), FLOAT64, method=Method(dtype=torch.float64))


@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_the_literal_method_reads_every_step(name, tmp_path):
    """Its passes of earlier steps are shorter than the whole, and so are what tells pictures from text in them."""
    check(Asked(vision_zoo.build(name), tmp_path), FLOAT32, method=Method("rerun"), by_rows=False)


def test_pictures_are_added_to_between_the_first_layers(tmp_path):
    """DeepStack's features, without which the rows above would not be right, are there and are the pictures' alone."""
    asked = Asked(vision_zoo.build("qwen3_vl"), tmp_path)
    parts, _ = measurable_parts(asked.model)
    with knockouts(asked.model, parts, asked.ids, ANSWER, asked.further, Method(), True) as found:
        pictures = asked.sets.positions(6).tolist()
        for layer in found.clean.layers[:2]:
            moved = layer.gap.abs().amax(-1) > 1e-3
            assert moved.nonzero().flatten().tolist() == pictures
        assert found.clean.layers[2].gap is None
