"""What a model keeps about positions from call to call, and how no earlier call changes a later one.

Models with positions of several axes keep an offset (`rope_deltas`). Rotary embeddings keep frequencies. Dynamic ones
change with every token past the original length, and do not change back for a shorter sequence. longrope has one set
for short and one for long sequences. The keys in a cache were turned by the frequencies of their own call: once these
change, the cache is of no use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# How the names end; in front stands the kind of layer, where there are several.
FREQUENCIES, LONGEST = "inv_freq", "max_seq_len_cached"


class RotaryState:
    """The frequencies of a model's rotary embeddings, as they change from pass to pass."""

    def __init__(self, model: nn.Module):
        self.modules = [module for module in model.modules() if _frequencies(module)]
        self._last = self._copied()

    def begin(self) -> None:
        """Make the model forget earlier sequences, before a pass from a sequence's start."""
        for module in self.modules:
            for name in [name for name in vars(module) if name.endswith(LONGEST)]:
                original = getattr(module, "original_max_seq_len", None)
                prefix = name.removesuffix(LONGEST)
                if hasattr(module, f"{prefix}original_{FREQUENCIES}") and getattr(module, name) != original:
                    frequencies = getattr(module, f"{prefix}original_{FREQUENCIES}")
                    module._buffers[prefix + FREQUENCIES] = frequencies.to(_frequencies(module)[0].device)
                    setattr(module, name, original)

    def changed(self) -> bool:
        """Whether the frequencies have changed since the last call of this method, or since this object was made."""
        last, self._last = self._last, self._copied()
        return not all(map(torch.equal, last, self._last))

    def _copied(self) -> list[Tensor]:
        return [value.clone() for module in self.modules for value in _frequencies(module)]


@contextmanager
def fresh_positions(model: nn.Module) -> Iterator[RotaryState]:
    """Take away the offsets that earlier calls left; on leaving, offsets and frequencies are as they were."""
    deltas = [(vars(module), module.rope_deltas) for module in model.modules() if "rope_deltas" in vars(module)]
    rotary = RotaryState(model)
    kept = [(module, *_kept(module)) for module in rotary.modules]
    for attributes, _ in deltas:
        attributes["rope_deltas"] = None
    try:
        yield rotary
    finally:
        for attributes, offset in deltas:
            attributes["rope_deltas"] = offset
        for module, buffers, numbers in kept:
            _put_back(module, buffers, numbers)


def _kept(module: nn.Module) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Any]]:
    """A rotary embedding's buffers, each with a copy, since longrope writes into them; and its other state."""
    buffers = {name: (value, value.clone()) for name, value in module._buffers.items() if value is not None}
    return buffers, _numbers(module)


def _frequencies(module: nn.Module) -> list[Tensor]:
    """A rotary embedding's frequencies; of any other module none."""
    buffers = module._buffers.items()
    return [value for name, value in buffers if name.endswith(FREQUENCIES) and value is not None]


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.endswith((LONGEST, "attention_scaling"))}


def _put_back(module: nn.Module, buffers: dict[str, tuple[Tensor, Tensor]], numbers: dict[str, Any]) -> None:
    for name, (buffer, content) in buffers.items():
        module._buffers[name] = buffer
        if not torch.equal(buffer, content):
            buffer.copy_(content)
    for name in _numbers(module).keys() - numbers.keys():
        delattr(module, name)
    vars(module).update(numbers)
