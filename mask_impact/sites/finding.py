"""A layer's modules, found by what they do in one short forward pass (of two tokens, in a decoder).

- The layers are the outermost ModuleList that has the configured number of entries.
- A layer's attention module is the one that calls the attention function, once. A layer where none does has no softmax
  attention, and no rows.
- Its output projection is the outermost module that is called in the attention module after that, holds a matrix and
  gives attention's answer. Whatever an adapter or a caller has wrapped around the linear module belongs to it.
- Its branches are the layer's other children that hold a matrix.
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
    """The layers of a decoder or an encoder: the outermost ModuleList that has the configured number of entries.

    Raises RequestError where there is none.
    """
    count = layer_count(decoder.config.get_text_config())
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise RequestError(f"no list of {count} layers found in {type(decoder).__name__}; it cannot be measured")


class _Watch:
    """Notes what one layer, and each module in it, takes and answers in the short pass.

    calls: the layer's attention calls with their answers, (1, query, head, d_v).
    entered: what is called after the first of them, in order, with its first argument.
    arguments: those of the layer, and those of what is called after attention.
    answers: what the layer and its modules answer, behind a caller's hooks; own_answers: the modules', before them.
    """

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
        """Register our hooks on the layer and on every module in it, and yield their handles.

        A layer's arguments are noted before a caller's hooks, a module's answer before and behind them.
        """
        yield self.layer.register_forward_pre_hook(self.begin, with_kwargs=True, prepend=True)
        yield self.layer.register_forward_hook(self.leave)
        for module in self.layer.modules():
            if module is not self.layer:
                yield module.register_forward_pre_hook(self.enter, with_kwargs=True)
                yield module.register_forward_hook(self.answered, prepend=True)
                yield module.register_forward_hook(self.leave)

    def layer_pass(self, causal: bool) -> LayerPass | None:
        """The layer in the short pass, or None if it has no softmax attention.

        Raises RequestError, naming the layer, for attention that cannot be measured: with `causal` also where a token
        sees later ones, without it where none does.
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
        """The output projection, and whether it is `direct` (see LayerParts); `heads` (1, query, head, d_v).

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
        """Whether there is one branch, called after attention, that takes and answers nothing but hidden states
        (1, position, d_model)."""
        if len(branches) != 1:
            return False
        call = self.arguments.get(branches[0], LayerCall((), {}))
        tensors = [*call.args, self.answers[branches[0]]]
        return not call.kwargs and len(call.args) == 1 and all(isinstance(t, Tensor) and t.dim() == 3 for t in tensors)


def is_branch(child: nn.Module, attention: nn.Module) -> bool:
    """Whether a layer's child is a branch: it holds a matrix, and the attention module is not in it."""
    return holds_a_matrix(child) and attention not in set(child.modules())


def watched_layers(stack: PreTrainedModel, run: Callable[[], Any], causal: bool) -> list[LayerPass | None]:
    """Every layer of a decoder (`causal`) or an encoder, in order, as the short pass that `run` makes leaves it.

    None stands for a layer without softmax attention. Raises RequestError for one that cannot be measured.
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
