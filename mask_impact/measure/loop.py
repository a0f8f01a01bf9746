"""The one loop: generation steps, and in each step the layers, measured.

Both methods and both front doors iterate `measured_layers`. Step k predicts output token k: step 0 sees the prompt,
step k the prompt and k more tokens. The prompt is run once; with the key-value cache a further token costs one
decoding step and its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from mask_impact.base.errors import RunError
from mask_impact.base.heap import map_large_blocks
from mask_impact.base.precision import full_float32
from mask_impact.measure.closed_form import MaskedHeads, leave_one_out
from mask_impact.measure.collect import StepInfo, collected
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.joined.kept_values import ProjectedValues, values_kept
from mask_impact.measure.joined.rows import Joined, riding
from mask_impact.measure.renormalize import renormalized
from mask_impact.measure.rerun import Rerun, rerun
from mask_impact.measure.row_budget import RowBudget
from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.rows import MaskedRows
from mask_impact.measure.step import MeasuredLayer, ModelInputs, PassFingerprint, Step, digest
from mask_impact.sites.attention import attached
from mask_impact.sites.interventions import in_dtype
from mask_impact.sites.parts import LayerParts, decoder_of, layer_count
from mask_impact.sites.positions import RotaryState, fresh_positions
from mask_impact.sites.query import FinalQuery, final_query
from mask_impact.sites.recording import LayerRecord, recording

TOP_TOKENS = 5


@dataclass(frozen=True)
class Method:
    """How the layers are measured: see the settings of the same names. `dtype` None is the model's own.

    `riding` lets the rows of `renormalize` join the model's own forward pass where they can.
    """

    name: str = "renormalize"
    variants: tuple[str, ...] = ("full", "attn", "heads")
    dtype: torch.dtype | None = torch.float32
    use_cache: bool = True
    riding: bool = True
    rows: RowBudget = field(default_factory=RowBudget)


@torch.inference_mode()
def measured_layers(
    model: PreTrainedModel, parts: list[LayerParts], inputs: ModelInputs, method: Method | None = None
) -> Iterator[MeasuredLayer]:
    """Measure every layer of `parts` at every generation step, step by step, in layer order.

    Raises RunError where the logits or a layer's update are not numbers, or where an identity of the method fails on
    the first step.
    """
    method = method or Method()
    map_large_blocks(len(inputs.token_ids))
    with attached(decoder_of(model)), fresh_positions(model) as rotary:
        for step, records in generation_steps(model, parts, inputs, method, rotary):
            for record in records:
                yield measure_layer(step, record, method)
                record.let_go()


def generation_steps(
    model: PreTrainedModel,
    parts: list[LayerParts],
    inputs: ModelInputs,
    method: Method,
    rotary: RotaryState | None = None,
) -> Iterator[tuple[Step, list[LayerRecord]]]:
    """Run the model greedily, or along a given continuation, and yield each step with what its layers did.

    A cache serves as long as its keys were turned as those of the present length are; elsewhere the step is taken from the start.
    """
    rotary = rotary or RotaryState(model)
    token_ids, unseen, cache = list(inputs.token_ids), list(inputs.token_ids), None
    values = kept_between_steps(model, parts, inputs, method)
    for index in range(inputs.steps):
        masked = inputs.masked(len(token_ids))
        step_info = StepInfo(index, len(token_ids), masked if len(masked) < len(token_ids) else None)
        done = inputs.done[index] if index < len(inputs.done) else None
        run = partial(one_pass, model, parts, inputs, method, rotary, step_info, done)
        fed = token_ids if cache is None else unseen
        records, joined, answer = run(fed, cache, values)
        if rotary.changed() and cache is not None:
            fed, cache, values = token_ids, None, kept_between_steps(model, parts, inputs, method)
            records, joined, answer = run(fed, cache, values)
        step = predicted(step_info, token_ids, answer.logits[0, -1], inputs, joined)
        if done is None:
            yield step, records
        elif not done.same(step.fingerprint):
            inputs.start_over()
            cache = values = answer = records = joined = run = None  # so that not all is there twice
            yield from generation_steps(model, parts, replace(inputs, done=()), method, rotary)
            return
        if ends(step, inputs):
            return
        token_ids, unseen = [*token_ids, step.next_id], [step.next_id]
        cache = getattr(answer, "past_key_values", None) if method.use_cache else None


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
) -> tuple[list[LayerRecord], Joined, Any]:
    """One forward pass of the tokens `fed`, all of them or those behind the cache: what its layers did, what rows that joined it leave,
    and the model's answer."""
    further = inputs.further(fed) if cache is None else {}
    rode = done.rode if done is not None and len(fed) == 1 else None
    if cache is None:
        rotary.begin()
    with (
        recording(parts, whole=method.name == "rerun") as records,
        riders(records, method, len(fed), step_info, values, rode) as joined,
        full_float32(),
    ):
        answer = model(
            input_ids=torch.tensor([fed], device=model.device),
            past_key_values=first_cache(model, method) if cache is None else cache,
            use_cache=method.use_cache,
            logits_to_keep=1,
            **further,
        )
    return records, joined, answer


