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
    return {path.name: path.read_bytes() for path in Path(folder).glob("*_results.*") if path.suffix != ".parquet"}


def parts(name="x"):
    return sorted(path.name for path in Path("output/.partial", name).glob("step_*"))
