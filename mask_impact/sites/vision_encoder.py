"""The vision encoder's blocks, called one after the other, each on what the last one answered, so that no more than one is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.errors import RunError
from mask_impact.base.precision import TOLERANCE, full_float32
from mask_impact.sites.attention import AttentionCall, attached, tapped
from mask_impact.sites.finding import find_layers
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.recording import LayerRecord


def vision_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """The part of the model that its `vision_config` configures."""
    kind = type(model.config.vision_config)
    [encoder] = [
        module for module in model.modules() if isinstance(module, PreTrainedModel) and type(module.config) is kind
    ]
    return encoder


class Arrived(Exception):
    """The encoder has come to its first block, with this call."""

    def __init__(self, call: LayerCall):
        super().__init__()
        self.call = call


@full_float32()
def first_call(encoder: PreTrainedModel, pictures: dict[str, Any]) -> LayerCall:
    """What the encoder calls its first block with, given what a call of the whole model takes of pictures."""

    def stop(_block: Any, args: tuple, kwargs: dict) -> None:
        raise Arrived(LayerCall(args, kwargs))

    with hooked(find_layers(encoder)[0].register_forward_pre_hook(stop, with_kwargs=True, prepend=True)):
        try:
            encoder(pictures["pixel_values"].to(encoder.dtype), grid_thw=pictures["image_grid_thw"])
        except Arrived as arrived:
            return arrived.call
    raise RunError(f"{type(encoder).__name__} does not call its blocks; it cannot be measured")


@dataclass(frozen=True)
class PassedBlock:
    """A block and its call on all patches, the attention of each picture with its answer, and the output (patch, d_model)."""

    parts: LayerParts
    call: LayerCall
    chunks: list[tuple[AttentionCall, Tensor]]
    output: Tensor

    def chunk_of(self, patch: int) -> tuple[int, int]:
        """The number of the attention call that has this patch, and the index of that one's first patch."""
        start = 0
        for number, (call, _) in enumerate(self.chunks):
            if patch < start + call.key.shape[2]:
                return number, start
            start += call.key.shape[2]
        raise IndexError(f"patch {patch} of {start}")

    def cells_beside(self, cell: int, size: int) -> slice:
        """The cells of this cell's picture, itself among them, by their indices."""
        number, start = self.chunk_of(cell * size)
        return slice(start // size, (start + self.chunks[number][0].key.shape[2]) // size)

    def at(self, patch: int) -> LayerRecord:
        """The block as this patch alone knows it, as the record of a layer whose final position it is."""
        number, start = self.chunk_of(patch)
        call, answer = self.chunks[number]
        own = replace(call, query=call.query[:, :, patch - start : patch - start + 1])
        return LayerRecord(self.parts, self.call.row(patch), own, answer[0, patch - start], self.output[patch])


def passed_blocks(encoder: PreTrainedModel, parts: list[LayerParts], call: LayerCall) -> Iterator[PassedBlock]:
    """Call the encoder's blocks one after the other, up to the last of `parts`, and yield those of `parts`."""
    wanted = {part.index: part for part in parts}
    for index, block in enumerate(find_layers(encoder)[: max(wanted) + 1]):
        chunks: list[tuple[AttentionCall, Tensor]] = []

        def listen(seen: AttentionCall) -> Tensor:
            answer = seen.run(seen.query, seen.key, seen.value, seen.mask)
            chunks.append((seen, answer))
            return answer

        with tapped(listen), full_float32():
            output = first_tensor(block(*call.args, **call.kwargs))
        if index in wanted:
            yield PassedBlock(wanted[index], call, chunks, output)
        call = call.with_hidden(output)


SAMPLE_CELLS = [(2, 3), (1, 2)]  # rows and columns of the pictures that an encoder is checked on


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
        raise RunError(
            f"{type(encoder).__name__}: its blocks one after the other do not give its own output (relative {error:.1e}); "
            "it would be measured wrongly"
        )


def sample_pictures(encoder: PreTrainedModel, grids: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Pictures of noise with these (rows, columns) of cells, as the encoder takes them."""
    config, merge = encoder.config, encoder.config.spatial_merge_size
    patches = sum(rows * columns for rows, columns in grids) * merge**2
    numbers = config.in_channels * config.temporal_patch_size * config.patch_size**2
    pixels = torch.randn(patches, numbers, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    grid = torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
    return {"pixel_values": pixels.to(encoder.device, encoder.dtype), "image_grid_thw": grid.to(encoder.device)}
