"""Knock-outs the literal way: the plain model with explicit masks that hide the cut's edges, one cut at a time.

Slow and plain: the reference that rows through the model are held to. Layers without softmax attention run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.base.precision import full_float32
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import Cut
from mask_impact.measure.knockout.clean import CleanPass
from mask_impact.measure.knockout.effects import Effects, Report, ignore
from mask_impact.measure.knockout.readings import Baseline, Readings
from mask_impact.sites.attention import AttentionCall, attached, tapped
from mask_impact.sites.parts import LayerParts, decoder_of
from mask_impact.sites.positions import fresh_positions
from mask_impact.sites.query import additive_mask


@torch.inference_mode()
@full_float32()
def literal_logits(
    model: PreTrainedModel,
    parts: list[LayerParts],
    token_ids: list[int],
    sets: KeySets,
    cut: Cut | None,
    reads: Sequence[int],
    further: dict[str, Any],
) -> Tensor:
    """The logits (read, vocabulary) at these positions, from a pass over all tokens with the cut's edges hidden.

    None hides nothing, `all` the unit from every query outside it and from the read itself, `final` and `heads` from
    the last token alone. NaN at a read that some head without a sink leaves no key at all. `further` has the arguments
    of the model's call beside the token ids. In one pass, but for reads of `all` inside the unit: what such a read no
    longer sees, a layer without softmax attention would carry on to later positions; each has a pass of its own.
    """
    unit = set() if cut is None or cut.kind != "all" else set(sets.positions(cut.unit).tolist())
    together = [read for read in reads if read not in unit]
    found: dict[int, Tensor] = {}
    for group in [together, *([read] for read in unit.intersection(reads))]:
        if group:
            hidden = hidden_edges(len(token_ids), sets, cut, group)
            found |= zip(group, one_pass(model, parts, token_ids, cut, hidden, group, further))
    return torch.stack([found[read] for read in reads])


def hidden_edges(length: int, sets: KeySets, cut: Cut | None, reads: list[int]) -> Tensor:
    """Which keys a cut hides from each query: (query, key). Raises ValueError for a cut that no mask makes."""
    hidden = torch.zeros(length, length, dtype=torch.bool, device="cpu")
    if cut is None:
        return hidden
    keys = torch.from_numpy(sets.positions(cut.unit))
    if cut.kind == "all":
        hidden[:, keys] = True
        hidden[keys] = False
        hidden[torch.tensor(reads, device="cpu")[:, None], keys] = True
    elif cut.kind in ("final", "heads"):
        hidden[-1, keys] = True
    else:
        raise ValueError(f"no mask makes the cut {cut.kind!r}")
    return hidden


def one_pass(
    model: PreTrainedModel,
    parts: list[LayerParts],
    token_ids: list[int],
    cut: Cut | None,
    hidden: Tensor,
    reads: list[int],
    further: dict[str, Any],
) -> Tensor:
    """The logits (read, vocabulary) of one pass in which the cut's layers and head do not see the edges `hidden`."""
    layers = {part.attention: part.index for part in parts}
    lost = torch.zeros(len(token_ids), dtype=torch.bool, device="cpu")

    def answer(call: AttentionCall) -> Tensor | None:
        """The model's own attention with the edges hidden, (1, query, head, d_v)."""
        if call.module not in layers:
            return None
        mask = additive_mask(call, call.query.dtype)
        if cut is not None and cut.first <= layers[call.module] <= cut.last:
            queries = call.query.shape[2]  # the last ones: a layer may leave out rows whose logits nobody reads
            mask, empty = masked(call, mask, hidden[-queries:].to(mask.device), cut.head)
            lost[-queries:] |= empty.to(lost.device)
        return call.run(call.query, call.key, call.value, mask)

    with attached(decoder_of(model)), fresh_positions(model) as rotary, tapped(answer):
        rotary.begin()
        ids = torch.tensor([token_ids], device=model.device)
        kept = len(token_ids) - min(reads)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept, **further).logits[0]
    found = logits[[read - len(token_ids) for read in reads]]
    return found.masked_fill(lost[reads, None].to(found.device), float("nan"))


