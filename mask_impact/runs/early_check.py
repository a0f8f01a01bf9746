"""Checks the model's files and the output folder before torch is imported, which takes seconds by itself."""

from __future__ import annotations

from pathlib import Path

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.models.checkpoint_files import Checkpoint
from mask_impact.models.checkpoints import find_checkpoint
from mask_impact.results.folder import folder_faults
from mask_impact.settings.text_settings import Settings


def check(settings: Settings) -> Checkpoint:
    """The model's files. Raises RequestError with their faults and that of an output folder that is not writable."""
    faults = folder_faults(Path(settings.output_dir))
    with collect_faults(faults):
        checkpoint = find_checkpoint(settings.model, settings.revision, settings.trust_remote_code, settings.DEMO)
    if faults:
        raise RequestError(*settings.file_faults, *faults)
    return checkpoint
