"""Watching a model's attention function, and answering in its place.

`transformers` lets a model look its attention function up by name (`AttentionInterface`). `attached` gives a decoder or
an encoder a name of ours; the function there calls the one that the model would have used by itself. `tapped` lets one
listener see each call, or answer it.

The model's own mask function is registered under the same name: with another one the logits are wrong, and nothing says
so (off by 4 to 7 on tiny models). The same happens where a model with learned sinks is forced through SDPA.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from mask_impact.base.errors import RequestError, RunError

PREFIX = "mask_impact_"
SUPPORTED = ("sdpa", "eager")
# Arguments of an attention function that change its weights in ways the closed form does not know. The first kind need
# only be there: such a model chooses from the keys themselves which ones it looks at.
SPARSE_ARGUMENTS = ("indices", "block_indices")
UNKNOWN_ARGUMENTS = ("position_bias", "sinks")

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention function.

    query (1, head, query, d_k), key (1, kv_head, key, d_k), value (1, kv_head, key, d_v).
    """

    module: nn.Module
    function: AttentionFunction
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict[str, Any]

    def run(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The model's own attention with these inputs: (1, query, head, d_v)."""
        return self.function(self.module, query, key, value, attention_mask=mask, **self.options)[0]


Listener = Callable[[AttentionCall], "Tensor | None"]


class _Listeners(threading.local):
    """The listeners of a thread. Only the innermost, the last, sees a call."""

    def __init__(self) -> None:
        self.stack: list[Listener] = []


_listeners = _Listeners()


@contextmanager
def tapped(listener: Listener) -> Iterator[None]:
    """Show `listener` every call that this thread makes of an attached model's attention function.

    If the listener returns a tensor, (1, query, head, d_v), that is the answer; if None, the model's own function runs.
    """
    _listeners.stack.append(listener)
    try:
        yield
    finally:
        _listeners.stack.pop()


def own_function(module: nn.Module, implementation: str) -> AttentionFunction:
    """The attention function that `module` would use by itself under `implementation`."""
    for cls in type(module).__mro__:
        source = sys.modules.get(cls.__module__)
        if source is not None and hasattr(source, "ALL_ATTENTION_FUNCTIONS"):
            eager = implementation == "eager"
            return source.eager_attention_forward if eager else source.ALL_ATTENTION_FUNCTIONS[implementation]
    return ALL_ATTENTION_FUNCTIONS[implementation]


def _watched(implementation: str) -> AttentionFunction:
    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Stand in for the model's own function; shapes as in AttentionCall.

        Gives (1, query, head, d_v), the listener's answer if it has one; None stands for the weights.
        """
        function = own_function(module, implementation)
        if not _listeners.stack:
            return function(module, query, key, value, attention_mask=attention_mask, **options)
        call = AttentionCall(module, function, query, key, value, attention_mask, options)
        answer = _listeners.stack[-1](call)
        return (call.run(query, key, value, attention_mask) if answer is None else answer), None

    return attention


@contextmanager
def attached(decoder: PreTrainedModel) -> Iterator[None]:
    """Let `tapped` listeners see the attention of a decoder or an encoder, until leaving.

    Raises RequestError for an attention implementation whose masks cannot be read (flash, flex), RunError where the
    model is attached already.
    """
    base = decoder.config._attn_implementation
    if base.startswith(PREFIX):
        raise RunError(
            "this model is being measured already, in another thread or by a run that is not at its end; "
            "wait for that, or load the model a second time"
        )
    if base not in SUPPORTED:
        raise RequestError(
            f"attention implementation {base!r} cannot be measured; load the model with one of: {', '.join(SUPPORTED)}"
        )
    AttentionInterface.register(PREFIX + base, _watched(base))
    AttentionMaskInterface.register(PREFIX + base, ALL_MASK_ATTENTION_FUNCTIONS[base])
    decoder.set_attn_implementation(PREFIX + base)
    try:
        yield
    finally:
        decoder.set_attn_implementation(base)


def refuse_unknown(call: AttentionCall) -> None:
    """Raise RequestError for attention whose weights are not a plain softmax over the visible keys."""
    if any(name in call.options for name in SPARSE_ARGUMENTS):
        raise RequestError(
            "sparse attention: the keys looked at are chosen anew from the keys themselves; it cannot be measured"
        )
    for name in UNKNOWN_ARGUMENTS:
        if call.options.get(name) is not None:
            raise RequestError(f"attention with the argument {name!r} is not supported; it changes the weights")
