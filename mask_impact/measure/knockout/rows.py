"""Rows through the model: positions that a cut changes, sent through its layers together, down to the logits.

A cut changes the residual stream at some positions only. These are rows. Every layer is called on the rows as if they
were its sequence, its other arguments cut to their positions, while attention answers each segment of rows by the
model's own function: its keys are the clean ones of the positions before, shared, and the rows' own behind them.

Letters: R rows of a segment, P clean keys before them, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.errors import RowsRefused
from mask_impact.measure.knockout.clean import OTHERWISE, CleanLayer, CleanPass
from mask_impact.measure.step import Method
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.finding import find_layers
from mask_impact.sites.interventions import replace_forward, tensors_in
from mask_impact.sites.layer_call import LayerCall, first_tensor, like
from mask_impact.sites.parts import decoder_of, held_tensors
from mask_impact.sites.query import is_causal

LOGITS_BYTES = 48 * 2**20  # of the logits of rows that go through the model's end together


@dataclass(frozen=True)
class Segment:
    """Rows that share clean keys and may see each other.

    positions: of the rows in the sequence, (R,).
    prefix: how many clean keys, those of positions 0 to P - 1, stand before the rows' own.
    hides: which of these keys the cut hides from each row, (R, P + R).
    first, last: the layers in which it does; the rows begin at the first, from the clean stream.
    head: in which head of each row alone, (R,); None for all.
    apart: each row sees none of the others.
    reads: the rows that are read, as indices.
    start: what the rows begin as, (R, d_model), if not as the clean stream.
    """

    positions: Tensor
    prefix: int
    hides: Tensor
    first: int
    last: int
    reads: Tensor
    head: Tensor | None = None
    apart: bool = False
    start: Tensor | None = None

    def mask(self, layer: CleanLayer, dtype: torch.dtype) -> Tensor:
        """The layer's own mask for these rows with the cut in it, (1, 1 or H, R, P + R); -inf where a key is hidden."""
        columns = torch.cat([torch.arange(self.prefix, device=self.positions.device), self.positions])
        mask = mask_between(layer.attention, self.positions, columns, dtype)
        rows = len(self.positions)
        if self.apart:
            others = ~torch.eye(rows, dtype=torch.bool, device=mask.device)
            mask[..., self.prefix :].masked_fill_(others, float("-inf"))
        if not self.first <= layer.parts.index <= self.last:
            return mask
        if self.head is None:
            return mask.masked_fill_(self.hides, float("-inf"))
        heads = torch.arange(layer.parts.heads, device=mask.device)[:, None, None]
        return mask.masked_fill((heads == self.head[:, None]) & self.hides, float("-inf"))


