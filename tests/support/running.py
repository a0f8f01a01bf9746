"""Short ways for tests to write a batch file for a command and to look at what it wrote."""

from __future__ import annotations

import json
from pathlib import Path


def yaml_file(text, name="batch.yaml"):
    """A batch file with this text; its name."""
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def record_of(name, folder="output"):
    """The run file of a result."""
    return json.loads(Path(folder, f"{name}_run.json").read_text(encoding="utf-8"))


def files_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())
