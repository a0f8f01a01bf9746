"""What both methods hand to the measurement: a layer's baseline at the final position, and differences from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONTROLS = 8  # rows that mask nothing; the largest of their distances is the noise floor


@dataclass(frozen=True)
class Vectors:
    """heads (..., head, d_v), attention (..., d_model) and full (..., d_model); None where the variant was not asked for."""

    heads: Tensor
    attention: Tensor | None
    full: Tensor | None

    def named(self, heads: bool) -> dict[str, Tensor]:
        """Vectors by the variant's name in the results, in their order: Full, Attn, Head_0, ..."""
        vectors = {"Full": self.full, "Attn": self.attention}
        if heads:
            vectors |= {f"Head_{index}": self.heads[..., index, :] for index in range(self.heads.shape[-2])}
        return {name: vector for name, vector in vectors.items() if vector is not None}

    def split(self, count: int) -> tuple[Vectors, Vectors]:
        """The first rows without the last `count`, and these."""
        edge = len(self.heads) - count
        cut = lambda part: Vectors(*(None if t is None else t[part] for t in (self.heads, self.attention, self.full)))  # noqa: E731
        return cut(slice(None, edge)), cut(slice(edge, None))


@dataclass(frozen=True)
class MaskedRows:
    """A chunk of masked rows: `difference` (row, ...) of the masked keys (row,) from `baseline`, and of the control rows."""

    keys: Tensor
    baseline: Vectors
    difference: Vectors
    control: Vectors | None
    output: Tensor | None  # the layer's unmasked output (d_model,), where Full was asked for


def one_ulp(output: Tensor, seed: int) -> Tensor:
    """CONTROLS random moves of `output` by one unit in the last place in each component, as differences."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (CONTROLS, *output.shape), generator=generator).to(output.device)
    toward = torch.where(signs.bool(), float("inf"), float("-inf")).to(output)
    return torch.nextafter(output.expand_as(toward), toward) - output
