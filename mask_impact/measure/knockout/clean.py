"""What a plain forward pass leaves that rows through the model need: every layer's arguments, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.errors import RowsRefused
from mask_impact.base.precision import full_float32
from mask_impact.measure.step import Method
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import QueryView, additive_mask, query_view

OTHERWISE = "use --method rerun, or --knockout none"


@dataclass(frozen=True)
class CleanLayer:
    """One layer in a plain pass of the whole sequence.

    call: the layer's arguments, without a cache; its hidden states are (1, position, d_model).
    attention: its attention call; of the query only the shape (1, head, position, 0) is kept.
    query: that at the reads, (1, head, read, d_k).
    template: what the layer answered, without its numbers.
    gap: what the decoder adds between this layer and the next one, (position, d_model); None where that is nothing.
    """

    parts: LayerParts
    call: LayerCall
    attention: AttentionCall
    query: Tensor
    template: Any
    gap: Tensor | None


@dataclass(frozen=True)
class CleanPass:
    """A plain pass of these tokens: its layers, and its logits (read, vocabulary) at the last positions, `reads`."""

    model: PreTrainedModel
    token_ids: list[int]
    layers: list[CleanLayer]
    reads: range
    logits: Tensor


@full_float32()
def clean_pass(
    model: PreTrainedModel, parts: list[LayerParts], token_ids: list[int], reads: int, further: dict[str, Any]
) -> CleanPass:
    """One plain pass, read at its last `reads` positions; `further` is what else the model's call takes.

    `parts` are all of the decoder's layers, in order. The caller has attached the decoder.
    """
    calls: dict[int, LayerCall] = {}
    attention: dict[int, AttentionCall] = {}
    queries: dict[int, Tensor] = {}
    outputs: dict[int, Any] = {}
    gaps: dict[int, Tensor | None] = {}
    by_attention = {part.attention: part.index for part in parts}

    def listen(call: AttentionCall) -> None:
        if call.module in by_attention:
            index = by_attention[call.module]
            queries[index] = call.query[:, :, -reads:].clone()
            attention[index] = replace(call, query=call.query[..., :0].clone())

    def before(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = LayerCall(args, kwargs).without_cache()
        calls[index] = call.with_hidden(call.hidden.clone())
        if index - 1 in outputs:
            last = first_tensor(outputs[index - 1])
            apart = last.shape == call.hidden.shape and not torch.equal(last, call.hidden)
            gaps[index - 1] = (call.hidden - last)[0] if apart else None
            outputs[index - 1] = template_of(outputs[index - 1])

    with tapped(listen), hooked(*listeners(parts, before, outputs)):
        answer = model(
            input_ids=torch.tensor([token_ids], device=model.device), use_cache=False, logits_to_keep=reads, **further
        )
    layers = [
        CleanLayer(
            part,
            calls[part.index],
            attention[part.index],
            queries[part.index],
            template_of(outputs[part.index]),
            gaps.get(part.index),
        )
        for part in parts
    ]
    count = len(token_ids)
    return CleanPass(model, token_ids, layers, range(count - reads, count), answer.logits[0, -reads:])


@full_float32()
def in_rows_dtype(clean: CleanPass, method: Method) -> CleanPass:
    """The same pass with its layers made again in the dtype of the rows, so that rows and clean keys round alike.

    Raises RowsRefused where a layer sees some positions only.
    """
    own = clean.layers[0].call.hidden.dtype
    dtype, length = method.rows_dtype(own), len(clean.token_ids)
    if any(layer.call.hidden.shape[1] != length for layer in clean.layers):
        raise RowsRefused(f"some layers see only the positions whose logits are read: {OTHERWISE}")
    if dtype == own:
        return clean
    hidden, layers = clean.layers[0].call.hidden.to(dtype), []
    for layer in clean.layers:
        call = layer.call.to(dtype).with_hidden(hidden)
        seen: list[Tensor] = []
        mask = None if layer.attention.mask is None else additive_mask(layer.attention, dtype)
        with method.weights_in(layer.parts, own), tapped(answering(mask, seen)):
            hidden = first_tensor(layer.parts.layer(*call.args, **call.kwargs))
        hidden = hidden if layer.gap is None else hidden + layer.gap.to(dtype)
        query, key, value = seen
        attention = replace(layer.attention, query=query[..., :0].clone(), key=key, value=value, mask=mask)
        layers.append(replace(layer, call=call, attention=attention, query=query[:, :, -len(clean.reads) :].clone()))
    return replace(clean, layers=layers)


def answering(mask: Tensor | None, seen: list[Tensor]) -> Callable[[AttentionCall], Tensor]:
    """The model's own attention under this mask, which leaves its query, key and value in `seen`."""

    def answer(call: AttentionCall) -> Tensor:
        seen.extend((call.query, call.key, call.value))
        return call.run(call.query, call.key, call.value, mask)

    return answer


def query_at(clean: CleanPass, layer: CleanLayer, read: int, dtype: torch.dtype) -> QueryView:
    """One layer's attention as the query of a read sees it."""
    call, end = layer.attention, clean.reads[read] + 1
    mask = None if call.mask is None else call.mask[..., end - 1 : end, :end]
    seen = replace(
        call,
        query=layer.query[:, :, read : read + 1],
        key=call.key[:, :, :end],
        value=call.value[:, :, :end],
        mask=mask,
    )
    return query_view(seen, 0, dtype)


def template_of(output: Any) -> Any:
    """What a layer answered with no numbers in its hidden states."""
    none = first_tensor(output).new_zeros(0)
    return none if isinstance(output, Tensor) else (none, *output[1:])


def listeners(parts: list[LayerParts], before: Any, outputs: dict[int, Any]) -> Iterator[Any]:
    """Hooks that call `before` with each layer's arguments, and keep what it answers in `outputs`."""
    for part in parts:
        index = part.index
        yield part.layer.register_forward_pre_hook(
            lambda _, args, kwargs, index=index: before(index, args, kwargs), with_kwargs=True, prepend=True
        )
        yield part.layer.register_forward_hook(lambda _, __, output, index=index: outputs.update({index: output}))
