"""Masked rows that join the model's own forward pass.

A matrix product spends a good part of its time on fetching and packing the weights when it has few rows. So where a
layer is computed in the dtype it is measured in, and adds what its attention and its one branch answer as it is, its
masked rows join the very products that the forward pass makes anyway: the output projection gets the heads' rows
beside the model's own, the branch the rows that follow from them. What the model itself gets back is its own rows,
and its output stays what it was, to rounding. A further step has one row of its own; where values are kept, it is the
baseline of the others. On the shape of Qwen3-0.6B this saves two fifths of what the rows cost at 64 tokens, and a fifth
at 256 and at 1,024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mask_impact.measure.closed_form.heads import MaskedHeads
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.closed_form.single_keys import MaskedKeys, leave_one_out
from mask_impact.measure.collect import StepInfo, collected
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.joined.kept_values import ProjectedValues, projected_rows, projects_plainly
from mask_impact.measure.noise_floor import CONTROLS
from mask_impact.measure.renormalize import head_rows, on_the_baseline, row_count
from mask_impact.measure.rows.masked_rows import MaskedRows, Moved
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import Method
from mask_impact.sites.hooks import hooked
from mask_impact.sites.interventions import replace_forward
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import QueryView, query_view
from mask_impact.sites.recording import Recording

MOST_FED = 1024  # more tokens in one forward pass make the rows of both together large
OwnAnswers = dict[tuple[str, int], Tensor]
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Joined:
    """What rows that joined a forward pass leave: each layer's distances, by its index; and, of a pass of one token,
    the `own_answers` of PassFingerprint."""

    distances: dict[int, LayerDistances] = field(default_factory=dict)
    own_answers: OwnAnswers = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectedRows:
    """A layer's rows past its output projection.

    `heads` (1 + row, head, d_v) are the heads' output and its differences, `answers` (1 + row, d_model) attention's
    answer and its differences. `shared`: the model's own row is the first of them.
    """

    closed: MaskedHeads
    heads: Tensor
    answers: Tensor
    shared: bool


@dataclass(frozen=True)
class BranchedRows(ProjectedRows):
    """The same rows past the layer's branch too.

    `branch` (1 + row, d_model) is its answer; of one row, where it does not see what attention answers.
    """

    branch: Tensor


class JoinedLayer:
    """One layer's rows on their way through one forward pass; `rows` are they, past the module that they passed last.

    Once a GPU's memory runs out there are none, and the layer is measured later, in chunks.
    """

    def __init__(
        self,
        parts: LayerParts,
        recorded: Recording,
        method: Method,
        step_info: StepInfo,
        values: ProjectedValues | None,
        joined: Joined,
    ):
        self.parts, self.recorded, self.method, self.step_info, self.joined = parts, recorded, method, step_info, joined
        self.values = values if projects_plainly(parts) else None
        self.rows: ProjectedRows | None = None

    def or_alone(self, with_rows: Callable[[Forward, Tensor], Tensor], forward: Forward, own: Tensor) -> Tensor:
        """The answer of `with_rows`, or the module's own once memory has run out."""
        if not self.method.rows.halvings:
            try:
                return with_rows(forward, own)
            except torch.OutOfMemoryError as error:
                self.drop(error)
        return forward(own)

    def drop(self, error: torch.OutOfMemoryError) -> None:
        """Let go of the rows, and let fewer through from now on; `error` again where they are few already."""
        self.method.rows.halve(error)
        self.rows = None

    def view(self, dtype: torch.dtype) -> QueryView:
        """The layer's attention, which the pass has just left, seen from the last query."""
        call, _ = self.recorded.attention[self.parts.index]
        return query_view(call, self.step_info.length - call.key.shape[2], dtype)

    def through_projection(self, forward: Forward, own: Tensor) -> Tensor:
        """The output projection's answer to its own rows (1, query, head * d_v); the heads' rows pass it too."""
        closed = masked_heads(self.view(own.dtype), self.step_info.sets)
        if self.values is not None and isinstance(closed, MaskedKeys):
            return self._by_values(self.values, closed, forward, own)
        return self._beside_own(closed, forward, own)

    def _beside_own(self, closed: MaskedHeads, forward: Forward, own: Tensor) -> Tensor:
        """The heads' rows beside the model's own, in one product."""
        seed, count = self.step_info.step, own.shape[1]
        both = own.new_empty(1, count + row_count(closed.seen, seed), own.shape[2])
        both[:, :count] = own
        heads = head_rows(closed, closed.seen, seed, out=both[0, count:].view(-1, *closed.output.shape))
        answer = forward(both)
        self.rows = ProjectedRows(closed, heads, answer[0, count:], shared=False)
        return self.own("projection", answer[:, :count])

    def _by_values(self, values: ProjectedValues, closed: MaskedKeys, forward: Forward, own: Tensor) -> Tensor:
        """The heads' rows by the kept values, and the model's own rows by themselves; where it has but one, that one is
        the baseline too."""
        heads = head_rows(closed, closed.seen, self.step_info.step)
        shared = own.shape[1] == 1 and own.itemsize >= 4  # narrower rows would lose digits by head
        if shared:
            heads[0] = own.view_as(heads[0])
        answers = projected_rows(self.parts, closed, heads, values)
        self.rows = ProjectedRows(closed, heads, answers, shared)
        return self.own("projection", answers[None, :1]) if shared else forward(own)

    def through_branch(self, forward: Forward, own: Tensor) -> Tensor:
        """The branch's answer to its own rows (1, query, d_model); those that attention's rows give pass it too."""
        rows = self.rows
        assert rows is not None, "the branch follows attention"
        one_row = RowPass(self.parts, self.recorded.calls[self.parts.index])
        entering = one_row.entering_branch(on_the_baseline(rows.answers, rows.answers[0]))
        answer = forward(entering if rows.shared else torch.cat([own, entering], 1))
        self.rows = BranchedRows(**vars(rows), branch=answer[0, -entering.shape[1] :])
        return self.own("branch", answer[:, : own.shape[1]])

    def own(self, module: str, answer: Tensor) -> Tensor:
        """What a module answers the model, noted where it is of one row."""
        if answer.shape[1] == 1:
            self.joined.own_answers[module, self.parts.index] = answer.clone()
        return answer

    def projection_again(self, forward: Forward, then: OwnAnswers, own: Tensor) -> Tensor:
        """The output projection's answer when the pass was measured; the kept values grow as then."""
        if self.values is not None:
            with suppress(torch.OutOfMemoryError):
                self.values.take_in_again(self.parts, leave_one_out(self.view(own.dtype), self.step_info.sets))
        answer = then.get(("projection", self.parts.index))
        return forward(own) if answer is None else answer.to(own)

    def branch_again(self, then: OwnAnswers, own: Tensor) -> Tensor:
        """The branch's answer when the pass was measured."""
        return then["branch", self.parts.index].to(own)

    def masked_rows(self, rows: ProjectedRows, output: Tensor) -> MaskedRows:
        """The layer's masked rows, once the forward pass has left it with this output (d_model,)."""
        attention, added = Moved(rows.answers[0], rows.answers[1:]), {}
        if isinstance(rows, BranchedRows):
            branch = rows.branch.expand(len(rows.heads), -1)
            moved = (branch[1:] - branch[0]).add_(attention.difference)
            added["Full"] = Moved(attention.baseline + branch[0], moved)
        if "attn" in self.method.variants:
            added["Attn"] = attention
        heads = Moved(rows.heads[0], rows.heads[1:])
        return MaskedRows(rows.closed.seen, heads, added, output if "Full" in added else None)

    def arrive(self, _layer: nn.Module, _args: Any, _output: Any) -> None:
        """Forward hook of the layer: measure what has arrived, and let go of the rows."""
        rows, variants = self.rows, self.method.variants
        if rows is None or ("full" in variants and not isinstance(rows, BranchedRows)):
            return  # its rows are run later; or the call that shows which rows enter the branch, inside the model's own
        passed = self.recorded.layers[self.parts.index]
        row = passed.at(passed.last)
        chunks = [(self.masked_rows(rows, row.output),)]
        try:
            self.joined.distances[self.parts.index] = collected(
                self.step_info, [row], [rows.closed], chunks, "heads" in variants
            )
        except torch.OutOfMemoryError as error:
            return self.drop(error)
        self.recorded.forget(self.parts.index)
        self.rows = None


