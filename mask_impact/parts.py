"""The parts of a decoder that a measurement needs, found by what they do in one forward pass of two tokens.

The layers are the outermost ModuleList of the configured length inside the decoder. A layer's attention module is the
one that calls the attention function, once; its output projection is the first linear module entered in it afterwards;
its branches are the layer's other children that hold a matrix. A layer that makes no such call has no softmax
attention and no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mask_impact.attention import AttentionCall, additive_mask, attached, refuse_unknown, tapped
from mask_impact.errors import RequestError

LINEAR = (nn.Linear, Conv1D)


@dataclass(frozen=True)
class LayerCall:
    """The arguments a layer was called with; `hidden` finds the hidden states (1, position, d_model) among them."""

    args: tuple
    kwargs: dict

    @property
    def hidden(self) -> Tensor:
        """The layer's input, (1, position, d_model)."""
        return self.args[0] if self.args else self.kwargs["hidden_states"]

    def with_hidden(self, hidden: Tensor) -> LayerCall:
        """The same call with another input."""
        if self.args:
            return LayerCall((hidden, *self.args[1:]), self.kwargs)
        return LayerCall((), {**self.kwargs, "hidden_states": hidden})

    def last_row(self) -> LayerCall:
        """The same call for the final position alone: all that runs along the sequence is cut, caches are left out."""
        length = self.hidden.shape[1]
        return self.map(lambda value: _cut(value, length)).without_cache()

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


def _cut(tensor: Tensor, length: int) -> Tensor:
    if tensor.dim() == 1 and len(tensor) == length:
        return tensor[-1:].clone()
    if tensor.dim() > 1 and tensor.shape[1] == length:
        return tensor[:, -1:].clone()
    return tensor


def held_tensors(module: nn.Module) -> list[Tensor]:
    """A module's floating-point weights and buffers."""
    return [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]


def first_tensor(output: Tensor | tuple) -> Tensor:
    """The hidden states among what a module returned: itself, or the first of a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def like(template: Any, hidden: Tensor) -> Any:
    """`hidden` in the structure a module last answered in."""
    return hidden if isinstance(template, Tensor) else (hidden, *template[1:])


@dataclass(frozen=True)
class LayerParts:
    """One measurable decoder layer.

    direct: the attention function's output enters the output projection as it is (no gate or norm between).
    residual: how the layer's output y holds its input x. "sum": x plus what attention and the branches add; "scaled":
    a multiple of that sum (Gemma 4); "normed": a norm of it (the OPT models with the norm after the sum).
    linear: what attention adds to the residual stream is linear in the heads' outputs (no norm on the way).
    as_answered: attention and branches are added as they answer, with no norm or multiplier behind them.
    rides: further rows can join the layer's own calls of its projection and its one branch, which follows attention; not
    where these have hooks, which would see them, and change what comes out behind them.
    attention_answer, branch_answers: what the modules returned, as templates of its structure.
    heads: the number of query heads. width: of the layer's widest activation. dtypes: of its weights and buffers.
    """

    index: int
    layer: nn.Module
    attention: nn.Module
    projection: nn.Module
    branches: tuple[nn.Module, ...]
    direct: bool
    attention_answer: Any
    branch_answers: tuple
    heads: int
    width: int
    dtypes: frozenset[torch.dtype]
    residual: str = "sum"
    linear: bool = False
    as_answered: bool = False
    rides: bool = False


@dataclass(frozen=True)
class Sighting:
    """What the two-token pass saw of one layer; `output` is its answer at the final position, (d_model,)."""

    call: LayerCall
    output: Tensor
    attention: AttentionCall
    attention_output: Tensor
    parts: LayerParts


def find_layers(decoder: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers: the outermost ModuleList that has `num_hidden_layers` entries.

    Raises RequestError where there is none.
    """
    count = decoder.config.get_text_config().num_hidden_layers
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise RequestError(f"no list of {count} layers found in {type(decoder).__name__}; it cannot be measured")


