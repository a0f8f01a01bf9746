"""Recording what a forward pass of the model leaves of each measured layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import one_query


@dataclass(frozen=True)
class Recording:
    """What a forward pass, which may still be under way, leaves of each layer, by the layer's index.

    layers: the layers that have answered.
    calls: the arguments of the layers that have been called.
    attention: the attention calls that have been answered, with their answers.
    """

    layers: dict[int, LayerPass] = field(default_factory=dict)
    calls: dict[int, LayerCall] = field(default_factory=dict)
    attention: dict[int, tuple[AttentionCall, Tensor]] = field(default_factory=dict)

    def forget(self, index: int) -> None:
        """Drop all that is kept of a layer."""
        for kept in (self.layers, self.calls, self.attention):
            kept.pop(index, None)


@contextmanager
def recording(parts: list[LayerParts], length: int, whole: bool) -> Iterator[Recording]:
    """Record the layers of `parts` in the forward pass inside, after which the model has seen `length` tokens.

    Without `whole`, only the last row is kept. Keys and values are not copied: they are the cache's own tensors.
    """
    recorded = Recording()
    by_attention = {part.attention: part.index for part in parts}

    def listen(call: AttentionCall) -> Tensor:
        """The model's own answer (1, query, head, d_v), kept with the call if the layer is recorded."""
        answer = call.run(call.query, call.key, call.value, call.mask)
        if call.module in by_attention:
            kept = (call, answer.clone()) if whole else (one_query(call, -1), answer[:, -1:].clone())
            recorded.attention[by_attention[call.module]] = kept
        return answer

    handles = [handle for part in parts for handle in _hooks(part, recorded, length, whole)]
    with tapped(listen), hooked(*handles):
        yield recorded


def _hooks(part: LayerParts, recorded: Recording, length: int, whole: bool) -> Iterator[RemovableHandle]:
    before, after = _listeners(part, recorded, length, whole)
    yield part.layer.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    yield part.layer.register_forward_hook(after)


def _listeners(
    part: LayerParts, recorded: Recording, length: int, whole: bool
) -> tuple[Callable[..., None], Callable[..., None]]:
    """The hooks before and after a layer.

    Joined rows may call the layer again inside its own call. The layer's own arguments then come first, its own output
    last.
    """

    def before(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if part.index not in recorded.calls:
            call = LayerCall(args, kwargs)
            recorded.calls[part.index] = call.without_cache().map(Tensor.clone) if whole else call.row(-1)

    def after(_layer: Any, _args: tuple[Any, ...], output: Any) -> None:
        rows = first_tensor(output).flatten(0, -2)
        rows = (rows if whole else rows[-1:]).clone()
        recorded.layers[part.index] = LayerPass(
            part, recorded.calls[part.index], (recorded.attention[part.index],), rows, length - len(rows)
        )

    return before, after
