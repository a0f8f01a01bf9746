"""Remembers what a batch with --overwrite has replaced, so that after a cut-off it need not begin anew."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from mask_impact.base.json_text import json_bytes
from mask_impact.base.whole_files import make_folder, write_whole
from mask_impact.results.paths import unfinished_folder
from mask_impact.settings.text_settings import Settings


class ReplacedResults:
    """Names of the results that a batch with --overwrite has replaced, kept on disk until the batch ends.

    Without --overwrite, and for a prompt of the command line, nothing is kept.
    """

    def __init__(self, settings: Settings):
        self.path: Path | None = None
        if settings.overwrite and settings.batch_file is not None:
            self.path = unfinished_folder(
                Path(settings.output_dir), f".{Path(settings.batch_file).stem}_overwrite"
            ).with_name("replaced.json")

    def names(self) -> list[str]:
        """The names so far; none if they cannot be read."""
        try:
            return [name for name in json.loads(self.path.read_bytes()) if isinstance(name, str)] if self.path else []
        except (OSError, ValueError, TypeError):
            return []

    def add(self, name: str) -> None:
        """Add a name. Raises RunError, one line, if it cannot be written."""
        if self.path:
            make_folder(self.path.parent)
            names = [*self.names(), name]
            write_whole({self.path: lambda path: path.write_bytes(json_bytes(names))}, to_disk=False)

    def forget(self) -> None:
        """Delete the names at the end of the batch, which begins anew next time. What cannot be deleted stays."""
        if self.path:
            with suppress(OSError):
                self.path.unlink()
                self.path.parent.rmdir()
                self.path.parent.parent.rmdir()  # where nothing else is unfinished
