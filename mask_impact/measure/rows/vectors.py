"""What both methods hand to the measurement: a layer's baseline at one of its rows, and differences from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mask_impact.measure.distances import Separation

CONTROLS = 8  # rows that mask nothing; the largest of their distances is the noise floor


@dataclass(frozen=True)
class Vectors:
    """heads (..., head, d_v), attention and full (..., d_model); None where the variant was not asked for."""

    heads: Tensor
    attention: Tensor | None
    full: Tensor | None

    def map(self, change: Callable[[Tensor], Tensor]) -> Vectors:
        """These vectors with `change` applied to each that is there."""
        return Vectors(*(None if t is None else change(t) for t in (self.heads, self.attention, self.full)))

    def names(self, heads: bool) -> list[str]:
        """The variants' names in the order of the results: Full, Attn, Head_0, ..."""
        whole = [name for name, vector in (("Full", self.full), ("Attn", self.attention)) if vector is not None]
        return whole + [f"Head_{index}" for index in range(self.heads.shape[-2]) if heads]

    def separation_of(self, difference: Vectors, heads: bool) -> Separation:
        """What tells rows that differ by `difference` (row, ...) from these, variants in the order of `names`."""
        both = [(self.full, difference.full), (self.attention, difference.attention)]
        pairs = [(vector[None], moved[:, None]) for vector, moved in both if vector is not None]
        return Separation.of(pairs + [(self.heads, difference.heads)] * heads)


@dataclass(frozen=True)
class MaskedRows:
    """A chunk of rows: `difference` (row, ...) from `baseline` of each set of `sets` masked,
    then of any control rows."""

    sets: Tensor
    baseline: Vectors
    difference: Vectors
    output: Tensor | None  # the layer's unmasked output (d_model,), where Full was asked for


def side_by_side(of_rows: Sequence[MaskedRows]) -> MaskedRows:
    """The masked rows of several of a layer's rows as those of one:
    heads (..., head, row * d_v), the others (..., row * d_model)."""
    first = of_rows[0]
    if len(of_rows) == 1:
        return first

    def together(vectors: list[Vectors]) -> Vectors:
        columns = ([getattr(each, name) for each in vectors] for name in ("heads", "attention", "full"))
        return Vectors(*(None if tensors[0] is None else torch.cat(tensors, -1) for tensors in columns))

    baseline, difference = (together([getattr(rows, name) for rows in of_rows]) for name in ("baseline", "difference"))
    return MaskedRows(first.sets, baseline, difference, first.output)


def one_ulp(output: Tensor, seed: int) -> Tensor:
    """CONTROLS random moves of `output` by one unit in the last place in each component, as differences."""
    here = output.cpu() if output.device.type == "mps" else output  # Apple's GPUs may lack nextafter
    toward = directions((CONTROLS, *output.shape), seed).to(here)
    return (torch.nextafter(here.expand_as(toward), toward) - here).to(output.device)


@lru_cache(maxsize=8)
def directions(shape: tuple[int, ...], seed: int) -> Tensor:
    """Infinities of random sign, the same for the same seed on every device."""
    signs = torch.randint(0, 2, shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return torch.where(signs.bool(), float("inf"), float("-inf"))
