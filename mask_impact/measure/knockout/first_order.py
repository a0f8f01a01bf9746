"""To first order: what hiding a unit in one layer, or in one head of it, does to the answer's log-probability.

With g the gradient of log p(t) at the final position, from one backward pass of that single row with the clean keys and
values held fixed, the effect of a layer's changed update D_S is g . (D_S - D), g taken at the layer's output; a head's
is that at its output times the head's difference. Nats, negative where hiding the unit hurts the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mask_impact.base.precision import full_float32
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import Cut
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.knockout.clean import CleanLayer, CleanPass, query_at
from mask_impact.measure.knockout.rows import logits_of, mask_between
from mask_impact.measure.renormalize import renormalized
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import Method
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.layer_call import first_tensor


@dataclass(frozen=True)
class Gradient:
    """That of log p(t) at one layer: at its output (d_model,), and at its heads' outputs (head, d_v)."""

    output: Tensor
    heads: Tensor


@full_float32()
def gradients(clean: CleanPass, read: int, token: int, method: Method) -> list[Gradient]:
    """Of each layer, at the read's position; the clean pass is in the dtype of the rows.

    Layer by layer from the last one, as a layer's weights are in that dtype only while it is at work. A graph needs
    tensors that were not made for inference alone, so what enters it is copied.
    """
    position, found = clean.reads[read], []
    with torch.inference_mode(False), torch.enable_grad():
        with row_through(clean.layers[-1], position, method) as (_, _, output):
            end = output.detach().requires_grad_()
        for logits in logits_of(clean, end[0]):  # of one row, whose weights are held until the next ones are asked for
            [gradient] = torch.autograd.grad(logits.double().log_softmax(-1)[0, token], end)
        for layer in reversed(clean.layers):
            with row_through(layer, position, method) as (hidden, heads, output):
                before, of_heads = torch.autograd.grad(output, (hidden, heads), gradient)
            found.append(Gradient(gradient[0, 0], of_heads[0, 0]))
            gradient = before
    return found[::-1]


@contextmanager
def row_through(layer: CleanLayer, position: int, method: Method) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The clean row of a layer, (1, 1, d_model), what its heads make of it, (1, 1, head, d_v), and what the layer does,
    (1, 1, d_model), while its weights are in the rows' dtype."""
    hidden = layer.call.hidden[:, position : position + 1].clone().requires_grad_()
    call = layer.call.row(position).map(Tensor.clone).with_hidden(hidden)
    heads: list[Tensor] = []
    with method.weights_in(layer.parts, hidden.dtype), tapped(one_row(layer, position, heads)):
        output = first_tensor(layer.parts.layer(*call.args, **call.kwargs))
        yield hidden, heads[0], output if layer.gap is None else output + layer.gap[position].clone()


def one_row(layer: CleanLayer, position: int, heads: list[Tensor]) -> Callable[[AttentionCall], Tensor]:
    """Attention of one row to the clean keys before it and its own, its answer (1, 1, head, d_v) added to `heads`."""
    clean, columns = layer.attention, torch.arange(position + 1)

    def answer(call: AttentionCall) -> Tensor:
        mask = mask_between(clean, columns[-1:], columns, call.query.dtype)
        key, value = (
            torch.cat([before[:, :, :position].clone(), own], 2)
            for before, own in ((clean.key, call.key), (clean.value, call.value))
        )
        heads.append(call.run(call.query, key, value, mask))
        return heads[-1]

    return answer


@full_float32()
def first_order(
    clean: CleanPass, read: int, token: int, sets: KeySets, method: Method, variants: tuple[str, ...]
) -> tuple[list[Cut], np.ndarray]:
    """Each layer's and each head's cells (with the variants `full` and `heads`), with their effects in nats.

    A unit that no head of a layer sees has no cell there; one that leaves it no key is NaN.
    """
    cuts: list[Cut] = []
    effects: list[np.ndarray] = []
    own = clean.layers[0].call.hidden.dtype
    for layer, gradient in zip(clean.layers, gradients(clean, read, token, method)):
        index, view = layer.parts.index, query_at(clean, layer, read, own)
        closed = masked_heads(view, sets)
        found: dict[int | None, Tensor] = {}
        if "full" in variants:
            rows = RowPass(layer.parts, layer.call.row(clean.reads[read]))
            with method.weights_in(layer.parts, own):
                chunks = renormalized(rows, closed, ("full",), 0, method.rows)
                moved = [chunk.added["Full"].difference[: len(chunk.sets)] @ gradient.output for chunk in chunks]
            found[None] = torch.cat(moved)
        if "heads" in variants:
            each = torch.einsum("shd,hd->hs", closed.differences(closed.seen), gradient.heads)
            found.update(enumerate(each))
        seen, lost = closed.seen.tolist(), closed.undefined[closed.seen]
        for head, values in found.items():
            cuts += [Cut("first_order", unit, index, index, head) for unit in seen]
            effects.append(values.double().masked_fill(lost, float("nan")).cpu().numpy())
    return cuts, np.concatenate([np.zeros(0), *effects])
