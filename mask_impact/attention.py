"""Watching a decoder's attention function, and answering in its place.

`transformers` lets a model look its attention function up by name (`AttentionInterface`). `attached` gives the decoder
a name of ours whose function calls the very implementation the model would have used by itself; `tapped` lets one
listener see each call, or answer it. The model's own mask function is registered under the same name: with another one
the logits are silently wrong (off by 4 to 7 on tiny models), as they are when a sink-carrying model is forced through
SDPA.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from mask_impact.errors import RequestError, RunError

PREFIX = "mask_impact_"
SUPPORTED = ("sdpa", "eager")
# Arguments of an attention function that change its weights in ways the closed form does not know. The mere presence
# of `indices` marks a sparse-attention model: which keys are looked at is then chosen from the keys themselves.
SPARSE_ARGUMENTS = ("indices", "block_indices")
UNKNOWN_ARGUMENTS = ("position_bias", "sinks")
# Keys' or values' numbers that are converted to another dtype together, 16 MB in float32; of longer prompts, a head at a time.
AT_ONCE = 2**22


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention function.

    query (1, head, query, d_k), key (1, kv_head, key, d_k), value (1, kv_head, key, d_v).
    """

    module: nn.Module
    function: Callable
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict

    def run(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The model's own attention with these inputs: (1, query, head, d_v)."""
        return self.function(self.module, query, key, value, attention_mask=mask, **self.options)[0]


Listener = Callable[[AttentionCall], "Tensor | None"]


class _Listeners(threading.local):
    """The listeners of a thread, the innermost last."""

    def __init__(self):
        self.stack: list[Listener] = []


_listeners = _Listeners()


@contextmanager
def tapped(listener: Listener) -> Iterator[None]:
    """Show every call that this thread makes of an attached decoder's attention function to `listener`.

    What the listener returns, if not None, is the answer.
    """
    _listeners.stack.append(listener)
    try:
        yield
    finally:
        _listeners.stack.pop()


def own_function(module: nn.Module, implementation: str) -> Callable:
    """The attention function that `module` would use by itself under `implementation`."""
    for cls in type(module).__mro__:
        source = sys.modules.get(cls.__module__)
        interface = getattr(source, "ALL_ATTENTION_FUNCTIONS", None)
        if interface is not None:
            return source.eager_attention_forward if implementation == "eager" else interface[implementation]
    return ALL_ATTENTION_FUNCTIONS[implementation]


def _watched(implementation: str) -> Callable:
    def attention(module, query, key, value, attention_mask=None, **options):
        """Stand for the model's own function: query (1, head, query, d_k), keys and values as in AttentionCall; gives
        (1, query, head, d_v), the listener's answer if it has one, and None for the weights."""
        function = own_function(module, implementation)
        if not _listeners.stack:
            return function(module, query, key, value, attention_mask=attention_mask, **options)
        call = AttentionCall(module, function, query, key, value, attention_mask, options)
        answer = _listeners.stack[-1](call)
        return (call.run(query, key, value, attention_mask) if answer is None else answer), None

    return attention


@contextmanager
def attached(decoder: PreTrainedModel) -> Iterator[None]:
    """Route the decoder's attention through `tapped` listeners; its own implementation is restored on leaving.

    Raises RequestError where the decoder runs on an implementation whose masks cannot be read (flash, flex), RunError where it
    is attached already.
    """
    base = decoder.config._attn_implementation
    if base.startswith(PREFIX):
        raise RunError("this model is being measured already, in another thread or by a run that is not at its end; "
                       "wait for that, or load the model a second time")
    if base not in SUPPORTED:
        raise RequestError(
            f"attention implementation {base!r} cannot be measured; load the model with one of: {', '.join(SUPPORTED)}")
    AttentionInterface.register(PREFIX + base, _watched(base))
    AttentionMaskInterface.register(PREFIX + base, ALL_MASK_ATTENTION_FUNCTIONS[base])
    decoder.set_attn_implementation(PREFIX + base)
    try:
        yield
    finally:
        decoder.set_attn_implementation(base)


def additive_mask(call: AttentionCall, dtype: torch.dtype) -> Tensor:
    """The call's mask as additive terms in `dtype`, (1, 1 or head, query, key), -inf where a key is hidden.

    Boolean masks are True where a key is seen; additive ones hide with the smallest float of their dtype. SDPA is
    handed None when nothing but causality hides a key. Whatever else the model's own mask says (a sliding window) is
    kept.
    """
    queries, keys = call.query.shape[2], call.key.shape[2]
    mask = call.mask
    if mask is None:
        mask = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=call.query.device)
        mask = mask.tril(keys - queries) if is_causal(call) else mask
    mask = mask[..., :keys]
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
    return mask.to(dtype).masked_fill(mask <= torch.finfo(mask.dtype).min / 2, float("-inf"))


