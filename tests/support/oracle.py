"""The measurement once more, plain and slow: the independent reference that the package is held to.

    table = oracle(model, input_ids)
    l2, cosine = table["Head_2", 0]         # head 2 of layer 0, each of shape (position,)

One ordinary forward pass notes what every decoder layer is called with. Then each layer runs again on the whole
sequence, once per key, with that key's logit at the final query set to -inf before a softmax written out here; what an
architecture does to its attention's output is looked up by name. Never a cache, and nothing imported from the package.
"""

from collections.abc import MutableMapping
from contextlib import ExitStack, contextmanager
from copy import copy
from unittest.mock import patch

import torch
from transformers import AttentionInterface

LAYERS = {
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "opt": "model.decoder.layers",
    "bart": "model.decoder.layers",
    "whisper": "model.decoder.layers",
    "qwen3_vl": "model.language_model.layers",
    "qwen3_vl_moe": "model.language_model.layers",
}
ATTENTION = {
    "gpt2": "attn",
    "gpt_neox": "attention",
    "modernbert-decoder": "attn",
    "nemotron_h": "mixer",
    "recurrent_gemma": "temporal_block",
}
MIXED = ("nemotron_h", "recurrent_gemma")  # whose other layers have something else under the same name
POST_NORM = {
    "gemma2": "post_attention_layernorm",
    "gemma3_text": "post_attention_layernorm",
    "gemma4_text": "post_attention_layernorm",
    "olmo2": "post_attention_layernorm",
    "olmo3": "post_attention_layernorm",
    "exaone4": "post_attention_layernorm",
    "glm4": "post_self_attn_layernorm",
}
SCALED_LAYER = ("gemma4_text",)  # layer output = layer_scalar * (input + updates)
SCALED_UPDATE = ("granite",)  # residual + update * residual_multiplier
HARMLESS = {"dropout", "sliding_window", "position_ids", "use_cache", "output_attentions", "output_router_logits"}


def oracle(model, input_ids, layers=None, **inputs):
    """Distances at the final position of `input_ids`, shape (position,) or (1, position), for every masked key;
    `inputs` are what else the model takes.

    Returns {(variant, layer): (l2, cosine)} with variants Full, Attn, Head_0 ..., for `layers` (default: every layer
    with softmax attention), both of shape (position,) in float64; NaN where undefined.
    """
    with torch.no_grad(), model.device:
        calls = layer_calls(model, input_ids, **inputs)
        table = {}
        for index, call in calls.items():
            if layers is None or index in layers:
                for variant, vectors in masked_vectors(model, call).items():
                    table[variant, index] = distances(vectors)
    return table


def distances(vectors):
    """l2 and cosine distance of the rows 1.. of `vectors`, (1 + position, width), to row 0, in float64."""
    vectors = vectors.double()
    length = vectors.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, vectors / length, torch.nan)
    l2 = (vectors[1:] - vectors[0]).norm(dim=-1)
    return l2, (unit[1:] - unit[0]).square().sum(-1) / 2


def decoder_layers(model):
    """The decoder layers of `model`, looked up by the architecture's name."""
    return model.get_submodule(LAYERS.get(model.config.model_type, "model.layers"))


def attention_of(model, layer):
    """The attention module of a decoder layer; None where the layer has no softmax attention."""
    module = getattr(layer, ATTENTION.get(model.config.model_type, "self_attn"), None)
    return module if model.config.model_type not in MIXED or hasattr(module, "q_proj") else None


def layer_calls(model, input_ids, **inputs):
    """{layer: (module, args, kwargs)} of one ordinary forward pass, of the layers with softmax attention."""
    calls = {}

    def note(index):
        return lambda module, args, kwargs: calls.update({index: (module, args, frozen(kwargs))})

    with ExitStack() as stack:
        for index, layer in enumerate(decoder_layers(model)):
            if attention_of(model, layer) is not None:
                handle = layer.register_forward_pre_hook(note(index), with_kwargs=True)
                stack.callback(handle.remove)
        model(torch.as_tensor(input_ids).reshape(1, -1), use_cache=False, **inputs)
    return calls


