"""The vision encoder, measured itself: what masking one cell of a picture changes in another, in every block.

    for block in measured_layers(model, parts, CellInputs(...), method):

A cell is `size` neighbouring patches, which the merger makes one vision token of. Masking a cell hides the keys of its patches
from the queries of the measured cell; compared is what the block adds to those, one after the other in the merger's order.
Attention goes both ways, picture by picture, without a mask, so the measured cell's rows are final positions of their own:
each is taken through the block by what the decoder is measured with, with a set of keys leaving its softmax and not one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from mask_impact.base.heap import map_large_blocks
from mask_impact.base.precision import full_float32
from mask_impact.measure import loop
from mask_impact.measure.closed_form import MaskedHeads, leave_one_out
from mask_impact.measure.collect import DistanceCollector, StepInfo
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.encoder_rerun import BlockRerun, rerun_rows
from mask_impact.measure.identities import check_identities
from mask_impact.measure.loop import Method
from mask_impact.measure.renormalize import renormalized
from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.rows import MaskedRows, Vectors
from mask_impact.measure.step import MeasuredLayer, ModelInputs, Step
from mask_impact.sites.attention import attached
from mask_impact.sites.interventions import in_dtype
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import final_query
from mask_impact.sites.recording import LayerRecord
from mask_impact.sites.vision_encoder import PassedBlock, first_call, passed_blocks, vision_encoder

AVERAGED = ("l2", "cosine", "baseline_norm", "noise_floor_l2", "noise_floor_cosine")


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
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method | None = None
) -> Iterator[MeasuredLayer]:
    """The measured layers of the decoder, or the measured blocks of the encoder where the inputs are a picture's cells.

    Raises RunError as both do.
    """
    if isinstance(inputs, CellInputs):
        return measured_blocks(vision_encoder(model), parts, inputs, method or Method())
    return loop.measured_layers(model, parts, inputs, method)


@torch.inference_mode()
def measured_blocks(
    encoder: PreTrainedModel, parts: list[LayerParts], inputs: CellInputs, method: Method
) -> Iterator[MeasuredLayer]:
    """Measure every block of `parts`, in order: the distances of each cell masked, 0 for cells of other pictures.

    Raises RunError where a block's update is not finite, or an identity fails.
    """
    map_large_blocks(len(inputs.token_ids) * inputs.size)
    step = Step(StepInfo(0, len(inputs.token_ids)), inputs.token_ids, [], None, None)
    with attached(encoder):
        for passed in passed_blocks(encoder, parts, first_call(encoder, inputs.further(inputs.token_ids))):
            own = passed.output.dtype
            dtype = own if method.dtype is None else torch.promote_types(own, method.dtype)
            with in_dtype(passed.parts, dtype if method.dtype is not None else None):
                found = None
                while found is None:
                    try:
                        found = mean_distances(passed, inputs, step.step_info, replace(method, dtype=dtype))
                    except torch.OutOfMemoryError as error:
                        method.rows.halve(error)
            yield MeasuredLayer(**vars(found), step=step)


def cell_distances(passed: PassedBlock, cell: int, size: int, step_info: StepInfo, method: Method) -> LayerDistances:
    """One block's distances at one measured cell, each cell of its picture masked in turn, in `method.dtype`.

    Raises RunError where the block's update is not finite, or an identity fails.
    """
    beside = passed.cells_beside(cell, size)
    patches = (beside.stop - beside.start) * size
    records = [passed.at(patch) for patch in range(cell * size, (cell + 1) * size)]
    closed = [leave_one_out(final_query(record.attention, patches, method.dtype), size) for record in records]
    collector, firsts, conserved = DistanceCollector("heads" in method.variants), None, [0] * size
    for of_queries in zip(*masked_rows(passed, cell, records, closed, method)):
        collector.add(joined(of_queries))
        firsts = firsts or of_queries
        conserved = [
            total + each.conservation(rows.keys, rows.difference.heads[: len(rows.keys)])
            for total, each, rows in zip(conserved, closed, of_queries)
        ]
    for record, each, first, total in zip(records, closed, firsts, conserved):
        check_identities(record, each, first, total)
    return collector.distances(
        step_info, records[0], beside.start, closed[0].undefined if closed[0].any_undefined else None
    )


def masked_rows(
    passed: PassedBlock, cell: int, records: list[LayerRecord], closed: list[MaskedHeads], method: Method
) -> Sequence[Iterable[MaskedRows]]:
    """For each of the measured cell's queries its masked rows, chunk by chunk, by the method asked for."""
    passes = [RowPass(record.parts, record.call.to(method.dtype)) for record in records]
    cells = torch.arange(len(closed[0].undefined), device=closed[0].undefined.device)
    if method.name == "renormalize":
        return [
            renormalized(rows, each, cells, method.variants, seed, method.rows)
            for seed, (rows, each) in enumerate(zip(passes, closed))
        ]
    if method.name == "rerun":
        return rerun_rows(passes, BlockRerun(passed, cell, len(records), method.dtype), cells, method.variants)
    raise ValueError(f"unknown method {method.name!r}")


def joined(of_queries: tuple[MaskedRows, ...]) -> MaskedRows:
    """The rows of a cell's queries, each vector after the other: heads (..., head, query * d_v), the others (..., query * d_model)."""
    one = of_queries[0]

    def together(vectors: list[Vectors]) -> Vectors:
        columns = ([getattr(each, name) for each in vectors] for name in ("heads", "attention", "full"))
        return Vectors(*(None if tensors[0] is None else torch.cat(tensors, -1) for tensors in columns))

    return MaskedRows(
        one.keys,
        together([rows.baseline for rows in of_queries]),
        together([rows.difference for rows in of_queries]),
        one.output,
    )


@full_float32()
def mean_distances(passed: PassedBlock, inputs: CellInputs, step_info: StepInfo, method: Method) -> LayerDistances:
    """One block's distances at the measured cell; of several, each cell's mean over those of its own picture, which alone see it.

    Means are taken one measured cell after the other, of what is defined. Norms and noise floors are means over all of them.
    Raises RunError as `cell_distances` does.
    """
    means: dict[str, Mean] = {}
    each = []
    for cell in inputs.measured:
        found = cell_distances(passed, cell, inputs.size, step_info, method)
        if len(inputs.measured) == 1:
            return found
        own = np.zeros(step_info.length, bool)
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