@contextmanager
def hooked(*handles) -> Iterator[None]:
    """Remove hooks on leaving."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch:
    """Notes, for one layer, what is called in which order during the two-token pass."""

    def __init__(self, index: int, layer: nn.Module):
        self.index, self.layer = index, layer
        self.calls: list[tuple[AttentionCall, Tensor]] = []
        self.entered: list[tuple[nn.Module, Tensor]] = []
        self.afterwards: dict[nn.Module, tuple[tuple, dict]] = {}
        self.answers: dict[nn.Module, Any] = {}
        self.call: LayerCall | None = None
        self.output: Tensor | None = None

    def before(self, layer, args, kwargs):
        self.call = LayerCall(args, kwargs).map(Tensor.clone)

    def after(self, layer, args, output):
        self.output = first_tensor(output).flatten(0, -2)[-1].clone()

    def enter(self, module, args, kwargs):
        if self.calls:
            self.afterwards[module] = args, kwargs
        if self.calls and args and isinstance(module, LINEAR):
            self.entered.append((module, args[0]))

    def leave(self, module, args, output):
        self.answers[module] = output

    def listen(self, call: AttentionCall) -> Tensor:
        output = call.run(call.query, call.key, call.value, call.mask)
        self.calls.append((call, output))
        return output

    def handles(self) -> Iterator:
        """The hooks' handles, made as they are asked for: the layer's own, and one pair for every module inside it."""
        yield self.layer.register_forward_pre_hook(self.before, with_kwargs=True)
        yield self.layer.register_forward_hook(self.after)
        for module in self.layer.modules():
            if module is not self.layer:
                yield module.register_forward_pre_hook(self.enter, with_kwargs=True)
                yield module.register_forward_hook(self.leave)

    def sighting(self, causal: bool) -> Sighting | None:
        """What was seen, or None for a layer without softmax attention; `causal` says which way attention has to go.

        Raises RequestError, naming the layer, for attention that cannot be measured.
        """
        if not self.calls:
            return None
        if len(self.calls) > 1:
            raise RequestError(
                f"layer {self.index} takes {len(self.calls)} softmaxes ({type(self.layer).__name__}); "
                "one is measured, more are not")
        call, output = self.calls[0]
        refuse_unknown(call)
        sees_later = bool((additive_mask(call, torch.float32)[..., 0, 1] > float("-inf")).any())
        if sees_later and causal:
            raise RequestError(
                f"layer {self.index} lets a token see later ones: an encoder, not a decoder; it cannot be measured")
        if not sees_later and not causal:
            raise RequestError(f"block {self.index} hides a patch from another: no vision encoder of a known kind; it cannot be measured")
        return Sighting(self.call, self.output, call, output, self._parts(call, output))

    def _parts(self, call: AttentionCall, output: Tensor) -> LayerParts:
        inside = set(call.module.modules())
        entered = [(module, seen) for module, seen in self.entered if module in inside]
        if not entered:
            raise RequestError(
                f"layer {self.index}: no linear module follows the attention function; it cannot be measured")
        projection, seen = entered[0]
        branches = tuple(
            child for child in self.layer.children() if is_branch(child, call.module) and child in self.answers)
        biased = getattr(projection, "bias", None) is not None
        if biased and has_hooks(projection):
            raise RequestError(f"layer {self.index}: its output projection has a bias and a forward hook; remove the hook")
        direct = seen.shape[-1] == output.flatten(2).shape[-1] and torch.equal(seen.flatten(), output.flatten())
        return LayerParts(
            index=self.index,
            layer=self.layer,
            attention=call.module,
            projection=projection,
            branches=branches,
            direct=direct,
            attention_answer=self.answers[call.module],
            branch_answers=tuple(self.answers[branch] for branch in branches),
            heads=output.shape[2],
            width=max(size for p in self.layer.parameters() if p.dim() >= 2 for size in p.shape[-2:]),
            dtypes=frozenset(t.dtype for t in held_tensors(self.layer)),
            rides=direct and not biased and not any(map(has_hooks, (projection, *branches))) and self._one_plain_call(branches),
        )

    def _one_plain_call(self, branches: tuple[nn.Module, ...]) -> bool:
        """Whether there is one branch, called after attention with hidden states alone, (1, position, d_model), and answering so."""
        if len(branches) != 1:
            return False
        args, kwargs = self.afterwards.get(branches[0], ((), {}))
        tensors = [*args, self.answers[branches[0]]]
        return not kwargs and len(args) == 1 and all(isinstance(t, Tensor) and t.dim() == 3 for t in tensors)


def has_hooks(module: nn.Module) -> bool:
    """Whether forward hooks of the caller's see what goes into a module or comes out of it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_branch(child: nn.Module, attention: nn.Module) -> bool:
    """Whether a layer's child adds to the residual stream beside attention: it holds a matrix, and not attention."""
    return any(p.dim() >= 2 for p in child.parameters()) and attention not in set(child.modules())


def look(model: PreTrainedModel, token_ids: list[int]) -> list[Sighting | None]:
    """Run two tokens through the model; what was seen of each layer, None where no softmax attention was called.

    Raises RequestError for a model that cannot be measured.
    """
    ids = torch.tensor([token_ids], device=model.device)
    return watched(model.get_decoder(), lambda: model(input_ids=ids, use_cache=False), causal=True)


def watched(stack: PreTrainedModel, run: Callable[[], Any], causal: bool) -> list[Sighting | None]:
    """What is seen of each layer of a decoder or an encoder while `run` sends something through it.

    Raises RequestError for layers that cannot be measured.
    """
    watches = [_Watch(index, layer) for index, layer in enumerate(find_layers(stack))]
    owner = {module: watch for watch in watches for module in watch.layer.modules()}
    with ExitStack() as contexts:
        contexts.enter_context(torch.inference_mode())
        contexts.enter_context(attached(stack))
        contexts.enter_context(tapped(lambda call: owner[call.module].listen(call)))
        contexts.enter_context(hooked(*[handle for watch in watches for handle in watch.handles()]))
        run()
    return [watch.sighting(causal) for watch in watches]
