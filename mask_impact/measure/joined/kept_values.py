"""Values that are projected once, for all further generation steps.

A further step feeds the model one token, yet its masked rows are as many as the tokens before it, and a good part of
what they cost is their output projection. Nearly all of that is known: the value v_j of a key does not change from step
to step. With W_h the part of the projection's matrix that belongs to head h, and r = p / (1 - p), masking key j moves
attention's answer by
    sum_h W_h (o_jh - o_h) = sum_h r_jh W_h o_h - sum_h r_jh W_h v_jh
so W_h v_jh, a vector of d_model, is kept for every position and head, and read once in each step. At a head's heaviest
key its own difference is projected in place of both terms (measure/closed_form/single_keys.py). On the shape of
Qwen3-0.6B at 256 tokens this takes 2 ms a layer, where the product of all rows takes 6. The prompt's step, if others
follow, takes its rows from the values too: projecting them stands in for the product of the rows, which is as large,
and the rest is its extra cost. In a further step the model's own one row is projected beside them and is the baseline;
its MLP does not run it twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mask_impact.measure.closed_form.single_keys import MaskedKeys
from mask_impact.measure.noise_floor import CONTROLS
from mask_impact.sites.parts import LayerParts

# The most that is kept, over the weights' bytes: it grows with the model, so where the weights fit this is not what
# memory fails on. It is enough for about 325 tokens of Qwen3-0.6B, and 420 of a model of 8B; in longer runs a pass is
# longer too, and the rows' products weigh less in it.
SHARE = 1 / 4


@dataclass(frozen=True)
class LayerValues:
    """One layer's W_h v_jh, (masked position, head, d_model), and where they are there yet, (masked position,)."""

    projected: Tensor
    there: Tensor


class ProjectedValues:
    """The projected values of a run in which so many `positions` are masked by its last step."""

    def __init__(self, positions: int):
        self.positions = positions
        self.layers: dict[int, LayerValues] = {}

    def take_in(self, parts: LayerParts, closed: MaskedKeys, others: Tensor) -> tuple[Tensor, Tensor]:
        """The projected values of the masked keys, (key, head, d_model), and `others` (row, head, d_v), projected by
        head too, (row, head, d_model).

        Values that are not there yet are computed and kept, in one product with the others: most of what few rows cost
        is the reading of the weights.
        """
        weight, places = by_head(parts), closed.seen
        if parts.index not in self.layers:
            there = places.new_zeros(self.positions, dtype=torch.bool)
            projected = weight.new_empty(self.positions, len(weight), weight.shape[2])
            self.layers[parts.index] = LayerValues(projected, there)
        layer = self.layers[parts.index]
        new = ~layer.there[places]
        value = closed.value[:, closed.keys[places[new]]].repeat_interleave(len(weight) // len(closed.value), 0)
        each = torch.bmm(torch.cat([others.transpose(0, 1), value], 1), weight).transpose(0, 1)
        layer.projected[in_one_piece(places[new])] = each[len(others) :]
        layer.there[places] = True
        return layer.projected[in_one_piece(places)], each[: len(others)]

    def take_in_again(self, parts: LayerParts, closed: MaskedKeys) -> None:
        """Keep the values that `projected_rows` kept of this query, to the last bit: in the same product, beside as
        many rows."""
        self.take_in(parts, closed, closed.value.new_zeros(3 + CONTROLS, *closed.output.shape))


def values_kept(model: PreTrainedModel, parts: list[LayerParts], positions: int) -> ProjectedValues | None:
    """Room for these layers' projected values at so many positions; None where they take more than their share."""
    plain = [(part.heads, part.projection.get_parameter("weight")) for part in parts if projects_plainly(part)]
    size = sum(heads * len(weight) * weight.itemsize for heads, weight in plain)
    weights = sum(weight.nbytes for weight in model.parameters())
    return ProjectedValues(positions) if positions * size <= SHARE * weights else None


def projects_plainly(parts: LayerParts) -> bool:
    """Whether a layer's rows can join the forward pass, and a matrix is all that its output projection is."""
    return parts.can_join and type(parts.projection) is nn.Linear


def by_head(parts: LayerParts) -> Tensor:
    """The output projection of each head, (head, d_v, d_model)."""
    return parts.projection.get_parameter("weight").unflatten(1, (parts.heads, -1)).permute(1, 2, 0)


def in_one_piece(places: Tensor) -> Tensor | slice:
    """Ascending places; as a slice, which copies nothing, where they have no gap."""
    if len(places) and int(places[-1] - places[0]) == len(places) - 1:
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def projected_rows(parts: LayerParts, closed: MaskedKeys, heads: Tensor, kept: ProjectedValues) -> Tensor:
    """What attention answers for the baseline, and its differences for each masked row and then the control rows.

    (1 + row, d_model), from the heads' output, the model's own or the closed form's, and its differences: `heads`
    (1 + row, head, d_v). Values that are new are kept.
    """
    sets = closed.seen
    few = torch.cat([closed.output[None], heads[:1], heads[1 + len(sets) :], closed.heaviest_difference[None]])
    values, each = kept.take_in(parts, closed, few)
    answers, moved = each.new_empty(len(heads), each.shape[2]), slice(1, 1 + len(sets))
    whole = each[1:-1].sum(1)
    answers[0], answers[moved.stop :] = whole[0], whole[1:]
    ratio, heaviest = closed.factors(sets)
    own = torch.addmm(ratio @ each[0], heaviest, each[-1])
    torch.baddbmm(own[:, None], ratio[:, None], values, alpha=-1, out=answers[moved, None])
    return answers
