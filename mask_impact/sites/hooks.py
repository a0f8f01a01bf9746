"""Forward hooks: ours, which are taken away again, and the caller's, which are part of the model that is measured.

A caller's hook may change what a module answers, as a steering vector does. It belongs to its module: where a module
runs, its hooks run, and where an answer is put in its place they do not, since that answer has been through them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

KINDS = ("_forward_hooks", "_forward_pre_hooks")


@contextmanager
def hooked(*handles: RemovableHandle) -> Iterator[None]:
    """Remove hooks on leaving."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let these modules themselves run without their hooks; they are back on leaving."""
    own = [(module, kind, getattr(module, kind)) for module in modules for kind in KINDS if getattr(module, kind)]
    try:
        for module, kind, _ in own:
            setattr(module, kind, OrderedDict())
        yield
    finally:
        for module, kind, hooks in own:
            setattr(module, kind, hooks)


def has_hooks(module: nn.Module) -> bool:
    """Whether a caller's forward hooks see what goes into a module, or into one inside it, or comes out of it."""
    return any(map(own_hooks, module.modules()))


def own_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """A caller's forward hooks on this very module."""
    hooks = [hook for kind in KINDS for hook in getattr(module, kind).values()]
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("mask_impact.")]


def told_of_hooks(layer: nn.Module) -> str:
    """Where in a layer a caller has forward hooks, as the end of a fault; nothing where there are none."""
    names = [name or type(layer).__name__ for name, module in layer.named_modules() if own_hooks(module)]
    return f"; forward hooks are on {', '.join(names)}: remove those that it may be" if names else ""
