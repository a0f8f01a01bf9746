"""The measurement once more, of models whose numbers are narrow or whose modules are wrapped or hooked:
the independent reference.

    steps = decoder_steps(model, token_ids, steps=3)            [(token ids, {(variant, layer): Cell}), ...], by step
    table = encoder_table(model, pixel_values, grid, cell=0)    {(variant, block): Cell}

The model runs as its user runs it, greedily and with its cache, and what each layer is called with is noted, and the
queries, keys and values that its attention was given. Then a float64 copy of each layer, with whatever is wrapped
around its modules or hooked to them, runs once for every masked key, its attention answered by a softmax written out in
`oracle.py` over the noted queries, keys and values. Nothing is imported from the package.
"""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from oracle import (
    PlainAttention,
    attention_adds,
    attention_of,
    decoder_layers,
    distances,
    first,
    outputs_of,
    plain_attention,
)
from transformers import AttentionInterface
from transformers.cache_utils import Cache


@dataclass
class Call:
    """One layer's call, and the (query, key, value, mask, options) of each attention in it."""

    layer: torch.nn.Module
    args: tuple
    kwargs: dict
    attention: list = field(default_factory=list)


@dataclass
class Cell:
    """Distances of one layer's variant, (position,) each, and the length of its baseline: in float64."""

    l2: torch.Tensor
    cosine: torch.Tensor
    baseline_norm: torch.Tensor

    @classmethod
    def of(cls, vectors, positions):
        """Of the baseline and a row for each of the last keys, (1 + key, width), of so many positions:
        the others are not seen."""
        l2, cosine = (torch.cat([kind.new_zeros(positions - len(kind)), kind]) for kind in distances(vectors))
        return cls(l2, cosine, vectors[0].norm())


@contextmanager
def noted(layers):
    """The calls of these layers in the passes inside, one for each layer and pass."""
    calls, own = [], AttentionInterface.get_interface

    def interface(self, *names):
        function = own(self, *names)

        def attention(module, query, key, value, attention_mask, **options):
            calls[-1].attention.append(([tensor.clone() for tensor in (query, key, value)], attention_mask, options))
            return function(module, query, key, value, attention_mask, **options)

        return attention

    def enter(layer, args, kwargs):
        calls.append(Call(layer, *widened((args, kwargs))))

    with ExitStack() as stack:
        stack.enter_context(patch.object(AttentionInterface, "get_interface", interface))
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(enter, with_kwargs=True).remove)
        yield calls


def widened(value):
    """A copy with every number in float64, and None in place of a cache."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value.clone()
    if isinstance(value, (tuple, list)):
        return type(value)(map(widened, value))
    if isinstance(value, dict):
        return {name: widened(content) for name, content in value.items()}
    return None if isinstance(value, Cache) else value


def copied(module):
    """A copy with weights, wrappers and hooks of its own; the configuration is shared, as copying it takes longest."""
    return deepcopy(module, {id(part.config): part.config for part in module.modules() if hasattr(part, "config")})


def decoder_steps(model, token_ids, steps=1):
    """Of each generation step the token ids with the one that follows, and {(variant, layer): Cell}."""
    token_ids, fed, cache, found = list(token_ids), list(token_ids), None, []
    for _ in range(steps):
        with noted(decoder_layers(model)) as calls:
            answer = model(torch.tensor([fed]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        table = {
            (variant, index): Cell.of(vectors, len(token_ids))
            for index, call in enumerate(calls)
            for variant, vectors in decoder_vectors(model, call).items()
        }
        cache, fed = answer.past_key_values, [int(answer.logits[0, -1].argmax())]
        token_ids = [*token_ids, *fed]
        found.append((token_ids, table))
    return found


def decoder_vectors(model, call):
    """{variant: (1 + key, width)} at the final position:
    row 0 the baseline, then a row for each key of the call masked."""
    layer, [(inputs, mask, options)] = copied(call.layer).double(), call.attention
    plain = PlainAttention([None, *range(inputs[1].shape[2])])
    rows = len(plain.blocked)
    given = [tensor.double().expand(rows, -1, -1, -1) for tensor in inputs]
    stream = call.args[0].expand(rows, -1, -1).clone()
    with (
        plain_attention(lambda module, *_, **__: plain(module, *given, mask, **options)),
        outputs_of(attention_of(model, layer)) as answers,
    ):
        output = first(layer(stream, *call.args[1:], **call.kwargs))
    vectors = {"Full": output[:, -1] - stream[:, -1], "Attn": attention_adds(model, layer, answers[0])[:, -1]}
    heads = plain.heads[0]
    return vectors | {f"Head_{head}": heads[:, head] for head in range(heads.shape[1])}


def encoder_table(model, pixel_values, image_grid_thw, cell):
    """{(variant, block): Cell} of the measured `cell`, counted over all pictures."""
    encoder = model.model.visual
    size = encoder.config.spatial_merge_size**2
    with noted(encoder.blocks) as calls:
        encoder(pixel_values.to(encoder.dtype), grid_thw=image_grid_thw)
    table = {}
    for index, call in enumerate(calls):
        block, cells = copied(call.layer).double(), range(len(call.args[0]) // size)
        rows = [block_vectors(block, call, cell, masked, size) for masked in (None, *cells)]
        for variant in rows[0]:
            table[variant, index] = Cell.of(torch.stack([row[variant] for row in rows]), len(cells))
    return table


def block_vectors(block, call, cell, masked, size):
    """{variant: vector} that the block adds at the patches of `cell`, each after the other,
    the patches of `masked` hidden from them."""
    queries, outputs, start = slice(cell * size, (cell + 1) * size), [], 0
    for (query, key, value), _, options in call.attention:
        outputs.append(
            two_way(query, key, value, options["scaling"], hidden(query.shape[2], start, cell, masked, size))
        )
        start += query.shape[2]
    answers, stream = iter(outputs), call.args[0].clone()
    with plain_attention(lambda *_, **__: (next(answers), None)), outputs_of(block.attn) as attention:
        output = block(stream, *call.args[1:], **call.kwargs)
    heads = torch.cat(outputs, 1)[0, queries]
    found = {"Full": (output - stream)[queries].flatten(), "Attn": attention[0][queries].flatten()}
    return found | {f"Head_{head}": heads[:, head].flatten() for head in range(heads.shape[1])}


def hidden(patches, start, cell, masked, size):
    """Which keys are hidden from which queries of a picture with these patches,
    the first of them `start`: (query, key)."""
    places = torch.arange(start, start + patches) // size
    return (
        (places == cell)[:, None] & (places == masked)[None]
        if masked is not None
        else torch.zeros(patches, patches, dtype=torch.bool)
    )


def two_way(query, key, value, scaling, hidden):
    """Attention of every patch to every other: (1, patch, head, d_v)."""
    logits = (query.double() @ key.double().mT * scaling).masked_fill(hidden, -torch.inf)
    return (logits.softmax(-1) @ value.double()).transpose(1, 2)
