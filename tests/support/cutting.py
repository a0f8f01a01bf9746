"""Runs for tests to cut off, and what is left of them."""

from pathlib import Path

from repository import ROOT

STORY = (
    "Anna put the key in the red box. Ben put the coin in the blue bag. The coin is in the",
    " blue bag. Anna put the",
)
TEXT = [
    "--model",
    "demo",
    "--prompt",
    STORY[0],
    "--continuation",
    STORY[1],
    "--output",
    "x",
    "--formats",
    "csv,json,parquet",
]
PICTURE = [
    "--model",
    "demo",
    "--image",
    ROOT / "testimg.png",
    "--prompt",
    "What color is the circle?",
    "--continuation",
    " red red red red",
    "--mask-mode",
    "both",
    "--output",
    "x",
]


class Killed(BaseException):
    """What no handler catches, as a killed process runs none."""


def tables(folder):
    """Tables of results and of knock-outs, but not in Parquet."""
    found = [*Path(folder).glob("*_results.*"), *Path(folder).glob("*_knockout.*")]
    return {path.name: path.read_bytes() for path in found if path.suffix != ".parquet"}


def parts(name="x"):
    return sorted(path.name for path in Path("output/.partial", name).glob("step_*"))
