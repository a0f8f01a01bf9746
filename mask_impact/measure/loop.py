"""The one loop: a site's forward passes, and in each of them the layers, measured.

Both methods, both front doors and every site iterate `measured_layers`. A decoder's passes are its steps of generation
(mask_impact/measure/generation.py); any other site has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedModel

from mask_impact.base.heap import set_malloc_thresholds
from mask_impact.base.precision import full_float32
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.collect import StepInfo, collected
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.generation import generation_steps
from mask_impact.measure.interaction import interactions
from mask_impact.measure.mean import mean_distances
from mask_impact.measure.renormalize import renormalized
from mask_impact.measure.rerun import Rerun, rerun
from mask_impact.measure.rows.masked_rows import MaskedRows
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import MeasuredLayer, Method, ModelInputs, Step
from mask_impact.sites.attention import attached
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.positions import RotaryState, fresh_positions
from mask_impact.sites.query import query_view
from mask_impact.sites.site import MeasuredAt


@torch.inference_mode()
def measured_layers(
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method | None = None
) -> Iterator[MeasuredLayer]:
    """Measure every layer of `parts` in every pass, pass by pass, in layer order.

    Raises RunError where the logits or a layer's update are not numbers,
    or where an identity of the method fails in the first pass.
    """
    method = method or Method()
    set_malloc_thresholds(len(inputs.token_ids) * inputs.at.size)
    with attached(inputs.site.stack(model)), fresh_positions(model) as rotary:
        for step, layers in passes(model, parts, inputs, method, rotary):
            for found in measured_pass(list(layers) if inputs.pairs else layers, inputs, step, method):
                yield MeasuredLayer(**vars(found), step=step)


def measured_pass(
    layers: Iterable[LayerPass | LayerDistances], inputs: ModelInputs, step: Step, method: Method
) -> Iterator[LayerDistances]:
    """The layers' distances; where pairs are asked for, these too, once all layers show which.

    Pairs keep what the pass left of every layer; without them a layer is let go once it is measured.
    """
    measured = (
        layer if isinstance(layer, LayerDistances) else measure_layer(layer, inputs.at, step.step_info, method)
        for layer in layers
    )
    if inputs.pairs is None:
        yield from measured
        return
    found = list(measured)
    paired = PairedSets.of(step.sets, inputs.pairs(step.token_ids, found))
    if not len(paired.pairs):
        yield from (replace(one, interaction=np.full_like(one.l2, np.nan)) for one in found)
        return
    again = replace(step.step_info, sets=paired.unions, paired=paired)
    for layer, one in zip(layers, found, strict=True):
        assert isinstance(layer, LayerPass), "no rows join the pass where pairs are asked for"
        yield one.followed_by(measure_layer(layer, inputs.at, again, method))


def passes(
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method, rotary: RotaryState
) -> Iterator[tuple[Step, Iterable[LayerPass | LayerDistances]]]:
    """The site's passes; of rows that joined one, a layer's distances are there already."""
    if inputs.site.generates:
        yield from generation_steps(model, parts, inputs, method, rotary)
        return
    ids = inputs.token_ids
    yield (
        Step(StepInfo(0, len(ids), inputs.key_sets(ids)), ids),
        inputs.site.passed(model, parts, ids, inputs.further(ids)),
    )


@full_float32()
def measure_layer(layer: LayerPass, at: MeasuredAt, step_info: StepInfo, method: Method) -> LayerDistances:
    """One layer's distances; fewer rows at a time where a GPU's memory runs out.

    Raises RunError where they are not finite, or where an identity fails in the first pass.
    """
    while True:
        try:
            with method.weights_in(layer.parts, layer.call.hidden.dtype):
                return distances(layer, at, step_info, method)
        except torch.OutOfMemoryError as error:
            method.rows.halve(error)


def distances(layer: LayerPass, at: MeasuredAt, step_info: StepInfo, method: Method) -> LayerDistances:
    """One layer's distances seen from the last position, or from the units asked for; their mean, if they are
    several."""
    if at.units is None:
        return distances_at(layer, [layer.last], 1, step_info, method)
    seen_from = {unit: range(unit * at.size, (unit + 1) * at.size) for unit in at.units}
    found = ((unit, distances_at(layer, rows, at.size, step_info, method)) for unit, rows in seen_from.items())
    if len(seen_from) == 1:
        return next(found)[1]
    sets = step_info.sets.spread(at.size)
    seen = (sets.touch(layer.keys(rows.start)) for rows in seen_from.values())
    return mean_distances((one for _, one in found), seen, at.keep)


def distances_at(
    layer: LayerPass, positions: Iterable[int], size: int, step_info: StepInfo, method: Method
) -> LayerDistances:
    """One layer's distances at the rows of these positions together; each position of a set stands for `size` keys.

    Raises RunError as `measure_layer` does.
    """
    dtype = method.rows_dtype(layer.call.hidden.dtype)
    rows = [layer.at(position) for position in positions]
    sets = step_info.sets.spread(size)
    closed = [masked_heads(query_view(row.attention, row.first_key, dtype), sets) for row in rows]
    passes = [RowPass(row.parts, row.call.to(dtype)) for row in rows]
    chunks = masked_rows(passes, closed, sets, layer, positions, method, step_info.step)
    found = collected(step_info, rows, closed, chunks, "heads" in method.variants)
    if step_info.paired is None:
        return found
    lengths = interactions(layer, positions, step_info.paired.spread(size), method)
    return replace(found, interaction=np.where(np.isnan(found.l2), np.nan, lengths).astype(found.l2.dtype))


def masked_rows(
    passes: list[RowPass],
    closed: list[MaskedHeads],
    sets: KeySets,
    layer: LayerPass,
    positions: Iterable[int],
    method: Method,
    seed: int,
) -> Iterator[tuple[MaskedRows, ...]]:
    """The masked rows of each position in chunks, by the method asked for; sets that no head sees have none.

    Control rows are drawn by `seed` at the first position, by the next number at the next.
    """
    if method.name == "renormalize":
        of_each = [
            renormalized(rows, each, method.variants, seed + number, method.rows)
            for number, (rows, each) in enumerate(zip(passes, closed, strict=True))
        ]
        return zip(*of_each, strict=True)
    if method.name == "rerun":
        again = Rerun(layer, positions, sets, closed[0].output.dtype)
        return iter([rerun(passes, again, closed[0].seen, method.variants, seed)])
    raise ValueError(f"unknown method {method.name!r}")
