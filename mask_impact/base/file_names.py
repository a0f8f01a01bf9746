"""Names of results as parts of file names: made from a prompt, checked for every system, compared without case."""

from __future__ import annotations

import re
import unicodedata

LONGEST_DERIVED = 40  # characters


LONGEST_GIVEN = 200  # bytes: file systems end at 255, and the endings need their share


RESERVED_PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}


RESERVED_NAMES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | RESERVED_PORTS


def name_key(name: str) -> str:
    """The form in which names are compared: one Unicode form, without case."""
    return unicodedata.normalize("NFC", name).casefold()


def check_name(name: str) -> str | None:
    """Why `name` cannot be part of a file name on every system, or None if it can."""
    if not name.strip():
        return "a name must not be empty"
    if bad := re.search(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:*?"<>|]', name):
        return f"a name must not contain {bad[0]!r}"
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        return "a name must not begin or end with a dot or a space"
    if name.split(".")[0].rstrip().lower() in RESERVED_NAMES:
        return "this name is reserved on Windows"
    if len(name.encode()) > LONGEST_GIVEN:
        return f"a name must not be longer than {LONGEST_GIVEN} bytes"
    return None


def derive_name(prompt: str) -> str:
    """The prompt's first words in `[a-z0-9_]`, at most 40 characters; `prompt` if none remain."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", plain)
    name = "_".join(words[:1])[:LONGEST_DERIVED]
    for word in words[1:]:
        if len(name) + 1 + len(word) > LONGEST_DERIVED:
            break
        name += "_" + word
    return f"prompt_{name}" if name in RESERVED_NAMES else name or "prompt"
