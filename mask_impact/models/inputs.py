"""What a prompt is to the measurement: token ids, and whatever else a kind of model wants to know of them.

This is the contract between the two front doors and all that they share. A prompt of text is its token ids, and each of
them is masked in turn. A kind of model that sees more than text overrides what differs (mask_impact/models/vision/inputs.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

if TYPE_CHECKING:
    from mask_impact.measure.step import ModelInputs


@dataclass(frozen=True)
class PromptInputs:
    """A prompt of text.

    `predicts` tells whether a step predicts a next token, `layer` what a layer is called in lines for the user. A token stands
    for `rows_each` rows of a layer, and each of them is masked for the sake of `measured_places` positions.
    """

    predicts: ClassVar[bool] = True
    layer: ClassVar[str] = "layer"

    token_ids: list[int]

    @property
    def rows_each(self) -> int:
        return 1

    @property
    def measured_places(self) -> int:
        return 1

    def masked(self, length: int) -> np.ndarray:
        """The positions that are masked in turn when the model has seen `length` tokens, ascending: (position,)."""
        return np.arange(length)

    def further(self, token_ids: list[int], device: torch.device) -> dict[str, Any]:
        """Whatever a call of the model takes beside these token ids, which begin with the prompt's.

        Raises RunError where it cannot be had any more.
        """
        return {}

    def fed(self, inputs: ModelInputs) -> ModelInputs:
        """What a run feeds the model, with whatever this kind of input adds."""
        return inputs

    def texts(self, texts: list[str]) -> list[str]:
        """The tokens as results show them, of what each adds to the decoded text."""
        return texts

    def columns(self, length: int) -> dict[str, pa.Array]:
        """Further columns of the table by name, one value for each of the first `length` positions."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What a run of these inputs has in its run file, and must have alike to be the same run."""
        return {}

    def record(self) -> dict[str, Any]:
        """What else the run file says of the inputs."""
        return {}

    def notes(self) -> list[str]:
        """Lines for the user: what was done with the inputs that he may not expect."""
        return []

    def described(self) -> str:
        """The inputs in a few words, for the line before a run."""
        return f"{len(self.token_ids):,} token{'s' * (len(self.token_ids) != 1)}"
