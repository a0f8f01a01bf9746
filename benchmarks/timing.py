"""What the cost benchmarks share: models with random weights, and work timed against a plain forward pass, in turns."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
import transformers
from transformers import initialization

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import tables  # noqa: E402

Work = Callable[[], float | None]
Model = TypeVar("Model", bound=transformers.PreTrainedModel)


def random_model(kind: type[Model], config: transformers.PreTrainedConfig) -> Model:
    """A model of this shape in float32 and eval mode; the same weights each time."""
    torch.manual_seed(0)
    with initialization.no_init_weights():
        model = kind(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, 0.02) if weight.dim() > 1 else weight.fill_(0 if name.endswith("bias") else 1)
    model.tie_weights()
    return model


def seconds(work: Work) -> float:
    """How long `work` takes, or what it says it took."""
    started = time.perf_counter()
    said = work()
    return said if isinstance(said, float) else time.perf_counter() - started


def ratio(work: Work, plain: Work, pairs: int) -> tuple[float, float]:
    """The median of work's seconds over those of the plain pass, taken in turns, and the median pass in seconds."""
    work(), plain()
    ratios, passes = [], []
    for _ in range(pairs):
        passes.append(seconds(plain))
        ratios.append(seconds(work) / passes[-1])
    return median(ratios), median(passes)


def head(pairs: int) -> None:
    """The table's first lines, in Markdown: on what it was measured, and the columns."""
    print(
        f"{tables.hardware()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}; "
        f"float32, medians of {pairs} pairs\n\n| | measured | goal |\n|---|---|---|")


def line(what: str, found: str, limit: str) -> None:
    """One row of the table."""
    print(f"| {what} | {found} | {limit} |", flush=True)
