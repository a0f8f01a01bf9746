"""The closed form for single keys, each masked alone.

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

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.closed_form.heads import MaskedHeads, combine, softmax_with_sink
from mask_impact.measure.distances import widest
from mask_impact.sites.query import QueryView


@dataclass(frozen=True)
class MaskedKeys(MaskedHeads):
    """Head outputs with single keys masked.

    `keys` (set,) are the sets' keys; `heaviest_difference` (head, d_v) is o_j - o of each head's heaviest key, 0 if
    undefined.
    """

    keys: Tensor
    heaviest_difference: Tensor
    _ratio: Tensor
    _heaviest: Tensor

    def differences(self, sets: Tensor, out: Tensor | None = None) -> Tensor:
        (groups, _, width), heads, keys = self.value.shape, len(self.output), self.keys[sets]
        if out is None:
            out = self.output.new_empty(len(sets), *self.output.shape)
        grouped, output = out.view(len(sets), groups, heads // groups, width), self.output.view(groups, -1, width)
        value, ratio = self.value, self._ratio
        if len(keys) < value.shape[1]:  # else they are all, in order
            value, ratio = value[:, keys], ratio[:, keys]
        torch.sub(output, value.transpose(0, 1).unsqueeze(2), out=grouped)
        grouped.mul_(ratio.T.reshape(len(sets), groups, heads // groups, 1))
        row, head = (keys[:, None] == self._heaviest).nonzero(as_tuple=True)
        out[row, head] = self.heaviest_difference[head]
        return out.masked_fill_(self.undefined[sets, None, None], 0) if self.any_undefined else out

    def kept(self, sets: Tensor) -> Tensor:
        return 1 - self.weights[:, self.keys[sets]]

    def factors(self, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Both (len(sets), head): p_j / (1 - p_j), but 0 at a head's heaviest key or where undefined; and 1 at a head's
        heaviest key, 0 elsewhere."""
        keys = self.keys[sets]
        heaviest = keys[:, None] == self._heaviest
        ratio = self._ratio.T[keys].masked_fill_(heaviest, 0)
        if self.any_undefined:
            ratio.masked_fill_(self.undefined[sets, None], 0)
        return ratio, heaviest.to(ratio)


def leave_one_out(query: QueryView, sets: KeySets) -> MaskedKeys:
    """The closed form for one query of a layer: each of the sets, which are single keys, masked in turn."""
    logits, value, dtype = query.logits.to(widest(query.logits)), query.value, query.logits.dtype
    heads, groups = len(logits), len(value)
    weights = softmax_with_sink(logits, query.sink)
    heaviest, every = weights.argmax(-1), torch.arange(heads, device=value.device)
    without = logits.scatter(1, heaviest[:, None], float("-inf"))
    both = torch.stack([weights, softmax_with_sink(without, query.sink)], 1).to(dtype)  # (head, 2, key)
    output, others = combine(both.flatten(0, 1), value).view(heads, 2, -1).unbind(1)
    own_value = value[every // (heads // groups), heaviest].to(dtype)
    own_weight = weights[every, heaviest].to(dtype)
    alone = (query.visible.sum(-1) == 1) & (query.sink is None)
    undefined_key = (query.visible & alone[:, None]).any(0)
    heaviest_difference = own_weight[:, None] * (others - own_value)
    heaviest_difference.masked_fill_(undefined_key[heaviest, None], 0)
    keys = torch.from_numpy(sets.members - query.first_key).to(value.device)
    there = (keys >= 0) & (keys < weights.shape[1])
    nearest = keys.clamp(0, weights.shape[1] - 1)
    seen, undefined = there & query.visible.any(0)[nearest], there & undefined_key[nearest]
    return MaskedKeys(
        weights=weights,
        value=value,
        output=output.contiguous(),
        counts=weights.new_zeros(weights.shape[1]).index_fill_(0, keys[there], 1),
        seen=seen.nonzero().flatten(),
        undefined=undefined,
        any_undefined=bool(undefined.any()),
        keys=keys,
        heaviest_difference=heaviest_difference,
        _ratio=(weights / (1 - weights)).to(dtype),
        _heaviest=heaviest,
    )
