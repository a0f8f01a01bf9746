"""The vision encoder, measured itself: what masking one cell of a picture changes in another, in every block.

    for block in measured_layers(model, parts, CellInputs(...), method):

A cell is `size` neighbouring patches, which the merger makes one vision token of. Masking a cell hides the keys of its patches
from the queries of the measured cell; compared is what the block adds to those, one after the other in the merger's order.
Attention goes both ways, picture by picture, without a mask, so the measured cell's rows are final positions of their own:
each is taken through the block by what the decoder is measured with, with a set of keys leaving its softmax and not one.

The blocks are called one after the other, each on what the last one answered, so that no more than one is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact import measure
from mask_impact.attention import AttentionCall, attached, final_query, tapped
from mask_impact.identities import TOLERANCE, check_identities
from mask_impact.errors import RequestError, RunError
from mask_impact.layer_distances import Gathering, Moment
from mask_impact.leave_one_out import leave_one_out
from mask_impact.load_check import check_weights, judged
from mask_impact.measure import MeasuredLayer, Method, ModelInputs, Step
from mask_impact.memory import map_large_blocks
from mask_impact.parts import LayerCall, LayerParts, find_layers, first_tensor, hooked, watched
from mask_impact.recording import LayerDistances, LayerRecord
from mask_impact.renormalize import renormalized
from mask_impact.rerun import rows_of
from mask_impact.rows import CONTROLS, MaskedRows, Vectors, one_ulp
from mask_impact.rowpass import RowPass, in_dtype

AVERAGED = ("l2", "cosine", "baseline_norm", "noise_floor_l2", "noise_floor_cosine")
SAMPLE_CELLS = [(2, 3), (1, 2)]  # rows and columns of the pictures that an encoder is checked on


@dataclass(frozen=True, kw_only=True)
class CellInputs(ModelInputs):
    """What a run of the encoder feeds it: `token_ids` stand for the cells of all pictures, row by row, `size` patches each.

    `measured` are the indices of the cells that are measured: one, or all of them, of whose distances the mean is taken;
    `keep` keeps Full's L2 distances of each of them beside it.
    """

    measured: tuple[int, ...]
    size: int
    keep: bool = False


def measured_layers(
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method = Method()
) -> Iterator[MeasuredLayer]:
    """The measured layers of the decoder, or the measured blocks of the encoder where the inputs are a picture's cells.

    Raises RunError as both do.
    """
    if isinstance(inputs, CellInputs):
        return measured_blocks(vision_encoder(model), parts, inputs, method)
    return measure.measured_layers(model, parts, inputs, method)


def vision_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """The part of the model that its `vision_config` configures."""
    [encoder] = [module for module in model.modules()
                 if isinstance(module, PreTrainedModel) and module.config is model.config.vision_config]
    return encoder


@torch.inference_mode()
def measured_blocks(
    encoder: PreTrainedModel, parts: list[LayerParts], inputs: CellInputs, method: Method
) -> Iterator[MeasuredLayer]:
    """Measure every block of `parts`, in order: the distances of each cell masked, 0 for cells of other pictures.

    Raises RunError where a block's update is not finite, or an identity fails.
    """
    map_large_blocks()
    step = Step(Moment(0, len(inputs.token_ids)), inputs.token_ids, [], None, None)
    with attached(encoder):
        for passed in passed_blocks(encoder, parts, first_call(encoder, inputs.further(inputs.token_ids))):
            own = passed.output.dtype
            dtype = own if method.dtype is None else torch.promote_types(own, method.dtype)
            with in_dtype(passed.parts, dtype if method.dtype is not None else None):
                found = mean_distances(passed, inputs, step.moment, replace(method, dtype=dtype))
            yield MeasuredLayer(**vars(found), step=step)


class Arrived(Exception):
    """The encoder has come to its first block, with this call."""

    def __init__(self, call: LayerCall):
        super().__init__()
        self.call = call


def first_call(encoder: PreTrainedModel, pictures: dict[str, Any]) -> LayerCall:
    """What the encoder calls its first block with, given what a call of the whole model takes of pictures."""

    def stop(_block: Any, args: tuple, kwargs: dict) -> None:
        raise Arrived(LayerCall(args, kwargs))

    with hooked(find_layers(encoder)[0].register_forward_pre_hook(stop, with_kwargs=True)):
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
        return LayerRecord(self.parts, row_of(self.call, patch), own, answer[0, patch - start], self.output[patch])


def row_of(call: LayerCall, patch: int) -> LayerCall:
    """A block's call on one patch, (1, 1, d_model); what its attention is told of places is left out, as that only answers."""
    return LayerCall((call.hidden[None, patch : patch + 1],), dict.fromkeys(call.kwargs))


