"""Knock-outs once more, plain and slow: the independent reference that the package is held to.

    logits = knocked_out(model, input_ids, "all", unit=[3, 4])
    logits = knocked_out(model, input_ids, "heads", unit=[3, 4], layers=[1], head=2)

One ordinary forward pass with the softmax written out (see oracle.py) and a matrix of the edges that are hidden, read
at the final position. An earlier position of an answer is the final one of a shorter sequence. Nothing is imported from
the package.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from oracle import PlainAttention, attention_of, decoder_layers
from transformers import AttentionInterface


def knocked_out(model, input_ids, kind=None, unit=(), layers=None, head=None, **inputs):
    """Logits (vocabulary,) at the final position of `input_ids`, shape (position,) or (1, position), with the positions
    of `unit` hidden in `layers` (default: all) and one head (default: all); `inputs` are what else the model takes.

    kind: None hides nothing; "all" hides from every position outside the unit and from the final one; "final" and
    "heads" from the final one. NaN where a head without a sink has no key left at the final position.
    """
    input_ids = torch.as_tensor(input_ids).reshape(1, -1)
    attention = CutAttention(model, hidden_edges(kind, unit, input_ids.shape[1]), layers, head)
    with torch.no_grad(), model.device, cut_attention(attention):
        logits = model(input_ids.to(model.device), use_cache=False, **inputs).logits[0, -1]
    return torch.full_like(logits, torch.nan) if attention.lost else logits


def hidden_edges(kind, unit, length):
    """Which keys each query may not see, (query, key); positions of the unit behind the final one do not matter."""
    hidden, unit = torch.zeros(length, length, dtype=torch.bool), [position for position in unit if position < length]
    for query in range(length):
        final = query == length - 1
        if {None: False, "all": final or query not in unit, "final": final, "heads": final}[kind]:
            hidden[query, unit] = True
    return hidden


@contextmanager
def cut_attention(attention):
    """The decoder's attention modules call `attention`; others, as a vision encoder's, what they call by themselves."""
    own = AttentionInterface.get_interface

    def interface(*names):
        function = own(*names)
        return lambda module, *args, **options: (attention if module in attention.layer_of else function)(
            module, *args, **options
        )

    with patch.object(AttentionInterface, "get_interface", interface):
        yield


class CutAttention(PlainAttention):
    """Softmax attention in the open in which `hidden` (query, key) edges are gone, in some layers and one or all heads.

    lost: whether a head without a sink had no key left for the final query.
    """

    def __init__(self, model, hidden, layers, head):
        super().__init__()
        modules = [attention_of(model, layer) for layer in decoder_layers(model)]
        self.layer_of = {module: index for index, module in enumerate(modules) if module is not None}
        self.layers = range(len(modules)) if layers is None else layers
        self.hidden, self.head, self.lost = hidden, head, False

    def __call__(self, module, *args, **options):
        self.layer, self.sink = self.layer_of[module], options.get("s_aux") is not None
        return super().__call__(module, *args, **options)

    def visible(self, logits, attention_mask):
        """Which keys each query sees, (row, head, query, key): the model's own mask, less the hidden edges."""
        visible = super().visible(logits, attention_mask).repeat(1, logits.shape[1], 1, 1)
        if self.layer in self.layers:
            for head in range(logits.shape[1]) if self.head is None else [self.head]:
                visible[:, head] &= ~self.hidden
        self.lost |= not self.sink and not bool(visible[0, :, -1].any(-1).all())
        return visible
