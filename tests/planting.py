"""Attention with a known answer: a recorded layer whose keys are moved until chosen positions hold chosen weights."""

from __future__ import annotations

from dataclasses import replace

import torch
import zoo

from mask_impact.measure.check import measurable_parts
from mask_impact.measure.loop import Method, generation_steps, measure_layer
from mask_impact.measure.step import ModelInputs
from mask_impact.sites.attention import attached, tapped
from mask_impact.sites.layer_call import first_tensor
from mask_impact.sites.query import final_query


def recorded(model, ids, method=Method(riding=False)):
    """The first step of a run, and its layers' records, without measuring them: (model, step, records)."""
    parts, _ = measurable_parts(model)
    with attached(model.get_decoder()):
        step, records = next(generation_steps(model, parts, ModelInputs(ids, 1), method))
    return model, step, records


def plant(model, record, log_weights):
    """Move keys so that in every head the key at `position` has `log_weight` against the sum of the unplanted ones.

    Each planted key solves one equation for every query head that reads it, in float64, by least squares.
    """
    call = record.attention
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
    heads = call.run(call.query, call.key, call.value, call.mask)[0, -1]
    return replace(record, attention=call, heads=heads, output=output_with(model, record, heads))


def output_with(model, record, heads):
    """The layer's output at the final position (d_model,) where the heads' outputs there are these (head, d_v)."""
    row = record.call.last_row()
    with torch.inference_mode(), attached(model.get_decoder()), tapped(lambda call: heads[None, None]):
        return first_tensor(record.parts.layer(*row.args, **row.kwargs))[0, -1]


def weights_of(record, dtype=torch.float64):
    """The final query's softmax weights (head, key) in `dtype`."""
    call = record.attention
    return final_query(call, call.key.shape[2], dtype).logits.softmax(-1)


def planted_layer(position_weights, length=24, method=Method(riding=False), name="llama", layer=1):
    """A layer of a tiny model with planted weights: (model, step, record)."""
    model, step, records = recorded(zoo.build(name), zoo.tokens(length).tolist(), method)
    return model, step, plant(model, records[layer], position_weights)


def measured(model, step, record, method=Method()):
    """Measure one recorded layer by itself."""
    with torch.inference_mode(), attached(model.get_decoder()):
        return measure_layer(step, record, method)
