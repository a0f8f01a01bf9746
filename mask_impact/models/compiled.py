"""Compiled models, measured as they were written:
a compiler would take our answers in a module's place for its code, and fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

WRAPPED, CALLABLE = "_orig_mod", "_torchdynamo_orig_callable"  # what torch.compile puts a module, or a function, into


def unwrap_compiled(model: Any) -> Any:
    """The model inside what `torch.compile(model)` gives; any other thing as it is."""
    return getattr(model, WRAPPED, model)


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[bool]:
    """Undo `module.compile()` and torch.compile of modules and of their forward functions, in the model and all inside
    it; whether there was any. As it was on leaving."""
    changes = [change for module in model.modules() for change in compiled_in(module)]
    before = [place[name] for place, name, _ in changes]
    try:
        for place, name, written in changes:
            place[name] = written
        yield bool(changes)
    finally:
        for (place, name, _), value in zip(changes, before):
            place[name] = value


def compiled_in(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """What is compiled of a module itself: where it stands, under which name, and what was written there."""
    if module._compiled_call_impl is not None:
        yield vars(module), "_compiled_call_impl", None
    if (written := getattr(vars(module).get("forward"), CALLABLE, None)) is not None:
        yield vars(module), "forward", written
    for name, child in module._modules.items():
        if hasattr(child, WRAPPED):
            yield module._modules, name, unwrap_compiled(child)
