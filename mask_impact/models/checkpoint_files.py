"""A checkpoint's files: which are needed, whether they can be read, and what identifies the checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mask_impact.base.errors import RequestError
from mask_impact.models import adapters
from mask_impact.results.paths import RESULT_FILE

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


# The files that a folder's hash covers beside the weights: whatever transformers may read.
IDENTIFYING = re.compile(
    r"(tokenizer|vocab|merges|chat_template)[^.]*\..*|adapter_model.*|.+\.(json|txt|model|jinja|py|tiktoken|spm|bpe|codes|tokenizer|vocab)"
)


TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class Checkpoint:
    """A model's files: its `name` as given, their `folder`; `repository` and `revision` (commit) if from the hub.

    `code` is whether Python code that it brings along may run.
    """

    name: str
    folder: Path
    repository: str | None = None
    revision: str | None = None
    code: bool = False

    @cached_property
    def identity(self) -> dict[str, str]:
        """What tells this checkpoint from any other: the hub's commit, or the SHA-256 of the folder's files; with an
        adapter also whether it is loaded."""
        files = {"revision": self.revision} if self.revision else {"sha256": folder_hash(self.folder)}
        adapter = adapters.state(self.folder)
        return files if adapter is None else {**files, "adapter": adapter}


def checked_folder(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself. Raises RequestError if its configuration or weights are missing or cannot be read."""
    folder = checkpoint.folder
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        adapters.refuse_alone(checkpoint.name, folder)
        raise RequestError(
            f"--model {checkpoint.name!r}: the folder has no config.json; give a model's own folder"
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(
            f"--model {checkpoint.name!r}: its config.json cannot be read ({error}); fetch the model again"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise RequestError(
            f"--model {checkpoint.name!r}: its config.json names no model_type; give a model in transformers' layout"
        )
    if missing := missing_weights(folder):
        if missing[0] not in adapters.WEIGHTS:
            adapters.refuse_alone(checkpoint.name, folder)
        pickled = (
            "; weights pickled in .bin files are not loaded, convert them to safetensors"
            if any(folder.glob("*.bin"))
            else ""
        )
        raise RequestError(
            f"--model {checkpoint.name!r}: its folder has no {missing[0]}{pickled or '; fetch the model again'}"
        )
    for file in weight_files(folder):
        check_header(checkpoint.name, file)
    return checkpoint


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the checkpoint should have, existing or not."""
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        try:
            shards = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise RequestError(f"{INDEX} in {str(folder)!r} cannot be read ({error}); fetch the model again") from None
        return [folder / shard for shard in sorted(shards)]
    return [folder / WEIGHTS]


def missing_weights(folder: Path) -> list[str]:
    """Names of the weight files that are missing, the adapter's last."""
    return [file.name for file in weight_files(folder) if not file.is_file()] + adapters.missing(folder)


def check_header(name: str, file: Path) -> None:
    """Raise RequestError for a file that is cut off or not safetensors; only its header is read."""
    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise RequestError(f"--model {name!r}: {file.name} cannot be read ({error}); fetch it again") from None


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that transformers may read in a folder: configurations,
    tokenizer, templates, code, weights and adapters. Hidden files, and results that were written there, are left
    out."""
    total = hashlib.sha256()
    for file in identifying_files(folder):
        with open(file, "rb") as stream:
            total.update(f"{file.relative_to(folder).as_posix()}\0{_digest(stream)}\n".encode())
    return total.hexdigest()


def identifying_files(folder: Path) -> list[Path]:
    """The files that a folder's hash covers, in order."""
    weights = {file.name for file in weight_files(folder)}
    own = [file for file in folder.iterdir() if file.name in weights or is_identifying(file.name)]
    return sorted(file for file in [*own, *(folder / TEMPLATES).glob("*.jinja")] if file.is_file())


def is_identifying(name: str) -> bool:
    """Whether transformers may read a file of this name beside the weights."""
    return bool(IDENTIFYING.fullmatch(name)) and not name.startswith(".") and not RESULT_FILE.fullmatch(name)


def _digest(stream: Any) -> str:
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    return digest.hexdigest()
