"""The arguments a layer was called with, and the tensors in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerCall:
    """The arguments a layer was called with; `hidden` finds the hidden states among them: (1, position, d_model), or in
    vision encoders (patch, d_model)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def hidden(self) -> Tensor:
        """The layer's input."""
        return self.args[0] if self.args else self.kwargs["hidden_states"]

    def with_hidden(self, hidden: Tensor) -> LayerCall:
        """The same call with another input."""
        if self.args:
            return LayerCall((hidden, *self.args[1:]), self.kwargs)
        return LayerCall((), {**self.kwargs, "hidden_states": hidden})

    def row(self, index: int) -> LayerCall:
        """The same call for one row alone: all that runs along the sequence is cut, caches are left out.

        Of hidden states (row, d_model) nothing else is kept: what runs along them has no axis of its own, and only
        attention, which is answered for, asks for it.
        """
        if self.hidden.dim() == 2:
            return LayerCall((_cut(self.hidden, len(self.hidden), index, 0),), dict.fromkeys(self.kwargs))
        length = self.hidden.shape[1]
        return self.map(lambda value: _cut(value, length, index, min(1, value.dim() - 1))).without_cache()

    def without_cache(self) -> LayerCall:
        """The same call with None in place of a key-value cache, whatever the argument is called.

        Caches are known by their method: those of some hybrids are no subclass of transformers' Cache.
        """

        def drop(value: Any) -> Any:
            return None if hasattr(value, "get_seq_length") else value

        return LayerCall(tuple(map(drop, self.args)), {key: drop(value) for key, value in self.kwargs.items()})

    def to(self, dtype: torch.dtype) -> LayerCall:
        """The same call with every floating-point tensor in `dtype`."""
        return self.map(lambda value: value.to(dtype) if value.is_floating_point() else value)

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerCall:
        """The same call with `change` applied to every tensor in it."""
        return LayerCall(map_tensors(self.args, change), map_tensors(self.kwargs, change))


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with `change` applied to each tensor inside tuples, lists and dicts; anything else as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(map_tensors(item, change) for item in value)
    if type(value) is dict:
        return {key: map_tensors(item, change) for key, item in value.items()}
    return value


def _cut(tensor: Tensor, length: int, index: int, axis: int) -> Tensor:
    """One row of a tensor that is `length` long along this axis; any other as it is."""
    if axis < 0 or tensor.shape[axis] != length:
        return tensor
    return tensor.narrow(axis, index % length, 1).clone()


def first_tensor(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden states among what a module returned: itself, or the first of a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def like(template: Any, hidden: Tensor) -> Any:
    """`hidden` in the structure a module last answered in."""
    return hidden if isinstance(template, Tensor) else (hidden, *template[1:])
