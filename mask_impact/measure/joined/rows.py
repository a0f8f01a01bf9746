"""Masked rows that ride in the model's own forward pass.

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

import torch
from torch import Tensor, nn

from mask_impact.measure.closed_form import leave_one_out
from mask_impact.measure.collect import StepInfo, collected
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.joined.kept_values import ProjectedValues, projected_rows, projects_plainly
from mask_impact.measure.renormalize import head_rows, on_the_baseline, row_count
from mask_impact.measure.row_budget import RowBudget
from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.rows import CONTROLS, MaskedRows, Vectors
from mask_impact.sites.hooks import hooked
from mask_impact.sites.interventions import replace_forward
from mask_impact.sites.query import final_query
from mask_impact.sites.recording import LayerRecord

MOST_FED = 1024  # more tokens in one forward pass make the rows of both together large


@dataclass(frozen=True)
class Joined:
    """What rows that joined a forward pass leave: the distances of each layer that was measured so, by its index; and of a pass of one row
    what the modules that they joined answered for the model's own, (1, 1, d_model), by ("projection" or "branch", layer index)."""

    distances: dict[int, LayerDistances] = field(default_factory=dict)
    own_answers: dict[tuple[str, int], Tensor] = field(default_factory=dict)


class Ride:
    """One layer's rows on their way through one forward pass of `length` tokens in all."""

    def __init__(
        self,
        record: LayerRecord,
        variants: tuple[str, ...],
        step_info: StepInfo,
        budget: RowBudget,
        values: ProjectedValues | None,
        joined: Joined,
    ):
        self.record, self.variants, self.step_info, self.budget, self.joined = (
            record,
            variants,
            step_info,
            budget,
            joined,
        )
        self.values = values if projects_plainly(record.parts) else None
        self.branch_rows: Tensor | None = None
        self.aboard, self.shared = True, False

    def or_without(self, aboard: Callable, forward: Callable, own: Tensor) -> Tensor:
        """The answer of `aboard`, or, once a GPU's memory runs out, the module's own: the rows are run by themselves later, in chunks."""
        self.aboard = self.aboard and not self.budget.halvings
        if self.aboard:
            try:
                return aboard(forward, own)
            except torch.OutOfMemoryError as error:
                self.get_off(error)
        return forward(own)

    def get_off(self, error: torch.OutOfMemoryError) -> None:
        """Let go of the rows, and let fewer through the layers from now on; `error` again where they are few already."""
        self.budget.halve(error)
        self.aboard = False
        self.query = self.closed = self.heads = self.answers = self.branch_rows = None

    def through_projection(self, forward: Callable, own: Tensor) -> Tensor:
        """Answer for the output projection: its own rows (1, query, head * d_v) and, kept here, the heads' rows."""
        self.query = final_query(self.record.attention, self.step_info.length, own.dtype, self.step_info.masked)
        self.closed = leave_one_out(self.query)
        return self._joined(forward, own) if self.values is None else self._kept(forward, own)

    def _joined(self, forward: Callable, own: Tensor) -> Tensor:
        """The heads' rows beside the model's own, in one product."""
        keys, seed, count = self.query.keys, self.step_info.step, own.shape[1]
        both = own.new_empty(1, count + row_count(keys, seed), own.shape[2])
        both[:, :count] = own
        self.heads = head_rows(self.closed, keys, seed, out=both[0, count:].view(-1, *self.closed.output.shape))
        answer = forward(both)
        self.answers = answer[0, count:]
        return self.own("projection", answer[:, :count])

    def _kept(self, forward: Callable, own: Tensor) -> Tensor:
        """The heads' rows by the values that are kept from step to step, and the model's own rows by themselves; where it
        has but one, that one is the baseline too."""
        self.heads = head_rows(self.closed, self.query.keys, self.step_info.step)
        self.shared = own.shape[1] == 1 and own.itemsize >= 4  # narrower rows would lose digits by head
        if self.shared:
            self.heads[0] = own.view_as(self.heads[0])
        self.answers = projected_rows(
            self.record.parts, self.closed, self.query, self.step_info, self.heads, self.values
        )
        return self.own("projection", self.answers[None, :1]) if self.shared else forward(own)

    def through_branch(self, forward: Callable, own: Tensor) -> Tensor:
        """Answer for the branch: its own rows (1, query, d_model) and, kept here, those that the attention's rows give."""
        rows = RowPass(self.record.parts, self.record.call)
        entering = rows.entering_branch(on_the_baseline(self.answers, self.answers[0]))
        answer = forward(entering if self.shared else torch.cat([own, entering], 1))
        self.branch_rows = answer[0, -entering.shape[1] :]
        return self.own("branch", answer[:, : own.shape[1]])

    def own(self, module: str, answer: Tensor) -> Tensor:
        """Note, of one row, what the module answered the model, and hand it on."""
        if answer.shape[1] == 1:
            self.joined.own_answers[module, self.record.parts.index] = answer.clone()
        return answer

    def past_projection(self, forward: Callable, rode: dict[tuple[str, int], Tensor], own: Tensor) -> Tensor:
        """Answer for the output projection as it did when the pass was measured; the projected values grow as then."""
        if self.values is not None:
            with suppress(torch.OutOfMemoryError):
                query = final_query(self.record.attention, self.step_info.length, own.dtype, self.step_info.masked)
                self.values.take_in_again(self.record.parts, query, self.step_info)
        answer = rode.get(("projection", self.record.parts.index))
        return forward(own) if answer is None else answer.to(own)

    def past_branch(self, rode: dict[tuple[str, int], Tensor], own: Tensor) -> Tensor:
        """Answer for the branch as it did when the pass was measured."""
        return rode["branch", self.record.parts.index].to(own)

    def masked_rows(self) -> MaskedRows:
        """The layer's masked rows, once the forward pass has left it."""
        attention = attention_moved = full = full_moved = output = None
        if "attn" in self.variants:
            attention, attention_moved = self.answers[0], self.answers[1:]
        if "full" in self.variants:
            branch = self.branch_rows.expand(len(self.heads), -1)
            full, full_moved = self.answers[0] + branch[0], (branch[1:] - branch[0]).add_(self.answers[1:])
            output = self.record.output
        baseline, moved_by = (
            Vectors(self.heads[0], attention, full),
            Vectors(self.heads[1:], attention_moved, full_moved),
        )
        return MaskedRows(self.query.keys, baseline, moved_by, output)

    def arrive(self, layer: nn.Module, args: tuple, output: object) -> None:
        """Forward hook of the layer: measure what has arrived, and let go of the rows."""
        if not self.aboard or self.branch_rows is None and "full" in self.variants:
            return  # its rows are run later; or the call that told which rows enter the branch, inside the model's own
        try:
            self.joined.distances[self.record.parts.index] = collected(
                self.step_info,
                self.record,
                self.query,
                self.closed,
                [self.masked_rows()],
                "heads" in self.variants,
                self.budget,
            )
        except torch.OutOfMemoryError as error:
            return self.get_off(error)
        self.record.let_go()
        self.__dict__.clear()


