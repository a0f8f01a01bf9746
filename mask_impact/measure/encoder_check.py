"""The check on load of a vision encoder: proof, on this very model, that its blocks are passed rightly and that masking bites."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from mask_impact.base.errors import RequestError, RunError
from mask_impact.base.precision import full_float32
from mask_impact.measure.check import check_weights, check_layer, named_unknown
from mask_impact.measure.encoder import CellInputs, measured_blocks
from mask_impact.measure.loop import Method
from mask_impact.sites.attention import attached
from mask_impact.sites.finding import watched
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.vision_encoder import SAMPLE_CELLS, check_passage, sample_pictures, vision_encoder


@torch.inference_mode()
@full_float32()
def encoder_parts(model: PreTrainedModel, method: Method = Method()) -> list[LayerParts]:
    """The encoder's blocks, checked as a decoder's layers are on load.

    Raises RequestError for an encoder that cannot be measured; RunError if a check fails, naming the block.
    """
    with named_unknown(type(model).__name__, model):
        return checked_blocks(vision_encoder(model), method)


def checked_blocks(encoder: PreTrainedModel, method: Method) -> list[LayerParts]:
    """What `encoder_parts` gives, and raises."""
    merge = encoder.config.spatial_merge_size
    pictures = sample_pictures(encoder, SAMPLE_CELLS[:1])
    seen_layers = watched(
        encoder, lambda: encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]), causal=False
    )
    if None in seen_layers:
        raise RequestError(
            f"block {seen_layers.index(None)} of {type(encoder).__name__} has no softmax attention; it cannot be measured"
        )
    with attached(encoder):
        parts = [check_layer(seen, method) for seen in seen_layers]
    check_passage(encoder, parts)
    for seen in seen_layers:
        check_weights(seen.parts.index, seen.attention)
    pictures = sample_pictures(encoder, SAMPLE_CELLS)
    cells = sum(rows * columns for rows, columns in SAMPLE_CELLS)
    inputs = CellInputs([0] * cells, 1, further=lambda _: pictures, measured=(0,), size=merge**2)
    for block in measured_blocks(encoder, parts, inputs, Method("renormalize", ("attn", "heads"), method.dtype)):
        if not (block.l2 > block.noise_floor_l2[:, None]).any():
            raise RunError(f"block {block.layer}: masking changes no distance; the mask does not reach its attention")
    return parts
