"""Undoes torch.compile while a model is measured: a compiler cannot compile the functions that measuring puts in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

WRAPPED, CALLABLE = (
    "_orig_mod",
    "_torchdynamo_orig_callable",
)  # where torch.compile keeps the module, or the function, that it wraps


def unwrap_compiled(model: Any) -> Any:
    """The model inside the wrapper of `torch.compile(model)`; anything else as it is."""
    return getattr(model, WRAPPED, model)


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[bool]:
    """Undo `module.compile()` and torch.compile of modules and of their forward functions, in the model and everything
    in it.

    Gives whether there was any; all is as before on leaving.
    """
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
    """What is compiled in a module itself: the dict that holds it, its name there, and the uncompiled value."""
    if module._compiled_call_impl is not None:
        yield vars(module), "_compiled_call_impl", None
    if (written := getattr(vars(module).get("forward"), CALLABLE, None)) is not None:
        yield vars(module), "forward", written
    for name, child in module._modules.items():
        if hasattr(child, WRAPPED):
            yield module._modules, name, unwrap_compiled(child)
