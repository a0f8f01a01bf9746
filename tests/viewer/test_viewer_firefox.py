"""One look at the page in Firefox: it opens a run from the disk, and says and draws what the table holds."""

from __future__ import annotations

import json
import subprocess

import browser
import pytest
from repository import ROOT

import mask_impact_analysis
from mask_impact import read_results


def test_firefox_opens_a_run(tmp_path):
    node, firefox = browser.needs_node(), browser.program("firefox-esr", "firefox")
    browser.needs("Firefox", firefox, "apt-get install firefox-esr")
    code = mask_impact_analysis.main(
        [
            "--model",
            "demo",
            "--prompt",
            "The coin is in the blue bag. The coin is in the",
            "--output",
            "fox",
            "--output-dir",
            str(tmp_path),
            "--quiet",
        ]
    )
    assert code == 0
    table = read_results(tmp_path / "fox_results.json")
    row = 1
    full = table[(table.variant == "Full") & (table.layer == row)].l2_distance.to_numpy()
    col = full[1:].argmax() + 1
    files = [str(tmp_path / name) for name in ("fox_results.json", "fox_run.json")]
    done = subprocess.run(
        [node, "tests/firefox.mjs", firefox, browser.PAGE.as_uri(), str(row), str(col), *files],
        cwd=ROOT / "viewer",
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert seen["errors"] == seen["complaints"] == [] and seen["runs"] == ["fox"]
    assert [
        url for url in seen["requests"] if not url.startswith(("blob:", "data:")) and url != browser.PAGE.as_uri()
    ] == []
    assert float(seen["tooltip"]["value"]) == pytest.approx(full[col], rel=2e-7)
    # The brightest cell of its layer beside position 0 has viridis' last colour.
    assert seen["cell"] == pytest.approx([253, 231, 37], abs=3)
