"""Models of the hub, of its local cache, and of a hub that refuses, hangs or cannot be reached."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from fake_hub import SHA, Hub
from huggingface_hub import HfApi, errors
from running import files_in, record_of

from mask_impact.models import checkpoints
from mask_impact.models import hub as hub_files

pytestmark = pytest.mark.usefixtures("here")


def hub_error(kind):
    """One of the hub's errors, made as its client makes them."""
    response = SimpleNamespace(headers={}, request=None, status_code=403)
    return getattr(errors, kind)("403 Client Error\n\nTen\nmore\nlines", response=response)


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    hub = Hub(models / "llama", tmp_path / "store")
    monkeypatch.setattr(HfApi, "model_info", lambda *words, **options: hub.info(*words, **options))
    for module in (hub_files, checkpoints):
        monkeypatch.setattr(module, "snapshot_download", lambda *words, **options: hub.snapshot(*words, **options))
    return hub


def test_a_model_of_the_hub_is_fetched_in_two_goes(command, hub):
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 9)[0] == 2
    assert sorted(hub.fetched) == ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 0)[0] == 0
    assert hub.fetched[-1] == "model.safetensors" and len(hub.fetched) == 5
    run = record_of("p")
    assert run["model_identity"] == {"revision": SHA} and run["settings"]["model"] == "me/mine"


@pytest.mark.parametrize(
    "kind, part",
    [
        ("RepositoryNotFoundError", "--model 'me/mine' was not found on the hub (or is private); check the spelling"),
        ("GatedRepoError", "--model 'me/mine' is gated: ask for access on its page of the hub and log in"),
        (
            "RevisionNotFoundError",
            "--revision 'v2' of 'me/mine' was not found on the hub; give a branch, tag or commit",
        ),
        ("HfHubHTTPError", "and the hub cannot be reached (403 Client Error); --model demo needs no network"),
    ],
)
@pytest.mark.parametrize("call", ["info", "snapshot"])
def test_what_the_hub_refuses_is_one_line(kind, part, call, command, hub, monkeypatch, here):
    def refuse(*words, local_files_only=False, **options):
        raise errors.LocalEntryNotFoundError("not in the cache") if local_files_only else hub_error(kind)

    monkeypatch.setattr(hub, call, refuse)
    code, out, err = command("--model", "me/mine", "--revision", "v2", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, []) and part in err[0]


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(command, hub, monkeypatch):
    monkeypatch.setattr(
        hub,
        "info",
        lambda *_, **__: SimpleNamespace(sha=SHA, siblings=[SimpleNamespace(rfilename="pytorch_model.bin")]),
    )
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert (code, len(err), hub.fetched) == (2, 1, []) and "has no weights in safetensors" in err[0]


def test_a_hub_that_hangs_is_not_waited_for(command, hub, monkeypatch):
    monkeypatch.setattr(hub_files, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "info", lambda *_, **__: time.sleep(20))
    started = time.monotonic()
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert time.monotonic() - started < 3
    assert (code, len(err)) == (2, 1) and "the hub cannot be reached (no answer in" in err[0]


def test_a_full_disk_while_fetching_is_a_failure(command, hub, monkeypatch):
    def full(*words, local_files_only=False, **options):
        raise (
            errors.LocalEntryNotFoundError("x")
            if local_files_only
            else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        )

    monkeypatch.setattr(hub, "snapshot", full)
    code, _, err = command("--model", "me/mine", "--prompt", "P")
    assert code == 1 and err == [
        "error: --model 'me/mine' could not be stored (No space left on device); "
        "make room in the hub's cache folder, or mend it"
    ]


def test_a_model_in_the_local_cache_needs_no_network(command, models, tmp_path, monkeypatch):
    place = tmp_path / "cache" / "models--me--mine"
    snapshot = place / "snapshots" / SHA
    shutil.copytree(models / "llama", snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(SHA, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    calls = []
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *words, **options: calls.append(words) or (_ for _ in ()).throw(OSError())
    )
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 0)[0] == 0
    assert record_of("p")["model_identity"] == {"revision": SHA} and calls == []
    (snapshot / "model.safetensors").unlink()
    code, _, err = command("--model", "me/mine", "--prompt", "P", "--layers", 0)
    assert code == 2 and "the hub cannot be reached" in err[0] and calls != []


def test_offline_says_so(command, here):
    code, out, err = command("--model", "me/mine", "--prompt", "P")
    assert (code, out, len(err), files_in(here)) == (2, [], 1, [])
    assert (
        "neither a folder nor in the local cache, and the hub cannot be reached (" in err[0]
        and "--model demo" in err[0]
    )