def frozen(kwargs):
    """The arguments as they are now: layers write into dictionaries (shared keys and values) that later layers read."""
    return {name: copy(value) if isinstance(value, MutableMapping) else value for name, value in kwargs.items()}


def masked_vectors(model, call, keys=None):
    """{variant: (1 + key, width)}: row 0 the baseline, then one row per key of `keys` (default: all).

    A row's key is masked at the final query. The rows are one batch of whole sequences, copies of the layer's input.
    """
    module, args, kwargs = call
    keys = range(args[0].shape[1]) if keys is None else keys
    attention = PlainAttention([None, *keys])
    rows = args[0].expand(1 + len(keys), -1, -1)
    with plain_attention(attention), outputs_of(attention_of(model, module)) as answers:
        output = first(module(rows, *args[1:], **frozen(kwargs)))
    (answer,), (heads,), (undefined,) = answers, attention.heads, attention.undefined
    vectors = {"Full": output[:, -1] - rows[:, -1], "Attn": attention_adds(model, module, answer[:, -1])}
    vectors |= {f"Head_{index}": heads[:, index] for index in range(heads.shape[1])}
    return {variant: vector.double().masked_fill(undefined[:, None], torch.nan) for variant, vector in vectors.items()}


@contextmanager
def outputs_of(module):
    """A list that fills with what `module` returns."""
    outputs = []
    handle = module.register_forward_hook(lambda _, __, output: outputs.append(first(output)))
    try:
        yield outputs
    finally:
        handle.remove()


def attention_adds(model, layer, output):
    """What attention adds to the residual stream, given the attention module's output (row, d_model)."""
    kind = model.config.model_type
    if kind in POST_NORM:
        output = getattr(layer, POST_NORM[kind])(output)
    if kind in SCALED_UPDATE:
        output = output * model.config.residual_multiplier
    if kind in SCALED_LAYER:
        output = output * layer.layer_scalar
    return output


def first(output):
    """The hidden states of what a module returned."""
    return output[0] if isinstance(output, tuple) else output


def qwen3_by_hand(model, input_ids):
    """Logits (position, vocabulary) and the table of `oracle` for a Qwen3, from its state dict alone, in float64."""
    config, weights = model.config, {name: weight.double() for name, weight in model.state_dict().items()}
    stream = weights["model.embed_tokens.weight"][input_ids]
    table = {}
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        layer = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        clean = qwen3_layer(config, layer, stream)
        masked = [qwen3_layer(config, layer, stream, key) for key in range(len(stream))]
        for variant in clean[1]:
            pairs = [by_hand_distances(clean[1][variant], vectors[variant]) for _, vectors in masked]
            table[variant, index] = torch.tensor(pairs, dtype=torch.float64).T
        stream = clean[0]
    return rms_norm(stream, weights["model.norm.weight"], config) @ weights["lm_head.weight"].T, table


def by_hand_distances(clean, masked):
    """L2 distance, and 1 minus the cosine, of two vectors as the textbook has them."""
    return (masked - clean).square().sum().sqrt(), 1 - clean @ masked / (clean.norm() * masked.norm())


