"""The rest of a layer behind its heads, for many masked rows at once.

The layer itself is called, on one row, while its attention module answers with all the rows: the residual broadcasts,
and the model's own norms, MLP or experts see every row. To learn what attention alone adds, the layer is fed a zero
row and its other branches answer zeros; what comes out is what attention adds, post-norms and residual multipliers
included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from mask_impact.sites.attention import tapped
from mask_impact.sites.hooks import hooked, without_hooks
from mask_impact.sites.interventions import replace_forward
from mask_impact.sites.layer_call import LayerCall, first_tensor, like, map_tensors
from mask_impact.sites.parts import LayerParts


def added_together(answers: Iterable[Any], rows: Tensor) -> Tensor:
    """The sum of what branches answered, as rows (row, d_model); of none, one row of zeros like those of `rows`."""
    added = [first_tensor(answer).flatten(0, -2) for answer in answers]
    return reduce(torch.add, added) if added else torch.zeros_like(rows[:1])


@dataclass(frozen=True)
class RowPass:
    """One layer at the final position; `call` is cut to that row. Call and weights are in the dtype measured in."""

    parts: LayerParts
    call: LayerCall

    def project(self, heads: Tensor) -> Tensor:
        """What the attention module answers, (row, d_model), where its heads' outputs are these (row, head, d_v)."""
        if not self.parts.direct:
            return self._through_module(heads)
        return self.parts.projection(self._in_axes(heads.flatten(1))).flatten(0, -2)

    def _in_axes(self, rows: Tensor) -> Tensor:
        """Rows (row, d) in as many axes as the layer's input has, since a wrapper or a hook may count on them."""
        return rows.view(*[1] * (self.call.hidden.dim() - 2), *rows.shape)

    def _through_module(self, heads: Tensor) -> Tensor:
        """The attention module on the one row, gates and norms included, under vmap over the heads' outputs."""
        arguments = self._attention_arguments()

        def module(answer: Tensor) -> Tensor:
            with tapped(lambda call: answer[None, None]):
                return first_tensor(self.parts.attention(*arguments.args, **arguments.kwargs)).flatten(0, -2)[0]

        with without_hooks([self.parts.attention]):  # they see what comes out of this, in its place
            return torch.vmap(module)(heads)

    def _attention_arguments(self) -> LayerCall:
        """What the layer hands its attention module on this row."""
        seen: list[LayerCall] = []

        def note(*args: Any, **kwargs: Any) -> Any:
            seen.append(LayerCall(args, kwargs))
            return like(self.parts.attention_answer, torch.zeros_like(self.call.hidden))

        silent = self._silent_branches()
        with replace_forward({self.parts.attention: note, **silent}), without_hooks(silent):
            self.parts.layer(*self.call.args, **self.call.kwargs)
        return seen[0]

    def _silent_branches(self) -> dict[nn.Module, Callable[..., Any]]:
        """Branches that answer zeros in the structure, widths and dtypes of their last real answer."""

        def silent(template: Any) -> Callable[..., Any]:
            def answer(*args: Any, **kwargs: Any) -> Any:
                hidden = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
                return map_tensors(template, lambda t: t.new_zeros((*hidden.shape[:-1], t.shape[-1])))

            return answer

        return {branch: silent(template) for branch, template in zip(self.parts.branches, self.parts.branch_answers)}

    def _run(
        self, attention_rows: Tensor, branches: dict[nn.Module, Callable[..., Any]], hidden: Tensor | None = None
    ) -> Tensor:
        """The layer's output rows (row, d_model), its attention answering `attention_rows` (row, d_model)."""
        call = self.call if hidden is None else self.call.with_hidden(hidden)
        rows = attention_rows.clone() if self.parts.hooked else attention_rows  # a hook may write into what it is shown
        attention = like(self.parts.attention_answer, self._in_axes(rows))
        with (
            replace_forward({self.parts.attention: lambda *args, **kwargs: attention, **branches}),
            without_hooks(branches),
        ):
            output = first_tensor(self.parts.layer(*call.args, **call.kwargs))
        return output.flatten(0, -2).expand(len(attention_rows), -1)

    def attention_added(self, attention_rows: Tensor) -> Tensor:
        """What attention adds to the residual stream when its module answers `attention_rows`: both (row, d_model).

        Where a norm follows the sum, a zero row would meet that norm; there the module's answer is what is added. What
        hooks of the whole layer do is no share of attention's.
        """
        if self.parts.as_answered or self.parts.residual == "normed":
            return attention_rows
        with without_hooks([self.parts.layer]):
            return self._run(attention_rows, self._silent_branches(), torch.zeros_like(self.call.hidden))

    def output(self, attention_rows: Tensor) -> tuple[Tensor, dict[nn.Module, Any]]:
        """The layer's output rows (row, d_model), and what its branches answered on the way."""
        answers: dict[nn.Module, Any] = {}

        def note(branch: nn.Module, _args: Any, answer: Any) -> None:
            answers[branch] = answer

        with hooked(*[branch.register_forward_hook(note) for branch in self.parts.branches]):
            rows = self._run(attention_rows, {})
        return rows, answers

    def entering_branch(self, attention_rows: Tensor) -> Tensor:
        """What the layer hands its one branch, (1, row, d_model), its attention answering `attention_rows`.

        One row where the branch does not see what attention answers.
        """
        seen: list[Tensor] = []
        [(branch, silent)] = self._silent_branches().items()

        def note(hidden: Tensor) -> Any:
            seen.append(hidden)
            return silent(hidden)

        self._run(attention_rows, {branch: note})
        return seen[0]

    def replay(self, attention_rows: Tensor, answers: dict[nn.Module, Any], factor: float) -> Tensor:
        """The layer's output rows with its branches' answers given and its input times `factor`: (row, d_model)."""
        given = {branch: (lambda *args, _answer=answer, **kwargs: _answer) for branch, answer in answers.items()}
        return self._run(attention_rows, given, self.call.hidden * factor)

    def added(self, attention_rows: Tensor, answers: dict[nn.Module, Any]) -> Tensor:
        """What attention and the branches add, without the residual stream that they are added to: (row, d_model)."""
        if self.parts.as_answered:
            return attention_rows + added_together(answers.values(), attention_rows)
        return self.replay(attention_rows, answers, 0)

    def update(self, attention_rows: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's update rows (row, d_model) and its output rows.

        The update is built from what is added, never by subtracting a residual stream a thousand times its size; only
        where the output is not the sum of input and updates is the plain difference taken.
        """
        output, answers = self.output(attention_rows)
        if self.parts.residual == "sum":
            return self.added(attention_rows, answers), output
        return output - self.call.hidden.flatten(0, -2), output
