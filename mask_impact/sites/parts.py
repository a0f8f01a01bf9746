"""The modules of one layer, and how its output is made of what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


def held_tensors(module: nn.Module) -> list[Tensor]:
    """A module's floating-point weights and buffers."""
    return [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]


@dataclass(frozen=True)
class LayerParts:
    """One layer that can be measured. The short pass finds (see `finding.py`):

    index: the layer's number, from 0.
    layer, attention, projection, branches: the modules.
    direct: the heads' outputs enter the output projection as they are (no gate or norm between), and what comes out is
        the attention module's answer.
    biased: the output projection, or a module in it, has a bias.
    hooked: the layer, or a module in it, has a caller's forward hooks.
    attention_answer: what the attention module answered, before a caller's hooks.
    branch_answers: what the branches answered, behind a caller's hooks.
    heads: how many query heads there are.
    width: the size of the layer's widest activation.
    dtypes: those of its weights and buffers.

    The check on load finds by trying:

    residual: how the layer's output holds its input. "sum": the input plus what attention and branches add; "scaled": a
        multiple of that sum (Gemma 4); "normed": a norm of it (the OPT models with the norm after the sum).
    projects_linearly: what the attention module answers is linear in the heads' outputs, but for biases.
    linear: what attention adds to the residual stream is linear in them too (no norm on the way).
    as_answered: attention and branches are added as they answer, with no norm or multiplier behind them.
    can_join: further rows can join the layer's own calls of its projection and of its one branch, which follows
        attention; never where a caller's hooks would see those rows.
    """

    index: int
    layer: nn.Module
    attention: nn.Module
    projection: nn.Module
    branches: tuple[nn.Module, ...]
    direct: bool
    biased: bool
    hooked: bool
    attention_answer: Any
    branch_answers: tuple[Any, ...]
    heads: int
    width: int
    dtypes: frozenset[torch.dtype]
    residual: str = "sum"
    projects_linearly: bool = False
    linear: bool = False
    as_answered: bool = False
    can_join: bool = False


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The part of the model that holds the decoder's layers.

    In a few models `get_decoder` gives another part; then it is the base model.
    """
    candidates = (model.get_decoder(), model.base_model, model)
    return next(part for part in candidates if isinstance(part, PreTrainedModel))


def layer_count(config: PreTrainedConfig) -> int:
    """How many layers the decoder has. In encoder-decoder configurations `num_hidden_layers` counts the encoder's."""
    return getattr(config, "decoder_layers", None) or config.num_hidden_layers


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order, in whatever shape."""
    return one.dtype == other.dtype and torch.equal(one.flatten(), other.flatten())


def holds_a_matrix(module: nn.Module) -> bool:
    """Whether a module, or one inside it, has weights of two axes or more."""
    return any(p.dim() >= 2 for p in module.parameters())
