"""The check on load of a vision encoder: proof, on this very model, that its blocks are passed rightly and that masking bites."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.attention import attached
from mask_impact.encoder import CellInputs, measured_blocks
from mask_impact.encoder_blocks import first_call, passed_blocks, vision_encoder
from mask_impact.errors import RequestError, RunError
from mask_impact.load_check import check_weights, judged, named_unknown
from mask_impact.measure import Method
from mask_impact.hooks import hooked
from mask_impact.parts import LayerParts, find_layers, first_tensor, watched
from mask_impact.precision import full_float32
from mask_impact.row_checks import TOLERANCE

SAMPLE_CELLS = [(2, 3), (1, 2)]  # rows and columns of the pictures that an encoder is checked on


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
    sightings = watched(encoder, lambda: encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]), causal=False)
    if None in sightings:
        raise RequestError(f"block {sightings.index(None)} of {type(encoder).__name__} has no softmax attention; it cannot be measured")
    with attached(encoder):
        parts = [judged(seen, method) for seen in sightings]
    check_passage(encoder, parts)
    for seen in sightings:
        check_weights(seen.parts.index, seen.attention)
    pictures = sample_pictures(encoder, SAMPLE_CELLS)
    cells = sum(rows * columns for rows, columns in SAMPLE_CELLS)
    inputs = CellInputs([0] * cells, 1, further=lambda _: pictures, measured=(0,), size=merge**2)
    for block in measured_blocks(encoder, parts, inputs, Method("renormalize", ("attn", "heads"), method.dtype)):
        if not (block.l2 > block.noise_floor_l2[:, None]).any():
            raise RunError(f"block {block.layer}: masking changes no distance; the mask does not reach its attention")
    return parts


def check_passage(encoder: PreTrainedModel, parts: list[LayerParts]) -> None:
    """Raise RunError if the blocks called one after the other, and watched, do not give the encoder's own last output."""
    pictures, seen = sample_pictures(encoder, SAMPLE_CELLS), []
    last = find_layers(encoder)[-1]
    with hooked(last.register_forward_hook(lambda _block, _args, output: seen.append(first_tensor(output)))):
        encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"])
    with attached(encoder):
        *_, passed = passed_blocks(encoder, parts, first_call(encoder, pictures))
    [own] = seen
    error = float((passed.output - own).norm() / own.norm().clamp_min(torch.finfo(own.dtype).tiny))
    if not error <= TOLERANCE[own.dtype]:
        raise RunError(f"{type(encoder).__name__}: its blocks one after the other do not give its own output (relative {error:.1e}); "
                       "it would be measured wrongly")


def sample_pictures(encoder: PreTrainedModel, grids: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Pictures of noise with these (rows, columns) of cells, as the encoder takes them."""
    config, merge = encoder.config, encoder.config.spatial_merge_size
    patches = sum(rows * columns for rows, columns in grids) * merge**2
    numbers = config.in_channels * config.temporal_patch_size * config.patch_size**2
    pixels = torch.randn(patches, numbers, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    grid = torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
    return {"pixel_values": pixels.to(encoder.device, encoder.dtype), "image_grid_thw": grid.to(encoder.device)}
