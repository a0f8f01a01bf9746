"""Runs of the vision encoder in the viewer:
the measured cell is framed, and where each was kept a click asks for it."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from browser import Viewer
from repository import ROOT
from viewing import agrees, matrix

import mask_impact_vl
from mask_impact import read_results
from mask_impact.results.report import write_report

CELL = (1, 2)  # the circle's
PLACES = ((0, 0), (1, 8), (0, 21), (1, 35))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the demo's picture measured at one cell, and at all."""
    folder = tmp_path_factory.mktemp("run")
    for name, at in (("one", "1,2"), ("other", "3,3"), ("all", "all")):
        code = mask_impact_vl.main(
            [
                "--model",
                "demo",
                "--image",
                str(ROOT / "testimg.png"),
                "--part",
                "encoder",
                "--at",
                at,
                "--output",
                name,
                "--output-dir",
                str(folder),
                "--quiet",
            ]
        )
        assert code == 0
    return folder


def files(run, name):
    return run / f"{name}_results.csv", run / f"{name}_run.json"


def framed(viewer) -> list[tuple[int, int]]:
    """Row and column of each patch framed as measured."""
    boxes = (
        viewer.at("images")
        .locator(".patch.measured")
        .evaluate_all("all => all.map(one => [parseFloat(one.style.top), parseFloat(one.style.left)])")
    )
    return [(round(top * 6 / 100), round(left * 6 / 100)) for top, left in boxes]


def click_patch(viewer, row, col):
    image = viewer.at("image")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    image.click(position={"x": box["width"] * (col + 0.5) / 6, "y": box["height"] * (row + 0.5) / 6})
    viewer.settle()


def title(viewer) -> str:
    return viewer.page.locator("#map-title").inner_text()


def test_the_measured_cell_is_framed(viewer, run):
    viewer.choose(*files(run, "one"))
    assert viewer.errors() == [] and framed(viewer) == [CELL]
    agrees(viewer, matrix(read_results(run / "one_results.csv")), PLACES)
    assert title(viewer) == "L2 distance, Full, measured at img0[1,2]"
    note = viewer.at("images").inner_text()
    assert ". Measured at img0[1,2], the patch with the white frame." in note and "Click a patch" not in note
    about = viewer.page.locator("#about").inner_text()
    assert "blocks of the vision encoder" in about and "next token" not in about and "osition 0" not in about
    assert "2 encoder blocks · 36 cells · 4 variants" in viewer.page.locator("#run-about").inner_text()
    for hidden in ("#next", "#steps", "#play"):  # the encoder predicts no token and generates nothing
        assert not viewer.page.locator(hidden).is_visible()
    text = viewer.page.locator("main").inner_text()
    assert "Likeliest" not in text and "Generation step" not in text and "layer" not in text.lower(), text
    assert "block" in viewer.hover(0, 2)["text"] and "layer" not in viewer.hover(1, 2)["text"]


def test_the_first_cell_is_not_left_out(viewer, run):
    """Position 0 is the usual sink of a prompt, and here a corner of the picture."""
    viewer.choose(*files(run, "one"))
    assert not viewer.page.get_by_label("Exclude position 0", exact=True).is_checked()
    viewer.check("Exclude position 0", True)
    viewer.choose(*files(run, "other"))  # a choice of one's own stays
    assert viewer.page.get_by_label("Exclude position 0", exact=True).is_checked()


def test_a_click_pins_where_only_one_cell_was_measured(viewer, run):
    viewer.choose(*files(run, "one"))
    click_patch(viewer, 0, 5)
    assert viewer.at("images").locator(".patch.pinned").count() == 1 and framed(viewer) == [CELL]