def is_causal(call: AttentionCall) -> bool:
    """Whether a call without a mask hides the keys after each query."""
    given = call.options.get("is_causal")
    return getattr(call.module, "is_causal", True) if given is None else given


@dataclass(frozen=True)
class FinalQuery:
    """Attention of one layer seen from the final position, in the dtype it is measured in.

    logits (head, key) are soft-capped, with hidden keys at -inf; value (kv_head, key, d_v) is in the model's own dtype; sink
    (head,) or None: a learned logit that takes weight and gives no value; visible (head, key) is False at hidden keys. `offset`
    is the sequence position of the first key. `chosen` (key,) is True at the keys to be masked in turn; None chooses all.
    """

    logits: Tensor
    value: Tensor
    sink: Tensor | None
    visible: Tensor
    offset: int
    chosen: Tensor | None = None

    @cached_property
    def keys(self) -> Tensor:
        """Indices of the chosen keys that some head sees, in order: (key,)."""
        seen = self.visible.any(0)
        return (seen if self.chosen is None else seen & self.chosen).nonzero().flatten()

    @property
    def other_keys(self) -> Tensor:
        """Indices of the keys that some head sees and that are not among the chosen ones, in order: (key,)."""
        return (self.visible.any(0) & ~self.chosen).nonzero().flatten()


def final_query(call: AttentionCall, length: int, dtype: torch.dtype, masked: np.ndarray | None = None) -> FinalQuery:
    """Cut a call down to its final query, of a sequence of `length` tokens, of which those at the positions `masked`
    are masked in turn, or all."""
    query, key = call.query[0, :, -1].to(dtype), call.key[0]
    heads, groups = query.shape[0], key.shape[0]
    scaling = call.options.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    logits = matmul_by_group(query.view(groups, heads // groups, -1), key.transpose(1, 2)).reshape(heads, -1) * scaling
    softcap = call.options.get("softcap")
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if call.mask is None:  # the final query sees every key, causal or not
        visible = torch.ones_like(logits, dtype=torch.bool)
    else:
        mask = additive_mask(last_row(call), dtype)[0, :, -1]
        logits, visible = logits + mask, (mask > float("-inf")).expand(heads, -1)
    sink = call.options.get("s_aux")
    return FinalQuery(
        logits=logits,
        value=call.value[0],
        sink=None if sink is None else sink.to(dtype),
        visible=visible,
        offset=length - key.shape[1],
        chosen=None if masked is None else chosen_keys(masked, length - key.shape[1], logits),
    )


def matmul_by_group(few: Tensor, many: Tensor) -> Tensor:
    """The product of (group, row, n) with keys or values (group, n, m), in the first one's dtype.

    Where the second is in another and has more than AT_ONCE numbers, one group of it is converted at a time.
    """
    if few.dtype == many.dtype or many.numel() <= AT_ONCE:
        return torch.matmul(few, many.to(few.dtype))
    return torch.stack([torch.matmul(one, other.to(few.dtype)) for one, other in zip(few, many)])


def chosen_keys(positions: np.ndarray, offset: int, logits: Tensor) -> Tensor:
    """True at the keys (key,) of these logits (head, key) that lie at the positions; the first key lies at `offset`."""
    chosen = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    chosen[torch.from_numpy(positions[positions >= offset] - offset)] = True
    return chosen


def last_row(call: AttentionCall) -> AttentionCall:
    """The same call as its final query alone sees it; keys and values are shared, not copied."""
    mask = None if call.mask is None else call.mask[..., -1:, :].clone()
    return replace(call, query=call.query[:, :, -1:].clone(), mask=mask)


def refuse_unknown(call: AttentionCall) -> None:
    """Raise RequestError for attention whose weights a softmax over the visible keys does not give."""
    if any(name in call.options for name in SPARSE_ARGUMENTS):
        raise RequestError(
            "sparse attention: the keys looked at are chosen anew from the keys themselves; it cannot be measured")
    for name in UNKNOWN_ARGUMENTS:
        if call.options.get(name) is not None:
            raise RequestError(f"attention with the argument {name!r} is not supported; it changes the weights")
