"""What a forward pass leaves of one layer, and that layer as a single row of it knows it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mask_impact.sites.attention import AttentionCall
from mask_impact.sites.layer_call import LayerCall
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import one_query


@dataclass(frozen=True)
class LayerRow:
    """A layer as one of its rows knows it: the call cut to that row, the attention call cut to that query, what its
    heads answered (head, d_v), and the layer's output (d_model,). The first key lies at position `first_key`."""

    parts: LayerParts
    call: LayerCall
    attention: AttentionCall
    heads: Tensor
    output: Tensor
    first_key: int


@dataclass(frozen=True)
class LayerPass:
    """What a forward pass leaves of one layer: its call, its attention calls, and its output (row, d_model).

    An attention call has the rows behind those of the one before it (a vision encoder makes one for each picture);
    beside it stands its answer (1, query, head, d_v). The first row lies at position `first`; a call's last key at the
    position of its last row.
    """

    parts: LayerParts
    call: LayerCall
    attention: tuple[tuple[AttentionCall, Tensor], ...]
    output: Tensor
    first: int = 0

    @property
    def last(self) -> int:
        """The position of the last row."""
        return self.first + len(self.output) - 1

    def place(self, position: int) -> tuple[int, int]:
        """The number of the attention call that a position's row is in, and the index of its query there."""
        query = position - self.first
        for number, (call, _) in enumerate(self.attention):
            if 0 <= query < call.query.shape[2]:
                return number, query
            query -= call.query.shape[2]
        raise IndexError(f"position {position} has no row; there are {self.first} to {self.last}")

    def keys(self, position: int) -> range:
        """The positions whose keys are in the attention call that a position's row is in."""
        number, query = self.place(position)
        call, _ = self.attention[number]
        end = position - query + call.query.shape[2]
        return range(end - call.key.shape[2], end)

    def at(self, position: int) -> LayerRow:
        """The layer as the row at this position knows it."""
        number, query = self.place(position)
        call, answer = self.attention[number]
        row = position - self.first
        return LayerRow(
            self.parts,
            self.call.row(row),
            one_query(call, query),
            answer[0, query],
            self.output[row],
            self.keys(position).start,
        )
