"""The parts of a decoder that a measurement needs, found by what they do in one forward pass of two tokens.

The layers are the outermost ModuleList of the configured length inside the decoder. A layer's attention module is the
one that calls the attention function, once; its output projection is the outermost module entered in it afterwards that
holds a matrix and gives attention's answer, with whatever an adapter or a caller has wrapped around the linear module;
its branches are the layer's other children that hold a matrix. A layer that makes no such call has no softmax
attention and no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from mask_impact.base.errors import RequestError
from mask_impact.sites.attention import AttentionCall, attached, refuse_unknown, tapped
from mask_impact.sites.hooks import has_hooks, hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor, map_tensors
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts, held_tensors, holds_a_matrix, layer_count, same_numbers
from mask_impact.sites.query import additive_mask


def find_layers(decoder: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers: the outermost ModuleList that has as many entries as its configuration tells.

    Raises RequestError where there is none.
    """
    count = layer_count(decoder.config.get_text_config())
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise RequestError(f"no list of {count} layers found in {type(decoder).__name__}; it cannot be measured")


class _Watch:
    """Notes, for one layer, what is called in which order during the two-token pass."""

    def __init__(self, index: int, layer: nn.Module):
        self.index, self.layer = index, layer
        self.calls: list[tuple[AttentionCall, Tensor]] = []
        self.entered: list[tuple[nn.Module, Tensor]] = []
        self.arguments: dict[nn.Module, LayerCall] = {}
        self.answers: dict[nn.Module, Any] = {}
        self.own_answers: dict[nn.Module, Any] = {}

    def begin(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.arguments[layer] = LayerCall(args, kwargs).map(Tensor.clone)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.calls:
            self.arguments[module] = LayerCall(args, kwargs)
        if self.calls and args and isinstance(args[0], Tensor):
            self.entered.append((module, args[0].clone()))

    def answered(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.own_answers[module] = map_tensors(output, Tensor.clone)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.answers[module] = map_tensors(output, Tensor.clone)

    def listen(self, call: AttentionCall) -> Tensor:
        output = call.run(call.query, call.key, call.value, call.mask)
        self.calls.append((call, output))
        return output

    def handles(self) -> Iterator[RemovableHandle]:
        """The hooks' handles, made as they are asked for: the layer's own, and some for every module inside it.

        What goes in is seen before a caller's hooks, what comes out before and behind them.
        """
        yield self.layer.register_forward_pre_hook(self.begin, with_kwargs=True, prepend=True)
        yield self.layer.register_forward_hook(self.leave)
        for module in self.layer.modules():
            if module is not self.layer:
                yield module.register_forward_pre_hook(self.enter, with_kwargs=True)
                yield module.register_forward_hook(self.answered, prepend=True)
                yield module.register_forward_hook(self.leave)

    def layer_pass(self, causal: bool) -> LayerPass | None:
        """What was seen, or None for a layer without softmax attention; `causal` says which way attention has to go.

        Raises RequestError, naming the layer, for attention that cannot be measured.
        """
        if not self.calls:
            return None
        if len(self.calls) > 1:
            raise RequestError(
                f"layer {self.index} takes {len(self.calls)} softmaxes ({type(self.layer).__name__}); "
                "one is measured, more are not"
            )
        call, output = self.calls[0]
        refuse_unknown(call)
        sees_later = bool((additive_mask(call, torch.float32)[..., 0, 1] > float("-inf")).any())
        if sees_later and causal:
            raise RequestError(
                f"layer {self.index} lets a token see later ones: an encoder, not a decoder; it cannot be measured"
            )
        if not sees_later and not causal:
            raise RequestError(
                f"block {self.index} hides a patch from another: no vision encoder of a known kind; "
                "it cannot be measured"
            )
        rows = first_tensor(self.answers[self.layer]).flatten(0, -2)
        return LayerPass(self._parts(call, output), self.arguments[self.layer], ((call, output),), rows)

    def _parts(self, call: AttentionCall, output: Tensor) -> LayerParts:
        projection, direct = self._projection(call.module, output)
        branches = tuple(
            child for child in self.layer.children() if is_branch(child, call.module) and child in self.answers
        )
        biased = any(name.endswith("bias") for name, _ in projection.named_parameters())
        return LayerParts(
            index=self.index,
            layer=self.layer,
            attention=call.module,
            projection=projection,
            branches=branches,
            direct=direct,
            biased=biased,
            hooked=has_hooks(self.layer),
            attention_answer=self.own_answers[call.module],
            branch_answers=tuple(self.answers[branch] for branch in branches),
            heads=output.shape[2],
            width=max(size for p in self.layer.parameters() if p.dim() >= 2 for size in p.shape[-2:]),
            dtypes=frozenset(t.dtype for t in held_tensors(self.layer)),
            can_join=direct and not biased and not has_hooks(self.layer) and self._one_plain_call(branches),
        )

    def _projection(self, attention: nn.Module, heads: Tensor) -> tuple[nn.Module, bool]:
        """The output projection, and whether the heads' outputs enter it as they are and its answer is attention's.

        Raises RequestError where there is none.
        """
        inside = set(attention.modules())
        entered = [(module, seen) for module, seen in self.entered if module in inside and holds_a_matrix(module)]
        if not entered:
            raise RequestError(
                f"layer {self.index}: no linear module follows the attention function; it cannot be measured"
            )
        answer = first_tensor(self.own_answers[attention])
        last = [(module, seen) for module, seen in entered if same_numbers(first_tensor(self.answers[module]), answer)]
        projection, seen = (last or entered)[0]
        return projection, bool(last) and same_numbers(seen, heads)

    def _one_plain_call(self, branches: tuple[nn.Module, ...]) -> bool:
        """Whether there is one branch, called after attention with hidden states alone, (1, position,
        d_model), and answering so."""
        if len(branches) != 1:
            return False
        call = self.arguments.get(branches[0], LayerCall((), {}))
        tensors = [*call.args, self.answers[branches[0]]]
        return not call.kwargs and len(call.args) == 1 and all(isinstance(t, Tensor) and t.dim() == 3 for t in tensors)


def is_branch(child: nn.Module, attention: nn.Module) -> bool:
    """Whether a layer's child adds to the residual stream beside attention: it holds a matrix, and not attention."""
    return holds_a_matrix(child) and attention not in set(child.modules())


def watched_layers(stack: PreTrainedModel, run: Callable[[], Any], causal: bool) -> list[LayerPass | None]:
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
    return [watch.layer_pass(causal) for watch in watches]
