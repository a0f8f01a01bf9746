"""What the viewer's tests share: a real run of the demo model, tables made up,
and their values and colours on the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mask_impact_analysis
from mask_impact import read_results
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_csv, write_json, write_parquet

PROMPT = "Anna put the key in the red box. The key is in the"
STEPS = 3
FORMS = ("csv", "json", "parquet")
# Every eighth colour and the last, from matplotlib.
PLACES = [*range(0, 256, 8), 255]
PALETTES = {
    "viridis": "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d"
    " 2f6b8e 2c728e 297a8e 26828e 23898e 21918c 1f988b 1fa088 22a785 28ae80 32b67a"
    " 3fbc73 4ec36b 5ec962 70cf57 84d44b 98d83e addc30 c2df23 d8e219 ece51b fde725",
    "cividis": "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d"
    " 5a5f6e 61656f 686a71 6f7073 767676 7d7c78 848279 8c8878 938e78 9b9476 a39a74"
    " aba072 b4a76f bcae6c c4b468 cdbb63 d5c25e dec958 e7d150 f0d846 f9e03a fee838",
}
# Straight lines between those colours leave the map by less than 5 of 255, and its steps are at most 4 wide.
NEAR = 9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a real run of the demo model in every format."""
    folder = tmp_path_factory.mktemp("run")
    code = mask_impact_analysis.main(
        [
            "--model",
            "demo",
            "--prompt",
            PROMPT,
            "--num-tokens",
            str(STEPS),
            "--output",
            "key",
            "--formats",
            ",".join(FORMS),
            "--output-dir",
            str(folder),
            "--quiet",
        ]
    )
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def table(run):
    return read_results(run / "key_results.parquet")


@pytest.fixture
def key(viewer, run):
    """The viewer with the real run and its run file."""
    viewer.choose(run / "key_results.csv", run / "key_run.json")
    return viewer


def saved(viewer, name):
    """The file that a button gives, and the name that it is given."""
    with viewer.page.expect_download() as download:
        viewer.page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()), download.value.suggested_filename


def matrix(table, step=0, variant="Full", column="l2_distance"):
    """One heatmap of the table: (layer, token)."""
    rows = table[(table.generation_step == step) & (table.variant == variant)]
    return rows.pivot(index="layer", columns="token_position", values=column).to_numpy()


def agrees(viewer, wanted, places=((0, 0), (1, 3), (2, 12), (2, 5))):
    """The page says the table's values at these cells, to the digits of float32 and of pandas' JSON (15 decimals)."""
    for row, col in places:
        found = viewer.hover(row, col)
        assert float(found["value"]) == pytest.approx(wanted[row, col], rel=2e-7, abs=1e-15), (row, col, found)


def written(folder, form, tokens, l2, steps=1, name="odd"):
    """A result of one variant made of these tokens and distances (layer, token), by the project's own writer."""
    l2 = np.asarray(l2, np.float32)
    made = ResultTable(list(tokens), [("Full", layer) for layer in range(len(l2))])
    made.steps.extend(StepDistances(step, l2, l2 / 2) for step in range(steps))
    path = folder / f"{name}_results.{form}"
    {"csv": write_csv, "json": write_json, "parquet": write_parquet}[form](made, path)
    return path


def colours(shares, palette="viridis"):
    """The colours of shares in [0, 1]: (..., 3)."""
    known = np.array([list(bytes.fromhex(text)) for text in PALETTES[palette].split()], float)
    return np.stack([np.interp(shares * 255, PLACES, known[:, band]) for band in range(3)], -1)


def shares(values, top=None, curve=np.sqrt):
    """Each distance's share of its layer's largest, or of `top`, position 0 left out, as the curve has it."""
    rest = values[:, 1:]
    top = np.nanmax(rest, axis=1, keepdims=True) if top is None else top
    return curve(rest / top)


def assert_drawn(viewer, wanted, palette="viridis"):
    """Every cell but position 0's has the colour of its share."""
    found = viewer.cells(len(wanted), wanted.shape[1] + 1)[:, 1:]
    np.testing.assert_allclose(found, colours(wanted, palette), atol=NEAR)
