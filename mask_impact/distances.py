"""How far a masked update lies from the baseline one."""

from __future__ import annotations

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


def distances(baseline: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
    """L2 and cosine distance of `baseline + difference` from `baseline`, over the last axis.

    `baseline` (..., d) and `difference` (row, ..., d) give two tensors (row, ...). L2 is in units of the residual
    stream, at least 0. Cosine is 1 - cos(D, D + e) in [0, 2], NaN where either vector is zero.

    Both keep the digits of a small difference e. With e split into `along` D and `across` it, 1 - cos is
    across^2 / (|D + e| (|D + e| + |D| + along)), which equals || D/|D| - (D + e)/|D + e| ||^2 / 2 and, unlike it,
    never subtracts two nearly equal unit vectors. Past a right angle nothing cancels and the plain form serves.
    """
    l2 = norm(difference)
    if (l2 < SHORT).any() and widest(difference) != l2.dtype:
        return tuple(each.to(l2.dtype) for each in distances(baseline.to(widest(baseline)), difference.to(widest(baseline))))
    baseline, difference, length = baseline.to(l2.dtype), difference.to(l2.dtype), norm(baseline)
    unit = baseline / length[..., None]
    along = difference @ unit if unit.dim() == 1 else torch.einsum("rhd,hd->rh", difference, unit)
    across = length_across(difference, unit, l2, along)
    masked_length = torch.hypot(length + along, across)
    acute = across.square() / (masked_length * (masked_length + length + along))
    obtuse = 1 - (length + along) / masked_length
    cosine = torch.where(length + along > 0, acute, obtuse).clamp(0, 2)
    near_zero = masked_length <= 1e-6 * length
    if near_zero.any():
        near_zero &= (difference == -baseline).all(-1)
    return l2, cosine.masked_fill(near_zero, float("nan"))


def length_across(difference: Tensor, unit: Tensor, l2: Tensor, along: Tensor) -> Tensor:
    """Length of what of `difference` (row, ..., d) is left across the unit vectors (..., d), given its length and its part along.

    By Pythagoras, which is cheap; where a difference points nearly along the unit vector (a sink without a value moves
    heads so), the subtraction would cancel, and the rest is taken component by component.
    """
    across = (l2.square() - along.square()).clamp_min(0).sqrt()
    nearly = (along.abs() > 0.9 * l2).nonzero(as_tuple=True)
    across[nearly] = norm(difference[nearly] - along[nearly][:, None] * unit[nearly[1:]])
    return across
