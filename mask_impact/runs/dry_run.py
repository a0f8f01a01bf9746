"""`--dry-run`: prints what would run, and an estimate of the time, as far as known without the weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from mask_impact.base import console
from mask_impact.base.formats import formats_for
from mask_impact.cuts.asked import span_pairs
from mask_impact.cuts.pairs import pair_units
from mask_impact.models.devices import find_device
from mask_impact.models.info import ModelInfo
from mask_impact.runs import batch
from mask_impact.runs.messages import counts, extent, plural
from mask_impact.runs.planning import NamedRun, PlannedRun, masked_positions, most_rows
from mask_impact.runs.record import generation_warnings
from mask_impact.settings.readers import quoted
from mask_impact.settings.text_settings import Settings

CALIBRATION_SECONDS = 0.1
MOST_LISTED = 20  # units of a prompt
LAYER_SECONDS = 0.01  # of a layer at each step, whatever its size: 9 ms in the demo model, on a busy core
ASSUMED = (
    "tokens and masked rows pass each layer's weights at the {speed:,.3g} GFLOP/s that a short matrix product reaches "
    "on {device} now, and each layer takes 10 ms a step besides; without loading, pictures and writing"
)


@dataclass(frozen=True)
class LayerSizes:
    """How many weights of a layer are used by a token (all), and by a masked row (those after attention)."""

    token: int
    row: int


def report(plans: Sequence[NamedRun], model_info: ModelInfo) -> int:
    """Print a line for each plan and one for all of them; returns the exit code. Raises RequestError as a run would."""
    batch.print_warnings(plans)
    generation = model_info.generation
    for line in dict.fromkeys(
        line for plan in plans for line in generation_warnings(plan, model_info.name, generation)
    ):
        console.warn(line)
    quiet, left = plans[0].settings.quiet, [plan for plan in plans if not plan.finished]
    parts = {plan.settings.part: layer_sizes(model_info.measured_config(plan.settings)) for plan in plans}
    sizes = {part: size for part, size in parts.items() if size}
    config = model_info.measured_config(plans[0].settings)
    speed = multiplications_per_second(config, plans[0].settings) if len(sizes) == len(parts) else None
    times = {
        plan.name: estimated_seconds(
            plan, layers(plan, model_info), model_info.layers(plan.settings), sizes[plan.settings.part], speed
        )
        for plan in left
        if speed
    }
    for plan in plans:
        estimate = f", about {duration(times[plan.name])}" if plan.name in times else ""
        console.say(f"{plan.name}: {plan_size(plan, model_info)}{estimate}{existing_note(plan)}", quiet)
        for line in unit_lines(plan):
            console.say(f"  {line}", quiet)
    console.say(total_line(plans, left, times, speed), quiet)
    return console.SUCCESS


def total_line(
    plans: Sequence[NamedRun], left: Sequence[NamedRun], times: dict[str, float], speed: float | None
) -> str:
    """The line for all plans, with the assumptions behind the times."""
    to_run = f"dry run: {plural(len(plans), 'prompt')}, {len(left)} to measure"
    if not left:
        return f"{to_run}; nothing was written"
    if speed is None:
        return (
            f"{to_run}; how long cannot be told without the weights: the configuration does not give the layers' sizes"
        )
    assumed = ASSUMED.format(speed=2 * speed / 1e9, device=find_device(plans[0].settings))
    return f"{to_run}, about {duration(sum(times.values()))}: {assumed}; nothing was written"


def plan_size(plan: PlannedRun, model_info: ModelInfo) -> str:
    """Tokens, steps, layers, rows and bytes. Some layers may turn out to have no softmax attention when loaded."""
    heads = config_number(model_info.measured_config(plan.settings), "num_attention_heads")
    count = len(layers(plan, model_info))
    if heads is None:
        return f"{counts(plan, count)}, rows unknown until the weights are loaded"
    formats, notice = formats_for(most_rows(plan, [heads] * count), plan.settings.formats, plan.settings.formats_given)
    return f"{counts(plan, count)}, {extent(plan, [heads] * count, formats)}" + (f" ({notice})" if notice else "")


def unit_lines(plan: PlannedRun) -> list[str]:
    """The units and pairs of step 0, a line each, the named ones first; none where each token is hidden alone."""
    units = plan.prompt.units(plan.prompt.token_ids) or []
    pairs = plan.settings.pairs
    named = pair_units(units, span_pairs(units)) if pairs == "spans" else []
    own_first = sorted([*units, *named], key=lambda unit: unit.kind not in ("spans", "pairs"))
    lines = [f"{unit.kind:9} {quoted(unit.label)}: {unit.where}" for unit in own_first]
    more = [f"... and {len(lines) - MOST_LISTED:,} more"] if len(lines) > MOST_LISTED else []
    chosen = [f"pairs     of the {pairs} units that move the layers most"] if isinstance(pairs, int) else []
    return [*lines[:MOST_LISTED], *more, *chosen]


def existing_note(plan: NamedRun) -> str:
    """The end of a plan's line: whether its result exists, what of it is missing, or that a run of it was cut off."""
    if not plan.finished:
        return "; cut off before, and goes on behind the steps that are there" if plan.choice.resumes else ""
    to_make = f", and {', '.join(plan.missing_files)} is made from it" if plan.missing_files else ""
    return f"; there already{to_make}"


def layers(plan: PlannedRun, model_info: ModelInfo) -> list[int]:
    """The layers asked for, without those that have no softmax attention by the configuration."""
    asked, others = plan.settings.layers, model_info.layers_without_softmax(plan.settings)
    return [
        layer
        for layer in range(model_info.layers(plan.settings))
        if layer not in others and (asked is None or layer in asked)
    ]


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
    device, dtype = find_device(settings), torch.float64 if settings.dtype == "float64" else torch.float32
    inner = min(4 * config.hidden_size, 16_384)
    left, right = torch.ones(64, config.hidden_size, dtype=dtype), torch.ones(config.hidden_size, inner, dtype=dtype)
    left, right = left.to(device), right.to(device)
    float((left @ right)[0, 0])  # the first call sets things up
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < CALIBRATION_SECONDS:
        float((left @ right)[0, 0])  # waits for the device
        done += 1
    return done * 64 * config.hidden_size * inner / (time.perf_counter() - started)


def duration(time_taken: float) -> str:
    """A time as text, in seconds, minutes or hours."""
    if time_taken < 90:
        return f"{max(1, round(time_taken))} s"
    return f"{time_taken / 60:.0f} min" if time_taken < 5400 else f"{time_taken / 3600:.1f} h"