def passed_blocks(encoder: PreTrainedModel, parts: list[LayerParts], call: LayerCall) -> Iterator[PassedBlock]:
    """Call the encoder's blocks one after the other, up to the last of `parts`, and yield those of `parts`."""
    wanted = {part.index: part for part in parts}
    for index, block in enumerate(find_layers(encoder)[: max(wanted) + 1]):
        chunks: list[tuple[AttentionCall, Tensor]] = []

        def listen(seen: AttentionCall) -> Tensor:
            answer = seen.run(seen.query, seen.key, seen.value, seen.mask)
            chunks.append((seen, answer))
            return answer

        with tapped(listen):
            output = first_tensor(block(*call.args, **call.kwargs))
        if index in wanted:
            yield PassedBlock(wanted[index], call, chunks, output)
        call = call.with_hidden(output)


def cell_distances(passed: PassedBlock, cell: int, size: int, moment: Moment, method: Method) -> LayerDistances:
    """One block's distances at one measured cell, each cell of its picture masked in turn, in `method.dtype`.

    Raises RunError where the block's update is not finite, or an identity fails.
    """
    beside, dtype = passed.cells_beside(cell, size), method.dtype
    keys = (beside.stop - beside.start) * size
    records = [passed.at(patch) for patch in range(cell * size, (cell + 1) * size)]
    closed = [leave_one_out(final_query(record.attention, keys, dtype), size) for record in records]
    passes = [RowPass(record.parts, record.call.to(dtype)) for record in records]
    cells = torch.arange(beside.stop - beside.start, device=closed[0].output.device)
    if method.name == "renormalize":
        streams = [renormalized(rows, each, cells, method.variants, seed) for seed, (rows, each) in enumerate(zip(passes, closed))]
    elif method.name == "rerun":
        streams = rerun_rows(passes, BlockRerun(passed, cell, size, dtype), cells, method.variants)
    else:
        raise ValueError(f"unknown method {method.name!r}")
    gathering, firsts, conserved = Gathering("heads" in method.variants), None, [0] * size
    for of_queries in zip(*streams):
        gathering.add(joined(of_queries))
        firsts = firsts or of_queries
        conserved = [total + each.conservation(rows.keys, rows.difference.heads[: len(rows.keys)])
                     for total, each, rows in zip(conserved, closed, of_queries)]
    for record, each, first, total in zip(records, closed, firsts, conserved):
        check_identities(record, each, first, total)
    return gathering.distances(moment, records[0], beside.start, closed[0].undefined if closed[0].any_undefined else None)


def joined(of_queries: tuple[MaskedRows, ...]) -> MaskedRows:
    """The rows of a cell's queries, each vector after the other: heads (..., head, query * d_v), the others (..., query * d_model)."""
    one = of_queries[0]

    def together(vectors: list[Vectors]) -> Vectors:
        columns = ([getattr(each, name) for each in vectors] for name in ("heads", "attention", "full"))
        return Vectors(*(None if tensors[0] is None else torch.cat(tensors, -1) for tensors in columns))

    return MaskedRows(one.keys, together([rows.baseline for rows in of_queries]), together([rows.difference for rows in of_queries]), one.output)


def mean_distances(passed: PassedBlock, inputs: CellInputs, moment: Moment, method: Method) -> LayerDistances:
    """One block's distances at the measured cell; of several, each cell's mean over those of its own picture, which alone see it.

    Means are taken one measured cell after the other, of what is defined. Norms and noise floors are means over all of them.
    Raises RunError as `cell_distances` does.
    """
    means: dict[str, Mean] = {}
    each = []
    for cell in inputs.measured:
        found = cell_distances(passed, cell, inputs.size, moment, method)
        if len(inputs.measured) == 1:
            return found
        own = np.zeros(moment.length, bool)
        own[passed.cells_beside(cell, inputs.size)] = True
        for kind in AVERAGED:
            value = getattr(found, kind)
            means.setdefault(kind, Mean(value.shape)).add(np.where(own, value, np.nan) if value.ndim == 2 else value)
        if inputs.keep:
            each.append(found.l2[found.variants.index("Full")])
    averaged = {kind: mean.result().astype(getattr(found, kind).dtype) for kind, mean in means.items()}
    return replace(found, **averaged, each=np.stack(each) if each else None)


