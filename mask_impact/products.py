"""Products of linear modules by oneDNN, where torch would take MKL's.

On x86 CPUs torch has both libraries, and gives the float32 products of linear modules to MKL. On an AMD EPYC (Zen 4, two cores)
with the matrices of Qwen3-0.6B, oneDNN makes 165 to 180 GFLOP/s of 64 rows where MKL makes 128, and 218 of 1,024 rows
where MKL makes 185 to 202. Masked rows are nearly all that an analysis costs, so they, and the model's own rows beside them, go
that way. Both round as float32 does; of 1,024 terms oneDNN's sum is off by 4e-7, relative, where MKL's is by 2.5e-7.
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
OWN = (nn.Linear.forward, nn.functional.linear)  # torch's own; who replaces them wants other numbers

# oneDNN and torch's bridge to it keep what they compiled for each shape, 0.6 MB a shape and 1,024 of them, and every generated token
# brings new shapes. A layer has a handful. Both read this once, at their first product.
for capacity in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(capacity, "16")


@cache
def there() -> bool:
    """Whether torch has oneDNN's product on this machine, would take MKL's by itself, and nobody told oneDNN to round float32."""
    exact = all(os.environ.get(name, "STRICT").upper() == "STRICT" for name in ROUNDING)
    return (exact and platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkl.is_available()
            and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


def linear(module: nn.Linear, input: Tensor) -> Tensor:
    """What a linear module answers, (..., out_features); by oneDNN where all is plain float32 on a CPU that has it."""
    weight, bias = module.weight, module.bias
    if there() and torch.backends.mkldnn.enabled and is_plain(input) and is_plain(weight):
        try:
            return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
        except RuntimeError as error:
            if not str(error).startswith("could not create"):  # a shape it does not take, or no memory for what it compiles
                raise
    return nn.functional.linear(input, weight, bias)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is float32 on a CPU, and what is done with it nobody else's affair (a subclass's, a function mode's)."""
    return (tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided
            and not torch.overrides.has_torch_function((tensor,)))


def of(module: nn.Module) -> dict[nn.Module, Callable]:
    """`linear` for each plain linear module in `module`, itself included; one whose forward is not torch's own keeps it."""
    if OWN != (nn.Linear.forward, nn.functional.linear):
        return {}
    return {one: partial(linear, one) for one in module.modules() if type(one) is nn.Linear and "forward" not in vars(one)}


def of_rows(parts: LayerParts) -> dict[nn.Module, Callable]:
    """`linear` for the modules of a layer that masked rows go through: the branches', and the output projection where rows
    enter it as they are (elsewhere they come to it under vmap, which oneDNN does not know)."""
    found = of(parts.projection) if parts.direct else {}
    for branch in parts.branches:
        found |= of(branch)
    return found
