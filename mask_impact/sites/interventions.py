"""Changes to a model's modules, undone on leaving: answers in their place, another dtype, no bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mask_impact.sites.parts import LayerParts, held_tensors


@contextmanager
def replace_forward(answers: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Call these functions in place of the modules' own forward."""
    own = {module: module.__dict__.get("forward") for module in answers}
    try:
        for module, answer in answers.items():
            module.forward = answer
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward


def in_dtype(parts: LayerParts, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Hold a layer's floating-point weights and buffers in `dtype`; None leaves them as they are."""
    if dtype is None or parts.dtypes == {dtype}:
        return nullcontext()
    return tensors_in(held_tensors(parts.layer), dtype)


@contextmanager
def tensors_in(tensors: list[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Hold these tensors in `dtype`. The originals come back bit for bit."""
    others = [t for t in tensors if t.dtype != dtype]
    originals = [t.data for t in others]
    try:
        for tensor in others:
            tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, original in zip(others, originals):
            tensor.data = original


@contextmanager
def without_bias(module: nn.Module) -> Iterator[None]:
    """Set all biases in a module to zero: what is linear but for them is then linear."""
    biases = [bias for name, bias in module.named_parameters() if name.endswith("bias")]
    originals = [bias.data for bias in biases]
    try:
        for bias in biases:
            bias.data = torch.zeros_like(bias.data)
        yield
    finally:
        for bias, original in zip(biases, originals):
            bias.data = original
