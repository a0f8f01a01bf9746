"""One prompt as a caller from Python asks: no files, and a model that may be loaded already."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mask_impact.models import loading
from mask_impact.models.loading import LoadedModel
from mask_impact.runs import planning
from mask_impact.runs.planning import PlannedRun
from mask_impact.runs.run import Run
from mask_impact.settings.text_settings import Settings


def measured(
    kind: type[Settings],
    models: ModuleType,
    measure: Callable[[PlannedRun, LoadedModel], Run],
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    *processor: Any,
    **arguments: Any,
) -> Run:
    """The run that the arguments ask for: of settings of this kind, with a model that `models` examines.

    `processor` is what a loaded model of that kind takes beside its tokenizer. Raises RequestError, all faults at once.
    """
    asked = kind.from_python(**arguments)
    named = model is None and tokenizer is None
    model_info = models.examine(asked) if named else models.from_loaded(model, tokenizer, *processor, asked)
    plan = planning.plan(asked, model_info)
    with loading.ready(model_info, asked, model) as loaded:
        planning.refuse_skipped([plan], loaded)
        return measure(plan, loaded)
