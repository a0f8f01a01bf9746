"""Attention with a known answer: a recorded layer whose keys are moved until chosen positions hold chosen weights."""

from __future__ import annotations

from dataclasses import replace

import torch
import zoo

from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.generation import generation_steps
from mask_impact.measure.loop import measure_layer
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.attention import attached, tapped
from mask_impact.sites.layer_call import first_tensor
from mask_impact.sites.query import query_view
from mask_impact.sites.site import MeasuredAt


def recorded(model, ids, method=Method(join_rows=False)):
    """The first step of a run, and its layers, without measuring them: (model, step, layers)."""
    parts, _ = measurable_parts(model)
    with attached(model.get_decoder()):
        step, layers = next(generation_steps(model, parts, ModelInputs(ids, 1), method))
        return model, step, list(layers)


def plant(model, layer, log_weights):
    """Move keys so that in every head the key at `position` has `log_weight` against the sum of the unplanted ones.

    Each planted key solves one equation for every query head that reads it, in float64, by least squares.
    """
    [(call, answer)] = layer.attention
    query, key = call.query[0, :, -1].double(), call.key.double().clone()
    groups, width = key.shape[1], key.shape[3]
    scale = call.options.get("scaling") or width**-0.5
    length = key.shape[2]
    others = [position for position in range(length) if position not in log_weights]
    for group, queries in enumerate(query.view(groups, -1, width)):
        rest = (queries @ key[0, group, others].T * scale).logsumexp(-1)
        for position, log_weight in log_weights.items():
            wanted = (rest + log_weight) / scale
            key[0, group, position] = torch.linalg.lstsq(queries, wanted[:, None], driver="gelsd").solution[:, 0]
    call = replace(call, key=key.to(call.key.dtype))
    answer = call.run(call.query, call.key, call.value, call.mask)
    output = output_with(model, layer, answer[0, -1])
    return replace(layer, attention=((call, answer),), output=torch.cat([layer.output[:-1], output[None]]))


def output_with(model, layer, heads):
    """The layer's output at the final position (d_model,) where the heads' outputs there are these (head, d_v)."""
    row = layer.call.row(-1)
    with torch.inference_mode(), attached(model.get_decoder()), tapped(lambda call: heads[None, None]):
        return first_tensor(layer.parts.layer(*row.args, **row.kwargs))[0, -1]


def weights_of(layer, dtype=torch.float64):
    """The final query's softmax weights (head, key) in `dtype`."""
    row = layer.at(layer.last)
    return query_view(row.attention, row.first_key, dtype).logits.softmax(-1)


def planted_layer(position_weights, length=24, method=Method(join_rows=False), name="llama", layer=1):
    """A layer of a tiny model with planted weights: (model, step, layer)."""
    model, step, layers = recorded(zoo.build(name), zoo.tokens(length).tolist(), method)
    return model, step, plant(model, layers[layer], position_weights)


def measured(model, step, layer, method=Method()):
    """Measure one layer by itself."""
    with torch.inference_mode(), attached(model.get_decoder()):
        return measure_layer(layer, MeasuredAt(), step.step_info, method)


def own_numbers_errors(model):
    """Median relative errors against the same queries, keys, values and weights in float64, by
    (layer, variant, kind of distance)."""
    if model.config.model_type == "qwen3_moe":
        model.set_experts_implementation("eager")  # grouped kernels have no float64
    model, step, layers = recorded(model, zoo.tokens(24).tolist())
    errors = {}
    for layer in layers:
        found = measured(model, step, layer)
        with zoo.true_float64():
            exact = measured(model, step, layer, Method(dtype=torch.float64))
        for row, variant in enumerate(found.variants):
            for kind in ("l2", "cosine"):
                got, want = (torch.tensor(getattr(one, kind)[row]).double() for one in (found, exact))
                seen = want > 0
                errors[layer.parts.index, variant, kind] = float(((got - want).abs()[seen] / want[seen]).median())
    return errors
