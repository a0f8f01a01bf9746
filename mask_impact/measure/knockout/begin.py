"""Knock-outs of one sequence: by rows through the model where they can stand in for it, else by its own passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from mask_impact.base.errors import RequestError, RowsRefused
from mask_impact.measure.check_on_load import name_of, named_unknown
from mask_impact.measure.knockout.clean import OTHERWISE, clean_pass
from mask_impact.measure.knockout.effects import Knockouts, Report, ignore
from mask_impact.measure.knockout.literal import LiteralKnockouts
from mask_impact.measure.step import Method
from mask_impact.sites.attention import attached
from mask_impact.sites.parts import LayerParts, decoder_of
from mask_impact.sites.positions import fresh_positions


@contextmanager
def knockouts(
    model: PreTrainedModel,
    parts: list[LayerParts],
    token_ids: list[int],
    tokens: Sequence[int],
    further: Callable[[list[int]], dict[str, Any]],
    method: Method,
    by_rows: bool,
    report: Report = ignore,
) -> Iterator[Knockouts | LiteralKnockouts]:
    """What cuts in these tokens do to `tokens`, each of which follows one of the last of them.

    `further` gives what else the model's call takes, from its tokens.
    `parts` are all layers with softmax attention. Rows need every layer to have it, and the default method.
    `report` is told of all rows that were read, chunk by chunk.
    Raises RowsRefused where they are not the model's.
    """
    with torch.inference_mode(), fresh_positions(model) as rotary:
        rotary.begin()
        with attached(decoder_of(model)):
            clean = clean_pass(model, parts, token_ids, len(tokens), further(token_ids))
            if by_rows and method.name == "renormalize":
                try:
                    with named_unknown(name_of(model), model, OTHERWISE):
                        found = Knockouts(clean, tokens, method, report)
                except RequestError as error:
                    raise RowsRefused(str(error)) from error
                yield found
                return
        yield LiteralKnockouts(clean, parts, tokens, further, report)
