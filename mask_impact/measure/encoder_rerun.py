"""The literal method in the encoder: run one block again on all its patches, with -inf in the columns of a cell's patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mask_impact.measure.rerun import noting, rows_of
from mask_impact.measure.row_pass import RowPass
from mask_impact.measure.rows import CONTROLS, MaskedRows, one_ulp
from mask_impact.sites.attention import AttentionCall, tapped
from mask_impact.sites.hooks import hooked
from mask_impact.sites.layer_call import first_tensor
from mask_impact.sites.vision_encoder import PassedBlock


class BlockRerun:
    """A block that can be run again on all its patches, with cells masked for the queries of one; `dtype` is that of its weights."""

    def __init__(self, passed: PassedBlock, cell: int, size: int, dtype: torch.dtype):
        self.parts, self.size = passed.parts, size
        self.call = passed.call.to(dtype)
        self.patches = slice(cell * size, (cell + 1) * size)
        self.chunk, start = passed.chunk_of(cell * size)
        self.queries = slice(cell * size - start, (cell + 1) * size - start)
        self.inputs = [[t.to(dtype) for t in (call.query, call.key, call.value)] for call, _ in passed.chunks]
        keys = passed.chunks[self.chunk][0].key
        self.mask = torch.zeros(1, 1, keys.shape[2], keys.shape[2], dtype=dtype, device=keys.device)

    def __call__(self, masked_cell: int | None = None, moved: Tensor | None = None) -> dict[Any, Tensor]:
        """The measured cell's vectors with one cell masked, or with its heads' outputs moved by `moved` (query, head, d_v).

        By name "heads" (query, head, d_v) and "output" (query, d_model); by module what attention and each branch answered.
        """
        seen: dict[Any, Tensor] = {}
        inputs = enumerate(self.inputs)

        def answer(call: AttentionCall) -> Tensor:
            """For each picture's call its heads' outputs (1, patch, head, d_v), masked or moved in the measured cell's rows."""
            number, own = next(inputs)
            if number != self.chunk:
                return call.run(*own, call.mask)
            mask = self.mask.clone()
            if masked_cell is not None:
                mask[..., self.queries, masked_cell * self.size : (masked_cell + 1) * self.size] = float("-inf")
            output = call.run(*own, mask)
            if moved is not None:
                output[0, self.queries] += moved
            seen["heads"] = output[0, self.queries]
            return output

        def note(module: Any, _args: Any, output: Any) -> None:
            seen[module] = first_tensor(output)[self.patches].clone()

        with tapped(answer), hooked(*noting(self.parts, note)):
            output = self.parts.layer(*self.call.args, **self.call.kwargs)
        seen["output"] = first_tensor(output)[self.patches]
        return seen


def rerun_rows(
    passes: list[RowPass], block: BlockRerun, cells: Tensor, variants: tuple[str, ...]
) -> list[list[MaskedRows]]:
    """Masked rows of the measured cell's queries, each cell masked in a run of its own: for each query one chunk."""
    baseline = block()
    masked = [block(masked_cell=cell) for cell in cells.tolist()]
    moves = torch.stack([one_ulp(heads, seed) for seed, heads in enumerate(baseline["heads"])], 1)
    runs = [baseline, *masked, *[block(moved=moves[control]) for control in range(CONTROLS)]]
    of_query = ([{name: tensor[query] for name, tensor in run.items()} for run in runs] for query in range(len(passes)))
    return [[rows_of(rows, own, cells, variants)] for rows, own in zip(passes, of_query)]
