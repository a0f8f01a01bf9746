"""The mean of one layer's distances over several units that they are seen from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from mask_impact.measure.distances import LayerDistances

AVERAGED = ("l2", "cosine", "baseline_norm", "noise_floor_l2", "noise_floor_cosine")


def mean_distances(found: Iterable[LayerDistances], seen: Iterable[np.ndarray], keep: bool) -> LayerDistances:
    """Each set's mean over the measured units that see it; `seen` (set,) says which sets one sees.

    What is undefined has no part in a mean. Norms and noise floors are means over all units. `keep` keeps Full's L2
    distances from each unit. Only one unit's distances are there at a time.
    """
    means: dict[str, Mean] = {}
    each = []
    for one, own in zip(found, seen, strict=True):
        for kind in AVERAGED if one.interaction is None else (*AVERAGED, "interaction"):
            value = getattr(one, kind)
            means.setdefault(kind, Mean(value.shape)).add(np.where(own, value, np.nan) if value.ndim == 2 else value)
        if keep:
            each.append(one.l2[one.variants.index("Full")])
    averaged: dict[str, Any] = {kind: mean.result().astype(getattr(one, kind).dtype) for kind, mean in means.items()}
    return replace(one, **averaged, each=np.stack(each) if each else None)


class Mean:
    """The mean of arrays of one shape that come one by one, NaN standing for none."""

    def __init__(self, shape: tuple[int, ...]):
        self.total, self.count = np.zeros(shape), np.zeros(shape, int)

    def add(self, values: np.ndarray) -> None:
        """Take one more array."""
        self.total += np.nan_to_num(values)
        self.count += ~np.isnan(values)

    def result(self) -> np.ndarray:
        """NaN where every value was."""
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)