def qwen3_layer(config, layer, stream, masked=None):
    """Output (position, d_model) of a Qwen3 layer and the last query's vectors, with key `masked` hidden from it."""

    def project(name, inputs):
        return inputs @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0)

    normed = rms_norm(stream, layer["input_layernorm.weight"], config)
    query, key, value = (
        project(f"self_attn.{name}_proj", normed).unflatten(-1, (-1, config.head_dim)).transpose(0, 1) for name in "qkv"
    )
    query = rotated(rms_norm(query, layer["self_attn.q_norm.weight"], config), config)
    key = rotated(rms_norm(key, layer["self_attn.k_norm.weight"], config), config)
    heads = []
    for head in range(config.num_attention_heads):
        group = head * config.num_key_value_heads // config.num_attention_heads
        logits = query[head] @ key[group].T / config.head_dim**0.5
        logits[torch.ones_like(logits, dtype=torch.bool).triu(1)] = -torch.inf
        if masked is not None:
            logits[-1, masked] = -torch.inf
        powers = torch.exp(logits - logits.max(-1, keepdim=True).values)
        heads.append(powers / powers.sum(-1, keepdim=True) @ value[group])
    attention = project("self_attn.o_proj", torch.cat(heads, dim=-1))
    normed = rms_norm(stream + attention, layer["post_attention_layernorm.weight"], config)
    gate, up = project("mlp.gate_proj", normed), project("mlp.up_proj", normed)
    update = attention + project("mlp.down_proj", gate / (1 + torch.exp(-gate)) * up)
    vectors = {"Full": update[-1], "Attn": attention[-1], **{f"Head_{i}": head[-1] for i, head in enumerate(heads)}}
    return stream + update, vectors


def rms_norm(vectors, weight, config):
    return vectors / torch.sqrt((vectors**2).mean(-1, keepdim=True) + config.rms_norm_eps) * weight


def rotated(vectors, config):
    """Rotary embedding of (head, position, head_dim).

    Coordinates i and i + head_dim/2 turn by position * theta^(-2i/head_dim), in speeds rounded to float32 as the
    model keeps them.
    """
    half = config.head_dim // 2
    speeds = (1 / config.rope_parameters["rope_theta"] ** (torch.arange(half) / half)).double()
    angles = torch.arange(vectors.shape[1])[:, None] * speeds
    left, right = vectors[..., :half], vectors[..., half:]
    return torch.cat([left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()], dim=-1)


@contextmanager
def plain_attention(function):
    """Every attention module calls `function` in place of the implementation that its configuration names."""
    with patch.object(AttentionInterface, "get_interface", lambda *_: function):
        yield


class PlainAttention:
    """Softmax attention in the open, called as transformers calls its attention functions.

    blocked: for each row of the batch the key whose logit is -inf at the final query, or None. One entry per call is
    kept of heads, (row, head, head_dim) at the final query, and of undefined, (row,): no key is left and no sink.
    """

    def __init__(self, blocked=(None,)):
        self.blocked = blocked
        self.heads, self.undefined = [], []

    def __call__(self, module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, **other):
        changed = {name for name, content in other.items() if content is not None} - HARMLESS
        assert not changed, f"attention was called with arguments unknown here: {changed}"
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        logits = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        visible = self.visible(logits, attention_mask)
        self.undefined.append(~visible[:, 0, -1].any(-1) & (s_aux is None))
        output = weights_of(logits.masked_fill(~visible, -torch.inf), s_aux) @ value
        self.heads.append(output[:, :, -1])
        return output.transpose(1, 2).contiguous(), None

    def visible(self, logits, attention_mask):
        """Which keys each query sees, (row, 1, query, key): the model's own mask, less the masked keys."""
        rows, _, queries, keys = logits.shape
        if attention_mask is None:
            visible = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        elif attention_mask.dtype == torch.bool:
            visible = attention_mask
        else:
            visible = attention_mask > torch.finfo(attention_mask.dtype).min / 2
        visible = visible.expand(rows, 1, queries, keys).clone()
        for row, masked in enumerate(self.blocked):
            if masked is not None:
                visible[row, :, -1, masked] = False
        return visible


def weights_of(logits, sinks):
    """Softmax over the keys, (row, head, query, key), with the sinks in its denominator; 0 where no key is left."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if sinks is not None:
        wide = torch.cat([wide, sinks.to(wide.dtype).view(1, -1, 1, 1).expand(*wide.shape[:-1], 1)], dim=-1)
    return torch.softmax(wide, dim=-1).nan_to_num(0.0)[..., : logits.shape[-1]].to(logits.dtype)
