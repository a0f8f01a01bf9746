"""The contract of a site: a stack of layers with one softmax attention each, which can be measured.

There are two sites: the decoder (`decoder.py`), whose passes are steps of generation, and the vision encoder
(`vision_encoder.py`), whose one pass sees everything. A site knows which part of the model holds its layers, what a
forward pass leaves of each layer (a LayerPass), and a short input to try the layers on. The measurement needs no more,
and knows no site by name: closed form, masked rows, distances, noise floor, identities, rerun and check on load are the
same for all.

A new site is a class with everything that `Site` lists, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts


@dataclass(frozen=True)
class MeasuredAt:
    """Where a layer is measured: at each of `units`, or at the last position if they are None.

    A unit is `size` neighbouring positions, numbered along the sequence. Its keys are masked as one, and what the layer
    does at its positions is compared as one vector. Distances at several units are averaged; `keep` keeps Full's L2
    distances at each unit beside the mean.
    """

    units: tuple[int, ...] | None = None
    size: int = 1
    keep: bool = False


@dataclass(frozen=True)
class Sample:
    """A short input: its token ids, the further arguments of a call (pictures), and where it is measured."""

    token_ids: list[int]
    further: dict[str, Any] = field(default_factory=dict)
    at: MeasuredAt = MeasuredAt()


class Site(Protocol):
    """What a site implements. It holds no state: every method gets the model.

    layer: the word for one of its layers in messages, "layer" or "block".
    answer: the word in messages for the tensor that `answers` gives.
    generates: whether its passes are steps of generation, each of which predicts a token. If not, there is one pass.
    """

    layer: str
    answer: str
    generates: bool

    def stack(self, model: PreTrainedModel) -> PreTrainedModel:
        """The part of the model that holds the layers: `find_layers` finds them there, `attached` watches there."""
        ...

    def look(self, model: PreTrainedModel) -> list[LayerPass | None]:
        """Every layer, in order, in a short pass of the site's choice; None for a layer without softmax attention.

        The layers' modules (LayerParts) are found here: `watched_layers` does it, given such a pass.
        Raises RequestError for a model, or a layer with softmax attention, that cannot be measured.
        """
        ...

    def passed(
        self, model: PreTrainedModel, parts: list[LayerParts], token_ids: list[int], further: dict[str, Any]
    ) -> Iterator[LayerPass]:
        """The layers of `parts`, in order, in one forward pass of the whole input.

        `further` has the arguments of the model's call beside the token ids. The caller has attached the stack. The
        measurement asks only a site that does not generate: steps of generation have passes of their own.
        """
        ...

    def answers(self, model: PreTrainedModel, parts: list[LayerParts]) -> tuple[Tensor, Tensor, list[LayerPass]]:
        """What the model answers to the sample unwatched, and watched; and the layers of the watched pass.

        The two answers have one shape, and the check on load requires that they are equal but for rounding. The method
        attaches the stack itself.
        """
        ...

    def sample(self, model: PreTrainedModel) -> Sample:
        """A short input of several positions, on which masking must change some distance in every layer."""
        ...
