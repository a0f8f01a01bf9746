"""From a model's name to a folder with its files, and what identifies them. The network is touched here and nowhere else.

    checkpoint = find_checkpoint("Qwen/Qwen3-0.6B")     # configuration and tokenizer, from the cache or the hub
    checkpoint = with_weights(checkpoint)               # and the weights

A model of the hub that is in the local cache is used as it is, without asking the hub.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, errors, snapshot_download
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError, safe_open

from mask_impact import adapters
from mask_impact.errors import RequestError, RunError
from mask_impact.names import RESULT_FILE

DEMO = Path(__file__).resolve().parent.parent / "demo"
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
HUB_SECONDS = 3.5  # for the first answer; small files and weights may take longer
SMALL_FILES_SECONDS = 600.0
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
USE_DEMO = "--model demo needs no network"
# What a folder's hash covers beside the weights: whatever transformers may read of it.
IDENTIFYING = re.compile(
    r"(tokenizer|vocab|merges|chat_template)[^.]*\..*|adapter_model.*|.+\.(json|txt|model|jinja|py|tiktoken|spm|bpe|codes|tokenizer|vocab)")
TEMPLATES = "additional_chat_templates"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)


@dataclass(frozen=True)
class Checkpoint:
    """A model's files: `name` as given, `folder` where they lie, `repository` and `revision` (commit) if it is the hub's."""

    name: str
    folder: Path
    repository: str | None = None
    revision: str | None = None
    code: bool = False

    @cached_property
    def identity(self) -> dict[str, str]:
        """What tells this checkpoint from any other: the hub's commit, or the SHA-256 of the folder's files; and whether the
        adapter in it is loaded, where there is one."""
        files = {"revision": self.revision} if self.revision else {"sha256": folder_hash(self.folder)}
        adapter = adapters.state(self.folder)
        return files if adapter is None else {**files, "adapter": adapter}


def find_checkpoint(name: str, revision: str | None = None, code: bool = False, demo: str = "text") -> Checkpoint:
    """The checkpoint's configuration and tokenizer, and its weights if they are at hand. `demo` is the kind
    of model that `--model demo` stands for.

    Raises RequestError, by name, for a path that is no folder, a model that is not there or closed, a hub out of reach.
    """
    path = DEMO / demo / "model" if name == "demo" else Path(os.path.expanduser(name))
    if name == "demo" and not path.is_dir():
        raise RequestError(f"--model demo: there is no {str(path)!r}; fetch the repository again, or train it: python -m demo.{demo}.train")
    if os.path.isdir(path):  # unlike Path's own, it takes a name that is too long for one that is not there
        if revision is not None:
            raise RequestError(f"--revision {revision!r} does not go with the folder {name!r}; leave it out")
        return checked_folder(Checkpoint(name, path))
    if looks_like_path(name) or os.path.exists(path):
        raise RequestError(f"--model {name!r} is no folder; give a folder with config.json and model.safetensors, or a hub name")
    return cached(name, revision, code) or from_hub(name, revision, code)


def looks_like_path(name: str) -> bool:
    """Whether a name that is no folder can only have been meant as one: hub names are `name` or `owner/name`."""
    return bool(re.match(r"[./~]|[A-Za-z]:", name)) or "\\" in name or name.count("/") > 1


def cached(name: str, revision: str | None, code: bool) -> Checkpoint | None:
    """The model in the local cache, or None if it is not there whole."""
    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except errors.HFValidationError as error:
        raise RequestError(f"--model {name!r} is neither a folder nor a possible hub name ({error})") from None
    except OSError:
        return None
    whole = (folder / "config.json").is_file() and not missing_weights(folder)
    return checked_folder(Checkpoint(name, folder, name, folder.name, code)) if whole else None


def from_hub(name: str, revision: str | None, code: bool) -> Checkpoint:
    """The model's small files, fetched from the hub."""
    info = ask_hub(name, revision, lambda: HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS), HUB_SECONDS)
    files = {sibling.rfilename for sibling in info.siblings or ()}
    if not files & {WEIGHTS, INDEX}:
        refuse_adapter_of_hub(name, revision, files)
        raise RequestError(f"--model {name!r} has no weights in safetensors ({WEIGHTS}); choose another model, or a --revision that has")
    patterns = [*SMALL_FILES, "*.py"] if code else SMALL_FILES
    with hub_bars(shown=False):
        # By the name of the revision, not by its commit: only so does the cache know next time what that name stands for.
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=patterns)  # noqa: E731
        folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
    return Checkpoint(name, folder, name, folder.name, code)