def masked(call: AttentionCall, own: Tensor, hidden: Tensor, head: int | None) -> tuple[Tensor, Tensor]:
    """An additive mask (1, 1 or head, query, key) with these edges (query, key) hidden in one head, or in all.

    And whether each query, (query,), would be left no key in some head without a sink: its row is left as it was.
    """
    if head is not None:
        own = own.expand(-1, call.query.shape[1], -1, -1)
        hidden = hidden & (torch.arange(own.shape[1], device=own.device) == head)[:, None, None]
    mask = own.masked_fill(hidden, float("-inf"))
    if call.options.get("s_aux") is not None:
        return mask, torch.zeros(mask.shape[2], dtype=torch.bool, device=mask.device)
    empty = (mask == float("-inf")).all(-1, keepdim=True)
    return torch.where(empty, own, mask), empty[0, ..., 0].any(0)


class LiteralKnockouts:
    """As Knockouts, by a pass of the plain model for each cut."""

    def __init__(
        self,
        clean: CleanPass,
        parts: list[LayerParts],
        tokens: Sequence[int],
        further: Callable[[list[int]], dict[str, Any]],
        report: Report = ignore,
    ):
        """`tokens` follow the clean pass's reads; `further` gives what else a call takes, from its tokens."""
        self.clean, self.parts, self.further, self._report = clean, parts, further, report
        uncut = self._logits(KeySets.of([]), None, list(clean.reads))
        self.baselines = [Baseline(logits, token) for logits, token in zip(uncut, tokens, strict=True)]
        self.floors = [each.read(each.logits[None]).largest() for each in self.baselines]

    def all(self, sets: KeySets) -> Effects:
        """See Knockouts."""
        last = self.clean.layers[-1].parts.index
        cuts = [Cut("all", unit, 0, last) for unit in range(len(sets))]
        reached = [[n for n, read in enumerate(self.clean.reads) if read >= sets.first[cut.unit]] for cut in cuts]
        return self._effects(sets, [(cut, reads) for cut, reads in zip(cuts, reached) if reads])

    def final(self, sets: KeySets, read: int, windows: Sequence[tuple[int, int]], units: Sequence[int]) -> Effects:
        """See Knockouts."""
        cuts = [Cut("final", unit, first, last) for first, last in windows for unit in units]
        return self._effects(sets, [(cut, [read]) for cut in cuts])

    def heads(self, sets: KeySets, read: int, cells: Sequence[tuple[int, int, int]]) -> Effects:
        """See Knockouts."""
        cuts = [Cut("heads", unit, layer, layer, head) for layer, head, unit in sorted(cells)]
        return self._effects(sets, [(cut, [read]) for cut in cuts])

    def _effects(self, sets: KeySets, jobs: Sequence[tuple[Cut, list[int]]]) -> Effects:
        parts, cuts, reads = [], [], []
        for cut, numbers in jobs:
            logits = self._logits(sets, cut, [self.clean.reads[number] for number in numbers])
            lost = logits.isnan().any(-1).cpu().numpy()
            each = [self.baselines[number].read(one[None]) for number, one in zip(numbers, logits.nan_to_num(0))]
            parts.append(Readings.together(each).without(lost))
            cuts += [cut] * len(numbers)
            reads += numbers
            self._report(len(numbers))
        return Effects(cuts, np.array(reads, np.int64), Readings.together(parts))

    def _logits(self, sets: KeySets, cut: Cut | None, reads: Sequence[int]) -> Tensor:
        """As `literal_logits`, of the tokens up to the last of the reads."""
        ids = self.clean.token_ids[: reads[-1] + 1]
        return literal_logits(self.clean.model, self.parts, ids, sets, cut, reads, self.further(ids))
