"""Downloads from the hub; only here is the network used."""

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
    """Whether a name must be meant as a path: hub names are `name` or `owner/name`."""
    return bool(re.match(r"[./~]|[A-Za-z]:", name)) or "\\" in name or name.count("/") > 1


def cached(name: str, revision: str | None, code: bool) -> Checkpoint | None:
    """The model in the local cache, or None if it is missing or incomplete there."""
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
        # By the revision's name, not its commit, so that the cache knows the name next time.
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=patterns)
        folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
    return Checkpoint(name, folder, name, folder.name, code)


def refuse_adapter_of_hub(name: str, revision: str | None, files: Collection[str]) -> None:
    """Raise RequestError if these files of a repository are an adapter's; only its configuration is fetched."""
    if adapters.CONFIG in files:
        fetch = lambda: snapshot_download(name, revision=revision, allow_patterns=[adapters.CONFIG])
        with hub_bars(shown=False):
            folder = Path(ask_hub(name, revision, fetch, SMALL_FILES_SECONDS))
        adapters.refuse_alone(name, folder)


@contextmanager
def hub_bars(shown: bool) -> Iterator[None]:
    """Show the hub's own progress bars inside, or hide them."""
    hidden = are_progress_bars_disabled()
    if not shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if not shown and not hidden:
            enable_progress_bars()


def ask_hub(name: str, revision: str | None, ask: Callable[[], Any], seconds: float | None) -> Any:
    """The hub's answer, within `seconds`. Raises RequestError, one line, if it refuses or cannot be reached, RunError
    if its files cannot be stored."""
    answer: dict[str, Any] = {}

    def run() -> None:
        try:
            answer["value"] = ask()
        except Exception as error:  # raised in the caller's thread
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
    """One line for an error of the hub or of the connection to it."""
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
