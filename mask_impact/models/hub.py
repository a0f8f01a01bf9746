"""The hub: the network is touched here and nowhere else."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, errors, snapshot_download
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from mask_impact.base.errors import RequestError, RunError
from mask_impact.models import adapters
from mask_impact.models.checkpoint_files import INDEX, WEIGHTS, Checkpoint, checked_folder, missing_weights

SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]


HUB_SECONDS = 3.5  # for the first answer; small files and weights may take longer


SMALL_FILES_SECONDS = 600.0


USE_DEMO = "--model demo needs no network"


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)


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
    info = ask_hub(
        name, revision, lambda: HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS), HUB_SECONDS
    )
    files = {sibling.rfilename for sibling in info.siblings or ()}
    if not files & {WEIGHTS, INDEX}:
        refuse_adapter_of_hub(name, revision, files)
        raise RequestError(
            f"--model {name!r} has no weights in safetensors ({WEIGHTS}); "
            "choose another model, or a --revision that has"
        )
    patterns = [*SMALL_FILES, "*.py"] if code else SMALL_FILES
    with hub_bars(shown=False):
        # By the name of the revision, not by its commit:
        # only so does the cache know next time what that name stands for.
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=patterns)
        folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
    return Checkpoint(name, folder, name, folder.name, code)


def refuse_adapter_of_hub(name: str, revision: str | None, files: Collection[str]) -> None:
    """Raise RequestError for a repository, of these files, that holds an adapter;
    its configuration alone is fetched."""
    if adapters.CONFIG in files:
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=[adapters.CONFIG])
        with hub_bars(shown=False):
            folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
        adapters.refuse_alone(name, folder)


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
    """What the hub answers, within `seconds`. Raises RequestError, one line, if it refuses or cannot be reached;
    RunError if what it sends cannot be stored."""
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
        raise RunError(
            f"--model {name!r} could not be stored ({error.strerror}); make room in the hub's cache folder, or mend it"
        )
    raise RequestError(hub_fault(name, revision, error))


def hub_fault(name: str, revision: str | None, error: Exception) -> str:
    """One line for what the hub, or the way to it, answered."""
    if isinstance(error, errors.GatedRepoError):
        return (
            f"--model {name!r} is gated: ask for access on its page of the hub and log in (`hf auth login`); {USE_DEMO}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"--model {name!r} was not found on the hub (or is private); check the spelling; {USE_DEMO}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"--revision {revision!r} of {name!r} was not found on the hub; give a branch, tag or commit that it has"
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return (
        f"--model {name!r} is neither a folder nor in the local cache, and the hub cannot be reached "
        f"({reason[0][:120]}); {USE_DEMO}"
    )