def refuse_adapter_of_hub(name: str, revision: str | None, files: Collection[str]) -> None:
    """Raise RequestError for a repository, of these files, that holds an adapter; its configuration alone is fetched."""
    if adapters.CONFIG in files:
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=[adapters.CONFIG])  # noqa: E731
        with hub_bars(shown=False):
            folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
        adapters.refuse_alone(name, folder)


def with_weights(checkpoint: Checkpoint, quiet: bool = True) -> Checkpoint:
    """The same checkpoint with its weights in the folder; only a model of the hub can lack them."""
    if checkpoint.repository is None or not missing_weights(checkpoint.folder):
        return checkpoint
    patterns = [*SMALL_FILES, *missing_weights(checkpoint.folder), *adapters.WEIGHTS] + ["*.py"] * checkpoint.code
    with hub_bars(shown=not quiet):
        fetch = lambda: snapshot_download(checkpoint.repository, revision=checkpoint.revision, allow_patterns=patterns)  # noqa: E731
        folder = ask_hub(checkpoint.name, checkpoint.revision, fetch, seconds=None)
    return checked_folder(replace(checkpoint, folder=Path(folder)))


@contextmanager
def hub_bars(shown: bool) -> Iterator[None]:
    """Show the hub's own progress bars, or do not; as before on leaving."""
    hidden = are_progress_bars_disabled()
    if not shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if not shown and not hidden:
            enable_progress_bars()


def ask_hub(name: str, revision: str | None, ask: Callable[[], Any], seconds: float | None) -> Any:
    """What the hub answers, within `seconds`. Raises RequestError, one line, if it refuses or cannot be reached; RunError
    if what it sends cannot be stored."""
    answer: dict[str, Any] = {}

    def run() -> None:
        try:
            answer["value"] = ask()
        except Exception as error:  # handed to the caller's thread, which sorts it
            answer["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if "value" in answer:
        return answer["value"]
    error = answer.get("error", TimeoutError(f"no answer in {seconds:g} seconds"))
    if getattr(error, "errno", None) in DISK_ERRORS:
        raise RunError(f"--model {name!r} could not be stored ({error.strerror}); make room in the hub's cache folder, or mend it")
    raise RequestError(hub_fault(name, revision, error))


def hub_fault(name: str, revision: str | None, error: Exception) -> str:
    """One line for what the hub, or the way to it, answered."""
    if isinstance(error, errors.GatedRepoError):
        return f"--model {name!r} is gated: ask for access on its page of the hub and log in (`hf auth login`); {USE_DEMO}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"--model {name!r} was not found on the hub (or is private); check the spelling; {USE_DEMO}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"--revision {revision!r} of {name!r} was not found on the hub; give a branch, tag or commit that it has"
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return f"--model {name!r} is neither a folder nor in the local cache, and the hub cannot be reached ({reason[0][:120]}); {USE_DEMO}"


def checked_folder(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, if its configuration and weights are there and can be read; RequestError otherwise."""
    folder = checkpoint.folder
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        adapters.refuse_alone(checkpoint.name, folder)
        raise RequestError(f"--model {checkpoint.name!r}: the folder has no config.json; give a model's own folder") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"--model {checkpoint.name!r}: its config.json cannot be read ({error}); fetch the model again") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise RequestError(f"--model {checkpoint.name!r}: its config.json names no model_type; give a model in transformers' layout")
    if missing := missing_weights(folder):
        if missing[0] not in adapters.WEIGHTS:
            adapters.refuse_alone(checkpoint.name, folder)
        pickled = "; weights pickled in .bin files are not loaded, convert them to safetensors" if any(folder.glob("*.bin")) else ""
        raise RequestError(f"--model {checkpoint.name!r}: its folder has no {missing[0]}{pickled or '; fetch the model again'}")
    for file in weight_files(folder):
        check_header(checkpoint.name, file)
    return checkpoint


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files the checkpoint is made of, there or not."""
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        try:
            shards = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise RequestError(f"{INDEX} in {str(folder)!r} cannot be read ({error}); fetch the model again") from None
        return [folder / shard for shard in sorted(shards)]
    return [folder / WEIGHTS]


def missing_weights(folder: Path) -> list[str]:
    """Names of the weight files that are not there, the adapter's last."""
    return [file.name for file in weight_files(folder) if not file.is_file()] + adapters.missing(folder)


def check_header(name: str, file: Path) -> None:
    """Raise RequestError if a safetensors file is cut off or none at all; only its header is read."""
    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise RequestError(f"--model {name!r}: {file.name} cannot be read ({error}); fetch it again") from None


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of whatever transformers may read of a folder: configurations, tokenizer, templates,
    code, weights and adapters. Results that happen to be written there and hidden files are none of it."""
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