def test_a_click_asks_for_a_cell_where_each_was_kept(viewer, run):
    viewer.choose(*files(run, "all"))
    mean = matrix(read_results(run / "all_results.csv"))
    agrees(viewer, mean, PLACES)
    assert framed(viewer) == [] and title(viewer) == "L2 distance, Full, mean over all measured cells"
    assert "Click a patch" in viewer.at("images").inner_text()
    for name, cell in (("one", CELL), ("other", (3, 3))):
        click_patch(viewer, *cell)
        agrees(viewer, matrix(read_results(run / f"{name}_results.csv")), PLACES)
        assert framed(viewer) == [cell] and title(viewer) == f"L2 distance, Full, measured at img0[{cell[0]},{cell[1]}]"
        assert (
            f"at={6 * cell[0] + cell[1]}" in viewer.page.url
            and viewer.at("images").locator(".patch.pinned").count() == 0
        )
    viewer.select("Variant", "Head_1")  # of which the mean alone was kept
    assert framed(viewer) == [] and title(viewer).endswith("Head_1, mean over all measured cells")
    agrees(viewer, matrix(read_results(run / "all_results.csv"), variant="Head_1"), PLACES)
    click_patch(viewer, 3, 3)  # which brings Full back
    agrees(viewer, matrix(read_results(run / "other_results.csv")), PLACES)
    click_patch(viewer, 3, 3)
    agrees(viewer, mean, PLACES)
    assert framed(viewer) == [] and "at=" not in viewer.page.url


def test_a_report_has_it_too(a_browser, run):
    page = run / "all_report.html"
    write_report(run / "all_results.csv", None, page)
    opened = Viewer(a_browser.new_page(viewport={"width": 1280, "height": 900}), page.as_uri() + "#at=8")
    opened.settle()
    assert framed(opened) == [CELL]
    agrees(opened, matrix(read_results(run / "one_results.csv")), PLACES)
    assert opened.foreign() == [] and opened.complaints == []
    opened.page.close()


@pytest.fixture
def report(a_browser, run):
    """The report of the run that kept every cell: a variant in it is read when it is first shown."""
    page = run / "again_report.html"
    write_report(run / "all_results.csv", None, page)
    opened = Viewer(a_browser.new_page(viewport={"width": 1280, "height": 900}), page.as_uri())
    opened.settle()
    yield opened
    opened.page.close()
    assert opened.complaints == []


def test_the_heading_and_the_readout_are_of_what_is_drawn(report, run):
    click_patch(report, 3, 5)
    assert title(report) == "L2 distance, Full, measured at img0[3,5]"
    readout = report.at("images").locator(".value")
    of_cell = readout.inner_text()
    report.page.get_by_label("Variant", exact=True).select_option("Attn")
    report.page.wait_for_function("() => document.getElementById('map-title').textContent.includes('Attn')")
    report.settle()
    assert title(report) == "L2 distance, Attn, mean over all measured cells"
    mean = matrix(read_results(run / "all_results.csv"), variant="Attn")[:, 23]
    told = readout.inner_text()
    number = float(told.split("L2 distance: ")[1].split(". ")[0])
    assert told != of_cell and np.isclose(mean, number, rtol=1e-6).any(), (told, mean)


def test_pointing_while_a_variant_is_read_does_no_harm(report):
    click_patch(report, 3, 5)
    report.click(0, 2)  # pins a token
    report.page.evaluate("""() => {
      const select = document.getElementById("variant"), image = document.querySelector("[data-testid=image]");
      const box = image.getBoundingClientRect();
      select.value = "Attn";
      select.dispatchEvent(new Event("change", { bubbles: true }));
      for (const share of [0.1, 0.5, 0.9]) {
        const place = { clientX: box.left + share * box.width, clientY: box.top + 3 };
        image.dispatchEvent(new PointerEvent("pointermove", place));
      }
    }""")
    report.settle()
    assert report.complaints == [] and "Attn" in title(report)


def test_a_cell_is_not_announced_once_its_picture_is_gone(report):
    report.hover(0, 2)
    report.page.evaluate("""() => {
      const held = new Map(), { setTimeout: wait, clearTimeout: cancel } = globalThis;
      globalThis.setTimeout = (act) => (held.set(-held.size - 1, act), -held.size);
      globalThis.clearTimeout = (number) => (held.delete(number), cancel(number));
      const canvas = document.querySelector("[data-testid=cells]"), box = canvas.getBoundingClientRect();
      canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 40, clientY: box.top + 3 }));
      const select = document.getElementById("variant");
      select.value = "Attn";
      select.dispatchEvent(new Event("change", { bubbles: true }));
      Object.assign(globalThis, { setTimeout: wait, clearTimeout: cancel });
      for (const act of held.values()) act();
    }""")
    report.settle()
    assert report.complaints == [] and "Attn" in title(report)


