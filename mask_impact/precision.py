"""Products of float32 that are of float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PLACES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)


@contextmanager
def full_float32() -> Iterator[None]:
    """No product inside rounds float32 to the 10 bits of TF32: convolutions on a GPU do unless told not to, matrix products where
    the caller has asked for it. As it was on leaving."""
    before = [place.fp32_precision for place in PLACES]
    try:
        for place in PLACES:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(PLACES, before):
            place.fp32_precision = precision
