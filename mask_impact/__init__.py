"""At which layer, through which head, does a model's next token depend on which earlier token?

import mask_impact
table = mask_impact.read_results("output/capital_results.csv")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
HOMES = {"read_results": "mask_impact.results.reading", "write_report": "mask_impact.results.report"}
__all__ = ["__version__", "read_results", "write_report"]


def __getattr__(name: str) -> Any:
    """Import a public function on first use: the command line answers `--version` without pyarrow."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