def test_a_comparison_asks_for_no_cell(report):
    click_patch(report, 3, 5)
    report.select("Compare with", "variant")
    report.page.wait_for_function("() => document.getElementById('map-title').textContent.includes('minus')")
    assert "Click a patch" not in report.at("images").inner_text()
    address = report.page.url
    click_patch(report, 1, 1)
    assert report.page.url == address


def test_two_cells_compared_are_both_named(viewer, run):
    viewer.choose(*files(run, "one"), *files(run, "all"))
    viewer.page.get_by_role("button", name="one", exact=True).click()
    viewer.settle()
    viewer.select("Compare with", "run")
    viewer.select("Other run", "all")
    viewer.page.wait_for_function("() => document.getElementById('compare-note').textContent !== ''")
    note = viewer.page.locator("#compare-note").inner_text()
    assert (
        note == "one: measured at img0[1,2]; all: mean over all measured cells. Both have the same tokens and blocks."
    )
    assert "one: measured at img0[1,2]; all: mean" in viewer.at("images").inner_text()
    assert title(viewer).endswith("one (measured at img0[1,2]) minus all (mean over all measured cells)")


def test_a_decoder_run_is_not_compared_with_an_encoder_run(viewer, run):
    name = "words"
    assert (
        mask_impact_vl.main(
            [
                "--model",
                "demo",
                "--image",
                str(ROOT / "testimg.png"),
                "--prompt",
                "What color is the circle?",
                "--mask-mode",
                "both",
                "--output",
                name,
                "--output-dir",
                str(run),
                "--quiet",
            ]
        )
        == 0
    )
    viewer.choose(*files(run, "one"), *files(run, "other"), *files(run, name))
    viewer.page.get_by_role("button", name="one", exact=True).click()
    viewer.settle()
    viewer.select("Compare with", "run")
    offered = viewer.page.get_by_label("Other run", exact=True).locator("option").all_inner_texts()
    assert offered == ["one", "other"]
    viewer.page.goto("about:blank")
    viewer.page.goto(f"{viewer.own}#run=one&compare=run:difference:{name}")  # a link may ask for it
    viewer.choose(*files(run, "one"), *files(run, name))
    viewer.page.wait_for_function("() => document.getElementById('compare-note').textContent.includes('not compared')")
    assert "minus" not in title(viewer)


def test_a_table_alone_is_told_as_the_encoders(viewer, run):
    viewer.choose(run / "one_results.csv")
    about = viewer.page.locator("#about").inner_text()
    assert "blocks of the vision encoder" in about and "next token" not in about and "osition 0" not in about
    assert "Which cell was measured is in the run file" in about and "mean" not in title(viewer)
    assert not viewer.page.get_by_label("Exclude position 0", exact=True).is_checked()


def test_the_file_of_a_cell_has_its_name(report):
    def saved(button):
        with report.page.expect_download() as got:
            report.page.get_by_role("button", name=button, exact=True).click()
        return got.value.suggested_filename

    assert saved("CSV") == "again_step0_Full_l2.csv"
    click_patch(report, 3, 5)
    assert (saved("CSV"), saved("SVG")) == ("again_step0_Full_l2_at_3_5.csv", "again_step0_Full_l2_at_3_5.svg")


def test_what_is_kept_is_what_the_cells_alone_give(run):
    """The run file's numbers, by hand: (block, measured, masked) in float32."""
    record = read_results(run / "all_results.csv").attrs["run"]["each_measured"]
    kept = np.frombuffer(base64.b64decode(record["float32"]), "<f4").reshape(record["shape"])
    assert (record["variant"], record["distance"], record["shape"]) == ("Full", "l2_distance", [2, 36, 36])
    for name, cell in (("one", 8), ("other", 21)):
        assert np.array_equal(kept[:, cell], matrix(read_results(run / f"{name}_results.csv")))
    assert np.allclose(kept.mean(1), matrix(read_results(run / "all_results.csv")), rtol=1e-5)
