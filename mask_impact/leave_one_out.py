"""What every head would have answered with one key masked: the closed form, and its care for the heaviest key.

Masking key j renormalises the softmax over the others, so with weights p and output o = sum_k p_k v_k
    o_j - o = p_j / (1 - p_j) (o - v_j)
for every key. The difference is kept, never o_j itself: it has full precision however small it is. Only the heaviest
key can hold more than half the weight; there 1 - p_j cancels, and the softmax is taken again without it: with its
output o',
    o_j - o = p_j (o' - v_j).
A learned sink is one more term of the denominator and drops out of both lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mask_impact.attention import FinalQuery
from mask_impact.distances import norm, widest


@dataclass(frozen=True)
class LeaveOneOut:
    """Head outputs of the final query with each key masked in turn.

    weights (head, key) sum to 1, or to 1 minus the sink's share; output (head, d_v); undefined (key,) where masking
    leaves some head no key and no sink; heaviest_difference (head, d_v) is o_j - o at each head's heaviest key, 0 if undefined.
    """

    weights: Tensor
    output: Tensor
    undefined: Tensor
    any_undefined: bool
    heaviest_difference: Tensor
    _value: Tensor
    _ratio: Tensor
    _heaviest: Tensor

    def differences(self, keys: Tensor, out: Tensor | None = None) -> Tensor:
        """o_j - o for the keys at the indices `keys`, in order: (len(keys), head, d_v), in `out` if given. 0 where undefined."""
        (groups, every, width), heads = self._value.shape, len(self.output)
        if out is None:
            out = self.output.new_empty(len(keys), *self.output.shape)
        value, ratio = self._value, self._ratio
        if len(keys) < every:
            value, ratio = value[:, keys], ratio[:, keys]
        grouped = out.view(len(keys), groups, heads // groups, width)
        torch.sub(self.output.view(groups, -1, width), value.transpose(0, 1).unsqueeze(2), out=grouped)
        grouped.mul_(ratio.T.reshape(len(keys), groups, heads // groups, 1))
        row, head = (keys[:, None] == self._heaviest).nonzero(as_tuple=True)
        out[row, head] = self.heaviest_difference[head]
        return out.masked_fill_(self.undefined[keys, None, None], 0) if self.any_undefined else out

    def factors(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """p_j / (1 - p_j), but 0 at a head's heaviest key or where undefined; and 1 there and 0 elsewhere: both (len(keys), head)."""
        heaviest = keys[:, None] == self._heaviest
        ratio = self._ratio.T[keys].masked_fill(heaviest, 0)
        if self.any_undefined:
            ratio.masked_fill_(self.undefined[keys, None], 0)
        return ratio, heaviest.to(ratio)

    def conservation(self, keys: Tensor, difference: Tensor) -> Tensor:
        """These keys' share of sum_j (1 - p_j)(o_j - o), (head, d_v), from their differences (row, head, d_v).

        Over all keys the sum is o (sum_j p_j - 1): 0, but for a sink.
        """
        kept = (1 - self.weights[:, keys]).to(difference)
        return torch.matmul(kept[:, None], difference.transpose(0, 1))[:, 0]

    def conservation_error(self, total: Tensor) -> float:
        """How far the whole sum (head, d_v) is from what it must be, over the lengths of its terms; the worst head."""
        expected = self.output * (self.weights.sum(-1, keepdim=True) - 1).to(self.output)
        share = self.weights.view(len(self._value), -1, self.weights.shape[1]) * norm(self._value)[:, None]
        scale = share.sum(-1).flatten() + norm(self.output)
        return float((norm(total - expected) / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max())


def softmax_with_sink(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Weights (head, key) of logits (head, key); a sink (head,) takes its share and is left out of the answer."""
    if sink is None:
        return logits.softmax(-1)
    return torch.cat([logits, sink[:, None].to(logits.dtype)], -1).softmax(-1)[:, :-1]


def leave_one_out(query: FinalQuery) -> LeaveOneOut:
    """The closed form for one layer's final query."""
    logits = query.logits.to(widest(query.logits))
    weights = softmax_with_sink(logits, query.sink)
    heaviest = weights.argmax(-1)
    others = softmax_with_sink(logits.scatter(1, heaviest[:, None], float("-inf")), query.sink)
    value = query.value
    heads, groups = len(weights), len(value)
    own_value = value[torch.arange(heads, device=value.device) // (heads // groups), heaviest]
    heaviest_difference = weights.gather(1, heaviest[:, None]).to(value) * (combine(others, value) - own_value)
    alone = (query.visible.sum(-1) == 1) & (query.sink is None)
    undefined = (query.visible & alone[:, None]).any(0)
    heaviest_difference.masked_fill_(undefined[heaviest, None], 0)
    return LeaveOneOut(
        weights=weights,
        output=combine(weights, value),
        undefined=undefined,
        any_undefined=bool(undefined.any()),
        heaviest_difference=heaviest_difference,
        _value=value,
        _ratio=(weights / (1 - weights)).to(value),
        _heaviest=heaviest,
    )


def combine(weights: Tensor, value: Tensor) -> Tensor:
    """sum_k p_k v_k: weights (head, key) and value (kv_head, key, d_v) give (head, d_v), in the value's dtype."""
    grouped = weights.to(value).view(value.shape[0], -1, weights.shape[1])
    return torch.matmul(grouped, value).reshape(len(weights), -1)
