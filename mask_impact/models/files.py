"""Reads a model's files with transformers, without its output on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from transformers import GenerationConfig

from mask_impact.base.errors import RequestError, as_run_error, first_line, out_of_memory
from mask_impact.models.checkpoint_files import Checkpoint
from mask_impact.settings import readers

GENERATION = "generation_config.json"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Switch transformers' progress bars and warnings off inside; errors are raised all the same."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def read_file(checkpoint: Checkpoint, what: str, read: Callable[..., Any], **options: Any) -> Any:
    """What `read` returns for the checkpoint's folder. Raises RunError if memory runs out, else RequestError."""
    try:
        return read(checkpoint.folder, local_files_only=True, **options)
    except Exception as error:  # other people's files fail in every way
        if out_of_memory(error):
            raise as_run_error(error) from error
        remedy = "install what is missing" if isinstance(error, ImportError) else "fetch the model again"
        remedy = "a newer transformers may know it" if "does not recognize this architecture" in str(error) else remedy
        remedy = "--trust-remote-code runs the code it brings along" if "trust_remote_code" in str(error) else remedy
        raise RequestError(
            f"--model {checkpoint.name!r}: its {what} cannot be loaded ({first_line(error)}); {remedy}"
        ) from None


def saved_generation(checkpoint: Checkpoint) -> GenerationConfig:
    """The generation settings that are saved with a model:
    in a file of their own, or in old models in its configuration.

    Raises RequestError for a file that holds none; transformers would pass over it, or blame the weights.
    """
    file = checkpoint.folder / GENERATION
    if not file.is_file():
        return read_file(
            checkpoint, "generation settings", GenerationConfig.from_pretrained, config_file_name="config.json"
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"--model {checkpoint.name!r}: its {GENERATION} cannot be read ({first_line(error)}); fetch the model again"
        ) from None
    if not isinstance(found, dict):
        raise RequestError(
            f"--model {checkpoint.name!r}: its {GENERATION} holds {readers.quoted(found)} in place of an object of "
            "settings; fetch the model again, or remove the file"
        )
    return read_file(checkpoint, GENERATION, GenerationConfig.from_pretrained)
