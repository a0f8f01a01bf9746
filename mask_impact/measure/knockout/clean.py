"""What a plain forward pass leaves that rows through the model need: every layer's arguments, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.precision import full_float32
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.parts import LayerParts


@dataclass(frozen=True)
class CleanLayer:
    """One layer in a plain pass of the whole sequence.

    call: the layer's arguments, without a cache; its hidden states are (1, position, d_model).
    attention: its attention call; of the query only the shape (1, head, position, 0) is kept.
    template: what the layer answered, without its numbers.
    gap: what the decoder adds between this layer and the next one, (position, d_model); None where that is nothing.
    """

    parts: LayerParts
    call: LayerCall
    attention: AttentionCall
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
    outputs: dict[int, Any] = {}
    gaps: dict[int, Tensor | None] = {}
    by_attention = {part.attention: part.index for part in parts}

    def listen(call: AttentionCall) -> None:
        if call.module in by_attention:
            attention[by_attention[call.module]] = replace(call, query=call.query[..., :0].clone())

    def before(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = LayerCall(args, kwargs).without_cache()
        calls[index] = call.with_hidden(call.hidden.clone())
        if index - 1 in outputs:
            last = first_tensor(outputs[index - 1])
            gaps[index - 1] = None if torch.equal(last, call.hidden) else (call.hidden - last)[0]
            outputs[index - 1] = template_of(outputs[index - 1])

    with tapped(listen), hooked(*listeners(parts, before, outputs)):
        answer = model(
            input_ids=torch.tensor([token_ids], device=model.device), use_cache=False, logits_to_keep=reads, **further
        )
    layers = [
        CleanLayer(
            part, calls[part.index], attention[part.index], template_of(outputs[part.index]), gaps.get(part.index)
        )
        for part in parts
    ]
    count = len(token_ids)
    return CleanPass(model, token_ids, layers, range(count - reads, count), answer.logits[0, -reads:])


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
