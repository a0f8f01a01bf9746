"""How many masked rows go through a layer at once, and fewer when a GPU's memory runs out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mask_impact.measure.noise_floor import CONTROLS
from mask_impact.sites.parts import LayerParts

# Of the widest activation of a chunk of rows, where nothing else is asked for. Malloc maps blocks past 32 MiB
# (base/heap.py), at a page fault for every 4 KiB: 5,000 pairs cost 1 to 3 plain passes less with 30 MiB than with 64.
CHUNK_BYTES = 30 * 2**20
# A chunk's activations that are there at once, in its widest: a gated MLP's three, the heads' and the attention's rows.
ALIVE = 6
# A chunk of fewer bytes is not halved: where that is too much, it is not the rows that take the memory.
SMALLEST = 2**20


@dataclass
class RowBudget:
    """The bytes that the widest activation of a chunk of rows may take, and how often that was halved."""

    chunk_bytes: int = CHUNK_BYTES
    halvings: int = 0

    @classmethod
    def of_memory(cls, most: int | None) -> RowBudget:
        """The budget where a chunk may take so many bytes in all; None leaves the usual one."""
        return cls() if most is None else cls(max(1, most // ALIVE))

    def rows(self, parts: LayerParts, dtype: torch.dtype) -> int:
        """How many rows of `dtype` go through a layer at once."""
        return max(CONTROLS, self.chunk_bytes // (parts.width * dtype.itemsize))

    def halve(self, error: torch.OutOfMemoryError) -> None:
        """Let half as many rows through from now on, after a GPU's memory ran out; `error` again where they are few."""
        if self.chunk_bytes < 2 * SMALLEST:
            raise error
        self.chunk_bytes //= 2
        self.halvings += 1
        torch.cuda.empty_cache()  # nothing is done where there is no CUDA
