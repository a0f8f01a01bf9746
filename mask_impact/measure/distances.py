"""How far a masked update lies from the baseline one.

The device gives two numbers of each masked vector; the rest is arithmetic on those, in float64, for all variants of a
layer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """How rows D + e differ from their baselines D: float64 arrays (variant, row).

    `length` is that of D, (variant, 1), and `l2` that of e; `along` D (signed) and `across` it are e's parts; `cancels`
    is True where e is exactly -D.
    """

    length: np.ndarray
    l2: np.ndarray
    along: np.ndarray
    across: np.ndarray
    cancels: np.ndarray

    @classmethod
    def of(cls, pairs: list[tuple[Tensor, Tensor]]) -> Separation:
        """Of pairs of baselines (variant, d) and differences (row, variant, d), each pair with a width d of its own.

        Pythagoras gives `across`, and is cheap. Where it would cancel (a sink without a value moves heads along their
        own output), or squares would leave the dtype's range, the cell is computed component by component.
        """
        parts = zip(*(components(baseline, difference) for baseline, difference in pairs))
        length, l2, along = (torch.cat(part).cpu().numpy().astype(np.float64) for part in parts)
        across = np.sqrt(np.maximum(l2**2 - along**2, 0))
        cancels, doubtful, first = np.zeros(l2.shape, bool), (np.abs(along) > 0.9 * l2) | (l2 < SHORT), 0
        for baseline, difference in pairs if doubtful.any() else ():
            variants = slice(first, first + len(baseline))
            cells = np.nonzero(doubtful[variants])
            variant, row = map(torch.from_numpy, cells)
            precise = component_by_component(baseline[variant], difference[row, variant])
            for kept, again in zip((l2, along, across, cancels), precise):
                kept[variants][cells] = again.cpu().numpy()
            first = variants.stop
        return cls(length[:, None], l2, along, across, cancels)

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
    """The baselines' lengths (variant,); then the lengths of the differences (row, variant, d) and their parts along
    the baseline, both (variant, row)."""
    l2, length = norm(difference), norm(baseline)
    unit = baseline.to(l2.dtype) / length[:, None]
    return length, l2.T, torch.linalg.vecdot(difference.to(l2.dtype), unit).T


def component_by_component(baseline: Tensor, difference: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each difference's length, part along, length across, and whether it is exactly -baseline; in the widest dtype.

    Both (cell, d).
    """
    baseline, difference = baseline.to(widest(baseline)), difference.to(widest(baseline))
    unit = baseline / norm(baseline)[:, None]
    along = (difference * unit).sum(-1)
    return norm(difference), along, norm(difference - along[:, None] * unit), (difference == -baseline).all(-1)


@dataclass(frozen=True)
class LayerDistances:
    """One layer at one step.

    l2 and cosine are distances (variant, set), NaN where undefined; the norms and noise floors are (variant,).
    `interaction` (variant, set) has the lengths of pairs' interactions, NaN where there is none; None without pairs.
    Where they are means over several measured cells, `each` may have Full's L2 for each of these: (measured, set).
    """

    layer: int
    variants: list[str]
    l2: np.ndarray
    cosine: np.ndarray
    baseline_norm: np.ndarray
    noise_floor_l2: np.ndarray
    noise_floor_cosine: np.ndarray
    each: np.ndarray | None = None
    interaction: np.ndarray | None = None

    def followed_by(self, pairs: LayerDistances) -> LayerDistances:
        """The same with the pairs' distances behind those of the sets; each one's norms and noise floors are these."""
        none = np.full_like(self.l2, np.nan)
        assert pairs.interaction is not None, "pairs have an interaction"
        return replace(
            self,
            l2=np.concatenate([self.l2, pairs.l2], 1),
            cosine=np.concatenate([self.cosine, pairs.cosine], 1),
            interaction=np.concatenate([none, pairs.interaction], 1),
        )
