"""Knock-outs in the viewer, in a real Chromium: their files are passed over, and the page leads with what the run file
says of them."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from browser import PAGE, Viewer
from hard_tables import HOSTILE_TOKENS
from repository import ROOT

import mask_impact_analysis
import mask_impact_vl

MINUS = "\N{MINUS SIGN}"
QUESTION = "What color is the circle?"
PROMPT = "The coin is in the blue bag. The coin is in the"
CELL = (1, 2)  # the circle's
FIRST_CELL, WIDE = 4, 6  # the picture's first position, and its columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs that made knock-outs, of text and of a picture, and their reports."""
    made = tmp_path_factory.mktemp("knockouts")
    shared = ["--model", "demo", "--knockout", "all,final", "--formats", "csv,json,parquet", "--report", "--quiet"]
    text = ["--prompt", PROMPT, "--output", "coin"]
    picture = ["--prompt", QUESTION, "--image", str(ROOT / "testimg.png"), "--mask-mode", "both", "--output", "circle"]
    for main, own in ((mask_impact_analysis.main, text), (mask_impact_vl.main, picture)):
        assert main([*shared, *own, "--output-dir", str(made)]) == 0
    return made


def record(folder, name="coin"):
    return json.loads((folder / f"{name}_run.json").read_text(encoding="utf-8"))


def with_knockout(folder, target, name="coin", **changed):
    """The files of a run whose record says something else of knock-outs."""
    shutil.copy(folder / f"{name}_results.csv", target)
    run = record(folder, name)
    run["knockout"] |= changed
    (target / f"{name}_run.json").write_text(json.dumps(run), encoding="utf-8")
    return target / f"{name}_results.csv", target / f"{name}_run.json"


def told(units):
    """Units as the page has them."""
    shown = [f"'{unit['text']}' {unit['logprob_change']:+.2f}".replace("-", MINUS) for unit in units]
    return ", ".join(shown)


def line(run):
    """What the page leads with."""
    shown = {
        name: [one for one in run["knockout"][name] if abs(one["logprob_change"]) >= 0.005]
        for name in ("rests_on", "read_at")
    }
    assert shown["rests_on"] and shown["read_at"]
    probability = run["steps"][0]["next"]["probability"]
    return (
        f"'{run['generated_text']}' ({probability:.3f}) rests on {told(shown['rests_on'])} nats; "
        f"the final position reads it at {told(shown['read_at'])}"
    )


def outlined(viewer):
    """Row and column of each patch that the answer rests on, and which of its sides have a line: top, right, ..."""
    boxes = (
        viewer.at("images")
        .locator(".patch.rests-on")
        .evaluate_all(
            """all => all.map((one) => {
                 const style = getComputedStyle(one);
                 const sides = ["Top", "Right", "Bottom", "Left"].map((side) => style[`border${side}Width`] !== "0px");
                 return [parseFloat(one.style.top), parseFloat(one.style.left), sides];
               })"""
        )
    )
    return {(round(top * WIDE / 100), round(left * WIDE / 100)): sides for top, left, sides in boxes}


def test_a_folders_knockouts_are_no_runs(viewer, folder):
    viewer.at("folder").set_input_files(str(folder))
    viewer.settle()
    assert viewer.runs() == ["circle", "coin"] and viewer.errors() == []


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_knockouts_alone_are_named_in_one_line(viewer, folder, form):
    viewer.choose(folder / f"coin_knockout.{form}")
    assert viewer.errors() == [f"coin_knockout.{form}: knock-outs, shown from the run file"] and viewer.runs() == []


def test_the_page_leads_with_what_the_answer_rests_on(viewer, folder):
    viewer.choose(folder / "coin_results.csv", folder / "coin_knockout.csv", folder / "coin_run.json")
    assert viewer.at("answer").inner_text() == line(record(folder))
    viewer.choose(folder / "circle_results.parquet")  # with its run inside
    assert viewer.at("answer").inner_text() == line(record(folder, "circle"))


def test_what_speaks_against_the_answer_is_said_where_it_is_more(viewer, folder, tmp_path):
    unit = {"text": " coin", "position": 3, "positions": "3", "unit": "tokens"}
    for change, said in ((22.06, True), (0.06, False)):
        viewer.choose(*with_knockout(folder, tmp_path, against=[unit | {"logprob_change": change}]))
        assert (f"; against it ' coin' +{change}" in viewer.at("answer").inner_text()) == said


