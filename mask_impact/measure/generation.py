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
from mask_impact.measure.joined.kept_values import ProjectedValues, values_kept
from mask_impact.measure.joined.rows import Joined, joining
from mask_impact.measure.step import Method, ModelInputs, PassFingerprint, Step, digest
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts, layer_count
from mask_impact.sites.positions import RotaryState
from mask_impact.sites.recording import Recording, recording

TOP_TOKENS = 5


@dataclass(frozen=True)
class Answered:
    """A forward pass behind us: the layers that are still to be measured, what rows that joined it left, the last
    logits (vocabulary,), and the model's cache, if it has one."""

    recorded: Recording
    joined: Joined
    logits: Tensor
    cache: Any

    def layers(self, parts: list[LayerParts]) -> Iterator[LayerPass | LayerDistances]:
        """The layers of `parts` in order, each let go of once it is handed on: measured, or what is needed for that."""
        for index in (part.index for part in parts):
            done = self.joined.distances.pop(index, None)
            layer = self.recorded.layers.get(index)
            self.recorded.forget(index)
            yield layer if done is None else done


def generation_steps(
    model: PreTrainedModel,
    parts: list[LayerParts],
    inputs: ModelInputs,
    method: Method,
    rotary: RotaryState | None = None,
) -> Iterator[tuple[Step, Iterator[LayerPass | LayerDistances]]]:
    """Run the model greedily, or along a given continuation, and yield each step with what its layers did.

    A cache serves as long as its keys were turned as those of the present length are;
    elsewhere the step is taken from the start.
    """
    rotary = rotary or RotaryState(model)
    token_ids, unseen, cache = list(inputs.token_ids), list(inputs.token_ids), None
    values = kept_between_steps(model, parts, inputs, method)
    for index in range(inputs.steps):
        masked = inputs.masked(len(token_ids))
        step_info = StepInfo(index, len(token_ids), masked if len(masked) < len(token_ids) else None)
        done = inputs.done[index] if index < len(inputs.done) else None
        fed = token_ids if cache is None else unseen
        answered = one_pass(model, parts, inputs, method, rotary, step_info, done, fed, cache, values)
        if rotary.changed() and cache is not None:
            cache, values = None, kept_between_steps(model, parts, inputs, method)
            answered = one_pass(model, parts, inputs, method, rotary, step_info, done, token_ids, None, values)
        step = predicted(step_info, token_ids, answered, inputs)
        if done is None:
            yield step, answered.layers(parts)
        elif not done.same(step.fingerprint):
            inputs.start_over()
            del answered, cache, values  # so that not all is there twice
            yield from generation_steps(model, parts, replace(inputs, done=()), method, rotary)
            return
        if ends(step, inputs):
            return
        token_ids, unseen, cache = [*token_ids, step.next_id], [step.next_id], answered.cache


def one_pass(
    model: PreTrainedModel,
    parts: list[LayerParts],
    inputs: ModelInputs,
    method: Method,
    rotary: RotaryState,
    step_info: StepInfo,
    done: PassFingerprint | None,
    fed: list[int],
    cache: Any,
    values: ProjectedValues | None,
) -> Answered:
    """One forward pass of the tokens `fed`: all of them, or those behind the cache."""
    further = inputs.further(fed) if cache is None else {}
    own_answers = done.own_answers if done is not None and len(fed) == 1 else None
    if cache is None:
        rotary.begin()
    with (
        recording(parts, step_info.length, whole=method.name == "rerun") as recorded,
        joined_rows(parts, recorded, method, len(fed), step_info, values, own_answers) as joined,
        full_float32(),
    ):
        answer = model(
            input_ids=torch.tensor([fed], device=model.device),
            past_key_values=first_cache(model, method) if cache is None else cache,
            use_cache=method.use_cache,
            logits_to_keep=1,
            **further,
        )
    kept = getattr(answer, "past_key_values", None) if method.use_cache else None
    return Answered(recorded, joined, answer.logits[0, -1], kept)


def first_cache(model: PreTrainedModel, method: Method) -> DynamicCache | None:
    """The cache of a sequence's first pass: None, so that the model makes its own,
    but where that would have its encoder's depth."""
    config = model.config.get_text_config()
    return DynamicCache() if method.use_cache and layer_count(config) > config.num_hidden_layers else None


def predicted(step_info: StepInfo, token_ids: list[int], answered: Answered, inputs: ModelInputs) -> Step:
    """The step that a pass makes: the token picked by its logits, or the given continuation's next one.

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
    return Step(step_info, token_ids, likeliest, next_id, float(probabilities[next_id]), fingerprint)


def ends(step: Step, inputs: ModelInputs) -> bool:
    """Whether the run is over after this step: an end token is predicted, or the context is full.

    A given continuation is followed past end tokens.
    """
    stopped = inputs.continuation_ids is None and step.next_id in inputs.stop_ids
    return stopped or context_full(step, inputs)


def context_full(step: Step, inputs: ModelInputs) -> bool:
    """Whether no further token fits the model's context length."""
    return inputs.context_length is not None and len(step.token_ids) >= inputs.context_length


def kept_between_steps(
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method
) -> ProjectedValues | None:
    """Room for the projected values of the whole run;
    None if there is one step, or no cache that leaves values as they are."""
    if inputs.steps == 1 or not method.use_cache:
        return None
    return values_kept(model, parts, len(inputs.masked(len(inputs.token_ids) + inputs.steps - 1)))


def joined_rows(
    parts: list[LayerParts],
    recorded: Recording,
    method: Method,
    fed: int,
    step_info: StepInfo,
    values: ProjectedValues | None,
    own_answers: dict[tuple[str, int], Tensor] | None,
) -> AbstractContextManager[Joined]:
    """Let the rows of the default method join the forward pass of `fed` tokens, where they can."""
    if method.name != "renormalize" or not method.join_rows:
        return nullcontext(Joined())
    return joining(parts, recorded, method, fed, step_info, values, own_answers)
