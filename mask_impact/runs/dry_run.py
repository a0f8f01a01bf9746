"""`--dry-run`: prints what would run, and an estimate of the time, as far as known without the weights."""

from __future__ import annotations

from collections.abc import Sequence

from mask_impact.base import console
from mask_impact.base.formats import formats_for
from mask_impact.cuts.asked import span_pairs
from mask_impact.cuts.pairs import pair_units
from mask_impact.models.devices import find_device
from mask_impact.models.info import ModelInfo
from mask_impact.runs import batch
from mask_impact.runs.costs import (
    config_number,
    duration,
    estimated_seconds,
    in_words,
    knockout_cost,
    layer_sizes,
    multiplications_per_second,
)
from mask_impact.runs.messages import counts, extent, plural
from mask_impact.runs.planning import NamedRun, PlannedRun, most_rows
from mask_impact.runs.record import generation_warnings
from mask_impact.settings.readers import quoted

MOST_LISTED = 20  # units of a prompt
ASSUMED = (
    "tokens and masked rows pass each layer's weights at the {speed:,.3g} GFLOP/s that a short matrix product reaches "
    "on {device} now, and each layer takes 10 ms a step besides; without loading, pictures and writing"
)


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
    cuts = {plan.name: cost_of_cuts(plan, model_info) for plan in left}
    times = {
        plan.name: estimated_seconds(
            plan, layers(plan, model_info), model_info.layers(plan.settings), sizes[plan.settings.part], speed
        )
        + (cuts[plan.name][1] or 0)
        for plan in left
        if speed
    }
    for plan in plans:
        cut = in_words(cuts[plan.name][0], None) if plan.name in cuts else ""
        estimate = f", about {duration(times[plan.name])}" if plan.name in times else ""
        console.say(f"{plan.name}: {plan_size(plan, model_info)}{cut}{estimate}{existing_note(plan)}", quiet)
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


def cost_of_cuts(plan: PlannedRun, model_info: ModelInfo) -> tuple[float, float | None]:
    """What a plan's knock-outs cost at most, in passes and seconds, as far as the configuration tells."""
    settings = plan.settings
    by_rows = settings.method == "renormalize" and not model_info.layers_without_softmax(settings)
    return knockout_cost(plan, model_info.measured_config(settings), model_info.layers(settings), by_rows)


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
