"""Which heads' reading to cut: the cells (layer, head, unit) that move a layer's input most."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.distances import norm
from mask_impact.measure.knockout.clean import CleanLayer, CleanPass, query_at
from mask_impact.measure.knockout.rows import rows_call
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import Method

Cell = tuple[int, int, int]  # layer, head, unit


def strongest_cells(clean: CleanPass, read: int, sets: KeySets, count: int, method: Method) -> list[Cell]:
    """The `count` cells with the largest |W_O^h (o_S - o)| over the norm of the layer's input, at the read's position.

    Position 0 alone, the usual attention sink, is left out.
    """
    own = clean.layers[0].call.hidden.dtype
    dtype, strengths, cells = method.rows_dtype(own), [], []
    left_out = torch.from_numpy((sets.sizes == 1) & (sets.first == 0))
    for layer in clean.layers:
        closed = masked_heads(query_at(clean, layer, read, dtype), sets)
        seen = closed.seen[~left_out[closed.seen.cpu()]]
        with method.weights_in(layer.parts, own):
            found = projected_lengths(clean, layer, read, closed.differences(seen))
        found = found / norm(layer.call.hidden[0, clean.reads[read]])
        row, head = torch.meshgrid(seen.cpu(), torch.arange(found.shape[1]), indexing="ij")
        strengths.append(found.cpu().flatten())
        cells.append(torch.stack([torch.full_like(row, layer.parts.index), head, row], -1).flatten(0, 1))
    strength = torch.cat(strengths).nan_to_num(0)
    top = strength.topk(min(count, int((strength > 0).sum()))).indices
    return [(layer, head, unit) for layer, head, unit in torch.cat(cells)[top].tolist()]


def projected_lengths(clean: CleanPass, layer: CleanLayer, read: int, moved: Tensor) -> Tensor:
    """|W_O^h d| of each head's difference d, from (row, head, d_v): (row, head)."""
    projection, heads = layer.parts.projection, moved.shape[1]
    if layer.parts.direct and type(projection) is nn.Linear:
        weight = projection.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (head, d_v, d_model)
        return norm(torch.matmul(moved.transpose(0, 1), weight.to(moved.dtype))).T
    position = torch.tensor([clean.reads[read]])
    call = rows_call(layer.call, position, layer.call.hidden[0, position].to(moved.dtype))
    rows, none = RowPass(layer.parts, call), torch.zeros_like(moved)
    still = rows.project(none)
    alone = (none.index_copy(1, torch.tensor([head]), moved[:, head : head + 1]) for head in range(heads))
    return torch.stack([norm(rows.project(each) - still) for each in alone], 1)
