"""What the viewer draws, in a real Chromium: the colour of every cell against the table."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from browser import Viewer
from viewing import NEAR, PALETTES, STEPS, agrees, assert_drawn, colours, matrix, shares, written

# Colour


@pytest.mark.parametrize("curve", ["linear", "sqrt"])
@pytest.mark.parametrize("name", PALETTES)
def test_intensity_per_layer(key, table, curve, name):
    key.select("Curve", curve)
    key.select("Palette", name)
    assert_drawn(key, shares(matrix(table), curve=np.sqrt if curve == "sqrt" else lambda share: share), name)


def test_intensity_per_picture(key, table):
    key.select("Curve", "linear")
    key.select("Intensity", "picture")
    values = matrix(table)
    assert_drawn(key, shares(values, top=values[:, 1:].max(), curve=lambda share: share))


def test_intensity_across_steps(key, table):
    """With the run file's maxima every step has the same scale."""
    key.select("Curve", "linear")
    key.select("Intensity", "steps")
    tops = np.max([matrix(table, step)[:, 1:].max(axis=1) for step in range(STEPS)], axis=0)
    for step in range(STEPS):
        key.step(step)
        assert_drawn(key, shares(matrix(table, step), top=tops[:, None], curve=lambda share: share))


def test_the_logarithmic_curve_starts_at_zero_and_rises(viewer, tmp_path):
    values = np.array([[9, 0, 1e-4, 1e-3, 1e-2, 0.1, 1, 10]], np.float32)
    viewer.choose(written(tmp_path, "csv", "abcdefgh", values))
    viewer.select("Curve", "log")
    drawn = viewer.cells(1, 8)[0, 1:]
    np.testing.assert_allclose(drawn[[0, -1]], colours(np.array([0.0, 1.0])), atol=NEAR)
    brightness = drawn @ [0.3, 0.6, 0.1]
    assert (np.diff(brightness) > 2).all()
    viewer.select("Curve", "sqrt")
    assert (brightness[1:-1] >= viewer.cells(1, 8)[0, 2:-1] @ [0.3, 0.6, 0.1]).all()


def test_all_equal_is_all_bright_and_zero_is_all_dark(viewer, tmp_path):
    viewer.choose(written(tmp_path, "csv", "abc", [[5, 5, 5], [0, 0, 0]]))
    drawn = viewer.cells(2, 3)[:, 1:]
    np.testing.assert_allclose(drawn, colours(np.array([[1.0, 1.0], [0, 0]])), atol=NEAR)


def test_the_relative_distance_is_of_the_baselines_norm(key, run, table):
    key.select("Metric", "relative")
    norms = np.array(
        json.loads((run / "key_run.json").read_text(encoding="utf-8"))["steps"][0]["baseline_norm"]["Full"]
    )
    agrees(key, matrix(table) / norms[:, None])


def test_without_a_run_file_there_is_no_relative_distance(viewer, run):
    viewer.choose(run / "key_results.csv")
    relative = viewer.page.get_by_label("Metric", exact=True).locator("option[value=relative]")
    assert relative.count() == 0 or relative.is_disabled()


def test_cells_at_the_noise_floor_are_flat(viewer, run, table, tmp_path):
    """A floor raised above half of a layer's distances makes these one colour, and leaves the others."""
    record = json.loads((run / "key_run.json").read_text(encoding="utf-8"))
    values = matrix(table)
    floor = float(np.median(values[1, 1:]))
    record["steps"][0]["noise_floor_l2"]["Full"][1] = floor
    (tmp_path / "key_run.json").write_text(json.dumps(record), encoding="utf-8")
    viewer.choose(run / "key_results.csv", tmp_path / "key_run.json")
    drawn, flat = viewer.cells(*values.shape)[1, 1:], values[1, 1:] <= floor
    assert flat.sum() > 3 and len(np.unique(drawn[flat], axis=0)) == 1
    np.testing.assert_allclose(drawn[~flat], colours(shares(values))[1][~flat], atol=NEAR)
    assert "floor" in viewer.hover(1, int(np.flatnonzero(flat)[0]) + 1)["text"]


