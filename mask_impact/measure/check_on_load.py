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
from transformers import PreTrainedModel

from mask_impact.base.errors import RequestError, RunError, StopRequested, as_run_error, out_of_memory
from mask_impact.base.precision import TOLERANCE, full_float32
from mask_impact.measure.closed_form.heads import softmax_with_sink
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.rows.independence import check_independent, hold
from mask_impact.measure.rows.through_layer import RowPass
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.attention import AttentionCall, attached
from mask_impact.sites.decoder import DECODER
from mask_impact.sites.finding import find_layers
from mask_impact.sites.hooks import told_of_hooks
from mask_impact.sites.interventions import replace_forward, without_bias
from mask_impact.sites.layer_call import LayerCall, first_tensor, map_tensors
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.positions import fresh_positions
from mask_impact.sites.query import additive_mask, query_view
from mask_impact.sites.site import Site

NARROW = "with its rows in the model's own dtype (--measure-dtype model) it may be measured"
TOGETHER = 16  # rows that are sent through a layer together, to see that each goes by itself
# How far the same numbers may lie apart when a layer makes them again in its own dtype: a unit in the last place of
# each. An adapter that adds 1% is seen in bfloat16.
AGAIN = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@torch.inference_mode()
@full_float32()
def measurable_parts(
    model: PreTrainedModel, method: Method | None = None, site: Site = DECODER
) -> tuple[list[LayerParts], dict[int, str]]:
    """The site's layers that can be measured, checked, and the others by index with the reason why they have no rows.

    Raises RequestError, by name, for a model that cannot be measured at all; RunError if a check fails, naming the
    layer.
    """
    with named_unknown(name_of(model), model), fresh_positions(model):
        return checked_layers(model, method or Method(), site)


@contextmanager
def named_unknown(name: str, module: nn.Module, remedy: str = "it cannot be measured") -> Iterator[None]:
    """Turn what a model's own code raises, in passes that it was not written for, into a RequestError with its name."""
    try:
        yield
    except (RequestError, RunError, StopRequested):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise RequestError(
            f"{name} works in a way that is not known here ({as_run_error(error)}); {remedy}{told_of_hooks(module)}"
        ) from error


def checked_layers(model: PreTrainedModel, method: Method, site: Site) -> tuple[list[LayerParts], dict[int, str]]:
    """What `measurable_parts` gives, and raises; what the passes leave in the model is the caller's affair."""
    seen = site.look(model)
    stack = site.stack(model)
    with attached(stack):
        parts = [check_layer(layer, method) for layer in seen if layer is not None]
    layers = find_layers(stack)
    skipped = {index: no_softmax(stack, index, layers[index]) for index, layer in enumerate(seen) if layer is None}
    if not parts:
        raise RequestError(
            f"{name_of(model)}: none of its {len(layers)} layers has softmax attention; it cannot be measured"
        )
    for layer in check_answer(model, parts, site):
        check_weights(layer)
    check_distances(model, parts, method, site)
    return parts, skipped


def name_of(model: PreTrainedModel) -> str:
    """The model's class, as its users know it."""
    return type(model).__name__


def no_softmax(stack: PreTrainedModel, index: int, layer: nn.Module) -> str:
    """Why a layer has no rows: its kind as the configuration names it, or the layer's class."""
    kinds = getattr(stack.config.get_text_config(), "layer_types", None)
    return f"no softmax attention ({kinds[index] if kinds else type(layer).__name__})"


def check_layer(layer: LayerPass, method: Method) -> LayerParts:
    """The layer's parts, and what `tried` finds of them.

    Raises RunError, naming the layer, where they are not the layer's own.
    """
    own = layer.call.hidden.dtype
    parts = layer.parts
    remedy = (
        NARROW if method.dtype is not None and parts.dtypes != {method.rows_dtype(own)} else "it cannot be measured"
    )
    with named_unknown(f"layer {parts.index} ({type(parts.layer).__name__})", parts.layer, remedy):
        check_own_answers(layer)
        with method.weights_in(parts, own):
            return tried(layer, method.rows_dtype(own))


def tried(layer: LayerPass, dtype: torch.dtype) -> LayerParts:
    """The layer's parts, with how the layer adds up and whether its attention is linear in the heads; its weights are
    in `dtype`. Raises RunError as `check_layer` does."""
    row = layer.at(layer.last)
    rows = RowPass(layer.parts, row.call.to(dtype))
    heads = row.heads[None].to(dtype)
    check_rows(layer, rows, heads)
    linear = is_linear(rows, heads, rows.project)
    found = replace(
        layer.parts,
        residual=residual_kind(rows, heads),
        projects_linearly=linear,
        linear=linear and is_linear(rows, heads, lambda each: rows.attention_added(rows.project(each))),
    )
    found = replace(found, as_answered=found.residual == "sum" and adds_answers(rows, heads))
    return replace(found, can_join=found.can_join and found.linear and found.as_answered)


