"""Forward hooks: ours, which are removed again, and the caller's, which are part of the model that is measured.

A caller's hook may change what a module answers, as a steering vector does. Where the module runs, its hooks run. Where
an answer is put in the module's place they do not run: they have seen that answer already.
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
    """Remove these hooks on leaving."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run these modules, though not those inside them, without their hooks; the hooks are back on leaving."""
    own = [(module, kind, getattr(module, kind)) for module in modules for kind in KINDS if getattr(module, kind)]
    try:
        for module, kind, _ in own:
            setattr(module, kind, OrderedDict())
        yield
    finally:
        for module, kind, hooks in own:
            setattr(module, kind, hooks)


def has_hooks(module: nn.Module) -> bool:
    """Whether a caller has forward hooks on a module, or on one inside it."""
    return any(map(own_hooks, module.modules()))


def own_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """A caller's forward hooks on this very module."""
    hooks = [hook for kind in KINDS for hook in getattr(module, kind).values()]
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("mask_impact.")]


def told_of_hooks(layer: nn.Module) -> str:
    """The end of an error message: on which modules of a layer a caller has forward hooks; empty if on none."""
    names = [name or type(layer).__name__ for name, module in layer.named_modules() if own_hooks(module)]
    return f"; forward hooks are on {', '.join(names)}: remove those that it may be" if names else ""
