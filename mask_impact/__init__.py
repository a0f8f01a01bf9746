"""At which layer, through which head, does a model's next token depend on which earlier token?

    import mask_impact
    table = mask_impact.read_results("output/capital_results.csv")
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "read_results"]


def __getattr__(name: str) -> Any:
    """Import `read_results` on first use: the command line answers `--version` without pyarrow."""
    if name != "read_results":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mask_impact.reading import read_results

    return read_results


def __dir__() -> list[str]:
    return sorted([*globals(), "read_results"])