def check_own_answers(layer: LayerPass) -> None:
    """Raise RunError if, in the model's own dtype, the output projection found does not give the attention module's
    answer, or the layer, with that answer in its place, its own output.

    The model made both of the same numbers in the same dtype, so they differ by no more than the order of sums.
    """
    parts, row = layer.parts, layer.at(layer.last)
    heads = every_head(layer) if parts.direct else row.heads[None]
    answer = first_tensor(parts.attention_answer).flatten(0, -2)[-1]
    projected = RowPass(parts, row.call).project(heads)[-1]
    hold(parts, projected, answer, "its attention module's own answer", AGAIN[answer.dtype])
    output = whole_output(parts, layer.call)
    hold(parts, output, row.output, "its own output", AGAIN[output.dtype])


def every_head(layer: LayerPass) -> Tensor:
    """What the heads answered for all rows of the layer, (row, head, d_v)."""
    return torch.cat([answer[0] for _, answer in layer.attention])


def whole_output(parts: LayerParts, call: LayerCall) -> Tensor:
    """What the layer gives for the last of all its rows, (d_model,), in the call's dtype; attention answers as it
    did."""
    call = call.without_cache()
    answer = map_tensors(parts.attention_answer, lambda t: t.to(call.hidden.dtype, copy=True))
    with replace_forward({parts.attention: lambda *args, **kwargs: answer}):
        return first_tensor(parts.layer(*call.args, **call.kwargs)).flatten(0, -2)[-1]


def check_rows(layer: LayerPass, rows: RowPass, heads: Tensor) -> None:
    """Raise RunError if a row by itself, or beside others, gives other numbers than in the whole sequence.

    This finds a wrapper or a hook that mixes the rows, or treats the last one otherwise. heads (1, head, d_v), in the
    rows' dtype.
    """
    parts, dtype = rows.parts, heads.dtype
    if parts.direct:
        together = rows.project(every_head(layer).to(dtype))[-1]
        what = "its attention module's own answer on a row by itself"
        hold(parts, rows.project(heads)[0], together, what, TOLERANCE[dtype])
    answer = first_tensor(parts.attention_answer).flatten(0, -2)[-1:].to(dtype)
    [alone], _ = rows.output(answer)
    whole = whole_output(parts, layer.call.to(dtype))
    hold(parts, alone, whole, "its own output on a row by itself", TOLERANCE[dtype])
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
    """Whether a function of the heads' outputs (1, head, d_v) is linear, but for biases of the output projection."""
    generator = torch.Generator("cpu").manual_seed(0)
    one, two = (
        torch.randn(2, *heads.shape, generator=generator, device="cpu").to(heads) * heads.norm() / heads.numel() ** 0.5
    )
    with without_bias(rows.parts.projection):
        added = [function(each) for each in (one, two, one + two)]
    scale = added[0].norm() + added[1].norm()
    return float((added[2] - added[0] - added[1]).norm() / scale) <= TOLERANCE[heads.dtype]


def check_answer(model: PreTrainedModel, parts: list[LayerParts], site: Site) -> list[LayerPass]:
    """The layers in a pass of a short input. Raises RunError if watching them changes what the site answers."""
    plain, watched, layers = site.answers(model, parts)
    error = float((watched - plain).abs().max() / plain.abs().max().clamp_min(torch.finfo(plain.dtype).tiny))
    if not error <= TOLERANCE[plain.dtype]:
        raise RunError(
            f"{name_of(model)}: watching the model changes its {site.answer} (relative {error:.1e}); "
            "it would be measured wrongly"
        )
    return layers


def check_weights(layer: LayerPass) -> None:
    """Raise RunError if, in the model's own attention, a masked key keeps weight or the visible ones sum wrongly.

    Two keys are tried, one after the other; a key without which a head would see nothing is passed over.
    """
    index, row = layer.parts.index, layer.at(layer.last)
    call = row.attention
    query = query_view(call, row.first_key, call.query.dtype)
    # Eager softmaxes are in float32 whatever the model's dtype.
    tolerance = max(TOLERANCE[call.query.dtype], TOLERANCE[torch.float32])
    for key in query.visible.any(0).nonzero().flatten().tolist()[:2]:
        mask = additive_mask(call, call.query.dtype)
        mask[..., -1, key] = float("-inf")
        seen = mask[0, :, -1]
        if (seen == float("-inf")).all(-1).any():
            continue
        weights = own_weights(call, mask)
        expected = softmax_with_sink((query.logits + seen * (seen < 0)).float(), query.sink).sum(-1)
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


def check_distances(model: PreTrainedModel, parts: list[LayerParts], method: Method, site: Site) -> None:
    """Raise RunError if masking changes nothing in some layer, or an identity fails on a short input."""
    sample = site.sample(model)
    inputs = ModelInputs(sample.token_ids, 1, further=lambda _: sample.further, site=site, at=sample.at)
    quick = Method("renormalize", ("attn", "heads"), method.dtype, use_cache=False)
    for measured in measured_layers(model, parts, inputs, quick):
        if not (measured.l2 > measured.noise_floor_l2[:, None]).any():
            raise RunError(
                f"{site.layer} {measured.layer}: masking changes no distance; the mask does not reach its attention"
            )
