"""Plans every entry before weights are loaded, and checks whatever settings, tokenizer and file headers can reveal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.base.formats import FORMATS, formats_for
from mask_impact.cuts.asked import most_pairs
from mask_impact.measure.interaction import MOST_PAIRS
from mask_impact.measure.rows.budget import CHUNK_BYTES
from mask_impact.models.devices import find_device
from mask_impact.models.files import quiet_transformers
from mask_impact.models.info import ModelInfo
from mask_impact.models.inputs import PromptInputs
from mask_impact.models.loading import LoadedModel, measured_parts
from mask_impact.models.prompt_warnings import prompt_warnings
from mask_impact.models.tokens import continuation_ids
from mask_impact.results.folder import knockout_rows
from mask_impact.runs.result_names import NameChoice, choose_names
from mask_impact.settings.text_settings import Settings, is_ids


@dataclass(frozen=True)
class PlannedRun:
    """One entry, ready to run: its inputs, the steps asked for and the most it can take, and the name of its results.

    `warnings` are lines for the user, which the run file has too; `facts` is what decides the numbers beside the
    settings, as in a run record (`differing_settings`).
    """

    settings: Settings
    prompt: PromptInputs
    steps_asked: int
    steps: int
    continuation_ids: list[int] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def generates(self) -> bool:
        """Whether the model picks the tokens that follow: something is predicted, and no continuation is given."""
        return self.prompt.site.generates and self.continuation_ids is None

    @property
    def name(self) -> str | None:
        """The name of its results; None where none are written, as from Python."""
        return None


@dataclass(frozen=True, kw_only=True)
class NamedRun(PlannedRun):
    """A planned run whose results are written: their name, with what is there of it (`choice`), and what else decides
    its numbers, as in a run record (`facts`; see `differing_settings`)."""

    choice: NameChoice
    facts: Mapping[str, object]

    @property
    def name(self) -> str:
        """The name of its results."""
        return self.choice.name

    @property
    def folder(self) -> Path:
        """The folder of its results."""
        return Path(self.settings.output_dir)

    @property
    def finished(self) -> bool:
        """Whether the result exists already, with a table; its `missing_files` can be made from that."""
        return bool(self.choice.record) and not self.choice.formats.isdisjoint(FORMATS)

    @property
    def missing_files(self) -> tuple[str, ...]:
        """What a finished result lacks: formats asked for (with Parquet for too large a JSON), and "report"."""
        record, settings = self.choice.record, self.settings
        cut = knockout_rows(record) or 0
        wanted, _ = formats_for(record.get("rows", 0), settings.formats, settings.formats_given, cut)
        asked = (*wanted, "report") if self.settings.report else wanted
        return tuple(what for what in asked if what not in self.choice.formats)


def plan_all(entries: Sequence[Settings], model_info: ModelInfo) -> list[NamedRun]:
    """A plan for each entry. Raises RequestError with the faults of all entries."""
    plans: list[PlannedRun] = []
    own: list[dict[str, object]] = []
    facts: list[dict[str, object]] = []
    choices: list[NameChoice] = []
    faults = [*entries[0].file_faults]
    for settings in entries:
        own.append({})
        with collect_faults(faults, settings.with_place):
            plans.append(plan(settings, model_info))
            own[-1] = plans[-1].prompt.facts()
    with collect_faults(faults):
        common = {
            "device": str(find_device(entries[0])),
            "model_identity": model_info.identity,
            "computed_with": computed_with(),
        }
        facts = [common | more for more in own]
        choices = choose_names(entries, facts)
    if faults:
        raise RequestError(*faults)
    return [NamedRun(**vars(plan), choice=choice, facts=known) for plan, choice, known in zip(plans, choices, facts)]


def computed_with() -> dict[str, str | int]:
    """What decides the last bits of a result beside settings and model."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "chunk_bytes": CHUNK_BYTES,
    }


@quiet_transformers()
def plan(settings: Settings, model_info: ModelInfo) -> PlannedRun:
    """The entry's inputs and steps. Raises RequestError with its faults."""
    prompt, continuation = PromptInputs([]), None
    faults = layer_faults(settings, model_info.layers(settings), model_info.layers_without_softmax(settings))
    with collect_faults(faults):
        prompt = model_info.prompt_inputs(settings)
    with collect_faults(faults):
        continuation = (
            None if settings.continuation is None else continuation_ids(model_info.tokenizer, settings.continuation)
        )
    ids = prompt.token_ids
    faults += id_faults(settings, {"prompt": ids, "continuation": continuation or ()}, model_info)
    limit = model_info.context_length if prompt.site.generates else None
    if limit is not None and len(ids) > limit:
        faults.append(f"the prompt has {len(ids)} tokens, more than the model's context of {limit}; shorten it")
    if faults:
        raise RequestError(*faults)
    given = len(continuation or ())
    asked = min(settings.most_steps or given, given or settings.num_tokens)
    possible = asked if limit is None else limit - len(ids) + 1
    surprises = prompt_warnings(model_info, settings, ids) if prompt.site.generates else []
    warnings = (*model_info.notes, *settings.warnings, *prompt.notes(), *surprises, *pair_notes(settings, prompt))
    return PlannedRun(settings, prompt, asked, min(asked, possible), continuation, warnings)


