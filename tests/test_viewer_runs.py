"""Several files at once: the list of runs, what is said of files that are none, and comparing runs."""

from __future__ import annotations

import pytest
from browser import Viewer, a_browser, viewer  # noqa: F401

import mask_impact_analysis

PROMPTS = {"akey": "The key is in the", "coin": "Anna put the coin in the bag. The coin is in the", "coin3": "Anna put the coin in the bag. The coin is in the"}
FOREIGN = "name,price\na,1\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with three runs of the demo model; `coin` and `coin3` have the same prompt."""
    folder = tmp_path_factory.mktemp("runs")
    for name, prompt in PROMPTS.items():
        code = mask_impact_analysis.main(["--model", "demo", "--prompt", prompt, "--num-tokens", "3" if name == "coin3" else "2", "--output", name,
                                          "--formats", "csv", "--output-dir", str(folder), "--quiet"])
        assert code == 0
    return folder


def open_runs(viewer: Viewer, runs) -> None:
    viewer.choose(*sorted(runs.iterdir()))
    assert sorted(viewer.runs()) == sorted(PROMPTS) and viewer.errors() == []


def go(viewer: Viewer, name: str) -> None:
    """Click on a run of the list."""
    viewer.at("runs").get_by_role("button", name=name, exact=True).click()
    viewer.settle()


def listed(viewer: Viewer, name: str) -> str:
    """All that stands in the list beside a run's name."""
    return viewer.at("runs").locator("li").filter(has=viewer.page.get_by_role("button", name=name, exact=True)).inner_text()


# Files that cannot be read

def test_a_run_that_could_not_be_read_is_marked_until_it_can(viewer, runs, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text(FOREIGN)
    viewer.choose(bad, runs / "coin_results.csv", runs / "coin_run.json")
    assert "could not be read" in listed(viewer, "bad") and "could not be read" not in listed(viewer, "coin")
    bad.write_bytes((runs / "coin_results.csv").read_bytes())
    viewer.choose(bad)
    assert "could not be read" not in listed(viewer, "bad")


def test_messages_go_one_by_one_or_all_together(viewer, tmp_path):
    paths = [tmp_path / f"bad{number}.csv" for number in range(3)]
    for path in paths:
        path.write_text(FOREIGN)
    viewer.choose(paths[0])
    viewer.page.wait_for_function("() => document.querySelectorAll('[role=alert]').length === 1")
    everything = viewer.page.get_by_role("button", name="Dismiss all")
    assert everything.count() == 0
    viewer.choose(*paths)
    viewer.page.wait_for_function("() => document.querySelectorAll('[role=alert]').length === 3")
    assert everything.inner_text() == "Dismiss all 3 messages"
    viewer.page.get_by_role("button", name="Dismiss this message").first.click()
    assert everything.inner_text() == "Dismiss all 2 messages" and len(viewer.errors()) == 2
    everything.click()
    assert viewer.errors() == [] and everything.count() == 0


def test_every_file_that_is_not_used_is_named_in_one_line(viewer, runs, tmp_path):
    (tmp_path / "bad.csv").write_text(FOREIGN)
    for name in ("notes.txt", "plot.png"):
        (tmp_path / name).write_text("something else")
    viewer.choose(*tmp_path.iterdir(), *runs.glob("coin_*"))
    viewer.page.wait_for_function("() => document.querySelectorAll('[role=alert]').length === 2")
    [line] = [said for said in viewer.errors() if "notes.txt" in said]
    assert "plot.png" in line and "not used" in line and "bad" not in line
    assert viewer.heatmap()["state"] == "drawn"
