"""Adapters of peft: one beside a model's weights is measured with them; one alone is no model and is refused.

state(folder)       # "loaded by peft 0.21.2", "not loaded: peft is not installed", or None for a folder without one
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from mask_impact.base.errors import RequestError

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
MERGE = "merge it into its base with peft's merge_and_unload(), and"


def peft_version() -> str | None:
    """The version of peft, which loads adapters; None if it is not installed."""
    try:
        return importlib.metadata.version("peft")
    except importlib.metadata.PackageNotFoundError:
        return None


def state(folder: Path) -> str | None:
    """Whether the adapter in a folder is loaded with the model, and by which peft; None if there is no adapter."""
    if not (folder / CONFIG).is_file():
        return None
    version = peft_version()
    return f"loaded by peft {version}" if version else "not loaded: peft is not installed"


def is_loaded(folder: Path) -> bool:
    """Whether the folder has an adapter that is loaded with the model."""
    return (folder / CONFIG).is_file() and peft_version() is not None


def notes(name: str, folder: Path) -> tuple[str, ...]:
    """A line about the adapter in a model's folder, if there is one."""
    if not (folder / CONFIG).is_file():
        return ()
    if is_loaded(folder):
        return (f"--model {name!r}: the adapter beside its weights ({CONFIG}) is measured with it",)
    return (
        f"--model {name!r}: the adapter beside its weights ({CONFIG}) is ignored, as peft is not installed; "
        "install peft to measure with it",
    )


def missing(folder: Path) -> list[str]:
    """The adapter's weight file, if it is missing and the adapter would be loaded."""
    there = any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in WEIGHTS)
    return [WEIGHTS[0]] if is_loaded(folder) and not there else []


def refuse_alone(name: str, folder: Path) -> None:
    """Raise RequestError, by name, for a folder with an adapter but no weights of a model."""
    if (folder / CONFIG).is_file() and not any(folder.glob("pytorch_model*.bin")):
        raise RequestError(
            f"--model {name!r} is an adapter of {base_of(folder)} ({CONFIG}), no model; {MERGE} save that"
        )


def base_of(folder: Path) -> str:
    """The base model that an adapter's configuration names, quoted."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return repr(name) if name else "a base model that it does not name"


def refuse_wrapped(model: Any) -> None:
    """Raise RequestError for a loaded model that is wrapped in a class of peft's."""
    if type(model).__module__.partition(".")[0] == "peft":
        inside = model.get_base_model() if hasattr(model, "get_base_model") else model.model
        raise RequestError(
            f"model: a {type(model).__name__} is an adapter around {type(inside).__name__}; {MERGE} give that"
        )
