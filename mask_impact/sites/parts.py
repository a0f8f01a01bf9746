"""What a measurement needs of one layer: its modules by their part in it, and how its output is made of them."""

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
    """One measurable decoder layer.

    direct: the attention function's output enters the output projection as it is (no gate or norm between), and what
    comes out of that is the attention module's answer. residual: how the layer's output y holds its input x. "sum": x
    plus what attention and the branches add; "scaled": a multiple of that sum (Gemma 4); "normed": a norm of it (the
    OPT models with the norm after the sum). projects_linearly: what the attention module answers is linear in the
    heads' outputs, but for biases. linear: what attention adds to the residual stream is so too (no norm on the way).
    as_answered: attention and branches are added as they answer, with no norm or multiplier behind them. can_join:
    further rows can join the layer's own calls of its projection and its one branch, which follows attention; not where
    a caller's hooks would see them. biased: the output projection, or a module in it, has a bias. hooked: the layer, or
    a module in it, has a caller's forward hooks. attention_answer, branch_answers: what the modules returned, attention
    before and branches behind a caller's hooks. heads: the number of query heads. width: of the layer's widest
    activation. dtypes: of its weights and buffers.
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
    """The part of the model that holds its layers. A few models call another part their decoder."""
    candidates = (model.get_decoder(), model.base_model, model)
    return next(part for part in candidates if isinstance(part, PreTrainedModel))


def layer_count(config: PreTrainedConfig) -> int:
    """How many layers a decoder has; where it was one of an encoder-decoder model, not its encoder's number."""
    return getattr(config, "decoder_layers", None) or config.num_hidden_layers


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order, in whatever shape."""
    return one.dtype == other.dtype and torch.equal(one.flatten(), other.flatten())


def holds_a_matrix(module: nn.Module) -> bool:
    """Whether a module, or one inside it, has weights of two axes or more."""
    return any(p.dim() >= 2 for p in module.parameters())
