"""A prompt as the measurement takes it: token ids, and what else a kind of model needs to know about them.

This is the contract between the two front doors and all that they share. A prompt of text is its token ids, each masked
in turn. A kind of model that sees more than text overrides what differs (mask_impact/models/vision/picture_tokens.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError
from mask_impact.cuts.asked import UnitsAsked
from mask_impact.cuts.segments import Cell, TokenizedText, Turns
from mask_impact.cuts.spans import span_units
from mask_impact.cuts.units import Unit
from mask_impact.models.tokens import tokenized_text
from mask_impact.settings.text_settings import Settings
from mask_impact.sites.decoder import DECODER
from mask_impact.sites.site import MeasuredAt, Site


@dataclass(frozen=True)
class PromptInputs:
    """A prompt of text, measured at `site`; `asked` are the units that are hidden, None for each token alone, and
    `pieces` the kinds of units that it can be taken apart into, coarse to fine."""

    site: ClassVar[Site] = DECODER

    token_ids: list[int]
    asked: UnitsAsked | None = field(default=None, kw_only=True)
    pieces: UnitsAsked | None = field(default=None, kw_only=True)

    @property
    def at(self) -> MeasuredAt:
        """Where the site is measured."""
        return MeasuredAt()

    def masked(self, length: int) -> np.ndarray:
        """The positions to mask in turn once the model has seen `length` tokens, ascending: (position,)."""
        return np.arange(length)

    def units(self, token_ids: list[int]) -> list[Unit] | None:
        """What is hidden in turn once the model has seen these tokens; None for each position of `masked` alone."""
        return None if self.asked is None else self.asked.units(token_ids, self.masked(len(token_ids)).tolist())

    def of_kind(self, kind: str, token_ids: list[int]) -> Sequence[Unit]:
        """The units of one kind once the model has seen these tokens."""
        assert self.pieces is not None, "a prompt that was planned"
        return self.pieces.of_kind(kind, self.pieces.read(token_ids), self.masked(len(token_ids)).tolist())

    def cut_units(self, token_ids: list[int]) -> Sequence[Unit]:
        """What knock-outs hide once the model has seen these tokens: the units asked for, else each token."""
        return self.units(token_ids) or self.of_kind("tokens", token_ids)

    def cells(self, length: int) -> dict[int, Cell]:
        """Those of the first `length` positions that are cells of pictures."""
        return {}

    def further(self, token_ids: list[int], device: torch.device) -> dict[str, Any]:
        """The arguments of the model's call beside these token ids, which begin with the prompt's.

        Raises RunError where they can no longer be made.
        """
        return {}

    def encoded_once(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Have the model look at what is no text once, however often it is run on these inputs."""
        return nullcontext()

    def texts(self, texts: list[str]) -> list[str]:
        """The tokens as results show them, given what each adds to the decoded text."""
        return texts

    def columns(self, length: int) -> dict[str, pa.Array]:
        """Further columns of the table by name, one value for each of the first `length` positions."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What the run file keeps to tell these inputs from others: with other facts it is another run."""
        return {}

    def record(self) -> dict[str, Any]:
        """What else the run file keeps of the inputs."""
        return {}

    def notes(self) -> list[str]:
        """Lines that tell the user what was done with the inputs, where that may surprise."""
        return []

    def described(self) -> str:
        """The inputs in a few words, for the line before a run."""
        return f"{len(self.token_ids):,} token{'s' * (len(self.token_ids) != 1)}"


Inputs = TypeVar("Inputs", bound=PromptInputs)


def with_units(
    inputs: Inputs, settings: Settings, tokenizer: PreTrainedTokenizerBase, turns: Turns | None = None
) -> Inputs:
    """The inputs with the units that the settings ask for; the same where that is each token alone.

    Raises RequestError for spans that the prompt does not have, and for pictures where there is none.
    """

    def read(ids: list[int]) -> TokenizedText:
        return tokenized_text(tokenizer, ids, inputs.texts, inputs.cells(len(ids)))

    kinds = [*(["messages"] if turns else []), "sentences", "lines", "words", "tokens"]
    inputs = replace(inputs, pieces=UnitsAsked(kinds, (), read, turns))
    if settings.unit_kinds is None:
        return inputs
    prompt = read(inputs.token_ids)
    if "images" in settings.units and not prompt.cells:
        raise RequestError("units images need a picture, and there is none; leave images out of units")
    return replace(inputs, asked=UnitsAsked(settings.unit_kinds, span_units(settings.spans or (), prompt), read, turns))