def can_ride(
    record: LayerRecord, variants: tuple[str, ...], dtype: torch.dtype | None, fed: int, length: int, budget: RowBudget
) -> bool:
    """Whether a layer's rows can join a forward pass of `fed` tokens, and gain by it; `dtype` None is the layer's own.

    None can once memory ran out.
    """
    parts, behind_heads = record.parts, {"full", "attn"} & set(variants)
    if not (
        parts.rides
        and behind_heads
        and fed <= MOST_FED
        and not budget.halvings
        and parts.dtypes == {dtype or next(iter(parts.dtypes))}
    ):
        return False
    return 1 + length + CONTROLS <= budget.rows(parts, next(iter(parts.dtypes)))


@contextmanager
def riding(
    records: list[LayerRecord],
    variants: tuple[str, ...],
    dtype: torch.dtype | None,
    fed: int,
    step_info: StepInfo,
    budget: RowBudget,
    values: ProjectedValues | None = None,
    rode: dict[tuple[str, int], Tensor] | None = None,
) -> Iterator[Joined]:
    """Measure, in the forward pass inside, every layer that can ride; the others' records are left as they are.

    `values` are kept from step to step; without them every row goes through the output projection. With `rode`, the own
    answers of this very pass when it was measured, it is made again to the last bit and not measured.
    """
    rode_then = {index for _, index in rode or ()}
    can = [
        record
        for record in records
        if record.parts.index in rode_then or can_ride(record, variants, dtype, fed, step_info.length, budget)
    ]
    answers, hooks, joined = {}, [], Joined()
    for ride in [Ride(record, variants, step_info, budget, values, joined) for record in can]:
        parts = ride.record.parts
        [branch] = parts.branches
        if rode is not None:
            answers[parts.projection] = partial(ride.past_projection, parts.projection.forward, rode)
            if ("branch", parts.index) in rode:
                answers[branch] = partial(ride.past_branch, rode)
            continue
        answers[parts.projection] = partial(ride.or_without, ride.through_projection, parts.projection.forward)
        if "full" in variants:
            answers[branch] = partial(ride.or_without, ride.through_branch, branch.forward)
        hooks.append(parts.layer.register_forward_hook(ride.arrive))
    with replace_forward(answers), hooked(*hooks):
        yield joined
