"""How far a masked update lies from the baseline one.

On the device three numbers are taken of each masked vector, in one pass over its components; the rest is arithmetic
on those, in float64, for all variants of a layer at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Squares of components near 1e-19 leave float32's range; rows shorter than this are measured in float64.
SHORT = 1e-12


def widest(tensor: Tensor) -> torch.dtype:
    """The dtype for what must not underflow or cancel: float64; Apple's GPUs have none and take float32."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def norm(vectors: Tensor) -> Tensor:
    """Euclidean length over the last axis, in float32 or wider."""
    return torch.linalg.vector_norm(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


@dataclass(frozen=True)
class Separation:
    """What tells baselines D from D + e, each a float64 array (variant, row).

    The lengths of D and e, e's part `along` D (signed) and `across` it, and where e is exactly -D.
    """

    length: np.ndarray
    l2: np.ndarray
    along: np.ndarray
    across: np.ndarray
    cancels: np.ndarray

    @classmethod
    def of(cls, pairs: list[tuple[Tensor, Tensor]]) -> Separation:
        """Of pairs of baselines (variant, d) and differences (row, variant, d), each pair with a width d of its own."""
        parts = [(norm(baseline), *components(baseline, difference)) for baseline, difference in pairs]
        length, l2, along, across = (torch.cat(part).cpu().numpy().astype(np.float64) for part in zip(*parts))
        length = length[:, None]
        near_zero = (length + along) ** 2 + across**2 <= (1e-6 * length) ** 2
        return cls(length, l2, along, across, cancelling(pairs, near_zero))

    def cosine_distance(self) -> np.ndarray:
        """1 - cos(D, D + e) in [0, 2], NaN where either vector is zero: (variant, row).

        It keeps the digits of a small e: 1 - cos is across^2 / (|D + e| (|D + e| + |D| + along)), which equals
        || D/|D| - (D + e)/|D + e| ||^2 / 2 and, unlike it, never subtracts two nearly equal unit vectors. Past a right
        angle nothing cancels and the plain form serves.
        """
        ahead = self.length + self.along
        masked_length = np.sqrt(ahead**2 + self.across**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            acute = self.across**2 / (masked_length * (masked_length + ahead))
            cosine = np.where(ahead > 0, acute, 1 - ahead / masked_length)
        return np.where(self.cancels | (self.length == 0), np.nan, np.clip(cosine, 0, 2))


def components(baseline: Tensor, difference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The length of each difference (row, variant, d), its part along the baseline (variant, d), and across: (variant, row)."""
    difference = difference.transpose(0, 1)
    l2 = norm(difference)
    baseline, difference = baseline.to(l2.dtype), difference.to(l2.dtype)
    unit = baseline / norm(baseline)[:, None]
    along = torch.matmul(difference, unit[:, :, None])[..., 0]
    across = length_across(difference, unit, l2, along)
    if widest(l2) == l2.dtype or l2.min() >= SHORT:
        return l2, along, across
    short, wide = (l2 < SHORT).any(0), tuple(each.to(widest(l2)) for each in (l2, along, across))
    again = components(baseline.to(widest(l2)), difference[:, short].transpose(0, 1).to(widest(l2)))
    for each, precise in zip(wide, again):
        each[:, short] = precise
    return wide


def length_across(difference: Tensor, unit: Tensor, l2: Tensor, along: Tensor) -> Tensor:
    """Length of what of `difference` (variant, row, d) is left across the unit vectors (variant, d), given its length and
    its part along: (variant, row).

    By Pythagoras, which is cheap; where a difference points nearly along the unit vector (a sink without a value moves
    heads so), the subtraction would cancel, and the rest is taken component by component.
    """
    across = (l2.square() - along.square()).clamp_min(0).sqrt()
    nearly = (along.abs() > 0.9 * l2).nonzero(as_tuple=True)
    if len(nearly[0]):
        across[nearly] = norm(difference[nearly] - along[nearly][:, None] * unit[nearly[0]])
    return across


def cancelling(pairs: list[tuple[Tensor, Tensor]], suspected: np.ndarray) -> np.ndarray:
    """Where a difference is exactly minus its baseline, among the suspected cells (variant, row): a mask of that shape."""
    found, first = np.zeros_like(suspected), 0
    for baseline, difference in pairs:
        here = suspected[first : first + len(baseline)]
        if here.any():
            exact = (difference == -baseline).all(-1).T.cpu().numpy()
            found[first : first + len(baseline)] = here & exact
        first += len(baseline)
    return found
