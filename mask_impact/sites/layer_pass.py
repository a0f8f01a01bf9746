"""What a forward pass leaves of one layer (LayerPass), and what of that belongs to one of its rows (LayerRow)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mask_impact.sites.attention import AttentionCall
from mask_impact.sites.layer_call import LayerCall
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.query import one_query


@dataclass(frozen=True)
class LayerRow:
    """One layer at one position.

    call: the layer's arguments, cut to that row.
    attention: the attention call, cut to that query; its keys are all there.
    heads: what attention answered that query, (head, d_v).
    output: what the layer answered, (d_model,).
    first_key: the position of the first key.
    """

    parts: LayerParts
    call: LayerCall
    attention: AttentionCall
    heads: Tensor
    output: Tensor
    first_key: int


@dataclass(frozen=True)
class LayerPass:
    """What a forward pass leaves of one layer; each position that is kept has one row.

    parts: the layer's modules.
    call: the layer's arguments.
    attention: the attention calls, each with its answer (1, query, head, d_v). A decoder's layer makes one; a vision
        encoder's block makes one for each picture, and each takes the rows after those of the one before. A call's last
        key and its last query have the same position.
    output: what the layer answered, (row, d_model).
    first: the position of the first row; not 0 where only the last row is kept, or the others are in a cache.
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
        """In which attention call a position's query is, counted from 0, and its index there.

        Raises IndexError for a position that has no row.
        """
        query = position - self.first
        for number, (call, _) in enumerate(self.attention):
            if 0 <= query < call.query.shape[2]:
                return number, query
            query -= call.query.shape[2]
        raise IndexError(f"position {position} has no row; there are {self.first} to {self.last}")

    def keys(self, position: int) -> range:
        """The positions of the keys in the attention call that has this position's query."""
        number, query = self.place(position)
        call, _ = self.attention[number]
        end = position - query + call.query.shape[2]
        return range(end - call.key.shape[2], end)

    def at(self, position: int) -> LayerRow:
        """The layer at this position alone."""
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
