"""The answer's readings: what a cut does to the token that follows, from logits with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mask_impact.measure.distances import widest


@dataclass(frozen=True)
class Readings:
    """What each row says of the token t that follows, against the uncut model: float64 (row,), NaN where undefined.

    logprob_change: log p'(t) - log p(t) in nats, negative where the answer needs what is cut.
    logit_change: the same of its logit.
    kl_divergence: KL(p || p') over the vocabulary, in nats, at least 0.
    top: the likeliest token's id under the cut; -1 where undefined.
    """

    logprob_change: np.ndarray
    logit_change: np.ndarray
    kl_divergence: np.ndarray
    top: np.ndarray

    @classmethod
    def together(cls, parts: Sequence[Readings]) -> Readings:
        """Those of several parts, one behind another."""
        names = ("logprob_change", "logit_change", "kl_divergence", "top")
        none = [cls(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int64))]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts or none]) for name in names})

    def at(self, rows: np.ndarray) -> Readings:
        """Those of these rows."""
        return Readings(self.logprob_change[rows], self.logit_change[rows], self.kl_divergence[rows], self.top[rows])

    def without(self, lost: np.ndarray) -> Readings:
        """The same, undefined where `lost` (row,)."""
        logprob, logit, divergence = (
            np.where(lost, np.nan, each) for each in (self.logprob_change, self.logit_change, self.kl_divergence)
        )
        return Readings(logprob, logit, divergence, np.where(lost, -1, self.top))

    def largest(self) -> dict[str, float]:
        """The largest change of each kind, as a noise floor records them."""
        names = ("logprob_change", "logit_change", "kl_divergence")
        return {name: float(np.abs(getattr(self, name)).max(initial=0)) for name in names}


@dataclass(frozen=True)
class Baseline:
    """The uncut model's answer at one position: its logits (vocabulary,), and the token that follows."""

    logits: Tensor
    token: int

    @property
    def logit(self) -> float:
        """That of the token that follows."""
        return float(self.logits[self.token])

    @property
    def logprob(self) -> float:
        """The log-probability of the token that follows, in nats."""
        return float(self.wide.log_softmax(-1)[self.token])

    @property
    def wide(self) -> Tensor:
        """The logits in the widest dtype."""
        return self.logits.to(widest(self.logits))

    def read(self, logits: Tensor) -> Readings:
        """What rows of logits (row, vocabulary) say, which a cut has changed."""
        wide, before = logits.to(widest(logits)), self.wide
        moved = wide - before
        normalizer = torch.logsumexp(wide, -1) - torch.logsumexp(before, -1)
        change = moved[:, self.token]
        divergence = (normalizer - moved @ before.softmax(-1)).clamp_min(0)
        top = logits.argmax(-1).masked_fill(change.isnan(), -1)
        logprob, logit, kl = (
            each.cpu().numpy().astype(np.float64) for each in (change - normalizer, change, divergence)
        )
        return Readings(logprob, logit, kl, top.cpu().numpy())
