"""One layer's attention as one query sees it: logits, values, which keys are visible."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mask_impact.sites.attention import AttentionCall

# The most numbers of keys or values that are converted to another dtype at once: 16 MB in float32. Where there are
# more, one head is converted at a time.
AT_ONCE = 2**22


def additive_mask(call: AttentionCall, dtype: torch.dtype) -> Tensor:
    """The call's mask as additive terms in `dtype`, (1, 1 or head, query, key), -inf where a key is hidden.

    A boolean mask is True where a key is seen; an additive one hides with the smallest float of its dtype. SDPA gets no
    mask where nothing but causality hides a key; here it becomes one. Whatever else the model's own mask hides (a
    sliding window) stays hidden.
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
class QueryView:
    """One layer's attention as one query sees it, in the measured dtype.

    logits: (head, key), soft-capped, -inf at hidden keys.
    value: (kv_head, key, d_v), in the model's own dtype.
    sink: (head,), the learned sinks, logits that take weight and give no value; None without them.
    visible: (head, key), False at hidden keys.
    first_key: the position of the first key.
    """

    logits: Tensor
    value: Tensor
    sink: Tensor | None
    visible: Tensor
    first_key: int


def query_view(call: AttentionCall, first_key: int, dtype: torch.dtype) -> QueryView:
    """The view of a call with one query, (1, head, 1, d_k), whose first key lies at position `first_key`."""
    query, key = call.query[0, :, -1].to(dtype), call.key[0]
    heads, groups = query.shape[0], key.shape[0]
    scaling = call.options.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    logits = matmul_by_group(query.view(groups, heads // groups, -1), key.transpose(1, 2)).reshape(heads, -1) * scaling
    softcap = call.options.get("softcap")
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if call.mask is None:  # the last query sees every key, causal or not
        visible = torch.ones_like(logits, dtype=torch.bool)
    else:
        mask = additive_mask(call, dtype)[0, :, -1]
        logits, visible = logits + mask, (mask > float("-inf")).expand(heads, -1)
    sink = call.options.get("s_aux")
    return QueryView(
        logits=logits,
        value=call.value[0],
        sink=None if sink is None else sink.to(dtype),
        visible=visible,
        first_key=first_key,
    )


def matmul_by_group(few: Tensor, many: Tensor) -> Tensor:
    """The product of `few` (group, row, n) with keys or values `many` (group, n, m), in the dtype of `few`.

    Where `many` has another dtype and more than AT_ONCE numbers, one group of it is converted at a time.
    """
    if few.dtype == many.dtype or many.numel() <= AT_ONCE:
        return torch.matmul(few, many.to(few.dtype))
    return torch.stack([torch.matmul(one, other.to(few.dtype)) for one, other in zip(few, many)])


def one_query(call: AttentionCall, index: int) -> AttentionCall:
    """The same call with the query at this index alone; keys and values are shared, not copied.

    Raises ValueError for another than the last query of a causal call without a mask: only the last one sees every key,
    and so needs none.
    """
    length = call.query.shape[2]
    index %= length
    if call.mask is None and index != length - 1 and is_causal(call):
        raise ValueError(f"query {index} of {length} of a causal call without a mask: its hidden keys are not known")
    mask = None if call.mask is None else call.mask[..., index : index + 1, :].clone()
    return replace(call, query=call.query[:, :, index : index + 1].clone(), mask=mask)
