"""From a model's name to a folder with its files.

    checkpoint = find_checkpoint("Qwen/Qwen3-0.6B")     # configuration and tokenizer, from the cache or the hub
    checkpoint = with_weights(checkpoint)               # and the weights

A model in the hub's local cache is used as it is, without asking the hub.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from huggingface_hub import snapshot_download

from mask_impact.base.errors import RequestError
from mask_impact.base.package_data import package_data
from mask_impact.models import adapters
from mask_impact.models.checkpoint_files import Checkpoint, checked_folder, missing_weights
from mask_impact.models.hub import SMALL_FILES, ask_hub, cached, from_hub, hub_bars, looks_like_path

DEMO = package_data("demo")


def find_checkpoint(name: str, revision: str | None = None, code: bool = False, demo: str = "text") -> Checkpoint:
    """The checkpoint's configuration and tokenizer, and its weights if they are on this machine.

    `demo` is the kind of model that `--model demo` stands for. Raises RequestError, by name, for a path that is no
    folder, a model that does not exist or is closed, and a hub that cannot be reached.
    """
    path = DEMO / demo / "model" if name == "demo" else Path(os.path.expanduser(name))
    if name == "demo" and not path.is_dir():
        raise RequestError(
            f"--model demo: there is no {str(path)!r}; fetch the repository again, or train it: "
            f"python -m demo.{demo}.train"
        )
    if os.path.isdir(path):  # unlike Path.is_dir, it gives False for a name that is too long
        if revision is not None:
            raise RequestError(f"--revision {revision!r} does not go with the folder {name!r}; leave it out")
        return checked_folder(Checkpoint(name, path))
    if looks_like_path(name) or os.path.exists(path):
        raise RequestError(
            f"--model {name!r} is no folder; give a folder with config.json and model.safetensors, or a hub name"
        )
    return cached(name, revision, code) or from_hub(name, revision, code)


def with_weights(checkpoint: Checkpoint, quiet: bool = True) -> Checkpoint:
    """The same checkpoint with its weights in the folder; those of a hub's model are downloaded if they are missing."""
    if checkpoint.repository is None or not missing_weights(checkpoint.folder):
        return checkpoint
    patterns = [*SMALL_FILES, *missing_weights(checkpoint.folder), *adapters.WEIGHTS] + ["*.py"] * checkpoint.code
    with hub_bars(shown=not quiet):
        fetch = lambda: snapshot_download(checkpoint.repository, revision=checkpoint.revision, allow_patterns=patterns)
        folder = ask_hub(checkpoint.name, checkpoint.revision, fetch, seconds=None)
    return checked_folder(replace(checkpoint, folder=Path(folder)))
