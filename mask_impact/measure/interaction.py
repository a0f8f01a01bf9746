"""How far the effect of hiding two sets of keys is from the sum of their effects, at one layer.

I = (D_ST - D) - (D_S - D) - (D_T - D) as vectors, and its length. Heads have it in closed form, and so has Attn where a
linear map carries it on. Elsewhere it is the difference of rows in float64: Full's I is about 1e-4 of the update, less
than what rows in float32 are off by. That costs a row for every set and pair, so Full has it only where pairs are few.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from mask_impact.cuts.pairs import PairedSets
from mask_impact.measure.closed_form.interaction import PairedHeads
from mask_impact.measure.closed_form.sets import leave_sets_out
from mask_impact.measure.distances import norm, widest
from mask_impact.measure.noise_floor import CONTROLS, one_ulp
from mask_impact.measure.renormalize import behind_heads
from mask_impact.measure.rerun import Rerun, rerun
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import Method
from mask_impact.sites.interventions import in_dtype, without_bias
from mask_impact.sites.layer_pass import LayerPass, LayerRow
from mask_impact.sites.query import query_view

MOST_PAIRS = 256  # in rows of float64

Vectors = dict[str, Tensor]  # by "Full" and "Attn", (pair, d_model), and "heads", (pair, head, d_v)


def interactions(layer: LayerPass, positions: Iterable[int], paired: PairedSets, method: Method) -> np.ndarray:
    """The length of each pair's interaction, (variant, pair), seen from the rows at these positions together.

    NaN where it is not computed.
    """
    rows, own = [layer.at(position) for position in positions], layer.call.hidden.dtype
    if method.name == "rerun":
        with in_dtype(layer.parts, widest(rows[0].heads)):
            vectors = literal(layer, rows, list(positions), paired, method.variants)
        of_rows = [lengths(each, method.variants, len(paired.pairs)) for each in vectors]
    else:
        of_rows = [in_closed_form(row, paired, method, own) for row in rows]
    return np.sqrt(sum(np.square(each) for each in of_rows))


def lengths(vectors: Vectors, variants: tuple[str, ...], pairs: int) -> np.ndarray:
    """The vectors' lengths in the order of the results, (variant, pair); NaN for a variant that has none."""
    found = [
        norm(vectors[name])[None] if name in vectors else torch.full((1, pairs), float("nan"))
        for name in asked(variants)
    ]
    found += [norm(vectors["heads"]).T] if "heads" in variants else []
    return np.concatenate([each.cpu().numpy().astype(np.float64) for each in found])


def asked(variants: tuple[str, ...]) -> list[str]:
    """Which of Full and Attn are measured, in the order of the results."""
    return [name for name in ("Full", "Attn") if name.lower() in variants]


def in_closed_form(row: LayerRow, paired: PairedSets, method: Method, own: torch.dtype) -> np.ndarray:
    """The lengths of the interactions at one row by the default method, (variant, pair)."""
    names = asked(method.variants)
    linear = [name for name in names if name == "Attn" and row.parts.projects_linearly and row.parts.linear]
    heads = PairedHeads.of(query_view(row.attention, row.first_key, widest(row.heads)), paired)
    rows = RowPass(row.parts, row.call.to(method.rows_dtype(own)))
    chunks = torch.arange(len(paired.pairs), device=heads.mass.device).split(
        method.rows.rows(row.parts, heads.mass.dtype)
    )
    found = np.concatenate(
        [lengths(carried(rows, heads.interactions(chunk), linear), method.variants, len(chunk)) for chunk in chunks], 1
    )
    by_rows = [name for name in names if name not in linear and not (name == "Full" and len(paired.pairs) > MOST_PAIRS)]
    if by_rows:
        wide = of_wide_rows(row, paired, by_rows)
        found[[names.index(name) for name in by_rows]] = lengths(
            wide, tuple(map(str.lower, by_rows)), len(paired.pairs)
        )
    return found


def carried(rows: RowPass, heads: Tensor, linear: list[str]) -> Vectors:
    """Heads' interactions (pair, head, d_v), and those of the variants that a linear map carries them on to."""
    found = {"heads": heads}
    for name in linear:
        with without_bias(rows.parts.projection):
            found[name] = rows.attention_added(rows.project(heads.to(rows.call.hidden.dtype)))
    return found


def of_wide_rows(row: LayerRow, paired: PairedSets, names: list[str]) -> Vectors:
    """The interactions of Full or Attn or both, from a row for every set and pair in float64."""
    wide = widest(row.heads)
    sets = paired.sets_and_unions
    with in_dtype(row.parts, wide):
        closed = leave_sets_out(query_view(row.attention, row.first_key, wide), sets)
        every = torch.arange(len(sets), device=closed.seen.device)
        heads = torch.cat([closed.output[None], closed.differences(every), one_ulp(closed.output, seed=0)])
        rows = RowPass(row.parts, row.call.to(wide))
        moved = behind_heads(rows, heads, every, tuple(name.lower() for name in names)).added
    return {name: beyond_the_sum(moved[name].difference, paired) for name in names}


def literal(
    layer: LayerPass, rows: list[LayerRow], positions: list[int], paired: PairedSets, variants: tuple[str, ...]
) -> list[Vectors]:
    """The interactions at each row by the literal method: a run of the layer for every set and pair, in float64."""
    wide, sets = widest(rows[0].heads), paired.sets_and_unions
    passes = [RowPass(row.parts, row.call.to(wide)) for row in rows]
    every = torch.arange(len(sets), device=rows[0].heads.device)
    found = rerun(passes, Rerun(layer, positions, sets, wide), every, variants, seed=0)
    return [
        {name: beyond_the_sum(moved.difference, paired) for name, moved in [*each.added.items(), ("heads", each.heads)]}
        for each in found
    ]


def beyond_the_sum(difference: Tensor, paired: PairedSets) -> Tensor:
    """D_ST - D_S - D_T of each pair, (pair, ..., d), from the differences of all sets, the unions and the control rows.

    0 where it is no longer than what three rows that mask nothing may be off by.
    """
    one, other = torch.from_numpy(paired.pairs).to(difference.device).unbind(1)
    alone, unions, controls = difference.split([len(paired.sets), len(paired.pairs), CONTROLS])
    found = unions - alone[one] - alone[other]
    floor = 3 * norm(controls).amax(0)
    return found * (norm(found) > floor)[..., None]
