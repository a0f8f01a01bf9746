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

from benchmarks import tables

Work = Callable[[], float | None]
Model = TypeVar("Model", bound=transformers.PreTrainedModel)


def random_model(
    kind: type[Model], config: transformers.PreTrainedConfig, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """A model of this shape in eval mode; the same weights each time."""
    torch.manual_seed(0)
    with initialization.no_init_weights(), torch.device(device):
        model = kind._from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, 0.02) if weight.dim() > 1 else weight.fill_(0 if name.endswith("bias") else 1)
    model.tie_weights()
    return model


def clock() -> float:
    """The time in seconds, once a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Work) -> float:
    """How long `work` takes, or what it says it took."""
    started = clock()
    said = work()
    return said if isinstance(said, float) else clock() - started


def ratio(work: Work, plain: Work, pairs: int) -> tuple[float, float]:
    """The median of work's seconds over the mean of the plain passes before and behind it,
    and the median pass in seconds.

    These machines change their speed from one second to the next;
    two passes tell better than one what it was meanwhile.
    """
    work(), plain()
    ratios, passes = [], [seconds(plain)]
    for _ in range(pairs):
        spent = seconds(work)
        passes.append(seconds(plain))
        ratios.append(2 * spent / sum(passes[-2:]))
    return median(ratios), median(passes)


def head(pairs: int, device: str = "cpu", dtype: str = "float32") -> None:
    """The table's first lines, in Markdown: on what it was measured, and the columns."""
    gpu = f"{torch.cuda.get_device_name(device)}; " if device != "cpu" else ""
    print(
        f"{gpu}{tables.hardware()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}; "
        f"{dtype}, medians of {pairs} pairs\n\n| | measured | goal |\n|---|---|---|"
    )


def line(what: str, found: str, limit: str) -> None:
    """One row of the table."""
    print(f"| {what} | {found} | {limit} |", flush=True)
