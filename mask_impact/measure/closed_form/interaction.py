"""The interaction of two sets of keys that share none, in closed form: what hiding both changes beyond the sum.

With D_S = o_S - o and the weights p_S, p_T, hiding both moves a head by D_S + D_T + I, where
    I = (p_T D_S + p_S D_T) / (1 - p_S - p_T)    where both hold at most half the weight
    I = (o_ST - o_S) - D_T                       where they hold more; S is the heavier, and its softmax is taken again.
A difference of differences would lose the digits of a small I.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.closed_form.sets import MaskedSets, leave_sets_out
from mask_impact.sites.query import QueryView


def head_interactions(query: QueryView, paired: PairedSets) -> Tensor:
    """I of each pair in each head, (pair, head, d_v), in the dtype of the query's view; NaN where undefined."""
    closed = leave_sets_out(query, paired.sets)
    one, other = torch.from_numpy(paired.pairs).to(closed.mass.device).unbind(1)
    every = torch.arange(len(paired.sets), device=one.device)
    moved = closed.differences(every)
    mass = closed.mass.T.to(moved.dtype)[..., None]  # (set, head, 1)
    both = mass[one] + mass[other]
    found = (mass[other] * moved[one] + mass[one] * moved[other]) / (1 - both)
    heavy = (both > 0.5)[..., 0]
    first = mass[one, :, 0] >= mass[other, :, 0]
    for number in every.tolist():
        is_heavier = heavy & torch.where(first, (one == number)[:, None], (other == number)[:, None])
        rows = is_heavier.any(1).nonzero().flatten()
        if len(rows):
            partner = torch.where(one[rows] == number, other[rows], one[rows])
            alone = without(query, paired, number).differences(partner) - moved[partner]
            found[rows] = torch.where(is_heavier[rows, :, None], alone, found[rows])
    return found


def without(query: QueryView, paired: PairedSets, number: int) -> MaskedSets:
    """The closed form of all sets where one of them is hidden already."""
    keys = torch.from_numpy(paired.sets.positions(number) - query.first_key)
    keys = keys[(keys >= 0) & (keys < query.logits.shape[1])].to(query.logits.device)
    logits = query.logits.index_fill(1, keys, float("-inf"))
    return leave_sets_out(replace(query, logits=logits, visible=query.visible.index_fill(1, keys, False)), paired.sets)