def first_cache(model: PreTrainedModel, method: Method) -> DynamicCache | None:
    """The cache of a sequence's first pass: None, so that the model makes its own, but where that would have its encoder's depth."""
    config = model.config.get_text_config()
    return DynamicCache() if method.use_cache and layer_count(config) > config.num_hidden_layers else None


def predicted(step_info: StepInfo, token_ids: list[int], logits: Tensor, inputs: ModelInputs, joined: Joined) -> Step:
    """The step that these logits (vocabulary,) make: the token picked by them, or the given continuation's next one.

    Raises RunError where the logits are not numbers.
    """
    probabilities = logits.float().softmax(-1)
    if probabilities.isnan().any():
        raise RunError(f"the logits of generation step {step_info.step} are not numbers; try another --dtype")
    top = probabilities.topk(min(TOP_TOKENS, len(probabilities)))
    given = inputs.continuation_ids
    next_id = inputs.pick(token_ids, logits) if given is None else given[step_info.step]
    likeliest = list(zip(top.indices.tolist(), top.values.tolist()))
    fingerprint = PassFingerprint(next_id, digest(logits), joined.own_answers)
    return Step(step_info, token_ids, likeliest, next_id, float(probabilities[next_id]), fingerprint, joined.distances)


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
    """Room for the projected values of the whole run; None if there is one step, or no cache that leaves values as they are."""
    if inputs.steps == 1 or not method.use_cache:
        return None
    return values_kept(model, parts, len(inputs.masked(len(inputs.token_ids) + inputs.steps - 1)))


def riders(
    records: list[LayerRecord],
    method: Method,
    fed: int,
    step_info: StepInfo,
    values: ProjectedValues | None,
    rode: dict[tuple[str, int], Tensor] | None,
) -> AbstractContextManager[Joined]:
    """Let the rows of the default method ride in the forward pass of `fed` tokens, where they can."""
    if method.name != "renormalize" or not method.riding:
        return nullcontext(Joined())
    return riding(records, method.variants, method.dtype, fed, step_info, method.rows, values, rode)


@full_float32()
def measure_layer(step: Step, record: LayerRecord, method: Method) -> MeasuredLayer:
    """The distances of one recorded layer.

    Raises RunError where they are not finite, or where an identity fails on the first step.
    """
    distances = step.joined.get(record.parts.index)
    while distances is None:
        try:
            distances = distances_afterwards(step, record, method)
        except torch.OutOfMemoryError as error:
            method.rows.halve(error)
    return MeasuredLayer(**vars(distances), step=step)


def distances_afterwards(step: Step, record: LayerRecord, method: Method) -> LayerDistances:
    """The distances of a layer from what was recorded of it, its rows run by themselves."""
    own = record.call.hidden.dtype
    dtype = own if method.dtype is None else torch.promote_types(own, method.dtype)
    step_info = step.step_info
    with in_dtype(record.parts, dtype if method.dtype is not None else None):
        query = final_query(record.attention, step_info.length, dtype, step_info.masked)
        closed = leave_one_out(query)
        chunks = masked_rows(record, query, closed, method, seed=step.index)
        return collected(step_info, record, query, closed, chunks, "heads" in method.variants, method.rows)


def masked_rows(
    record: LayerRecord, query: FinalQuery, closed: MaskedHeads, method: Method, seed: int
) -> Iterator[MaskedRows]:
    """The layer's masked rows in chunks, by the method asked for; keys that no head sees have none."""
    dtype = closed.output.dtype
    rows = RowPass(record.parts, record.call.last_row().to(dtype))
    if method.name == "renormalize":
        yield from renormalized(rows, closed, query.keys, method.variants, seed, method.rows)
    elif method.name == "rerun":
        layer = Rerun(record.parts, record.call, record.attention, dtype)
        yield rerun(rows, layer, query.keys, method.variants, seed)
    else:
        raise ValueError(f"unknown method {method.name!r}")
