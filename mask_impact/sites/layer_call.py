"""The arguments of a layer's call, and the tensors in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerCall:
    """The arguments of a layer's call.

    The hidden states among them are (1, position, d_model), or (patch, d_model) in a vision encoder.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def hidden(self) -> Tensor:
        """The hidden states: the layer's input."""
        return self.args[0] if self.args else self.kwargs["hidden_states"]

    def with_hidden(self, hidden: Tensor) -> LayerCall:
        """The same call with other hidden states."""
        if self.args:
            return LayerCall((hidden, *self.args[1:]), self.kwargs)
        return LayerCall((), {**self.kwargs, "hidden_states": hidden})

    def row(self, index: int) -> LayerCall:
        """The same call for one row alone: what runs along the sequence is cut to that row, caches are left out.

        Beside hidden states (patch, d_model) every other argument becomes None: only attention reads those, and a row
        is sent through the layer with an answer in attention's place.
        """
        if self.hidden.dim() == 2:
            return LayerCall((_cut(self.hidden, len(self.hidden), index, 0),), dict.fromkeys(self.kwargs))
        length = self.hidden.shape[1]
        return self.map(lambda value: _cut(value, length, index, min(1, value.dim() - 1))).without_cache()

    def without_cache(self) -> LayerCall:
        """The same call with None in place of a key-value cache, whatever the argument is called.

        A cache is known by its method `get_seq_length`: that of some hybrids is no subclass of transformers' Cache.
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
    """One row of a tensor that is `length` long along `axis`; any other tensor as it is."""
    if axis < 0 or tensor.shape[axis] != length:
        return tensor
    return tensor.narrow(axis, index % length, 1).clone()


def first_tensor(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden states in a module's answer: the answer itself, or the first of a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def like(template: Any, hidden: Tensor) -> Any:
    """An answer with `hidden` for its hidden states, and all else as in `template`, a module's earlier answer."""
    return hidden if isinstance(template, Tensor) else (hidden, *template[1:])
