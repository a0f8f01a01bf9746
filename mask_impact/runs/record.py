"""Makes a run's record, {name}_run.json: what produced the table."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from mask_impact import __version__
from mask_impact.measure.next_token import saved_settings
from mask_impact.models.loading import LoadedModel
from mask_impact.runs.planning import PlannedRun, computed_with

if TYPE_CHECKING:
    from transformers import GenerationConfig


SCHEMA_VERSION = 1
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def plan_record(plan: PlannedRun, loaded: LoadedModel) -> dict[str, Any]:
    """Settings, model and machine, as in the run file."""
    model_info, device = loaded.model_info, loaded.model.device
    return {
        "name": plan.name,
        "settings": plan.settings.to_record() | {"model": model_info.name},
        "model_class": type(loaded.model).__name__,
        "model_type": loaded.model.config.model_type,
        "model_identity": model_info.identity,
        "device": str(device),
        **plan.prompt.facts(),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "computed_with": computed_with(),
        "versions": dict(versions()),
        "warnings": [*plan.warnings, *loaded_warnings(plan, loaded)],
    }


def loaded_warnings(plan: PlannedRun, loaded: LoadedModel) -> list[str]:
    """Warnings about the loaded model: its own, and generation settings that are not followed."""
    return [*loaded.notes, *generation_warnings(plan, loaded.model_info.name, loaded.model.generation_config)]


def generation_warnings(plan: PlannedRun, name: str, config: GenerationConfig | None) -> list[str]:
    """A line where the model picks tokens, and has generation settings that are not followed."""
    left = saved_settings(config)["not_followed"] if plan.generates else {}
    line = (
        f"--model {name!r} has generation settings that are not followed ({', '.join(left)}): "
        "its generate() may give other text"
    )
    return [line] if left else []


@cache
def versions() -> dict[str, str]:
    """This project's version, Python's and the libraries'; looked up once, as it takes some milliseconds."""
    return {
        "mask_impact": __version__,
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
    }


def failure_record(plan: PlannedRun, loaded: LoadedModel, reason: str) -> dict[str, Any]:
    """The record of a run that failed: its settings and the reason."""
    return {"schema_version": SCHEMA_VERSION, "status": "failed", "reason": reason, **plan_record(plan, loaded)}


def unfinished_record(plan: PlannedRun, loaded: LoadedModel) -> dict[str, Any]:
    """The record of a run before its first step: its settings, and whether it replaces a result."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "unfinished",
        "overwrite": plan.settings.overwrite,
        **plan_record(plan, loaded),
    }
