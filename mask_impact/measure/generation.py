"""A decoder's passes: generation steps, each of which predicts a token.

Step k predicts output token k: step 0 sees the prompt, step k the prompt and k more tokens. The prompt is run once;
with the key-value cache a further token costs one decoding step and its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from mask_impact.base.errors import RunError
from mask_impact.base.precision import full_float32
from mask_impact.measure.collect import StepInfo
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.joined.joined_rows import Joined, OwnAnswers, joining
from mask_impact.measure.joined.kept_values import ProjectedValues, values_kept
from mask_impact.measure.step import GenerationStep, Method, ModelInputs, PassFingerprint, Step, digest
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts, layer_count
from mask_impact.sites.positions import RotaryState
from mask_impact.sites.recording import Recording, recording

TOP_TOKENS = 5


@dataclass(frozen=True)
class Answered:
    """What a forward pass leaves: the layers still to be measured, what rows that joined it left, the last logits
    (vocabulary,), and the model's cache, if it has one."""

    recorded: Recording
    joined: Joined
    logits: Tensor
    cache: Any

    def layers(self, parts: list[LayerParts]) -> Iterator[LayerPass | LayerDistances]:
        """The layers of `parts` in order, measured or still to be measured; none is kept once it is handed on."""
        for index in (part.index for part in parts):
            layer = self.joined.distances.pop(index, None) or self.recorded.layers[index]
            self.recorded.forget(index)
            yield layer


@dataclass(frozen=True)
class Generation:
    """What stays the same over all steps of a run."""

    model: PreTrainedModel
    parts: list[LayerParts]
    inputs: ModelInputs
    method: Method
    rotary: RotaryState

    def one_pass(
        self,
        step_info: StepInfo,
        token_ids: list[int],
        cache: Any,
        values: ProjectedValues | None,
        done: PassFingerprint | None,
    ) -> Answered:
        """One forward pass of all tokens or, behind a cache, of the last one; a step that is `done` is made again."""
        if cache is None:
            self.rotary.begin()
            fed, cache, further = token_ids, first_cache(self.model, self.method), self.inputs.further(token_ids)
        else:
            fed, further = token_ids[-1:], {}
        then = done.own_answers if done is not None and len(fed) == 1 else None
        with (
            recording(self.parts, step_info.length, whole=self.method.name == "rerun") as recorded,
            self.joined_rows(recorded, len(fed), step_info, values, then) as joined,
            full_float32(),
        ):
            answer = self.model(
                input_ids=torch.tensor([fed], device=self.model.device),
                past_key_values=cache,
                use_cache=self.method.use_cache,
                logits_to_keep=1,
                **further,
            )
        kept = getattr(answer, "past_key_values", None) if self.method.use_cache else None
        return Answered(recorded, joined, answer.logits[0, -1], kept)

    def joined_rows(
        self,
        recorded: Recording,
        fed: int,
        step_info: StepInfo,
        values: ProjectedValues | None,
        then: OwnAnswers | None,
    ) -> AbstractContextManager[Joined]:
        """Let the rows of the default method join the forward pass of `fed` tokens, where they can; not where pairs are
        chosen by what these rows show."""
        if self.method.name != "renormalize" or not self.method.join_rows or self.inputs.pairs is not None:
            return nullcontext(Joined())
        return joining(self.parts, recorded, self.method, fed, step_info, values, then)

    def room(self) -> ProjectedValues | None:
        """Room for the projected values of the whole run; None if it has one step, computes the values anew in each,
        without a cache, or hides several positions as one."""
        inputs = self.inputs
        if inputs.steps == 1 or not self.method.use_cache or inputs.sets is not None:
            return None
        return values_kept(self.model, self.parts, len(inputs.masked(len(inputs.token_ids) + inputs.steps - 1)))


def generation_steps(
    model: PreTrainedModel,
    parts: list[LayerParts],
    inputs: ModelInputs,
    method: Method,
    rotary: RotaryState | None = None,
) -> Iterator[tuple[GenerationStep, Iterator[LayerPass | LayerDistances]]]:
    """Run the model greedily, or along a given continuation, and yield each step with what its layers did.

    A cache serves as long as its keys were turned as those of the present length are; else the step is taken from the
    start.
    """
    run = Generation(model, parts, inputs, method, rotary or RotaryState(model))
    token_ids, cache, values = list(inputs.token_ids), None, run.room()
    for index in range(inputs.steps):
        step_info = StepInfo(index, len(token_ids), inputs.key_sets(token_ids))
        done = inputs.done[index] if index < len(inputs.done) else None
        answered = run.one_pass(step_info, token_ids, cache, values, done)
        if run.rotary.changed() and cache is not None:
            cache, values = None, run.room()
            answered = run.one_pass(step_info, token_ids, cache, values, done)
        step = predicted(step_info, token_ids, answered, inputs)
        if done is None:
            yield step, answered.layers(parts)
        elif not done.same(step.fingerprint):
            inputs.start_over()
            del answered, cache, values  # so that not all is there twice
            yield from generation_steps(model, parts, replace(inputs, done=()), method, run.rotary)
            return
        if ends(step, inputs):
            return
        token_ids, cache = [*token_ids, step.next_id], answered.cache


def first_cache(model: PreTrainedModel, method: Method) -> DynamicCache | None:
    """The cache of a sequence's first pass: None, so that the model makes its own, but where that would have its
    encoder's depth."""
    config = model.config.get_text_config()
    return DynamicCache() if method.use_cache and layer_count(config) > config.num_hidden_layers else None


def predicted(step_info: StepInfo, token_ids: list[int], answered: Answered, inputs: ModelInputs) -> GenerationStep:
    """The step that a pass makes; its token is picked by the logits, or the given continuation's next one.

    Raises RunError where the logits are not numbers.
    """
    logits = answered.logits
    probabilities = logits.float().softmax(-1)
    if probabilities.isnan().any():
        raise RunError(f"the logits of generation step {step_info.step} are not numbers; try another --dtype")
    top = probabilities.topk(min(TOP_TOKENS, len(probabilities)))
    given = inputs.continuation_ids
    next_id = inputs.pick(token_ids, logits) if given is None else given[step_info.step]
    likeliest = list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    fingerprint = PassFingerprint(next_id, digest(logits), answered.joined.own_answers)
    return GenerationStep(
        step_info,
        token_ids,
        likeliest,
        next_id=next_id,
        next_probability=float(probabilities[next_id]),
        fingerprint=fingerprint,
    )


def ends(step: Step, inputs: ModelInputs) -> bool:
    """Whether the run is over after this step: an end token is predicted, or the context is full.

    A given continuation is followed past end tokens.
    """
    stopped = inputs.continuation_ids is None and step.next_id in inputs.stop_ids
    return stopped or context_full(step, inputs)


def context_full(step: Step, inputs: ModelInputs) -> bool:
    """Whether no further token fits the model's context length."""
    return inputs.context_length is not None and len(step.token_ids) >= inputs.context_length
