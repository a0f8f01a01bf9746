"""Files that come along with the code: the viewer's page and the demo models."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def package_data(name: str) -> Path:
    """Where a file or folder of the repository's root lies:
    there in a checkout, in the package's `data` once it is installed."""
    installed = PACKAGE / "data"
    return (installed if installed.is_dir() else PACKAGE.parent) / name
