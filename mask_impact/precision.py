"""Products of float32 that are of float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NEW = [(place, "fp32_precision", "ieee") for place in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)]
OLD = [(place, "allow_tf32", False) for place in (torch.backends.cuda.matmul, torch.backends.cudnn)]  # before torch 2.9
SWITCHES = NEW if all(hasattr(place, name) for place, name, _ in NEW) else OLD


@contextmanager
def full_float32() -> Iterator[None]:
    """No product inside rounds float32 to the 10 bits of TF32: convolutions on a GPU do unless told not to, matrix products where
    the caller has asked for it. As it was on leaving."""
    before = [getattr(place, name) for place, name, _ in SWITCHES]
    try:
        for place, name, exact in SWITCHES:
            setattr(place, name, exact)
        yield
    finally:
        for (place, name, _), given in zip(SWITCHES, before):
            setattr(place, name, given)
