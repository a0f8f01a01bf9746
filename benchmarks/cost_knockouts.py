"""Knock-outs of a prompt on the shape of Qwen3-0.6B, in plain forward passes beyond the clean one that all share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import window
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.knockout.cells import strongest_cells
from mask_impact.measure.knockout.clean import clean_pass
from mask_impact.measure.knockout.effects import Knockouts
from mask_impact.measure.knockout.first_order import first_order
from mask_impact.measure.step import Method
from mask_impact.sites.attention import attached
from mask_impact.sites.parts import decoder_of

if TYPE_CHECKING:
    from benchmarks.cost import Bench

METHOD = Method()


def clean(bench: Bench, ids: list[int]) -> None:
    """The pass that all knock-outs share."""
    with torch.inference_mode(), attached(decoder_of(bench.model)):
        clean_pass(bench.model, bench.parts, ids, 1, {})


def final(found: Knockouts, sets: KeySets, windows: Sequence[tuple[int, int]]) -> None:
    """Each unit hidden from the final position in each window."""
    found.final(sets, 0, windows, range(len(sets)))


def cells(found: Knockouts, sets: KeySets) -> None:
    """The first-order effect of every layer, head and unit."""
    first_order(found.clean, 0, 1, sets, METHOD, ("full", "heads"))


def each_once(bench: Bench, length: int) -> None:
    """Every kind of cut of every unit; of `all` the first one, which has the most rows."""
    sets = KeySets.alone(np.arange(length))
    with knockouts(bench.model, bench.parts, bench.tokens(length), [1], lambda _: {}, METHOD, by_rows=True) as found:
        final(found, sets, [(0, len(bench.parts) - 1)])
        found.heads(sets, 0, strongest_cells(found.clean, 0, sets, 64, METHOD))
        cells(found, sets)
        found.all(KeySets.alone(np.arange(1)))


def table(bench: Bench, lengths: Sequence[int]) -> None:
    """Print the rows of the benchmark's table for prompts of these lengths."""
    layers = len(bench.parts)
    for length in lengths:
        ids, sets = bench.tokens(length), KeySets.alone(np.arange(length))
        passed, _ = bench.ratio(lambda ids=ids: clean(bench, ids), ids)
        bench.line(f"{length} tokens: the clean pass", f"{passed:.2f} passes", "-")
        with knockouts(bench.model, bench.parts, ids, [1], lambda _: {}, METHOD, by_rows=True) as found:
            works = {
                "`final`, all layers": (lambda: final(found, sets, [(0, layers - 1)]), "at most 1.3"),
                "`heads`, 64 cells": (
                    lambda: found.heads(sets, 0, strongest_cells(found.clean, 0, sets, 64, METHOD)),
                    "-",
                ),
                "`first_order`": (lambda: cells(found, sets), "at most 0.8 at 64, 0.4 at 256"),
            }
            if length <= 256:
                singles = [window(layer, 1, layers) for layer in range(layers)]
                works |= {
                    "`final`, each layer alone": (lambda: final(found, sets, singles), f"at most {0.6 * layers:.1f}"),
                    "`all`": (lambda: found.all(sets), f"at most {0.6 * length:.0f}"),
                }
            for name, (work, goal) in works.items():
                cost, _ = bench.ratio(work, ids)
                bench.line(f"{length} tokens: {name}", f"{cost:.2f} passes", goal)
