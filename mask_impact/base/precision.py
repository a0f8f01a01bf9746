"""Float32 products with all digits of float32, and each dtype's tolerance."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

AUTOCAST = ("cpu", "cuda", "mps")  # kinds of devices for which a caller may have torch.autocast on


def rounding_settings() -> list[tuple[Any, str, Any]]:
    """Torch's settings for float32 rounding: each an object, its attribute, and the value that keeps all digits."""
    backends: Any = torch.backends  # which has other attributes in each version
    cuda, cudnn, cpu = backends.cuda, backends.cudnn, backends.mkldnn
    if not hasattr(cudnn, "conv"):  # before torch 2.9
        return [(cuda.matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    places = (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    return [(place, "fp32_precision", "ieee") for place in places]


class _WithoutTF32:
    """Switches TF32 off while any thread is inside."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                rounding = [switch for switch in rounding_settings() if getattr(*switch[:2]) not in (switch[2], "none")]
                self.before = [(place, name, getattr(place, name)) for place, name, _ in rounding]
                _set(rounding)

    def __exit__(self, *_error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                _set(self.before)


def _set(rounding_settings: list[tuple[Any, str, Any]]) -> None:
    for place, name, value in rounding_settings:
        setattr(place, name, value)


_without_tf32 = _WithoutTF32()


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep products inside from rounding float32, to the 10 bits of TF32 or to the dtype of an autocast around the
    call.

    TF32 is torch's default for convolutions on a GPU, and a caller may have asked for it in matrix products. The
    settings are restored when the last thread leaves, so a generator must not yield inside.
    """
    with _without_tf32, ExitStack() as stack:
        for kind in filter(torch.is_autocast_enabled, AUTOCAST):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


# Relative errors seen on 46 architectures stay below 5e-8 in float32 and 3e-15 in float64; these leave room for wider
# models and other hardware, and lie far below what any wrong part gives (0.1 to 3).
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
