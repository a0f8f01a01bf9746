"""What stands on the page can be read: labels keep apart and are whole, nothing stays behind that is over."""

from __future__ import annotations

import numpy as np
import pytest
from viewing import written

# For each axis its labels' middles in order along it, and the font's size.
LABELS = """() => [...document.querySelectorAll("[data-testid=heatmap] .axis")].map((axis) => {
  const across = axis.matches(".axis-top, .axis-bottom");
  const middles = [...axis.querySelectorAll(".label:not([hidden])")].map((label) => {
    const box = label.getBoundingClientRect();
    return across ? box.left + box.width / 2 : box.top + box.height / 2;
  });
  return [parseFloat(getComputedStyle(axis).fontSize), middles.sort((a, b) => a - b)];
})"""
# How far the texts in the corners reach beyond their corner, or beyond the heatmap.
BEYOND = """() => Math.max(...[...document.querySelectorAll("[data-testid=heatmap] .corner")].flatMap((corner) => {
  const range = document.createRange();
  range.selectNodeContents(corner);
  const text = range.getBoundingClientRect();
  if (!text.width) return [];
  return [corner, corner.closest(".heatmap")].map((one) => one.getBoundingClientRect()).flatMap((box) =>
    [box.left - text.left, text.right - box.right, box.top - text.top, text.bottom - box.bottom]);
}))"""


@pytest.fixture
def key(viewer, run):
    """The viewer with a real run and its run file."""
    viewer.choose(run / "key_results.csv", run / "key_run.json")
    return viewer


@pytest.mark.parametrize("transposed", [False, True])
def test_at_every_size_labels_keep_apart_and_corners_are_whole(viewer, tmp_path, transposed):
    values = np.random.default_rng(3).random((64, 70))
    viewer.choose(written(tmp_path, "csv", [f" t{place}" for place in range(70)], values))
    viewer.check("Tokens as rows", transposed)
    sizes = set()
    for key in [*"+" * 9, *"-" * 20]:
        viewer.press(key)
        sizes.add(viewer.heatmap()["cell"])
        for size, middles in viewer.page.evaluate(LABELS):
            assert np.diff(middles).min(initial=1e9) >= size + 1.9, (viewer.heatmap()["cell"], size)
        assert viewer.page.evaluate(BEYOND) <= 0, viewer.heatmap()["cell"]
    assert {1, 5, 64} <= sizes


def test_the_chosen_metric_is_read_whole(key):
    key.select("Metric", "relative")
    wide, needed = key.page.get_by_label("Metric", exact=True).evaluate(
        """(select) => {
             const copy = select.cloneNode(true);
             copy.style.maxWidth = "none";
             select.after(copy);
             const widths = [select.offsetWidth, copy.offsetWidth];
             copy.remove();
             return widths;
           }"""
    )
    assert wide == needed


@pytest.mark.parametrize("width", [1280, 820, 480])
def test_the_profiles_numbers_are_at_least_10_pixels(key, width):
    key.page.set_viewport_size({"width": width, "height": 900})
    key.click(1, 5)
    scale = (
        key.at("profile")
        .locator("svg.chart")
        .evaluate("svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width")
    )
    size = (
        key.at("profile").locator(".chart text").first.evaluate("text => parseFloat(getComputedStyle(text).fontSize)")
    )
    assert 10 <= scale * size <= 16


def test_the_step_is_told_with_the_last_one(key):
    key.step(1)
    assert key.page.locator("#step-number").inner_text() == "1 (last: 2)"


def test_the_strongest_cell_is_shown_with_a_click(viewer, tmp_path):
    """Of 2,000 tokens it is far to the right of what is in sight."""
    values = np.random.default_rng(4).random((3, 2000))
    values[1, 1900] = 9
    viewer.choose(written(tmp_path, "csv", [f" t{place}" for place in range(2000)], values))
    labels = viewer.at("heatmap").locator(".label", has_text="t1900")
    assert labels.count() == 0
    viewer.at("lead").get_by_role("button", name="·t1900").click()
    labels.first.wait_for(timeout=5000)
    assert viewer.at("text").locator(".pinned").inner_text().strip() == "t1900"