def can_join(parts: LayerParts, method: Method, fed: int, count: int) -> bool:
    """Whether a layer's `count` rows can join a forward pass of `fed` tokens, and gain by it. None can once memory ran
    out."""
    if not parts.can_join or fed > MOST_FED or method.rows.halvings or not {"full", "attn"} & set(method.variants):
        return False
    own = next(iter(parts.dtypes))
    return parts.dtypes == {method.dtype or own} and 1 + count + CONTROLS <= method.rows.rows(parts, own)


@contextmanager
def joining(
    parts: list[LayerParts],
    recorded: Recording,
    method: Method,
    fed: int,
    step_info: StepInfo,
    values: ProjectedValues | None = None,
    then: OwnAnswers | None = None,
) -> Iterator[Joined]:
    """Measure, in the forward pass inside, every layer whose rows can join it; the others stay as they are recorded.

    `values` are kept from step to step; without them every row goes through the output projection. With `then`, this
    pass's own answers when it was measured, it is made again to the last bit and not measured.
    """
    joined_then = {index for _, index in then or ()}
    answers: dict[nn.Module, Callable[..., Any]] = {}
    hooks: list[RemovableHandle] = []
    joined = Joined()
    for part in parts:
        if part.index in joined_then or can_join(part, method, fed, len(step_info.sets)):
            layer = JoinedLayer(part, recorded, method, step_info, values, joined)
            answers |= answers_of(layer) if then is None else answers_again(layer, then)
            hooks += [part.layer.register_forward_hook(layer.arrive)] if then is None else []
    with replace_forward(answers), hooked(*hooks):
        yield joined


def answers_of(layer: JoinedLayer) -> dict[nn.Module, Callable[..., Any]]:
    """What answers in place of the modules that the rows join."""
    parts = layer.parts
    modules = [(parts.projection, layer.through_projection)]
    if "full" in layer.method.variants:
        modules += [(branch, layer.through_branch) for branch in parts.branches]
    return {module: partial(layer.or_alone, with_rows, module.forward) for module, with_rows in modules}


def answers_again(layer: JoinedLayer, then: OwnAnswers) -> dict[nn.Module, Callable[..., Any]]:
    """What answers in place of these modules in a pass that is made again."""
    parts = layer.parts
    answers: dict[nn.Module, Callable[..., Any]] = {
        parts.projection: partial(layer.projection_again, parts.projection.forward, then)
    }
    if ("branch", parts.index) in then:
        answers |= {branch: partial(layer.branch_again, then) for branch in parts.branches}
    return answers
