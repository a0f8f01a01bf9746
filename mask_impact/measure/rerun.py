"""The literal method: run one layer again, from the same input, with -inf in column j of its mask, for every key j.

Slow and plain: the reference that `renormalize` is held to. Queries, keys and values are the ones the model computed,
as in the other method; only the final query's row of the mask is changed, since inside one layer no other row reaches
the final one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.rows import MaskedRows, Vectors, one_ulp
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor, like, map_tensors
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import additive_mask


class Rerun:
    """One layer that can be run again on its whole input with another mask; `dtype` is that of its weights."""

    def __init__(self, parts: LayerParts, call: LayerCall, attention: AttentionCall, dtype: torch.dtype):
        self.parts = parts
        self.call = call.without_cache().to(dtype)
        self.attention = attention
        self.inputs = [t.to(dtype) for t in (attention.query, attention.key, attention.value)]
        self.mask = additive_mask(attention, dtype)

    def __call__(self, masked_key: int | None = None, moved: Tensor | None = None) -> dict[str, Any]:
        """The final position's vectors with one key masked, or with the heads' outputs moved by `moved` (head, d_v).

        By name "heads" (head, d_v) and "output" (d_model,); by module what attention and each branch answered.
        """
        seen: dict[str, Any] = {}

        def answer(_call: AttentionCall) -> Tensor:
            """The recorded call's heads' outputs (1, query, head, d_v), masked or moved in the final row."""
            mask = self.mask.clone()
            if masked_key is not None:
                mask[..., -1, masked_key] = float("-inf")
            output = self.attention.run(*self.inputs, mask)
            if moved is not None:
                output[0, -1] += moved
            seen["heads"] = output[0, -1]
            return output

        def note(module: Any, _args: Any, output: Any) -> None:
            seen[module] = map_tensors(output, lambda t: t.flatten(0, -2)[-1].clone())

        with tapped(answer), hooked(*noting(self.parts, note)):
            output = self.parts.layer(*self.call.args, **self.call.kwargs)
        seen["output"] = first_tensor(output)[0, -1]
        return seen


def noting(parts: LayerParts, note: Callable) -> Iterator[Any]:
    """The handles of hooks that note what attention answers, before a caller's own hooks, and what the branches answer, behind them.

    In that state a row pass puts them in the modules' place.
    """
    yield parts.attention.register_forward_hook(note, prepend=True)
    for branch in parts.branches:
        yield branch.register_forward_hook(note)


def rerun(rows: RowPass, layer: Rerun, keys: Tensor, variants: tuple[str, ...], seed: int) -> MaskedRows:
    """Masked rows of one layer, each from a run of its own; the first run masks nothing and is the baseline."""
    baseline = layer()
    masked = [layer(masked_key=key) for key in keys.tolist()]
    control = [layer(moved=move) for move in one_ulp(baseline["heads"], seed)]
    return rows_of(rows, [baseline, *masked, *control], keys, variants)


def rows_of(rows: RowPass, runs: list[dict], keys: Tensor, variants: tuple[str, ...]) -> MaskedRows:
    """The rows that these runs make: the first one's vectors, and what each of the others differs by."""
    vectors = Vectors(
        heads=torch.stack([run["heads"] for run in runs]),
        attention=attention_added(rows, runs) if "attn" in variants else None,
        full=update(rows, runs) if "full" in variants else None,
    )
    return MaskedRows(keys, vectors.map(lambda t: t[0]), vectors.map(lambda t: t[1:] - t[0]), runs[0]["output"])


def attention_added(rows: RowPass, runs: list[dict]) -> Tensor:
    """What attention added to the residual stream in each run: (run, d_model)."""
    return rows.attention_added(torch.stack([first_tensor(run[rows.parts.attention]) for run in runs]))


def update(rows: RowPass, runs: list[dict]) -> Tensor:
    """The layer's update in each run: (run, d_model)."""
    if rows.parts.residual != "sum":
        return torch.stack([run["output"] for run in runs]) - rows.call.hidden.flatten(0, -2)
    attention = torch.stack([first_tensor(run[rows.parts.attention]) for run in runs])
    answers = {}
    for branch, template in zip(rows.parts.branches, rows.parts.branch_answers):
        stacked = torch.stack([first_tensor(run[branch]) for run in runs])
        answers[branch] = like(template, stacked[None] if first_tensor(template).dim() == 3 else stacked)
    return rows.added(attention, answers)