def layer_faults(settings: Settings, layers: int, others: Mapping[int, str]) -> list[str]:
    """A fault for layers asked for that the model does not have, and for each known to have no softmax attention."""
    asked = settings.layers or ()
    beyond = [layer for layer in asked if layer >= layers]
    found = (
        f"{beyond[0]} is"
        if len(beyond) == 1
        else f"{', '.join(map(str, beyond[:3]))}{', …' if len(beyond) > 3 else ''} are"
    )
    has = "vision encoder has blocks" if settings.part == "encoder" else "model has layers"
    faults = [f"layers: {found} out of range; the {has} 0 to {layers - 1}"] if beyond else []
    return faults + unmeasurable_layer_faults(asked, others, [layer for layer in range(layers) if layer not in others])


def pair_notes(settings: Settings, prompt: PromptInputs) -> list[str]:
    """A line where spans make no pair, and where there may be more than Full's interaction is measured for."""
    units = prompt.units(prompt.token_ids) or []
    most = most_pairs(units, settings.pairs, len(units))
    if settings.pairs == "spans" and not most:
        return [settings.with_place("pairs: every two of the spans share a token, so there is no pair to hide")]
    if most <= MOST_PAIRS or "full" not in settings.variants or settings.method == "rerun":  # which measures it for all
        return []
    line = (
        f"pairs: Full's interaction stays empty, as it is measured for at most {MOST_PAIRS} pairs, and there may be "
        f"{most:,}; those of 23 units have it, and Attn and the heads have it for all"
    )
    return [settings.with_place(line)]


def unmeasurable_layer_faults(asked: Sequence[int], others: Mapping[int, str], measurable: Sequence[int]) -> list[str]:
    """A fault for each layer asked for that cannot be measured."""
    shown = ", ".join(map(str, measurable)) or "none"
    return [
        f"layers: layer {layer} has {others[layer]}; layers that can be measured: {shown}"
        for layer in asked
        if layer in others
    ]


def id_faults(settings: Settings, tokens: Mapping[str, Sequence[int]], model_info: ModelInfo) -> list[str]:
    """A fault for each of prompt and continuation with a token that the model has no embedding for."""
    size = getattr(model_info.config.get_text_config(), "vocab_size", None)
    faults = []
    for name, ids in tokens.items():
        largest = max(ids, default=0)
        if size is not None and largest >= size:
            given = f"{name}: token {largest} is beyond the model's vocabulary of {size}; give ids from 0 to {size - 1}"
            made = (
                f"the tokenizer gives token {largest}, but the model's vocabulary has {size}: they do not "
                "belong together; fetch both again"
            )
            faults.append(given if is_ids(getattr(settings, name)) else made)
    return faults


def refuse_skipped(plans: Sequence[PlannedRun], loaded: LoadedModel) -> None:
    """Raise RequestError for layers asked for that have no softmax attention in the loaded model."""
    faults: list[str] = []
    for settings in (plan.settings for plan in plans):
        parts, skipped = loaded.sites[settings.part]
        measurable = [part.index for part in parts]
        faults += map(settings.with_place, unmeasurable_layer_faults(settings.layers or (), skipped, measurable))
    if faults:
        raise RequestError(*faults)


def rows_to_come(plan: PlannedRun, loaded: LoadedModel) -> int:
    """The most rows that the plan's table can have."""
    return most_rows(plan, heads_of_layers(plan, loaded))


def heads_of_layers(plan: PlannedRun, loaded: LoadedModel) -> list[int]:
    """The number of heads of each layer that the plan measures."""
    return [part.heads for part in measured_parts(plan.settings, loaded)]


def most_rows(plan: PlannedRun, heads: Sequence[int]) -> int:
    """The most rows that the plan's table can have, for layers with these numbers of heads."""
    kinds = {"full": len(heads), "attn": len(heads), "heads": sum(heads)}
    heatmap_rows = sum(kinds[variant] for variant in plan.settings.variants)
    return heatmap_rows * sum(masked_positions(plan))


def most_heatmaps(plan: PlannedRun, heads: Sequence[int]) -> int:
    """The most pairs of generation step and variant that the plan's table can have."""
    kinds = {"full": 1, "attn": 1, "heads": max(heads, default=0)}
    return plan.steps * sum(kinds[variant] for variant in plan.settings.variants)


def masked_positions(plan: PlannedRun) -> list[int]:
    """How many positions each step masks in turn, or the most units and pairs."""
    prompt = plan.prompt
    units = prompt.units(prompt.token_ids)
    if units is None or prompt.asked is None:
        return [len(prompt.masked(len(prompt.token_ids) + step)) for step in range(plan.steps)]
    new = prompt.asked.most_new()
    most = [len(units) + step * new for step in range(plan.steps)]
    return [count + most_pairs(units, plan.settings.pairs, count) for count in most]
