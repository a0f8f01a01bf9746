"""Files of the repository that are made from the settings: written again, or compared with what they should be."""

import sys
from pathlib import Path


def write(texts: dict[Path, str], words: list[str]) -> int:
    """Write each text to its file, in place of what is there; with the word `--check` only compare.
    Returns the exit code: 1 where a file is not what it should be."""
    stale = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    if words == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path.name} is not what the settings give: run `make guide` and commit it\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8", newline="\n")
        sys.stdout.write(f"wrote {path.name}\n")
    return 0
