"""Products of linear modules by oneDNN, where torch would take MKL's.

On x86 CPUs torch has both libraries, and gives the float32 products of linear modules to MKL. On an AMD EPYC (Zen 4, two cores)
with the matrices of Qwen3-0.6B, oneDNN makes 165 to 180 GFLOP/s of 64 rows where MKL makes 128, and 218 of 1,024 rows
where MKL makes 185 to 202. Masked rows are nearly all that an analysis costs, so they, and the model's own rows beside them, go
that way. Both libraries round as float32 does; only the last bits differ.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from mask_impact.parts import LayerParts

ROUNDING = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")  # variables by which oneDNN rounds float32 to fewer bits


@cache
def there() -> bool:
    """Whether torch has oneDNN's product on this machine, would take another by itself, and nobody told oneDNN to round float32."""
    exact = all(os.environ.get(name, "STRICT").upper() == "STRICT" for name in ROUNDING)
    return (exact and platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


def linear(module: nn.Linear, input: Tensor) -> Tensor:
    """What a linear module answers, (..., out_features); by oneDNN where all is float32 on a CPU that has it."""
    weight, bias = module.weight, module.bias
    if input.device.type == "cpu" and input.dtype == weight.dtype == torch.float32 and there():
        return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return nn.functional.linear(input, weight, bias)


def of(module: nn.Module) -> dict[nn.Module, Callable]:
    """`linear` for each plain linear module in `module`, itself included; one whose forward is not torch's own keeps it."""
    return {one: partial(linear, one) for one in module.modules() if type(one) is nn.Linear and "forward" not in vars(one)}


def of_rows(parts: LayerParts) -> dict[nn.Module, Callable]:
    """`linear` for the modules of a layer that masked rows go through: the branches', and the output projection where rows
    enter it as they are (elsewhere they come to it under vmap, which oneDNN does not know)."""
    found = of(parts.projection) if parts.direct else {}
    for branch in parts.branches:
        found |= of(branch)
    return found
