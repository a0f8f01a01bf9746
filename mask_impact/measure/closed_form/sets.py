"""The closed form for sets of keys, each masked as one. They may overlap, and several may hold most of the weight.

With weights p, output o and u_k = v_k - o, a set S of keys has the weight p_S and V = sum_{k in S} p_k u_k. Masking it
renormalises the softmax over the others:
    o_S - o = -V / (1 - p_S)                  where p_S is at most 1/2
    o_S - o = p_S sum_{k not in S} p'_k u_k - V   where it is more; p' is the softmax taken again without S.
Both are differences from the start, and keep their digits however small they are and whatever p_S is. A learned sink is
one more key, of value 0, that is in no set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.closed_form.heads import MaskedHeads, combine, softmax_with_sink
from mask_impact.measure.closed_form.single_keys import leave_one_out
from mask_impact.measure.distances import widest
from mask_impact.sites.query import QueryView

# Sets that are computed together: a product runs over every key that some of them have, and neighbours share few.
TOGETHER = 128


def masked_heads(query: QueryView, sets: KeySets) -> MaskedHeads:
    """The closed form for one query of a layer: each set of keys masked in turn; single keys by their cheaper form."""
    return leave_one_out(query, sets) if sets.are_alone else leave_sets_out(query, sets)


@dataclass(frozen=True)
class MaskedSets(MaskedHeads):
    """Head outputs with sets of keys masked.

    `mass` (head, set) is each set's weight p_S; `precise_output` is `output` in the widest dtype.
    """

    mass: Tensor
    precise_output: Tensor
    _logits: Tensor
    _sink: Tensor | None
    _sets: KeySets
    _first_key: int

    def differences(self, sets: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = self.output.new_empty(len(sets), *self.output.shape)
        for some, rows in zip(sets.split(TOGETHER), out.split(TOGETHER)):
            self._fill(some, rows)
        return out.masked_fill_(self.undefined[sets, None, None], 0) if self.any_undefined else out

    def kept(self, sets: Tensor) -> Tensor:
        return 1 - self.mass[:, sets]

    def _fill(self, sets: Tensor, out: Tensor) -> None:
        """Write o_S - o of a few sets into `out` (row, head, d_v)."""
        row, key = self._members(sets)
        used, column = key.unique(return_inverse=True)
        holds = out.new_zeros(len(sets), len(used)).index_put_((row, column), out.new_ones(()))
        weighted = self.weights[:, used, None].to(out.dtype) * self._from_output(used)
        inside = torch.matmul(holds, weighted)  # V: (head, row, d_v)
        mass = self.mass[:, sets]
        out.copy_((inside / (mass - 1)[..., None].to(out.dtype)).transpose(0, 1))
        heavy = (mass > 0.5) & ~self.undefined[sets]
        for head in heavy.any(1).nonzero().flatten().tolist():
            rows = heavy[head].nonzero().flatten()
            out[rows, head] = self._without(head, rows, row, key, mass[head, rows], inside[head, rows])

    def _without(self, head: int, rows: Tensor, row: Tensor, key: Tensor, mass: Tensor, inside: Tensor) -> Tensor:
        """o_S - o of one head's heavy sets, (rows, d_v), by a softmax without them; `inside` is their V."""
        hidden = torch.zeros(int(row.max()) + 1, self.weights.shape[1], dtype=torch.bool, device=row.device)
        hidden[row, key] = True
        logits = self._logits[head].masked_fill(hidden[rows], float("-inf"))
        if self._sink is not None:
            logits = torch.cat([logits, self._sink[head].to(logits.dtype).expand(len(rows), 1)], 1)
        others = logits.softmax(-1)
        every = torch.arange(self.weights.shape[1], device=row.device)
        moved = self._from_output(every, head)[0].to(others.dtype)
        if self._sink is not None:
            moved = torch.cat([moved, -self.precise_output[head, None]])
        return (mass[:, None] * (others @ moved) - inside).to(inside.dtype)

    def _members(self, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Which row of `sets` has which key, for each key that is there: both (n,)."""
        row, position = map(torch.from_numpy, self._sets.members_of(sets.cpu().numpy()))
        key = position - self._first_key
        there = (key >= 0) & (key < self.weights.shape[1])
        return row[there].to(sets.device), key[there].to(sets.device)

    def _from_output(self, keys: Tensor, head: int | None = None) -> Tensor:
        """u_k = v_k - o at these keys, (head, len(keys), d_v); of one head if it is named."""
        output, repeats = self.precise_output, len(self.output) // len(self.value)
        if head is not None:
            return (self.value[head // repeats, keys] - output[head])[None].to(self.output.dtype)
        moved = self.value[:, None, keys] - output.view(len(self.value), repeats, 1, -1)
        return moved.flatten(0, 1).to(self.output.dtype)


def leave_sets_out(query: QueryView, sets: KeySets) -> MaskedSets:
    """The closed form for one query of a layer: each of the sets masked in turn."""
    logits, value = query.logits.to(widest(query.logits)), query.value
    weights = softmax_with_sink(logits, query.sink)
    key = torch.from_numpy(sets.members - query.first_key).to(value.device)
    there = (key >= 0) & (key < weights.shape[1])
    key, number = key[there], torch.from_numpy(sets.of_members).to(value.device)[there]
    mass = weights.new_zeros(len(weights), len(sets)).index_add_(1, number, weights[:, key])
    visible = query.visible.to(weights.dtype)
    inside = torch.zeros_like(mass).index_add_(1, number, visible[:, key])
    seen = (inside > 0).any(0)
    undefined = seen & (inside == visible.sum(-1, keepdim=True)).any(0) & (query.sink is None)
    output = combine(weights, value)
    return MaskedSets(
        weights=weights,
        value=value,
        output=output.to(query.logits.dtype),
        counts=weights.new_zeros(weights.shape[1]).index_add_(0, key, weights.new_ones(len(key))),
        seen=seen.nonzero().flatten(),
        undefined=undefined,
        any_undefined=bool(undefined.any()),
        mass=mass,
        precise_output=output,
        _logits=logits,
        _sink=query.sink,
        _sets=sets,
        _first_key=query.first_key,
    )
