"""What the viewer draws and what each control does, in a real Chromium: colours and values against the table."""

from __future__ import annotations

import csv
import json
import math
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from browser import Viewer, a_browser, viewer  # noqa: F401
from test_viewer_loading import STEPS, agrees, matrix, run, table, written  # noqa: F401

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


@pytest.fixture
def key(viewer, run):
    """The viewer with the real run and its run file."""
    viewer.choose(run / "key_results.csv", run / "key_run.json")
    return viewer


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
    norms = np.array(json.loads((run / "key_run.json").read_text(encoding="utf-8"))["steps"][0]["baseline_norm"]["Full"])
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
        length, kind = struct.unpack(">I4s", picture[at:at + 8])
        data += picture[at + 8:at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return tuple(zlib.decompress(data)[1:4])


# Controls

def test_every_variant_and_step(key, table):
    options = key.page.get_by_label("Variant", exact=True).locator("option").all_inner_texts()
    assert [text.strip() for text in options] == list(table.variant.unique())
    for step in range(STEPS):
        key.step(step)
        for variant in table.variant.unique():
            key.select("Variant", variant)
            agrees(key, matrix(table, step, variant), places=[(2, 4)])


def test_transposed(key, table):
    values = matrix(table)
    key.check("Tokens as rows", True)
    assert (key.heatmap()["rows"], key.heatmap()["cols"]) == values.T.shape
    agrees(key, values.T, places=[(3, 0), (12, 2)])
    found = key.cells(*values.T.shape)[1:]
    np.testing.assert_allclose(found, colours(shares(values)).transpose(1, 0, 2), atol=NEAR)


def test_the_text_has_every_token_and_the_likeliest_next(key, run, table):
    record = json.loads((run / "key_run.json").read_text(encoding="utf-8"))
    for step in (0, 2):
        key.step(step)
        tokens = key.at("text").locator("[data-token]")
        assert tokens.count() == matrix(table, step).shape[1]
        likeliest = key.at("top-tokens").inner_text()
        for token in record["steps"][step]["top"]:
            assert token["text"].strip() in likeliest


def test_hovering_a_word_marks_its_column_and_the_reverse(key):
    word = key.at("text").locator("[data-token='4']")
    word.hover()
    key.settle()
    said = key.at("tooltip").inner_text() + key.at("announce").inner_text()
    assert "4" in said
    before = word.evaluate("one => one.outerHTML")
    key.hover(1, 6)
    after = key.at("text").locator("[data-token='6']")
    assert after.evaluate("one => one.outerHTML") != before and after.get_attribute("class") != word.get_attribute("class")


def test_the_hovered_cell_is_announced(key, table):
    key.hover(1, 5)
    key.page.wait_for_function("() => document.querySelector('[data-testid=announce]').textContent.includes('5')")
    said = key.at("announce").inner_text()
    assert "1" in said and f"{matrix(table)[1, 5]:.3g}"[:4] in said


def test_a_pinned_token_has_its_profile(key):
    key.click(1, 5)
    assert key.at("profile").locator("svg, canvas").count() >= 1
    key.click(1, 7)
    text = key.at("profile").inner_text()
    assert text.strip()


def test_all_heads_at_once_leads_to_a_head(key, table):
    key.click(1, 5)
    key.at("heads").locator("[data-layer='2'][data-head='1']").first.click()
    key.settle()
    assert key.page.get_by_label("Variant", exact=True).input_value() == "Head_1"


def test_the_top_list_is_the_tables(key, table):
    rows = key.at("top-list").locator("tbody tr")
    heads = table[(table.generation_step == 0) & table.variant.str.startswith("Head") & (table.token_position > 0)]
    strongest = heads.sort_values("l2_distance", ascending=False).iloc[0]
    first = rows.first.inner_text()
    assert str(strongest.layer) in first and strongest.variant.removeprefix("Head_") in first and strongest.token_masked.strip() in first
    rows.first.locator("a, button").first.click()
    key.settle()
    assert key.page.get_by_label("Variant", exact=True).input_value() == strongest.variant


def test_search_goes_from_match_to_match(key, table):
    tokens = list(table[(table.generation_step == 0) & (table.variant == "Full") & (table.layer == 0)].token_masked)
    matches = [place for place, token in enumerate(tokens) if "key" in token]
    assert len(matches) == 2
    key.page.get_by_label("Search", exact=True).fill("key")
    key.settle()
    key.page.get_by_role("button", name="Next match").click()
    key.settle()
    assert "2" in key.page.locator("body").inner_text()


def test_dark_and_light(key):
    background = "() => getComputedStyle(document.body).backgroundColor"
    found = {}
    for theme in ("light", "dark"):
        key.select("Theme", theme)
        found[theme] = key.page.evaluate(background)
    assert found["light"] != found["dark"]
    key.select("Theme", "auto")
    for theme in ("dark", "light"):
        key.page.emulate_media(color_scheme=theme)
        key.page.wait_for_function(f"(wanted) => ({background})() === wanted", arg=found[theme])


def test_the_keys(key):
    slider = key.page.get_by_label("Generation step", exact=True)
    key.at("cells").focus()
    key.press("?")
    assert key.page.get_by_role("dialog").is_visible()
    key.press("Escape")
    assert key.page.get_by_role("dialog").count() == 0
    before = key.heatmap()["cell"]
    key.press("+")
    assert key.heatmap()["cell"] > before
    key.press("-")
    assert key.heatmap()["cell"] == before
    slider.focus()
    key.press("ArrowRight")
    assert slider.input_value() == "1"


def test_play_runs_through_the_steps(key):
    slider = key.page.get_by_label("Generation step", exact=True)
    key.page.get_by_role("button", name="Play", exact=True).click()
    key.page.wait_for_function("(slider) => slider.value === '2'", arg=slider.element_handle())


def test_every_single_key_does_what_its_control_does(key, table):
    key.page.locator("body").click(position={"x": 4, "y": 880})
    value = lambda label: key.page.get_by_label(label, exact=True).input_value()  # noqa: E731
    for press, label, found in (("v", "Variant", "Attn"), ("V", "Variant", "Full"), ("m", "Metric", "cosine"),
                                ("i", "Intensity", "picture"), ("ArrowRight", "Generation step", "1"), (",", "Generation step", "0")):
        key.press(press)
        assert value(label) == found, press
    curve = value("Curve")
    key.press("c")
    assert value("Curve") != curve
    key.press("e")
    assert not key.page.get_by_label("Exclude position 0", exact=True).is_checked()
    key.press("t")
    assert key.heatmap()["rows"] == matrix(table).shape[1]
    key.press("/")
    assert key.page.evaluate("() => document.activeElement.id") == "search"


def test_the_heatmap_by_keys_alone(key, table):
    key.at("cells").focus()
    for press in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        key.press(press)
    found = key.at("tooltip").evaluate("tip => ({...tip.dataset})")
    row, col = int(found["layer"]), int(found["position"])
    assert row >= 1 and col >= 1 and float(found["value"]) == pytest.approx(matrix(table)[row, col], rel=2e-7)
    assert key.at("profile").locator("svg").count() >= 1


def test_the_text_takes_one_layers_colours(key, table):
    key.select("Text layer", "1")
    strongest = int(matrix(table)[1, 1:].argmax()) + 1
    found = key.at("text").locator(f"[data-token='{strongest}']").evaluate("one => getComputedStyle(one).backgroundColor")
    assert found == "rgb(253, 231, 37)"


def test_a_link_to_the_state_is_copied_or_shown(key):
    key.page.get_by_role("button", name="Copy link", exact=True).click()
    key.page.wait_for_function("() => /link/i.test(document.querySelector('#export [role=status]').textContent)")
    assert key.page.get_by_label("Link to this state").input_value() == key.page.url


def test_the_state_is_in_the_address(key, run, table):
    key.select("Variant", "Head_2")
    key.select("Metric", "cosine")
    key.step(1)
    address = key.page.url
    assert "#" in address
    key.page.goto("about:blank")
    key.page.goto(address)
    key.choose(run / "key_results.csv", run / "key_run.json")
    agrees(key, matrix(table, 1, "Head_2", "cosine_distance"))


# Compare

def test_two_steps_as_a_difference(key, table):
    """This minus the other; 0 has the middle colour, and both signs stand apart from it."""
    first, second = matrix(table, 0), matrix(table, 1)
    key.select("Compare with", "step")
    key.select("Other step", "1")
    key.select("Compare as", "difference")
    wanted = first - second[:, :first.shape[1]]
    for row, col in ((0, 1), (1, 4), (2, 12)):
        assert float(key.hover(row, col)["value"]) == pytest.approx(wanted[row, col], rel=1e-5, abs=1e-7)
    assert "this minus the other" in key.at("legend").inner_text() and "symmetric about 0" in key.at("legend").inner_text()


def test_a_differences_colours_are_symmetric(viewer, tmp_path):
    """A token that is stronger here, as much weaker, and the same: two hues as far from the middle, and the middle."""
    written(tmp_path, "csv", "abcd", [[9, 3, 1, 2]], name="one")
    written(tmp_path, "csv", "abcd", [[9, 1, 3, 2]], name="two")
    viewer.choose(tmp_path / "one_results.csv", tmp_path / "two_results.csv")
    viewer.at("runs").get_by_role("button", name="one", exact=True).click()
    viewer.settle()
    viewer.select("Compare with", "run")
    viewer.select("Other run", "two")
    viewer.page.wait_for_function("() => document.querySelector('[data-testid=legend]').textContent.includes('minus')")
    viewer.settle()
    assert [float(viewer.hover(0, col)["value"]) for col in (1, 2, 3)] == [2, -2, 0]
    more, less, same = (viewer.cells(1, 4)[0, col].astype(float) for col in (1, 2, 3))
    light = [0.3, 0.6, 0.1]
    assert abs((more - less) @ light) < 60 and np.abs(more - less).max() > 80
    assert min(np.abs(more - same).max(), np.abs(less - same).max()) > 60


def test_two_variants_side_by_side(key, table):
    key.select("Compare with", "variant")
    key.page.get_by_label("Other variant", exact=True).select_option(label="Head_1")
    key.select("Compare as", "side")
    other = key.at("other-heatmap")
    assert other.is_visible() and other.get_attribute("data-state") == "drawn"
    agrees(key, matrix(table))
    key.select("Compare with", "")
    assert not other.is_visible()


# Images

def picture_run(folder):
    """Three words around one image of 2 x 3 patches, as a vision-language run writes it."""
    tokens = ["look", *(f"img0[{row},{col}]" for row in range(2) for col in range(3)), " here"]
    kinds = ["text", *["vision"] * 6, "text"]
    places = [(None, None, None), *((0, row, col) for row in range(2) for col in range(3)), (None, None, None)]
    rows = [(0, layer, token, position, "Full", 1 + position + layer, 0.1, kind, *place) for layer in range(2)
            for position, (token, kind, place) in enumerate(zip(tokens, kinds, places))]
    names = ["generation_step", "layer", "token_masked", "token_position", "variant", "l2_distance", "cosine_distance",
             "token_type", "image_index", "patch_row", "patch_col"]
    pd.DataFrame(rows, columns=names).astype({name: "Int64" for name in names[-3:]}).to_csv(folder / "photo_results.csv", index=False)
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    record = {"schema_version": 1, "status": "complete", "name": "photo", "layers": [0, 1], "variants": ["Full"], "steps": [],
              "images": [{"path": "C:\\\\pictures\\\\cat.png", "width": 96, "height": 64, "resized": [64, 96], "grid": [2, 3], "uri": f"data:image/png;base64,{dot}"}]}
    (folder / "photo_run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder / "photo_results.csv", folder / "photo_run.json"


def test_an_images_patches_are_coloured_and_linked(viewer, tmp_path):
    viewer.choose(*picture_run(tmp_path))
    image = viewer.at("image")
    assert image.count() == 1 and image.is_visible()
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    viewer.page.mouse.move(box["x"] + box["width"] * 5 / 6, box["y"] + box["height"] * 3 / 4)
    viewer.settle()
    assert viewer.at("tooltip").get_attribute("data-position") == "6"
    assert viewer.at("images").locator("figcaption").inner_text() == "Image 0: cat.png, 2 x 3 patches"
    assert viewer.at("text").locator("[data-token]").count() == 3


# A patch's pixels, red, green, blue and alpha, in its middle and in its frame.
PATCH = """(canvas, [row, col]) => {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const side = canvas.width / 3, pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return [side / 2, 1].map((inside) => [...pen.getImageData(col * side + inside, row * side + inside, 1, 1).data]);
}"""


def test_what_is_over_a_picture_grows_with_the_value(viewer, tmp_path):
    """Nothing at 0; the frame has the colour of its share of the strongest patch, as strong as that, the tint within a part of
    it. Words, here ten times as strong, have no part in it."""
    results, record = picture_run(tmp_path)
    rows = pd.read_csv(results)
    rows.loc[rows.token_position == 1, "l2_distance"] = 0
    rows.loc[rows.patch_row.isna(), "l2_distance"] *= 10
    rows.to_csv(results, index=False)
    viewer.choose(results, record)
    viewer.select("Curve", "linear")
    viewer.select("Text layer", "1")
    largest = rows[(rows.layer == 1) & rows.patch_row.notna()].l2_distance.max()
    patch = lambda row, col: np.array(viewer.at("image").evaluate(PATCH, [row, col]))  # noqa: E731
    assert patch(0, 0).max() == 0
    for opacity in (0.2, 0.7):
        viewer.page.get_by_label("Opacity", exact=True).fill(str(opacity))
        for row, col in ((0, 1), (1, 2)):
            [share] = rows[(rows.layer == 1) & (rows.patch_row == row) & (rows.patch_col == col)].l2_distance / largest
            tint, frame = patch(row, col)
            assert frame[:3] == pytest.approx(colours(np.array(share)), abs=NEAR)
            assert (tint[3], frame[3]) == pytest.approx((255 * share * opacity, 255 * share), abs=2)


# Size and sharpness

def test_sharp_at_two_pixels_for_one(a_browser, run, table):  # noqa: F811
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


# Taking away

def saved(viewer, name):
    """The file that a button gives."""
    with viewer.page.expect_download() as download:
        viewer.page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()), download.value.suggested_filename


def test_csv_of_the_view(key, table):
    path, name = saved(key, "CSV")
    assert name.endswith(".csv")
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    found = {float(cell) for row in rows for cell in row if cell.replace(".", "").replace("e-", "").isdigit()}
    for value in matrix(table)[1, [1, 5]]:
        assert any(math.isclose(value, other, rel_tol=1e-6) for other in found)


def test_png_of_the_whole_heatmap(key, table):
    path, name = saved(key, "PNG")
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert name.endswith(".png") and data.startswith(b"\x89PNG") and width > matrix(table).shape[1] * 4 and height > 40


def test_png_has_the_tables_colours(key, table):
    """Each layer's largest cell has the last colour, and layer 0's others the colours of their shares."""
    Image = pytest.importorskip("PIL.Image")
    pixels = np.array(Image.open(saved(key, "PNG")[0]).convert("RGB")).astype(int)
    last = (np.abs(pixels - colours(np.array(1.0))).max(-1) <= 2)
    values = matrix(table)
    row, col = np.argwhere(last)[0]  # of the first layer that has one: its cell's upper left corner
    first, cell = int(values[0, 1:].argmax()) + 1, 32
    drawn = [pixels[row + cell // 2, col + cell // 2 + (at - first) * cell] for at in range(1, values.shape[1])]
    np.testing.assert_allclose(drawn, colours(shares(values))[0], atol=NEAR)


def test_side_by_side_saves_both_pictures(key):
    key.select("Compare with", "variant")
    key.page.get_by_label("Other variant", exact=True).select_option(label="Head_1")
    key.select("Compare as", "side")
    found = []
    key.page.on("download", lambda one: found.append(one))
    key.page.get_by_role("button", name="SVG", exact=True).click()
    key.page.wait_for_timeout(1000)
    assert len({one.suggested_filename for one in found}) == 2
    texts = [Path(one.path()).read_text(encoding="utf-8") for one in found]
    assert all("line-through" in text and "noise floor" in text and "Model: demo" in text for text in texts)


def test_svg_is_whole_and_names_its_tokens(key, table):
    path, name = saved(key, "SVG")
    root = ElementTree.parse(path).getroot()
    assert name.endswith(".svg") and root.tag.endswith("svg")
    texts = " ".join(filter(None, (one.text for one in root.iter() if one.tag.endswith(("text", "tspan", "title")))))
    assert "key" in texts


def test_what_am_i_looking_at(key):
    assert key.page.get_by_text("What am I looking at?").count() >= 1


def test_a_step_scrolls_the_text_to_its_newest_token(viewer, tmp_path):
    """The text of a step ends with the token generated last; a box full of text moves there, forwards and back."""
    rows = [(step, f" word{position}", position) for step in (0, 1) for position in range(600 + step)]
    frame = pd.DataFrame({"generation_step": [step for step, _, _ in rows], "layer": 0,
                          "token_masked": [text for _, text, _ in rows], "token_position": [at for _, _, at in rows],
                          "variant": "Full", "l2_distance": 1.0, "cosine_distance": 0.1})
    frame.to_csv(tmp_path / "long_results.csv", index=False)
    viewer.choose(tmp_path / "long_results.csv")
    text = viewer.at("text")
    assert text.evaluate("box => box.scrollTop") == 0
    viewer.step(1)
    assert text.evaluate("""box => box.querySelector('[data-token="600"]').getBoundingClientRect().bottom
                            <= box.getBoundingClientRect().bottom""")


def test_the_strongest_token_is_said_in_words(key, table):
    for step in range(STEPS):
        key.step(step)
        values = matrix(table, step)[:, 1:]
        layer, col = np.unravel_index(values.argmax(), values.shape)
        said = key.at("lead").inner_text()
        assert f"(position {col + 1}), layer {layer}," in said
        assert float(said.split()[-1]) == pytest.approx(values.max(), rel=1e-3)


def test_the_tooltip_goes_when_another_cell_is_under_the_pointer(key):
    """After a search, its clearing, turning and zooming, what the tooltip said is of no cell pointed at."""
    for change in (lambda: key.page.get_by_label("Search", exact=True).fill("key"),
                   lambda: key.page.get_by_role("button", name="Next match").click(),
                   lambda: key.page.get_by_label("Search", exact=True).fill(""),
                   lambda: key.page.get_by_label("Tokens as rows", exact=True).evaluate("box => box.click()"),
                   lambda: key.page.get_by_role("button", name="Zoom out").evaluate("button => button.click()")):
        key.hover(1, 1)
        assert key.at("tooltip").is_visible()
        change()
        key.settle()
        assert not key.at("tooltip").is_visible()


def test_the_current_match_can_be_read(key):
    key.page.get_by_label("Search", exact=True).fill("key")
    key.page.get_by_role("button", name="Next match").click()
    key.settle()
    drawn = key.page.locator(".label.match.lit").evaluate(
        "label => { const {color, backgroundColor} = getComputedStyle(label); return [color, backgroundColor]; }")
    ink, ground = (np.array([int(part) for part in text.strip("rgb()").split(",")]) / 255 for text in drawn)
    light = [(np.where(band <= 0.04045, band / 12.92, ((band + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
             for band in (ink, ground)]
    assert (max(light) + 0.05) / (min(light) + 0.05) >= 4.5


def test_no_word_around_the_heatmap_is_cut(key):
    for turned in (False, True):
        key.check("Tokens as rows", turned)
        cut = key.page.locator("#heatmap .corner").evaluate_all(
            "corners => corners.filter(corner => corner.scrollWidth > corner.clientWidth).map(corner => corner.textContent)")
        assert cut == []
    needed = """select => { const free = select.cloneNode(true); free.style.maxWidth = 'none'; free.id = '';
                select.after(free); const width = free.offsetWidth; free.remove(); return width - select.offsetWidth; }"""
    assert key.page.get_by_label("Metric", exact=True).evaluate(needed) == 0
