"""What every head would have answered with one key, or one set of keys, masked.

Masking key j renormalises the softmax over the others, so with weights p and output o = sum_k p_k v_k
    o_j - o = p_j / (1 - p_j) (o - v_j)
for every key. A set S of keys leaves as one, with p_S the sum of its weights:
    o_S - o = (p_S o - sum_{k in S} p_k v_k) / (1 - p_S) = sum_{k in S} p_k / (1 - p_S) (o - v_k).
The difference is kept, never o_S itself: it has full precision however small it is. Sets share no key, so only the
heaviest can hold more than half the weight; there 1 - p_S cancels, and the softmax is taken again without it: with its
output o',
    o_S - o = sum_{k in S} p_k (o' - v_k).
A learned sink is one more term of the denominator and drops out of both lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mask_impact.measure.distances import norm, widest
from mask_impact.sites.query import AT_ONCE, QueryView, matmul_by_group


@dataclass(frozen=True)
class MaskedHeads:
    """Head outputs of one query with each set of keys masked in turn; a set is `size` neighbouring keys.

    weights (head, key), and their sums over each set, masses (head, set), sum to 1, or to 1 minus the sink's share;
    output (head, d_v); undefined (set,) where masking leaves some head no key and no sink; heaviest_difference (head,
    d_v) is o_S - o of each head's heaviest set, 0 if undefined.
    """

    weights: Tensor
    masses: Tensor
    output: Tensor
    undefined: Tensor
    any_undefined: bool
    heaviest_difference: Tensor
    size: int
    _value: Tensor
    _ratio: Tensor
    _heaviest: Tensor

    def differences(self, sets: Tensor, out: Tensor | None = None) -> Tensor:
        """o_S - o for the sets at the indices `sets`, (len(sets), head, d_v), in `out` if given; 0 where undefined."""
        (groups, _, width), heads = self._value.shape, len(self.output)
        if out is None:
            out = self.output.new_empty(len(sets), *self.output.shape)
        grouped, output = out.view(len(sets), groups, heads // groups, width), self.output.view(groups, -1, width)
        for member in range(self.size):
            value, ratio = (self._of(tensor, sets, member) for tensor in (self._value, self._ratio))
            value, ratio = value.transpose(0, 1).unsqueeze(2), ratio.T.reshape(len(sets), groups, heads // groups, 1)
            if member == 0:
                torch.sub(output, value, out=grouped)
                grouped.mul_(ratio)
            else:
                grouped.addcmul_(output - value, ratio)
        row, head = (sets[:, None] == self._heaviest).nonzero(as_tuple=True)
        out[row, head] = self.heaviest_difference[head]
        return out.masked_fill_(self.undefined[sets, None, None], 0) if self.any_undefined else out

    def _of(self, tensor: Tensor, sets: Tensor, member: int) -> Tensor:
        """A tensor (head, key, ...) at the one key of each of these sets that is its `member`-th."""
        if len(sets) < self.masses.shape[1]:
            return tensor[:, sets * self.size + member]
        return tensor[:, member :: self.size]

    def factors(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For sets of one key, both (len(keys), head): p_j / (1 - p_j), but 0 at a head's heaviest key or where
        undefined; and 1 at a head's heaviest key, 0 elsewhere."""
        heaviest = keys[:, None] == self._heaviest
        ratio = self._ratio.T[keys].masked_fill_(heaviest, 0)
        if self.any_undefined:
            ratio.masked_fill_(self.undefined[keys, None], 0)
        return ratio, heaviest.to(ratio)

    def conservation(self, sets: Tensor, difference: Tensor) -> Tensor:
        """These sets' share of sum_S (1 - p_S)(o_S - o), (head, d_v), from their differences (row, head, d_v).

        Over all sets the sum is o (sum_S p_S - 1): 0, but for a sink.
        """
        kept = (1 - self.masses[:, sets]).to(difference)
        return torch.matmul(kept[:, None], difference.transpose(0, 1))[:, 0]

    def conservation_error(self, total: Tensor) -> float:
        """How far the whole sum (head, d_v) is from what it must be, over the lengths of its terms; the worst head."""
        expected = self.output * (self.weights.sum(-1, keepdim=True) - 1).to(self.output)
        lengths = (
            torch.stack([norm(value) for value in self._value]) if self._value.numel() > AT_ONCE else norm(self._value)
        )
        share = self.weights.view(len(self._value), -1, self.weights.shape[1]) * lengths[:, None]
        scale = share.sum(-1).flatten() + norm(self.output)
        return float((norm(total - expected) / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max())


def softmax_with_sink(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Weights (head, key) of logits (head, key); a sink (head,) takes its share and is left out of the answer."""
    if sink is None:
        return logits.softmax(-1)
    return torch.cat([logits, sink[:, None].to(logits.dtype)], -1).softmax(-1)[:, :-1]


def leave_one_out(query: QueryView) -> MaskedHeads:
    """The closed form for one query of a layer: each set of its keys masked in turn."""
    logits, value, dtype, size = query.logits.to(widest(query.logits)), query.value, query.logits.dtype, query.size
    heads, groups = len(logits), len(value)
    weights = softmax_with_sink(logits, query.sink)
    masses = weights.view(heads, -1, size).sum(-1)
    heaviest, every = masses.argmax(-1), torch.arange(heads, device=value.device)
    without = logits.view(heads, -1, size).scatter(1, heaviest[:, None, None].expand(-1, 1, size), float("-inf"))
    both = torch.stack([weights, softmax_with_sink(without.flatten(1), query.sink)], 1).to(dtype)  # (head, 2, key)
    output, others = combine(both.flatten(0, 1), value).view(heads, 2, -1).unbind(1)
    own_value = value.view(groups, -1, size, value.shape[-1])[every // (heads // groups), heaviest].to(dtype)
    own_weight = weights.view(heads, -1, size)[every, heaviest].to(dtype)
    visible = query.visible.view(heads, -1, size).any(-1)
    alone = (visible.sum(-1) == 1) & (query.sink is None)
    undefined = (visible & alone[:, None]).any(0)
    heaviest_difference = (own_weight[..., None] * (others[:, None] - own_value)).sum(1)
    heaviest_difference.masked_fill_(undefined[heaviest, None], 0)
    return MaskedHeads(
        weights=weights,
        masses=masses,
        output=output.contiguous(),
        undefined=undefined,
        any_undefined=bool(undefined.any()),
        heaviest_difference=heaviest_difference,
        size=size,
        _value=value,
        _ratio=(weights.view(heads, -1, size) / (1 - masses)[..., None]).flatten(1).to(dtype),
        _heaviest=heaviest,
    )


def combine(weights: Tensor, value: Tensor) -> Tensor:
    """sum_k p_k v_k: weights (head, key) and value (kv_head, key, d_v) give (head, d_v), in the weights' dtype."""
    grouped = weights.view(value.shape[0], -1, weights.shape[1])
    return matmul_by_group(grouped, value).reshape(len(weights), -1)
