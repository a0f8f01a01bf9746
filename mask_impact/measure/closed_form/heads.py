"""What both closed forms leave (MaskedHeads), and the sums that they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mask_impact.base.precision import TOLERANCE
from mask_impact.measure.distances import norm
from mask_impact.sites.query import AT_ONCE, matmul_by_group

# What four units in the last place are of what an identity may be off by.
LAST_PLACES = {dtype: 4 * torch.finfo(dtype).eps / TOLERANCE[dtype] for dtype in (torch.float32, torch.float64)}


@dataclass(frozen=True)
class MaskedHeads(ABC):
    """Head outputs of one query with each set of keys masked in turn.

    weights: (head, key), in the widest dtype; they sum to 1, or to 1 minus the sink's share.
    value: (kv_head, key, d_v), in the model's own dtype.
    output: (head, d_v), the heads' outputs o with nothing masked.
    counts: (key,), in how many of the sets each key is.
    seen: numbers of the sets in which some head sees a key, ascending: (seen,).
    undefined: (set,), where masking leaves some head no key and no sink.
    """

    weights: Tensor
    value: Tensor
    output: Tensor
    counts: Tensor
    seen: Tensor
    undefined: Tensor
    any_undefined: bool

    @abstractmethod
    def differences(self, sets: Tensor, out: Tensor | None = None) -> Tensor:
        """o_S - o for these of the seen sets, (len(sets), head, d_v), in `out` if given; 0 where undefined."""

    @abstractmethod
    def kept(self, sets: Tensor) -> Tensor:
        """The weight that masking each of these sets leaves, 1 - p_S: (head, len(sets))."""

    def conservation(self, sets: Tensor, difference: Tensor) -> Tensor:
        """These sets' share of sum_S (1 - p_S)(o_S - o), (head, d_v), from their differences (row, head, d_v)."""
        return torch.matmul(self.kept(sets).to(difference)[:, None], difference.transpose(0, 1))[:, 0]

    def conservation_error(self, total: Tensor) -> float:
        """How far the whole sum (head, d_v) is from sum_k c_k p_k (o - v_k), over the lengths of its terms.

        c_k says in how many sets key k is. The worst head. Each set's difference may be off by the last places of o,
        which is more than the terms where the sets hold hardly any weight.
        """
        counted = (self.counts * self.weights).to(self.output)
        mass = counted.sum(-1)
        expected = self.output * mass[:, None] - combine(counted, self.value)
        large = self.value.numel() > AT_ONCE
        lengths = torch.stack([norm(value) for value in self.value]) if large else norm(self.value)
        share = counted.view(len(self.value), -1, counted.shape[1]) * lengths[:, None]
        scale = share.sum(-1).flatten() + norm(self.output) * mass
        rounding = LAST_PLACES[scale.dtype] * len(self.undefined) ** 0.5 * norm(self.output)
        return float((norm(total - expected) / (scale + rounding).clamp_min(torch.finfo(scale.dtype).tiny)).max())


def softmax_with_sink(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Weights (head, key) of logits (head, key); a sink (head,) takes its share and is left out of the answer."""
    if sink is None:
        return logits.softmax(-1)
    return torch.cat([logits, sink[:, None].to(logits.dtype)], -1).softmax(-1)[:, :-1]


def combine(weights: Tensor, value: Tensor) -> Tensor:
    """sum_k p_k v_k: weights (head, key) and value (kv_head, key, d_v) give (head, d_v), in the weights' dtype."""
    grouped = weights.view(value.shape[0], -1, weights.shape[1])
    return matmul_by_group(grouped, value).reshape(len(weights), -1)
