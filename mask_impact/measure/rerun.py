"""The literal method: for every set S, run one layer again from the same input, with -inf in S's columns of its mask.

Slow and plain: the reference that `renormalize` is held to. Queries, keys and values are the ones the model computed,
as in the other method; only the measured queries' rows of the mask are changed, since inside one layer no other row
reaches them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.noise_floor import CONTROLS, one_ulp
from mask_impact.measure.rows.masked_rows import MaskedRows, Moved
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import first_tensor, like, map_tensors
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import additive_mask

Run = dict[Any, Any]  # what was seen in one run of a layer: by name, and by module what it answered


class Rerun:
    """One layer to run again on its whole input, with sets of keys masked for the rows at some positions.

    The positions are neighbours, and lie in one attention call. Call and weights are in the dtype of the rows.
    """

    def __init__(self, layer: LayerPass, positions: Iterable[int], sets: KeySets, dtype: torch.dtype):
        self.parts, self.sets = layer.parts, sets
        self.call = layer.call.without_cache().to(dtype)
        rows = list(positions)
        self.number, query = layer.place(rows[0])
        self.first_key = layer.keys(rows[0]).start
        self.queries = slice(query, query + len(rows))
        self.rows = slice(rows[0] - layer.first, rows[0] - layer.first + len(rows))
        self.attention = [call for call, _ in layer.attention]
        self.inputs = [(call.query.to(dtype), call.key.to(dtype), call.value.to(dtype)) for call in self.attention]
        self.mask = additive_mask(self.attention[self.number], dtype)

    def __call__(self, masked_set: int | None = None, moved: Tensor | None = None) -> Run:
        """The measured rows' vectors with one set masked, or with the heads' outputs moved by `moved` (row, head, d_v).

        By name "heads" (row, head, d_v) and "output" (row, d_model); by module what attention and each branch answered.
        """
        seen: Run = {}
        calls = iter(enumerate(self.attention))

        def answer(_call: AttentionCall) -> Tensor:
            """Each recorded call's heads' outputs (1, query, head, d_v), masked or moved in the measured rows."""
            number, call = next(calls)
            if number != self.number:
                return call.run(*self.inputs[number], call.mask)
            mask = self.mask.clone()
            if masked_set is not None:
                mask[..., self.queries, self.keys(masked_set)] = float("-inf")
            output = call.run(*self.inputs[number], mask)
            if moved is not None:
                output[0, self.queries] += moved
            seen["heads"] = output[0, self.queries]
            return output

        def note(module: nn.Module, _args: Any, output: Any) -> None:
            seen[module] = map_tensors(output, lambda t: t.flatten(0, -2)[self.rows].clone())

        with tapped(answer), hooked(*noting(self.parts, note)):
            output = self.parts.layer(*self.call.args, **self.call.kwargs)
        seen["output"] = first_tensor(output).flatten(0, -2)[self.rows]
        return seen

    def keys(self, masked_set: int) -> Tensor:
        """The keys of one set that there are, as indices."""
        keys = torch.from_numpy(self.sets.positions(masked_set) - self.first_key)
        return keys[(keys >= 0) & (keys < self.mask.shape[-1])]


def noting(parts: LayerParts, note: Callable[[nn.Module, Any, Any], None]) -> Iterator[RemovableHandle]:
    """The handles of hooks that note what attention answers, before a caller's own hooks, and what the branches answer,
    behind them: as RowPass gives them in the modules' place."""
    yield parts.attention.register_forward_hook(note, prepend=True)
    for branch in parts.branches:
        yield branch.register_forward_hook(note)


def rerun(
    passes: list[RowPass], layer: Rerun, sets: Tensor, variants: tuple[str, ...], seed: int
) -> tuple[MaskedRows, ...]:
    """The masked rows of each measured position, from a run for each set; the baseline is a run that masks nothing."""
    baseline = layer()
    masked = [layer(masked_set=each) for each in sets.tolist()]
    moves = torch.stack([one_ulp(heads, seed + number) for number, heads in enumerate(baseline["heads"])], 1)
    runs = [baseline, *masked, *[layer(moved=moves[control]) for control in range(CONTROLS)]]
    return tuple(
        rows_of(rows, [of_row(run, number) for run in runs], sets, variants) for number, rows in enumerate(passes)
    )


def of_row(run: Run, number: int) -> Run:
    """What a run saw of one of the measured rows."""
    return {name: map_tensors(seen, lambda t: t[number]) for name, seen in run.items()}


def rows_of(rows: RowPass, runs: list[Run], sets: Tensor, variants: tuple[str, ...]) -> MaskedRows:
    """One measured row's masked rows, from what each run saw of it; the first run is the baseline."""
    added = {}
    if "full" in variants:
        added["Full"] = from_first(update(rows, runs))
    if "attn" in variants:
        added["Attn"] = from_first(attention_added(rows, runs))
    heads = from_first(torch.stack([run["heads"] for run in runs]))
    return MaskedRows(sets, heads, added, runs[0]["output"] if "full" in variants else None)


def from_first(vectors: Tensor) -> Moved:
    """The first of these vectors (run, ...) as the baseline of the others."""
    return Moved(vectors[0], vectors[1:] - vectors[0])


def attention_added(rows: RowPass, runs: list[Run]) -> Tensor:
    """What attention added to the residual stream in each run: (run, d_model)."""
    return rows.attention_added(torch.stack([first_tensor(run[rows.parts.attention]) for run in runs]))


def update(rows: RowPass, runs: list[Run]) -> Tensor:
    """The layer's update in each run: (run, d_model)."""
    if rows.parts.residual != "sum":
        return torch.stack([run["output"] for run in runs]) - rows.call.hidden.flatten(0, -2)
    attention = torch.stack([first_tensor(run[rows.parts.attention]) for run in runs])
    answers = {}
    for branch, template in zip(rows.parts.branches, rows.parts.branch_answers):
        stacked = torch.stack([first_tensor(run[branch]) for run in runs])
        answers[branch] = like(template, stacked[None] if first_tensor(template).dim() == 3 else stacked)
    return rows.added(attention, answers)
