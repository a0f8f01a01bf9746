"""Products of float32 that are of float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def switches() -> list[tuple[Any, str, Any]]:
    """Where torch is told how to round float32 in products: the place, its attribute, and the value that keeps all digits."""
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    if not hasattr(cudnn, "conv"):  # before torch 2.9
        return [(cuda.matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    places = (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    return [(place, "fp32_precision", "ieee") for place in places]


@contextmanager
def full_float32() -> Iterator[None]:
    """No product inside rounds float32 to the 10 bits of TF32: convolutions on a GPU do unless told not to, matrix products where
    the caller has asked for it. As it was on leaving; so nothing that waits for its caller may be inside."""
    changed = [(place, name, getattr(place, name), exact) for place, name, exact in switches()
               if getattr(place, name) not in (exact, "none")]
    try:
        for place, name, _, exact in changed:
            setattr(place, name, exact)
        yield
    finally:
        for place, name, before, _ in changed:
            setattr(place, name, before)
