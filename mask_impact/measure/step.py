"""What the loop is given and what it yields: inputs, the method, a generation step, a measured layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.pairs import Pair
from mask_impact.measure.collect import StepInfo
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.next_token import Pick, greedy
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.sites.decoder import DECODER
from mask_impact.sites.interventions import in_dtype
from mask_impact.sites.parts import LayerParts
from mask_impact.sites.site import MeasuredAt, Site


@dataclass(frozen=True)
class PassFingerprint:
    """What a later run needs to make a step's forward pass again, to the last bit, without measuring it.

    `next_id` is the token that followed, `digest` a short name for the logits. `own_answers`, of a decoding step whose
    masked rows joined the pass, are what the modules that they joined answered for the model's own row: (1, 1,
    d_model), by ("projection" or "branch", layer index).
    """

    next_id: int
    digest: str
    own_answers: dict[tuple[str, int], Tensor]

    def same(self, other: PassFingerprint) -> bool:
        """Whether both are of the same pass, bit for bit."""
        return (self.next_id, self.digest) == (other.next_id, other.digest)


@dataclass(frozen=True)
class Step:
    """One pass over these tokens. One that predicts nothing, as an encoder's, has nothing else; see GenerationStep."""

    step_info: StepInfo
    token_ids: list[int]
    top: Sequence[tuple[int, float]] = ()
    next_id: int | None = None
    next_probability: float | None = None
    fingerprint: PassFingerprint | None = None

    @property
    def index(self) -> int:
        """The number of the step, from 0."""
        return self.step_info.step

    @property
    def sets(self) -> KeySets:
        """The sets of positions that were masked in turn."""
        return self.step_info.sets


@dataclass(frozen=True, kw_only=True)
class GenerationStep(Step):
    """A step that predicts a token: the likeliest ones, `top` (token id, probability), and the one that follows.

    Likeliest first; probabilities are in [0, 1].
    """

    next_id: int
    next_probability: float
    fingerprint: PassFingerprint


@dataclass(frozen=True, kw_only=True)
class MeasuredLayer(LayerDistances):
    """One layer's distances at one step."""

    step: Step


@dataclass(frozen=True)
class ModelInputs:
    """What a run feeds the model, and from where it is measured.

    `token_ids` are the prompt's, and `continuation_ids` those of a given continuation, if any. `stop_ids` end the run
    when predicted; `context_length` is the model's, if it has one. `masked` gives the positions to mask in turn in a
    sequence of so many tokens, ascending; those of a longer sequence begin with those of a shorter one. With `sets`,
    which gives sets of positions in a sequence of these tokens, those are masked instead; `pairs` chooses pairs of
    them, from what the step's layers are measured to be, which are measured behind them. `further` gives what else a
    call takes that begins at the prompt's start, from its tokens. `done` are the first steps, measured before: the
    model runs them again, and they are not yielded. If its answer differs now, even in the last bit, `start_over` is
    called and every step is measured. `pick` takes the next token where no continuation is given.
    """

    token_ids: list[int]
    steps: int
    continuation_ids: list[int] | None = None
    stop_ids: frozenset[int] = frozenset()
    context_length: int | None = None
    masked: Callable[[int], np.ndarray] = np.arange
    sets: Callable[[list[int]], KeySets] | None = None
    pairs: Callable[[list[int], list[LayerDistances]], list[Pair]] | None = None
    further: Callable[[list[int]], dict[str, Any]] = lambda _: {}
    done: Sequence[PassFingerprint] = ()
    start_over: Callable[[], None] = lambda: None
    pick: Pick = greedy
    site: Site = DECODER
    at: MeasuredAt = MeasuredAt()

    def key_sets(self, token_ids: list[int]) -> KeySets:
        """The sets that are masked in turn in a sequence of these tokens."""
        return KeySets.alone(self.masked(len(token_ids))) if self.sets is None else self.sets(token_ids)


@dataclass(frozen=True)
class Method:
    """How the layers are measured: see the settings of the same names. `dtype` None is the model's own.

    `join_rows` lets the rows of `renormalize` join the model's own forward pass where they can.
    """

    name: str = "renormalize"
    variants: tuple[str, ...] = ("full", "attn", "heads")
    dtype: torch.dtype | None = torch.float32
    use_cache: bool = True
    join_rows: bool = True
    rows: RowBudget = field(default_factory=RowBudget)

    def rows_dtype(self, own: torch.dtype) -> torch.dtype:
        """The dtype of masked rows of a layer whose hidden states are in `own`."""
        return own if self.dtype is None else torch.promote_types(own, self.dtype)

    def weights_in(self, parts: LayerParts, own: torch.dtype) -> AbstractContextManager[None]:
        """Have a layer's weights in the dtype of its rows; as they are where that is the model's own."""
        return in_dtype(parts, None if self.dtype is None else self.rows_dtype(own))


def digest(logits: Tensor) -> str:
    """A short name for logits; other bits have another name."""
    return blake2b(logits.contiguous().cpu().view(torch.uint8).numpy().data, digest_size=16).hexdigest()
