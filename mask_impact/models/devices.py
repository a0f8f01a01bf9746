"""The device and the dtypes that a model is asked to run in."""

from __future__ import annotations

import torch

from mask_impact.base.errors import RequestError
from mask_impact.settings.text_settings import Settings

TORCH_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def find_device(settings: Settings) -> torch.device:
    """The device asked for; `auto` is CUDA, then Apple's MPS, then the CPU. Raises RequestError if it is missing."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise RequestError(
            f"--device {name} is absent: {found} CUDA devices found; choose another, or cpu, or install torch for CUDA"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("--device mps is absent: it needs an Apple GPU; choose cpu")
    if device.type == "mps" and settings.dtype == "float64":
        raise RequestError("--dtype float64 does not exist on --device mps; choose cpu, or another dtype")
    return device if device.type == "cpu" else torch.device(device.type, device.index or 0)
