"""One forward pass of the model, and what each measured layer did in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import LayerCall, first_tensor
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import last_row


@dataclass
class LayerRecord:
    """A layer's call, its attention call and that one's answer, and its output at the final position (d_model,)."""

    parts: LayerParts
    call: LayerCall | None = None
    attention: AttentionCall | None = None
    heads: Tensor | None = None
    output: Tensor | None = None

    def let_go(self) -> None:
        """Keep no longer what a measured layer's distances were made of."""
        self.call = self.attention = self.heads = self.output = None


@contextmanager
def recording(parts: list[LayerParts], whole: bool) -> Iterator[list[LayerRecord]]:
    """Record the layers of `parts` during the forward passes inside.

    Without `whole`, only what the final position needs is kept. Keys and values are references to the cache's own
    tensors; every other tensor kept is one row long, or a copy.
    """
    records = [LayerRecord(part) for part in parts]
    by_attention = {record.parts.attention: record for record in records}

    def listen(call: AttentionCall) -> Tensor:
        """The own function's answer (1, query, head, d_v); of a recorded layer's the call and the final row are kept."""
        answer = call.run(call.query, call.key, call.value, call.mask)
        record = by_attention.get(call.module)
        if record is not None:
            record.attention = call if whole else last_row(call)
            record.heads = answer[0, -1].clone()
        return answer

    handles = [handle for record in records for handle in _hooks(record, whole)]
    with tapped(listen), hooked(*handles):
        yield records


def _hooks(record: LayerRecord, whole: bool) -> Iterator:
    def before(_layer, args, kwargs):
        if record.call is not None:
            return  # a layer run again on some rows, inside its own call
        call = LayerCall(args, kwargs)
        record.call = call.without_cache().map(Tensor.clone) if whole else call.last_row()

    def after(_layer, _args, output):
        record.output = first_tensor(output)[0, -1].clone()

    yield record.parts.layer.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    yield record.parts.layer.register_forward_hook(after)
