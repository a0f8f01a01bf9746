"""The check on load: proof, on this very model, that the parts are right and that masking bites.

It costs a few short passes. With nothing masked the watched model must give the plain one's logits. In each layer, in
the model's own attention called with the mask, a masked key's weight must be exactly 0 and the visible weights sum to
1 (with a sink, to 1 minus its share); masking must change a distance; and the layer's output must be its input plus
what its branches add, or else it is measured plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from mask_impact.base.errors import RequestError, RunError, as_run_error, out_of_memory
from mask_impact.base.precision import TOLERANCE, full_float32
from mask_impact.measure.closed_form import softmax_with_sink
from mask_impact.measure.loop import Method, measured_layers
from mask_impact.measure.row_checks import check_independent, hold
from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.step import ModelInputs
from mask_impact.sites.attention import AttentionCall, attached
from mask_impact.sites.finding import find_layers, look
from mask_impact.sites.hooks import told_of_hooks
from mask_impact.sites.interventions import replace_forward, in_dtype, without_bias
from mask_impact.sites.layer_call import LayerCall, first_tensor, map_tensors
from mask_impact.sites.parts import LayerParts, SeenLayer, decoder_of
from mask_impact.sites.positions import fresh_positions
from mask_impact.sites.query import additive_mask, final_query, last_row
from mask_impact.sites.recording import recording

NARROW = "with its rows in the model's own dtype (--measure-dtype model) it may be measured"
TOKENS = 8
TOGETHER = 16  # rows that are sent through a layer together, to see that each goes by itself
# How far the same numbers may lie apart when a layer makes them again in its own dtype: a unit in the last place of each. An
# adapter that adds 1% is seen in bfloat16.
AGAIN = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@torch.inference_mode()
@full_float32()
def measurable_parts(model: PreTrainedModel, method: Method = Method()) -> tuple[list[LayerParts], dict[int, str]]:
    """The layers that can be measured, checked, and the others by index with the reason why they have no rows.

    Raises RequestError, by name, for a model that cannot be measured at all; RunError if a check fails, naming the
    layer.
    """
    with named_unknown(name_of(model), model), fresh_positions(model):
        return checked_layers(model, method)


@contextmanager
def named_unknown(name: str, module: nn.Module, remedy: str = "it cannot be measured") -> Iterator[None]:
    """Turn what a model's own code raises, in passes of a kind that it was not written for, into a RequestError with its name."""
    try:
        yield
    except (RequestError, RunError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        told = f"{name} works in a way that is not known here ({as_run_error(error)}); {remedy}{told_of_hooks(module)}"
        raise RequestError(told) from error


def checked_layers(model: PreTrainedModel, method: Method) -> tuple[list[LayerParts], dict[int, str]]:
    """What `measurable_parts` gives, and raises; what the passes leave in the model is the caller's affair."""
    refuse_class(type(model), model.config)
    seen_layers = look(model, sample_ids(model, 2))
    decoder = decoder_of(model)
    with attached(decoder):
        parts = [check_layer(seen_layer, method) for seen_layer in seen_layers if seen_layer is not None]
    layers = find_layers(decoder)
    skipped = {i: no_softmax(model, i, layers[i]) for i, seen_layer in enumerate(seen_layers) if seen_layer is None}
    if not parts:
        raise RequestError(
            f"{name_of(model)}: none of its {len(layers)} layers has softmax attention; it cannot be measured"
        )
    check_logits(model, parts)
    check_distances(model, parts, method)
    return parts, skipped


def name_of(model: PreTrainedModel) -> str:
    """The model's class, as its users know it."""
    return type(model).__name__


def sample_ids(model: PreTrainedModel, count: int) -> list[int]:
    """`count` token ids spread over the vocabulary; what they say does not matter here."""
    size = len(model.get_input_embeddings().weight)
    return [size * (index + 1) // (count + 2) for index in range(count)]


def refuse_class(cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """Raise RequestError for models without attention, or whose attention bypasses transformers' interface for it."""
    if not hasattr(config.get_text_config(), "num_hidden_layers"):
        raise RequestError(f"{cls.__name__} has layers that its configuration does not count; it cannot be measured")
    if not hasattr(config.get_text_config(), "num_attention_heads"):
        raise RequestError(
            f"{cls.__name__} has no softmax attention (a state-space or recurrent model); it cannot be measured"
        )
    if not cls._can_set_attn_implementation():
        raise RequestError(
            f"{cls.__name__} computes attention outside transformers' attention interface; it cannot be measured"
        )


def no_softmax(model: PreTrainedModel, index: int, layer: nn.Module) -> str:
    """Why a layer has no rows: its kind as the configuration names it, or the layer's class."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None)
    return f"no softmax attention ({kinds[index] if kinds else type(layer).__name__})"


def check_layer(seen_layer: SeenLayer, method: Method) -> LayerParts:
    """The layer's parts, with how it adds up and whether its attention is linear in the heads found by trying.

    Raises RunError, naming the layer, where they are not the layer's own.
    """
    own = seen_layer.call.hidden.dtype
    dtype = own if method.dtype is None else torch.promote_types(own, method.dtype)
    parts = seen_layer.parts
    remedy = NARROW if method.dtype is not None and parts.dtypes != {dtype} else "it cannot be measured"
    with named_unknown(f"layer {parts.index} ({type(parts.layer).__name__})", parts.layer, remedy):
        check_own_answers(seen_layer)
        with in_dtype(parts, dtype if method.dtype is not None else None):
            return tried(seen_layer, dtype)


def tried(seen_layer: SeenLayer, dtype: torch.dtype) -> LayerParts:
    """The layer's parts with what is found by trying, its weights being in `dtype`. Raises RunError as `check_layer` does."""
    rows = RowPass(seen_layer.parts, seen_layer.row.to(dtype))
    heads = seen_layer.attention_output[0, -1:].to(dtype)
    check_rows(seen_layer, rows, heads)
    linear = is_linear(rows, heads, rows.project)
    found = replace(
        seen_layer.parts,
        residual=residual_kind(rows, heads),
        projects_linearly=linear,
        linear=linear and is_linear(rows, heads, lambda each: rows.attention_added(rows.project(each))),
    )
    found = replace(found, as_answered=found.residual == "sum" and adds_answers(rows, heads))
    return replace(found, rides=found.rides and found.linear and found.as_answered)


def check_own_answers(seen_layer: SeenLayer) -> None:
    """Raise RunError if, in the model's own dtype, the output projection found does not give the attention module's answer, or the
    layer, with that answer in its place, its own output.

    The model made both of the same numbers in the same dtype, so they differ by no more than the order of sums.
    """
    parts = seen_layer.parts
    heads = seen_layer.attention_output[0] if parts.direct else seen_layer.attention_output[0, -1:]
    answer = first_tensor(parts.attention_answer).flatten(0, -2)[-1]
    hold(
        parts,
        RowPass(parts, seen_layer.row).project(heads)[-1],
        answer,
        "its attention module's own answer",
        AGAIN[answer.dtype],
    )
    output = whole_output(parts, seen_layer.call)
    hold(parts, output, seen_layer.output, "its own output", AGAIN[output.dtype])


def whole_output(parts: LayerParts, call: LayerCall) -> Tensor:
    """What the layer gives for the last of all its rows, (d_model,), its attention answering as it did, in the call's dtype."""
    call, answer = (
        call.without_cache(),
        map_tensors(parts.attention_answer, lambda t: t.to(call.hidden.dtype, copy=True)),
    )
    with replace_forward({parts.attention: lambda *args, **kwargs: answer}):
        return first_tensor(parts.layer(*call.args, **call.kwargs)).flatten(0, -2)[-1]


def check_rows(seen_layer: SeenLayer, rows: RowPass, heads: Tensor) -> None:
    """Raise RunError if a row by itself, or beside others, gives other numbers than in the whole sequence; in the rows' dtype.

    Only so is a wrapper or a hook seen that mixes the rows, or tells the last one from the others; heads (1, head, d_v).
    """
    parts, dtype = rows.parts, heads.dtype
    if parts.direct:
        together = rows.project(seen_layer.attention_output[0].to(dtype))
        hold(
            parts,
            rows.project(heads)[0],
            together[-1],
            "its attention module's own answer on a row by itself",
            TOLERANCE[dtype],
        )
    answer = first_tensor(parts.attention_answer).flatten(0, -2)[-1:].to(dtype)
    [alone], _ = rows.output(answer)
    hold(
        parts,
        alone,
        whole_output(parts, seen_layer.call.to(dtype)),
        "its own output on a row by itself",
        TOLERANCE[dtype],
    )
    shifts = [heads.roll(shift, -1) * (1 + shift / TOGETHER) for shift in range(TOGETHER)]
    check_independent(rows, torch.cat(shifts))


def adds_answers(rows: RowPass, heads: Tensor) -> bool:
    """Whether the layer adds what its attention module and its branches answer as it is; heads (1, head, d_v)."""
    attention = rows.project(heads)
    _, answers = rows.output(attention)
    if any(first_tensor(answer).shape[-1] != attention.shape[-1] for answer in answers.values()):
        return False
    plain = RowPass(replace(rows.parts, as_answered=True), rows.call)
    pairs = [
        (rows.attention_added(attention), attention),
        (rows.added(attention, answers), plain.added(attention, answers)),
    ]
    return all(found.shape == answer.shape and torch.allclose(found, answer, rtol=1e-6) for found, answer in pairs)


def residual_kind(rows: RowPass, heads: Tensor) -> str:
    """How the layer's output holds its input (see LayerParts.residual), found by feeding it none, one and two of it.

    heads (1, head, d_v).
    """
    x, (_, answers) = rows.call.hidden.flatten(0, -2), rows.output(rows.project(heads))
    none, once, twice = (rows.replay(rows.project(heads), answers, factor) for factor in (0, 1, 2))
    tolerance = TOLERANCE[x.dtype] * (x.norm() + none.norm())
    if (once - none - x).norm() <= tolerance:
        return "sum"
    scale = ((once - none) * x).sum() / x.square().sum()
    scaled = (once - none - scale * x).norm() <= tolerance and (twice - none - 2 * scale * x).norm() <= tolerance
    return "scaled" if scaled else "normed"


def is_linear(rows: RowPass, heads: Tensor, function: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function of the heads' outputs (1, head, d_v), through the output projection, is linear but for biases in that."""
    generator = torch.Generator("cpu").manual_seed(0)
    one, two = (
        torch.randn(2, *heads.shape, generator=generator, device="cpu").to(heads) * heads.norm() / heads.numel() ** 0.5
    )
    with without_bias(rows.parts.projection):
        added = [function(each) for each in (one, two, one + two)]
    scale = added[0].norm() + added[1].norm()
    return float((added[2] - added[0] - added[1]).norm() / scale) <= TOLERANCE[heads.dtype]


def check_logits(model: PreTrainedModel, parts: list[LayerParts]) -> None:
    """Raise RunError if watching changes the logits, or a layer's attention does not keep to its mask."""
    ids = torch.tensor([sample_ids(model, TOKENS)], device=model.device)
    plain = model(input_ids=ids, use_cache=False).logits
    with attached(decoder_of(model)), recording(parts, whole=True) as records:
        watched = model(input_ids=ids, use_cache=False).logits
    error = float((watched - plain).abs().max() / plain.abs().max().clamp_min(torch.finfo(plain.dtype).tiny))
    if not error <= TOLERANCE[plain.dtype]:
        raise RunError(
            f"{name_of(model)}: watching the model changes its logits (relative {error:.1e}); "
            "it would be measured wrongly"
        )
    for record in records:
        check_weights(record.parts.index, record.attention)


def check_weights(index: int, call: AttentionCall) -> None:
    """Raise RunError if, in the model's own attention, a masked key keeps weight or the visible ones sum wrongly.

    Two keys are tried, one after the other; a key without which a head would see nothing is passed over.
    """
    call = last_row(call)
    query = final_query(call, call.key.shape[2], call.query.dtype)
    # Eager softmaxes are in float32 whatever the model's dtype.
    tolerance = max(TOLERANCE[call.query.dtype], TOLERANCE[torch.float32])
    for key in query.keys.tolist()[:2]:
        mask = additive_mask(call, call.query.dtype)
        mask[..., -1, key] = float("-inf")
        row = mask[0, :, -1]
        if (row == float("-inf")).all(-1).any():
            continue
        weights = own_weights(call, mask)
        expected = softmax_with_sink((query.logits + row * (row < 0)).float(), query.sink).sum(-1)
        kept = float(weights[:, key].abs().max())
        if kept != 0:
            raise RunError(
                f"layer {index}: masking key {key} leaves it a weight of {kept:.1e} in the model's attention"
            )
        error = float((weights.sum(-1) - expected).abs().max())
        if not error <= tolerance:
            raise RunError(f"layer {index}: with key {key} masked the visible weights miss their sum by {error:.1e}")


def own_weights(call: AttentionCall, mask: Tensor) -> Tensor:
    """The final query's weights (head, key) in the model's own attention, read off with unit vectors for values."""
    keys, value = call.key.shape[2], call.value
    units = torch.eye(keys, dtype=value.dtype, device=value.device).expand(1, value.shape[1], keys, keys)
    return call.run(call.query, call.key, units, mask)[0, -1].float()


def check_distances(model: PreTrainedModel, parts: list[LayerParts], method: Method) -> None:
    """Raise RunError if masking changes nothing in some layer, or an identity fails on a short input."""
    inputs = ModelInputs(sample_ids(model, TOKENS), steps=1)
    quick = Method("renormalize", ("attn", "heads"), method.dtype, use_cache=False)
    for measured in measured_layers(model, parts, inputs, quick):
        if not (measured.l2 > measured.noise_floor_l2[:, None]).any():
            raise RunError(
                f"layer {measured.layer}: masking changes no distance; the mask does not reach its attention"
            )
