"""What a run costs, told before it runs: its time, and its knock-outs in plain forward passes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from transformers import PreTrainedConfig

from mask_impact.cuts.knockouts import CUTS, SINGLE_LAYERS
from mask_impact.cuts.refine import BUDGET, passes
from mask_impact.models.devices import find_device
from mask_impact.runs.planning import PlannedRun, masked_positions
from mask_impact.settings.text_settings import Settings

CALIBRATION_SECONDS = 0.1
LAYER_SECONDS = 0.01  # of a layer at each step, whatever its size: 9 ms in the demo model, on a busy core
PASS_SECONDS = 0.001  # of a layer in a plain forward pass


@dataclass(frozen=True)
class LayerSizes:
    """How many weights of a layer are used by a token (all), and by a masked row (those after attention)."""

    token: int
    row: int


def layer_sizes(config: PreTrainedConfig) -> LayerSizes | None:
    """A decoder layer's sizes, assuming a gated MLP and the chosen experts; None if the configuration lacks them."""
    width, heads = config_number(config, "hidden_size"), config_number(config, "num_attention_heads")
    if not width or not heads:
        return None
    of_head = config_number(config, "head_dim") or width // heads
    keys = config_number(config, "num_key_value_heads") or heads
    inner = config_number(config, "moe_intermediate_size") or config_number(config, "intermediate_size") or 4 * width
    row = width * heads * of_head + 3 * width * inner * (config_number(config, "num_experts_per_tok") or 1)
    return LayerSizes(row + width * of_head * (heads + 2 * keys), row)


def config_number(config: PreTrainedConfig, name: str) -> int | None:
    """The configuration's value of this name, if it is one number for all layers."""
    try:
        value = getattr(config, name, None)
    except Exception:  # a configuration whose layers differ refuses to give one value (Gemma 4's head_dim)
        return None
    return value if isinstance(value, int) else None


def estimated_seconds(
    plan: PlannedRun, measured: Sequence[int], of_model: int, sizes: LayerSizes, speed: float
) -> float:
    """The time of a run: each token goes through every layer once, and each step's rows through the measured layers.

    `rerun` sends a layer's whole input through it for each masked token. Attention's own products and the vocabulary's
    are left out.
    """
    at = plan.prompt.at
    each, places = at.size, len(at.units or (None,))
    prompt, masked = len(plan.prompt.token_ids) * each, [count * places for count in masked_positions(plan)]
    passed = (prompt + plan.steps - 1) * of_model * sizes.token
    if plan.settings.method == "rerun":
        again = sum(rows * (prompt + step) for step, rows in enumerate(masked)) * sizes.token
        passes = sum(masked)
    else:
        again, passes = sum(masked) * each * sizes.row, plan.steps * places
    return (passed + again * len(measured)) / speed + LAYER_SECONDS * passes * len(measured)


def multiplications_per_second(config: PreTrainedConfig, settings: Settings) -> float:
    """Multiplications with addition per second on the device, in the dtype of the masked rows."""
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    return matrix_speed(config.hidden_size, find_device(settings), dtype)


@cache
def matrix_speed(width: int, device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications with addition per second, of 64 rows of this width; measured once."""
    inner = min(4 * width, 16_384)
    left, right = torch.ones(64, width, dtype=dtype), torch.ones(width, inner, dtype=dtype)
    left, right = left.to(device), right.to(device)
    float((left @ right)[0, 0])  # the first call sets things up
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < CALIBRATION_SECONDS:
        float((left @ right)[0, 0])  # waits for the device
        done += 1
    return done * 64 * width * inner / (time.perf_counter() - started)


def knockout_cost(
    plan: PlannedRun, config: PreTrainedConfig, layers: int, by_rows: bool = True
) -> tuple[float, float | None]:
    """What a plan's knock-outs cost at most, in plain forward passes of all its tokens and in seconds (None: unknown).

    `config` and `layers` are the model's; `by_rows`, or each cut by a pass of its own. (0, 0) if none are made.
    """
    if not plan.settings.cuts:
        return 0, 0
    sizes, tokens = layer_sizes(config), len(plan.prompt.token_ids) + plan.steps - 1
    if sizes is None:
        return knockout_passes(plan, layers, 0, by_rows), None
    width, vocabulary = config_number(config, "hidden_size") or 0, config_number(config, "vocab_size") or 0
    count = knockout_passes(plan, layers, width * vocabulary / (layers * sizes.token), by_rows)
    of_pass = tokens * layers * sizes.token / multiplications_per_second(config, plan.settings)
    return count, count * (of_pass + PASS_SECONDS * layers)


def knockout_passes(plan: PlannedRun, layers: int, end: float, by_rows: bool) -> float:
    """The passes of `knockout_cost`; `end` is what the logits of a row cost, in rows through all layers."""
    settings, tokens = plan.settings, len(plan.prompt.token_ids) + plan.steps - 1
    units, new = plan.prompt.cut_units(plan.prompt.token_ids), plan.steps - 1
    count, most = len(units) + new, math.inf if settings.unlimited else BUDGET
    steps = {cut: sum(cut in settings.cuts_at(step) for step in range(plan.steps)) for cut in CUTS}
    windows = layers * (count if settings.window != "all" else min(count, SINGLE_LAYERS))
    cells = steps["heads"] * settings.head_cells
    if not by_rows:
        others = steps["final"] * (count + windows) + cells
        return 1 + min(count, most) * ("all" in settings.cuts) + others * settings.cuts_named
    everywhere = min(passes(units, tokens) + new / 2, most) * ("all" in settings.cuts)
    rows = steps["final"] * (count + windows / 2) + cells / 2 + steps["first_order"] * count
    read = steps["all"] * count + steps["final"] * (count + windows) + cells
    return 1 + everywhere + (rows + read * end) / tokens


def in_words(passes: float, time_taken: float | None) -> str:
    """What knock-outs cost, as the end of a line; empty where there are none."""
    if not passes:
        return ""
    about = "" if time_taken is None else f", about {duration(time_taken)}"
    return f"; knock-outs at most {max(1, round(passes)):,} passes{about}"


def duration(time_taken: float) -> str:
    """A time as text, in seconds, minutes or hours."""
    if time_taken < 90:
        return f"{max(1, round(time_taken))} s"
    return f"{time_taken / 60:.0f} min" if time_taken < 5400 else f"{time_taken / 3600:.1f} h"
