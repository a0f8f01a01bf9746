"""The contract of a site: a stack of layers with one softmax attention each,
which is measured in one way whatever it is.

A site knows where its layers are, what a forward pass leaves of them, and a short input to try them on. The measurement
(closed form, rows, distances, noise floor, identities, the literal method, the check on load) knows no site by name.
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
    """From where masking is looked at: from each of these units in turn, of which the mean is taken,
    or from the last position.

    A unit is `size` neighbouring positions, hidden as one and compared as one.
    `keep` keeps Full's L2 distances at each unit.
    """

    units: tuple[int, ...] | None = None
    size: int = 1
    keep: bool = False


@dataclass(frozen=True)
class Sample:
    """A short input: its token ids, what else a call takes, and from where it is measured."""

    token_ids: list[int]
    further: dict[str, Any] = field(default_factory=dict)
    at: MeasuredAt = MeasuredAt()


class Site(Protocol):
    """A place where attention is measured.

    name: as results have it (`part`). layer: what its layers are called. answer: what watching must leave as it is.
    generates: whether its passes are steps of generation, each of which predicts a token.
    """

    name: str
    layer: str
    answer: str
    generates: bool

    def stack(self, model: PreTrainedModel) -> PreTrainedModel:
        """The part of the model that holds the layers, and whose attention is watched."""
        ...

    def look(self, model: PreTrainedModel) -> list[LayerPass | None]:
        """Each layer in a short pass; None for one without softmax attention.
        Raises RequestError for others that cannot be measured."""
        ...

    def passed(
        self, model: PreTrainedModel, parts: list[LayerParts], token_ids: list[int], further: dict[str, Any]
    ) -> Iterator[LayerPass]:
        """The layers of `parts`, one after the other, in a watched forward pass of the whole input."""
        ...

    def answers(self, model: PreTrainedModel, parts: list[LayerParts]) -> tuple[Tensor, Tensor, list[LayerPass]]:
        """The site's answer for its sample, plain, and as it comes out of watched layers; and those layers."""
        ...

    def sample(self, model: PreTrainedModel) -> Sample:
        """A short input that masking must change."""
        ...
