"""What the loop is given and what it yields: inputs, the method, a generation step, a measured layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask_impact.measure.collect import StepInfo
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.next_token import Pick, greedy


@dataclass(frozen=True)
class PassFingerprint:
    """What a step leaves, so that its forward pass can be made again, to the last bit, without measuring it.

    The token that followed; a digest of the logits' bytes; and of a decoding step, where masked rows rode in the model's own
    calls, what these answered for the model's own row: by ("projection" or "branch", layer index), each (1, 1, d_model).
    """

    next_id: int
    digest: str
    rode: dict[tuple[str, int], Tensor]

    def same(self, other: PassFingerprint) -> bool:
        """Whether both are of the same pass, bit for bit."""
        return (self.next_id, self.digest) == (other.next_id, other.digest)


@dataclass(frozen=True)
class Step:
    """One generation step: the tokens the model saw, the likeliest next ones, and the one that follows.

    `top` is (token id, probability), likeliest first; probabilities are in [0, 1]. A step that predicts nothing, as an
    encoder's, has none of the three. `joined` are the distances that were measured in its forward pass, by layer index.
    """

    step_info: StepInfo
    token_ids: list[int]
    top: list[tuple[int, float]]
    next_id: int | None
    next_probability: float | None
    fingerprint: PassFingerprint | None = None
    joined: Mapping[int, LayerDistances] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """The number of the step, from 0."""
        return self.step_info.step

    @property
    def masked(self) -> np.ndarray:
        """The positions that were masked in turn, ascending: (position,)."""
        return np.arange(self.step_info.length) if self.step_info.masked is None else self.step_info.masked


@dataclass(frozen=True, kw_only=True)
class MeasuredLayer(LayerDistances):
    """One layer's distances at one step."""

    step: Step


@dataclass(frozen=True)
class ModelInputs:
    """What a run feeds the model.

    The prompt's token ids, and the ids of a given continuation if any. `stop_ids` end the run when predicted;
    `context_length` is the model's, if it has one. `masked` gives the positions that are masked in turn, ascending, of a
    sequence of so many tokens, those of a longer one beginning with those of a shorter; `further` whatever else a call takes that begins at the prompt's start, given its tokens.
    `done` are the first steps, measured before: the model is taken through them again, and they are not yielded. Where it
    goes another way now, be it in the last bit, `start_over` is called and every step is measured.
    `pick` takes the next token where no continuation is given.
    """

    token_ids: list[int]
    steps: int
    continuation_ids: list[int] | None = None
    stop_ids: frozenset[int] = frozenset()
    context_length: int | None = None
    masked: Callable[[int], np.ndarray] = np.arange
    further: Callable[[list[int]], dict[str, Any]] = lambda _: {}
    done: Sequence[PassFingerprint] = ()
    start_over: Callable[[], None] = lambda: None
    pick: Pick = greedy


def digest(logits: Tensor) -> str:
    """A short name for logits; other bits have another name."""
    return blake2b(logits.contiguous().cpu().view(torch.uint8).numpy(), digest_size=16).hexdigest()
