"""The vision encoder as a site: each patch sees all patches of its picture, in both directions and without a mask.

A cell is `spatial_merge_size` x `spatial_merge_size` neighbouring patches, which the merger makes one vision token of.
Cells are the units (MeasuredAt). Masking a cell hides the keys of its patches from the queries of the measured cell.
What the block adds to the measured cell's patches is compared as one vector, patch after patch in the merger's order.

The blocks are called one by one, each on the output of the one before, so that only one is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.errors import RequestError, RunError
from mask_impact.base.precision import full_float32
from mask_impact.sites.attention import AttentionCall, attached, tapped
from mask_impact.sites.finding import find_layers, watched_layers
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.site import MeasuredAt, Sample

SAMPLE_CELLS = [(2, 3), (1, 2)]  # rows and columns of the sample's pictures


class VisionEncoder:
    """See Site. Each token id stands for a cell: picture after picture, row by row."""

    layer, answer, generates = "block", "last block's output", False

    def stack(self, model: PreTrainedModel) -> PreTrainedModel:
        return vision_encoder(model)

    def look(self, model: PreTrainedModel) -> list[LayerPass | None]:
        encoder = vision_encoder(model)
        pictures = sample_pictures(encoder, SAMPLE_CELLS[:1])
        seen = watched_layers(
            encoder, lambda: encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]), causal=False
        )
        if None in seen:
            name = type(encoder).__name__
            raise RequestError(f"block {seen.index(None)} of {name} has no softmax attention; it cannot be measured")
        return seen

    def passed(
        self, model: PreTrainedModel, parts: list[LayerParts], token_ids: list[int], further: dict[str, Any]
    ) -> Iterator[LayerPass]:
        encoder = vision_encoder(model)
        return passed_blocks(encoder, parts, first_call(encoder, further))

    def answers(self, model: PreTrainedModel, parts: list[LayerParts]) -> tuple[Tensor, Tensor, list[LayerPass]]:
        encoder, sample = vision_encoder(model), self.sample(model)
        seen: list[Tensor] = []
        last = find_layers(encoder)[-1]
        with hooked(last.register_forward_hook(lambda _block, _args, output: seen.append(first_tensor(output)))):
            encoder(sample.further["pixel_values"], grid_thw=sample.further["image_grid_thw"])
        with attached(encoder):
            layers = list(self.passed(model, parts, sample.token_ids, sample.further))
        [plain] = seen
        return plain, layers[-1].output, layers

    def sample(self, model: PreTrainedModel) -> Sample:
        encoder = vision_encoder(model)
        cells = sum(rows * columns for rows, columns in SAMPLE_CELLS)
        at = MeasuredAt((0,), encoder.config.spatial_merge_size**2)
        return Sample([0] * cells, sample_pictures(encoder, SAMPLE_CELLS), at)


VISION_ENCODER = VisionEncoder()


def vision_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """The part of the model that its `vision_config` configures."""
    kind = type(model.config.vision_config)
    [encoder] = [
        module for module in model.modules() if isinstance(module, PreTrainedModel) and type(module.config) is kind
    ]
    return encoder


class Arrived(Exception):
    """Stops the encoder where it calls its first block; `call` has the arguments."""

    def __init__(self, call: LayerCall):
        super().__init__()
        self.call = call


@full_float32()
def first_call(encoder: PreTrainedModel, pictures: dict[str, Any]) -> LayerCall:
    """The arguments that the encoder calls its first block with, for `pictures` as the whole model takes them.

    Raises RunError if it calls no block.
    """

    def stop(_block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise Arrived(LayerCall(args, kwargs))

    with hooked(find_layers(encoder)[0].register_forward_pre_hook(stop, with_kwargs=True, prepend=True)):
        try:
            encoder(pictures["pixel_values"].to(encoder.dtype), grid_thw=pictures["image_grid_thw"])
        except Arrived as arrived:
            return arrived.call
    raise RunError(f"{type(encoder).__name__} does not call its blocks; it cannot be measured")


def passed_blocks(encoder: PreTrainedModel, parts: list[LayerParts], call: LayerCall) -> Iterator[LayerPass]:
    """Call the encoder's blocks one by one, the first with `call`, and yield those of `parts` as they answer."""
    wanted = {part.index: part for part in parts}
    for index, block in enumerate(find_layers(encoder)[: max(wanted) + 1]):
        attention: list[tuple[AttentionCall, Tensor]] = []

        def listen(seen: AttentionCall) -> Tensor:
            answer = seen.run(seen.query, seen.key, seen.value, seen.mask)
            attention.append((seen, answer))
            return answer

        with tapped(listen), full_float32():
            output = first_tensor(block(*call.args, **call.kwargs))
        if index in wanted:
            yield LayerPass(wanted[index], call, tuple(attention), output)
        call = call.with_hidden(output)


def sample_pictures(encoder: PreTrainedModel, grids: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Pictures of noise, one for each (rows, columns) of cells, as the encoder takes them."""
    config, merge = encoder.config, encoder.config.spatial_merge_size
    patches = sum(rows * columns for rows, columns in grids) * merge**2
    numbers = config.in_channels * config.temporal_patch_size * config.patch_size**2
    pixels = torch.randn(patches, numbers, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    grid = torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
    return {"pixel_values": pixels.to(encoder.device, encoder.dtype), "image_grid_thw": grid.to(encoder.device)}