def test_a_report_leads_with_it_too(a_browser, folder):
    report = Viewer(a_browser.new_page(), (folder / "circle_report.html").as_uri())
    report.settle()
    assert report.at("answer").inner_text() == line(record(folder, "circle"))
    assert list(outlined(report)) == [CELL] and report.complaints == []
    report.page.close()


def test_a_run_without_knockouts_shows_nothing_new(viewer, folder, tmp_path):
    viewer.choose(folder / "circle_results.csv", folder / "circle_run.json")
    assert viewer.at("images").locator(".sign").is_visible()
    viewer.choose(*with_knockout(folder, tmp_path, "circle", rests_on=[], read_at=[]))
    assert not viewer.at("answer").is_visible() and outlined(viewer) == {}
    assert not viewer.at("images").locator(".sign").is_visible()


UNIT = {"text": "x", "position": 1, "positions": "1", "unit": "tokens", "logprob_change": -1.0}
WRONG = {
    "no list": "x",
    "no units": [None, 7, "x", [], {}],
    "numbers as texts": [UNIT | {"logprob_change": "-1"}],
    "no text": [UNIT | {"text": {"length": 3}}],
    "not a number": [UNIT | {"logprob_change": None}],
    "as good as nothing": [UNIT | {"logprob_change": 0.004}],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_that_is_damaged_says_nothing(viewer, folder, tmp_path, name):
    viewer.choose(*with_knockout(folder, tmp_path, rests_on=WRONG[name], read_at=WRONG[name]))
    assert viewer.errors() == [] and viewer.at("answer").inner_text() == ""


def test_what_is_left_of_a_damaged_record_is_said(viewer, folder, tmp_path):
    """Positions that are none, and far more units than a run names."""
    wild = [UNIT | {"positions": positions} for positions in (5, "7-3", "0-99999999")]
    viewer.choose(*with_knockout(folder, tmp_path, "circle", rests_on=[], read_at=wild + [UNIT] * 100_000))
    said = viewer.at("answer").inner_text()
    assert (
        f"the final position reads it at 'x' {MINUS}1.00, 'x' {MINUS}1.00" in said
        and said.endswith(" nats")
        and len(said) < 200
    )


def test_hostile_texts_are_only_text(viewer, folder, tmp_path):
    texts = ["<img src=x onerror=\"document.title='broken'\">", *HOSTILE_TOKENS]
    for at in range(0, len(texts), 5):
        units = [UNIT | {"text": text} for text in texts[at : at + 5]]
        viewer.choose(*with_knockout(folder, tmp_path, rests_on=units, read_at=[]))
        parts = viewer.at("answer").locator("*").evaluate_all("all => all.map((one) => [one.localName, one.innerText])")
        assert [name for name, _ in parts] == ["bdi"] * (1 + len(units))
        assert all(shown[1:-1].strip() for _, shown in parts), parts
    assert viewer.page.title() != "broken" and viewer.errors() == []


def test_the_cell_that_the_answer_rests_on_is_outlined(viewer, folder):
    viewer.choose(folder / "circle_results.csv", folder / "circle_run.json")
    assert outlined(viewer) == {CELL: [True] * 4}
    assert viewer.at("images").locator(".sign").inner_text().strip() == "rests on"
    viewer.hover(0, 5)
    assert list(outlined(viewer)) == [CELL]


def test_a_region_has_one_line_around_it(viewer, folder, tmp_path):
    """A square of four cells and one in the last column, beside the next row's first one in the list alone."""
    places = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 5), (3, 0)]
    positions = ",".join(str(FIRST_CELL + WIDE * row + col) for row, col in places)
    region = [UNIT | {"unit": "spans", "text": "shapes", "positions": positions}]
    viewer.choose(*with_knockout(folder, tmp_path, "circle", rests_on=region))
    alone = [True] * 4
    assert outlined(viewer) == {
        (0, 2): [True, False, False, True],
        (0, 3): [True, True, False, False],
        (1, 2): [False, False, True, True],
        (1, 3): [False, True, True, False],
        (2, 5): alone,
        (3, 0): alone,
    }


def test_the_page_calls_nothing_strongest():
    assert not re.search(r"strongest|came from", PAGE.read_text(encoding="utf-8"), re.IGNORECASE)