class Mean:
    """The mean of arrays of one shape that come one by one, NaN standing for none."""

    def __init__(self, shape: tuple[int, ...]):
        self.total, self.count = np.zeros(shape), np.zeros(shape, int)

    def add(self, values: np.ndarray) -> None:
        self.total += np.nan_to_num(values)
        self.count += ~np.isnan(values)

    def result(self) -> np.ndarray:
        """NaN where every value was."""
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)


class BlockRerun:
    """A block that can be run again on all its patches, with cells masked for the queries of one; `dtype` is that of its weights."""

    def __init__(self, passed: PassedBlock, cell: int, size: int, dtype: torch.dtype):
        self.parts, self.size = passed.parts, size
        self.call = passed.call.to(dtype)
        self.patches = slice(cell * size, (cell + 1) * size)
        self.chunk, start = passed.chunk_of(cell * size)
        self.queries = slice(cell * size - start, (cell + 1) * size - start)
        self.inputs = [[t.to(dtype) for t in (call.query, call.key, call.value)] for call, _ in passed.chunks]
        keys = passed.chunks[self.chunk][0].key
        self.mask = torch.zeros(1, 1, keys.shape[2], keys.shape[2], dtype=dtype, device=keys.device)

    def __call__(self, masked_cell: int | None = None, moved: Tensor | None = None) -> dict[Any, Tensor]:
        """The measured cell's vectors with one cell masked, or with its heads' outputs moved by `moved` (query, head, d_v).

        By name "heads" (query, head, d_v) and "output" (query, d_model); by module what attention and each branch answered.
        """
        seen: dict[Any, Tensor] = {}
        inputs = enumerate(self.inputs)

        def answer(call: AttentionCall) -> Tensor:
            number, own = next(inputs)
            if number != self.chunk:
                return call.run(*own, call.mask)
            mask = self.mask.clone()
            if masked_cell is not None:
                mask[..., self.queries, masked_cell * self.size : (masked_cell + 1) * self.size] = float("-inf")
            output = call.run(*own, mask)
            if moved is not None:
                output[0, self.queries] += moved
            seen["heads"] = output[0, self.queries]
            return output

        def note(module: Any, _args: Any, output: Any) -> None:
            seen[module] = first_tensor(output)[self.patches]

        modules = (self.parts.attention, *self.parts.branches)
        with tapped(answer), hooked(*[module.register_forward_hook(note) for module in modules]):
            output = self.parts.layer(*self.call.args, **self.call.kwargs)
        seen["output"] = first_tensor(output)[self.patches]
        return seen


def rerun_rows(passes: list[RowPass], block: BlockRerun, cells: Tensor, variants: tuple[str, ...]) -> list[list[MaskedRows]]:
    """Masked rows of the measured cell's queries, each cell masked in a run of its own: for each query one chunk."""
    baseline = block()
    masked = [block(masked_cell=cell) for cell in cells.tolist()]
    moves = torch.stack([one_ulp(heads, seed) for seed, heads in enumerate(baseline["heads"])], 1)
    runs = [baseline, *masked, *[block(moved=moves[control]) for control in range(CONTROLS)]]
    of_query = ([{name: tensor[query] for name, tensor in run.items()} for run in runs] for query in range(len(passes)))
    return [[rows_of(rows, own, cells, variants)] for rows, own in zip(passes, of_query)]


@torch.inference_mode()
def encoder_parts(model: PreTrainedModel, method: Method = Method()) -> list[LayerParts]:
    """The encoder's blocks, checked as a decoder's layers are on load.

    Raises RequestError for an encoder that cannot be measured; RunError if a check fails, naming the block.
    """
    encoder = vision_encoder(model)
    merge = encoder.config.spatial_merge_size
    pictures = sample_pictures(encoder, SAMPLE_CELLS[:1])
    sightings = watched(encoder, lambda: encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]), causal=False)
    if None in sightings:
        raise RequestError(f"block {sightings.index(None)} of {type(encoder).__name__} has no softmax attention; it cannot be measured")
    rows = [replace(seen, call=row_of(seen.call, len(seen.call.hidden) - 1)) for seen in sightings]
    with attached(encoder):
        parts = [judged(row, method) for row in rows]
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
    pixels = torch.randn(patches, numbers, generator=torch.Generator().manual_seed(0))
    grid = torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
    return {"pixel_values": pixels.to(encoder.device, encoder.dtype), "image_grid_thw": grid.to(encoder.device)}
