"""What each control of the viewer does, in a real Chromium: what is shown then, against the table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from viewing import NEAR, STEPS, agrees, colours, matrix, shares, written

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
    assert after.evaluate("one => one.outerHTML") != before and after.get_attribute("class") != word.get_attribute(
        "class"
    )


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
    assert (
        str(strongest.layer) in first
        and strongest.variant.removeprefix("Head_") in first
        and strongest.token_masked.strip() in first
    )
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
    value = lambda label: key.page.get_by_label(label, exact=True).input_value()
    for press, label, found in (
        ("v", "Variant", "Attn"),
        ("V", "Variant", "Full"),
        ("m", "Metric", "cosine"),
        ("i", "Intensity", "picture"),
        ("ArrowRight", "Generation step", "1"),
        (",", "Generation step", "0"),
    ):
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
    found = (
        key.at("text").locator(f"[data-token='{strongest}']").evaluate("one => getComputedStyle(one).backgroundColor")
    )
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
    wanted = first - second[:, : first.shape[1]]
    for row, col in ((0, 1), (1, 4), (2, 12)):
        assert float(key.hover(row, col)["value"]) == pytest.approx(wanted[row, col], rel=1e-5, abs=1e-7)
    assert (
        "this minus the other" in key.at("legend").inner_text() and "symmetric about 0" in key.at("legend").inner_text()
    )


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


# What is said and seen


def test_what_am_i_looking_at(key):
    assert key.page.get_by_text("What am I looking at?").count() >= 1


def test_a_step_scrolls_the_text_to_its_newest_token(viewer, tmp_path):
    """The text of a step ends with the token generated last; a box full of text moves there, forwards and back."""
    rows = [(step, f" word{position}", position) for step in (0, 1) for position in range(600 + step)]
    frame = pd.DataFrame(
        {
            "generation_step": [step for step, _, _ in rows],
            "layer": 0,
            "token_masked": [text for _, text, _ in rows],
            "token_position": [at for _, _, at in rows],
            "variant": "Full",
            "l2_distance": 1.0,
            "cosine_distance": 0.1,
        }
    )
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
    for change in (
        lambda: key.page.get_by_label("Search", exact=True).fill("key"),
        lambda: key.page.get_by_role("button", name="Next match").click(),
        lambda: key.page.get_by_label("Search", exact=True).fill(""),
        lambda: key.page.get_by_label("Tokens as rows", exact=True).evaluate("box => box.click()"),
        lambda: key.page.get_by_role("button", name="Zoom out").evaluate("button => button.click()"),
    ):
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
        "label => { const {color, backgroundColor} = getComputedStyle(label); return [color, backgroundColor]; }"
    )
    ink, ground = (np.array([int(part) for part in text.strip("rgb()").split(",")]) / 255 for text in drawn)
    light = [
        (np.where(band <= 0.04045, band / 12.92, ((band + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
        for band in (ink, ground)
    ]
    assert (max(light) + 0.05) / (min(light) + 0.05) >= 4.5


def test_no_word_around_the_heatmap_is_cut(key):
    for turned in (False, True):
        key.check("Tokens as rows", turned)
        cut = key.page.locator("#heatmap .corner").evaluate_all(
            "corners => corners.filter(corner => corner.scrollWidth > corner.clientWidth)"
            ".map(corner => corner.textContent)"
        )
        assert cut == []
    needed = """select => { const free = select.cloneNode(true); free.style.maxWidth = 'none'; free.id = '';
                select.after(free); const width = free.offsetWidth; free.remove();
                return width - select.offsetWidth; }"""
    assert key.page.get_by_label("Metric", exact=True).evaluate(needed) == 0
