"""The noise floor: how far rows that mask nothing lie from the baseline.

Eight control rows get the unmasked heads' outputs, each component moved by one unit in the last place up or down at
random, and go through the layer like any masked row. The largest of their distances is the floor: a smaller one may be
rounding alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

CONTROLS = 8


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


def noise_floors(distances: np.ndarray, masked: int) -> np.ndarray:
    """The largest distance of the control rows, which stand behind `masked` rows: (..., row) to (...)."""
    return distances[..., masked:].max(-1)
