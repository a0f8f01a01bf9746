"""The interaction of two sets of keys that share none, in closed form: what hiding both changes beyond the sum.

With D_S = o_S - o and the weights p_S, p_T, hiding both moves a head by D_S + D_T + I, where
    I = (p_T D_S + p_S D_T) / (1 - p_S - p_T)    where both hold at most half the weight
    I = (o_ST - o_S) - D_T                       where they hold more; S is the heavier, and its softmax is taken again.
A difference of differences would lose the digits of a small I.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.closed_form.sets import MaskedSets, leave_sets_out
from mask_impact.sites.query import QueryView


@dataclass(frozen=True)
class PairedHeads:
    """The interactions of pairs in the heads of one query.

    `moved` (set, head, d_v) is D_S, `mass` (set, head) p_S, both in the dtype of the query's view.
    """

    query: QueryView
    paired: PairedSets
    moved: Tensor
    mass: Tensor
    _without: dict[int, MaskedSets] = field(default_factory=dict)

    @classmethod
    def of(cls, query: QueryView, paired: PairedSets) -> PairedHeads:
        """Of one query of a layer."""
        closed = leave_sets_out(query, paired.sets)
        moved = closed.differences(torch.arange(len(paired.sets), device=closed.mass.device))
        return cls(query, paired, moved, closed.mass.T.to(moved.dtype))

    def interactions(self, pairs: Tensor) -> Tensor:
        """I of these pairs in each head, (len(pairs), head, d_v); NaN where undefined."""
        one, other = torch.from_numpy(self.paired.pairs).to(pairs.device)[pairs].unbind(1)
        both = self.mass[one] + self.mass[other]
        found = self.moved[one].mul_((self.mass[other] / (1 - both))[..., None])
        found.addcmul_(self.moved[other], (self.mass[one] / (1 - both))[..., None])
        row, head = (both > 0.5).nonzero().unbind(1)
        if len(row):
            first = self.mass[one[row], head] >= self.mass[other[row], head]
            heavier, lighter = torch.where(first, one[row], other[row]), torch.where(first, other[row], one[row])
            for number in heavier.unique().tolist():
                here = heavier == number
                partners, place = lighter[here].unique(return_inverse=True)
                moved = self.without(number).differences(partners) - self.moved[partners]
                found[row[here], head[here]] = moved[place, head[here]]
        return found

    def without(self, number: int) -> MaskedSets:
        """The closed form of all sets where one of them is hidden already."""
        if number not in self._without:
            keys = torch.from_numpy(self.paired.sets.positions(number) - self.query.first_key)
            keys = keys[(keys >= 0) & (keys < self.query.logits.shape[1])].to(self.query.logits.device)
            logits = self.query.logits.index_fill(1, keys, float("-inf"))
            query = replace(self.query, logits=logits, visible=self.query.visible.index_fill(1, keys, False))
            self._without[number] = leave_sets_out(query, self.paired.sets)
        return self._without[number]


def head_interactions(query: QueryView, paired: PairedSets) -> Tensor:
    """I of every pair in each head, (pair, head, d_v), in the dtype of the query's view; NaN where undefined."""
    heads = PairedHeads.of(query, paired)
    return heads.interactions(torch.arange(len(paired.pairs), device=heads.mass.device))
