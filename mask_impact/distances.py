"""How far a masked update lies from the baseline one."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulator(tensor: Tensor) -> torch.dtype:
    """The dtype sums are taken in: float64, so that squares of 1e-20 survive; Apple's GPUs have none and take float32."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def norm(vectors: Tensor) -> Tensor:
    """Euclidean length over the last axis, accumulated in `accumulator`'s dtype."""
    return torch.linalg.vector_norm(vectors, dim=-1, dtype=accumulator(vectors))


def distances(baseline: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
    """L2 and cosine distance of `baseline + difference` from `baseline`, over the last axis.

    `baseline` (..., d) and `difference` (row, ..., d) give two tensors (row, ...). L2 is in units of the residual stream, at
    least 0. Cosine is 1 - cos(D, D + e) in [0, 2], NaN where either vector is zero.

    Both keep the digits of a small difference e. With e split into `along` D and the rest, 1 - cos is
    |rest|^2 / (|D + e| (|D + e| + |D| + along)), which equals || D/|D| - (D + e)/|D + e| ||^2 / 2 and, unlike it, never
    subtracts two nearly equal unit vectors. Past a right angle nothing cancels and the plain form serves.
    """
    length = norm(baseline)
    wide = difference.to(accumulator(difference))
    l2 = torch.linalg.vector_norm(wide, dim=-1)
    along = torch.einsum("r...d,...d->r...", wide, baseline.to(wide)) / length
    across = (l2.square() - along.square()).clamp_min(0)
    masked_length = ((length + along).square() + across).sqrt()
    acute = across / (masked_length * (masked_length + length + along))
    obtuse = 1 - (length + along) / masked_length
    cosine = torch.where(length + along > 0, acute, obtuse).clamp(0, 2)
    near_zero = masked_length <= 1e-6 * length
    if near_zero.any():
        near_zero &= (difference == -baseline).all(-1)
    return l2, cosine.masked_fill(near_zero, float("nan"))