def test_position_0_is_hatched_and_left_out_of_the_scale(viewer, tmp_path):
    values = np.array([[40, 1, 2, 3], [0.5, 4, 1, 0]], np.float32)
    viewer.choose(written(tmp_path, "csv", "abcd", values))
    assert viewer.page.get_by_label("Exclude position 0", exact=True).is_checked()
    assert_drawn(viewer, shares(values))
    x, y = viewer.centre(0, 0)
    hatched = viewer.colours([(x + dx, y + dy) for dx in range(-5, 6) for dy in range(-5, 6)])
    assert len(np.unique(hatched, axis=0)) > 1
    agrees(viewer, values, places=[(0, 0), (1, 0)])
    viewer.check("Exclude position 0", False)
    drawn = viewer.cells(*values.shape)
    np.testing.assert_allclose(drawn, colours(np.sqrt(values / values.max(axis=1, keepdims=True))), atol=NEAR)


WAYS = {
    "a click with Shift on its cell": lambda viewer: viewer.click(0, 3, modifiers=["Shift"]),
    "a click on its label": lambda viewer: viewer.at("heatmap").locator(".token-label[data-index='3']").first.click(),
    "a key on its cell": lambda viewer: (viewer.hover(0, 3), viewer.at("cells").focus(), viewer.press("x")),
}


@pytest.mark.parametrize("way", WAYS)
def test_any_position_is_left_out_and_taken_in_again(viewer, tmp_path, way):
    """Without its strongest token the layer's scale ends at the next one."""
    values = np.array([[9, 1, 2, 3], [9, 4, 1, 0]], np.float32)
    viewer.choose(written(tmp_path, "csv", "abcd", values))
    WAYS[way](viewer)
    viewer.settle()
    found = viewer.cells(2, 4)[:, [1, 2]]
    np.testing.assert_allclose(found, colours(np.sqrt(values[:, [1, 2]] / [[2], [4]])), atol=NEAR)
    WAYS[way](viewer)
    viewer.settle()
    assert_drawn(viewer, shares(values))


def test_what_is_seen_is_the_canvas(key, table):
    """A picture of the screen has the colours that the canvas holds: nothing lies over it."""
    values = matrix(table)
    box = key.at("cells").bounding_box()
    key.page.mouse.move(2, 2)
    (row, col) = (1, int(values[1, 1:].argmax()) + 1)
    x, y = key.centre(row, col)
    clip = {"x": box["x"] + x, "y": box["y"] + y, "width": 1, "height": 1}
    assert pixel(key.page.screenshot(clip=clip)) == pytest.approx(colours(np.array(1.0)), abs=NEAR)


def pixel(picture):
    """The first pixel's colour of a PNG."""
    import zlib

    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, data = 8, b""
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        data += picture[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return tuple(zlib.decompress(data)[1:4])


# Size and sharpness


def test_sharp_at_two_pixels_for_one(a_browser, run, table):
    context = a_browser.new_context(device_scale_factor=2, viewport={"width": 1280, "height": 900})
    sharp = Viewer(context.new_page())
    sharp.choose(run / "key_results.csv")
    canvas = sharp.at("cells").evaluate("one => [one.width, one.getBoundingClientRect().width]")
    assert canvas[0] == pytest.approx(2 * canvas[1], abs=2)
    assert_drawn(sharp, shares(matrix(table)))
    assert sharp.foreign() == sharp.complaints == []
    context.close()


def test_of_a_long_text_only_what_is_in_view_is_drawn(viewer, tmp_path):
    values = np.arange(2 * 9000, dtype=np.float32).reshape(2, -1)
    viewer.choose(written(tmp_path, "csv", [f" t{place}" for place in range(9000)], values))
    width = viewer.at("cells").evaluate("one => one.width")
    assert viewer.heatmap()["cols"] == 9000 and width <= 1280
    assert viewer.at("heatmap").locator(".token-label").count() < 500
    assert float(viewer.hover(1, 8765)["value"]) == values[1, 8765]
    before = viewer.heatmap()["cell"]
    viewer.page.get_by_role("button", name="Whole").click()
    viewer.settle()
    assert viewer.heatmap()["cell"] < before / 2
