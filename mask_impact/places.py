"""Where a run finds its model and leaves its results: looked at before torch is imported, which takes seconds by itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mask_impact.checkpoints import Checkpoint, find_checkpoint
from mask_impact.errors import RequestError, gathering
from mask_impact.settings import Settings


def find(settings: Settings) -> Checkpoint:
    """The model's files. Raises RequestError for them and for an output folder that cannot be written, both at once."""
    faults = folder_faults(Path(settings.output_dir))
    with gathering(faults):
        checkpoint = find_checkpoint(settings.model, settings.revision, settings.trust_remote_code, settings.DEMO)
    if faults:
        raise RequestError(*settings.file_faults, *faults)
    return checkpoint


def folder_faults(folder: Path) -> list[str]:
    """A fault if results could not be written into the folder; nothing is left in it."""
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(f"{str(nearest)!r} is a file")
        with tempfile.TemporaryFile(dir=nearest):
            return []
    except OSError as error:
        reason = error.strerror or str(error)
        return [f"--output-dir {str(folder)!r} cannot be written ({reason}); choose another folder"]
