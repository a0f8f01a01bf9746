"""What a prompt is to the measurement: token ids, and whatever else a kind of model wants to know of them.

This is the contract between the two front doors and all that they share. A prompt of text is its token ids, and each of
them is masked in turn. A kind of model that sees more than text overrides what differs
(mask_impact/models/vision/inputs.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from mask_impact.sites.decoder import DECODER
from mask_impact.sites.site import MeasuredAt, Site


@dataclass(frozen=True)
class PromptInputs:
    """A prompt of text, measured at `site`."""

    site: ClassVar[Site] = DECODER

    token_ids: list[int]

    @property
    def at(self) -> MeasuredAt:
        """From where the site is measured."""
        return MeasuredAt()

    def masked(self, length: int) -> np.ndarray:
        """The positions that are masked in turn when the model has seen `length` tokens, ascending: (position,)."""
        return np.arange(length)

    def further(self, token_ids: list[int], device: torch.device) -> dict[str, Any]:
        """Whatever a call of the model takes beside these token ids, which begin with the prompt's.

        Raises RunError where it cannot be had any more.
        """
        return {}

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