def mask_between(call: AttentionCall, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    """The call's mask between the queries and keys of these positions, additive: (1, 1 or H, row, column), a copy."""
    if call.mask is None:
        hidden = (columns[None] > rows[:, None]) & is_causal(call)
        return torch.zeros(hidden.shape, dtype=dtype, device=rows.device).masked_fill(hidden, float("-inf"))[None, None]
    mask = call.mask[..., rows, :][..., columns]
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
    return mask.to(dtype).masked_fill(mask <= torch.finfo(mask.dtype).min / 2, float("-inf"))


@dataclass(frozen=True)
class Walk:
    """Rows of several segments on their way through the layers of a clean pass, in `dtype`."""

    clean: CleanPass
    segments: Sequence[Segment]
    method: Method
    masks: dict[tuple[int, bool, int], Tensor] = field(default_factory=dict)

    def through(self) -> tuple[list[Tensor], list[Tensor]]:
        """Each segment's rows that are read, behind the last layer, (read, d_model); and which of them are undefined.

        (read,), True where a cut leaves a row no key at all in some head without a sink.
        """
        own = self.clean.layers[0].call.hidden.dtype
        dtype = self.method.rows_dtype(own)
        streams: dict[int, Tensor] = {}
        undefined = [torch.zeros(len(each.positions), dtype=torch.bool) for each in self.segments]
        for layer in self.clean.layers:
            for number, each in enumerate(self.segments):
                if each.first == layer.parts.index:
                    clean = layer.call.hidden[0, each.positions] if each.start is None else each.start
                    streams[number] = clean.to(dtype)
            if streams:
                with self.method.weights_in(layer.parts, own):
                    self.through_layer(layer, streams, undefined)
        read = [streams[number][each.reads] for number, each in enumerate(self.segments)]
        return read, [lost[each.reads] for lost, each in zip(undefined, self.segments)]

    def through_layer(self, layer: CleanLayer, streams: dict[int, Tensor], undefined: list[Tensor]) -> None:
        """Carry the rows that have begun, by segment, through one layer."""
        segments = [self.segments[number] for number in streams]
        sizes = [len(each.positions) for each in segments]
        positions = torch.cat([each.positions for each in segments])
        hidden = torch.cat(list(streams.values()))

        def answer(call: AttentionCall) -> Tensor:
            if call.key.shape[2] != len(hidden):
                raise RowsRefused(
                    f"a layer takes its keys from another one, so its rows cannot go on by themselves: {OTHERWISE}"
                )
            parts = zip(streams, segments, *(value.split(sizes, 2) for value in (call.query, call.key, call.value)))
            return torch.cat([self.attention(layer, call, undefined[number], *part) for number, *part in parts], 1)

        call = rows_call(layer.call, positions, hidden)
        with tapped(answer):
            output = first_tensor(layer.parts.layer(*call.args, **call.kwargs)).flatten(0, -2)
        if layer.gap is not None:
            output = output + layer.gap[positions].to(output.dtype)
        streams.update(zip([*streams], output.split(sizes)))

    def attention(
        self,
        layer: CleanLayer,
        call: AttentionCall,
        undefined: Tensor,
        segment: Segment,
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        """What the model's own attention answers a segment's rows, (1, R, H, d_v)."""
        clean = layer.attention
        mask = self.mask_of(layer, segment, query.dtype, undefined)
        keys, values = (
            torch.cat([before[:, :, : segment.prefix].to(own.dtype), own], 2)
            for before, own in ((clean.key, key), (clean.value, value))
        )
        return call.run(query, keys, values, mask)

    def mask_of(self, layer: CleanLayer, segment: Segment, dtype: torch.dtype, undefined: Tensor) -> Tensor:
        """The segment's mask in this layer; a row that is left no key is noted as undefined, and sees all."""
        within = segment.first <= layer.parts.index <= segment.last
        kept = (id(segment), within, id(layer.attention.mask))
        if kept not in self.masks:
            mask = segment.mask(layer, dtype)
            lost = (mask == float("-inf")).all(-1)[0]  # (1 or H, R)
            if bool(lost.any()) and layer.attention.options.get("s_aux") is None:
                undefined |= lost.any(0).cpu()
                mask = mask.masked_fill(lost[None, ..., None], 0)
            self.masks[kept] = mask
        return self.masks[kept]


def rows_call(call: LayerCall, positions: Tensor, hidden: Tensor) -> LayerCall:
    """A layer's recorded call for rows at these positions: what runs along the sequence is taken at them."""
    length = call.hidden.shape[1]

    def cut(value: Tensor) -> Tensor:
        axis = min(1, value.dim() - 1)
        if axis < 0 or value.shape[axis] != length:
            return value
        taken = value.index_select(axis, positions)
        return taken.to(hidden.dtype) if taken.is_floating_point() else taken

    return call.with_hidden(call.hidden[:, :1]).map(cut).with_hidden(hidden[None])


@contextmanager
def end_in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Hold what stands around the decoder's layers, its last norm and the output embeddings, in `dtype`."""
    decoder = decoder_of(model)
    layers = {id(t) for t in held_tensors(find_layers(decoder))}
    ends = {id(t): t for part in (decoder, model.get_output_embeddings()) if part for t in held_tensors(part)}
    with tensors_in([t for key, t in ends.items() if key not in layers], dtype):
        yield


def logits_of(clean: CleanPass, rows: Tensor) -> Iterator[Tensor]:
    """The logits of rows behind the last layer (row, d_model), chunk by chunk (some, vocabulary).

    The model itself makes them, so that its last norm, projection, scaling and soft-capping are its own: its layers
    answer without running, the last one with the rows.
    """
    *others, last = clean.layers
    vocabulary = clean.logits.shape[-1]
    some = max(1, LOGITS_BYTES // (vocabulary * rows.element_size()))

    def passing(layer: CleanLayer) -> Any:
        return lambda *args, **kwargs: like(layer.template, LayerCall(args, kwargs).hidden)

    with end_in_dtype(clean.model, rows.dtype):
        for chunk in rows.split(some):
            answers = {layer.parts.layer: passing(layer) for layer in others}
            answers[last.parts.layer] = lambda *args, _rows=chunk, **kwargs: like(last.template, _rows[:, None])
            ids = torch.full((len(chunk), 1), clean.token_ids[0], device=clean.model.device)
            with replace_forward(answers):
                yield clean.model(input_ids=ids, use_cache=False).logits[:, -1]
