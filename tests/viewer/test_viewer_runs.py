"""Several files at once: the list of runs, what is said of files that are none, and comparing runs."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from browser import Viewer

import mask_impact_analysis

PROMPTS = {
    "akey": "The key is in the",
    "coin": "Anna put the coin in the bag. The coin is in the",
    "coin3": "Anna put the coin in the bag. The coin is in the",
}
FOREIGN = "name,price\na,1\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with three runs of the demo model; `coin` and `coin3` have the same prompt."""
    folder = tmp_path_factory.mktemp("runs")
    for name, prompt in PROMPTS.items():
        code = mask_impact_analysis.main(
            [
                "--model",
                "demo",
                "--prompt",
                prompt,
                "--num-tokens",
                "3" if name == "coin3" else "2",
                "--output",
                name,
                "--formats",
                "csv",
                "--output-dir",
                str(folder),
                "--quiet",
            ]
        )
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
    return (
        viewer.at("runs")
        .locator("li")
        .filter(has=viewer.page.get_by_role("button", name=name, exact=True))
        .inner_text()
    )


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
    viewer.page.wait_for_function("() => document.querySelector('[data-testid=heatmap]')?.dataset.state === 'drawn'")


# Long names


def test_long_names_are_cut_where_they_are_alike_in_the_list_and_where_a_run_is_chosen(viewer, runs, tmp_path):
    names = [f"{'the_same_beginning_' * 3}{country}{'_the_same_end' * 3}" for country in ("france", "finland", "peru")]
    for name in names:
        for ending in ("results.csv", "run.json"):
            (tmp_path / f"{name}_{ending}").write_bytes((runs / f"coin_{ending}").read_bytes())
    viewer.choose(*sorted(tmp_path.iterdir()))
    shown = viewer.runs()
    assert [[one for one in ("finland", "france", "peru") if one in name] for name in shown] == [
        ["finland"],
        ["france"],
        ["peru"],
    ]
    assert max(map(len, shown)) <= 40 and names[0] in viewer.at("runs").locator("li").nth(1).get_attribute("title")
    viewer.select("Compare with", "run")
    options = viewer.page.get_by_label("Other run", exact=True).locator("option")
    assert options.all_inner_texts() == shown and options.nth(1).get_attribute("value") == names[0]


# Comparing


def test_a_run_is_compared_first_with_one_of_the_same_tokens(viewer, runs):
    open_runs(viewer, runs)
    go(viewer, "coin")
    viewer.select("Compare with", "run")
    assert viewer.page.get_by_label("Other run", exact=True).input_value() == "coin3"
    viewer.page.wait_for_function("() => document.getElementById('compare-note').textContent.startsWith('Both have')")
    assert (
        viewer.page.locator("#map-title").inner_text() == "Difference of L2 distances, Full, step 0: coin minus coin3"
    )


def test_without_a_run_of_the_same_tokens_it_asks(viewer, runs):
    open_runs(viewer, runs)
    go(viewer, "akey")
    viewer.select("Compare with", "run")
    other, note = viewer.page.get_by_label("Other run", exact=True), viewer.page.locator("#compare-note")
    assert other.input_value() == "" and note.inner_text().startswith("Choose the other run")
    assert viewer.page.locator("#map-title").inner_text() == "L2 distance, Full, step 0"
    viewer.select("Other run", "coin")
    viewer.page.wait_for_function("() => document.getElementById('map-title').textContent.endsWith('akey minus coin')")
    assert "differ" in note.inner_text()


def test_tokens_are_known_of_tables_without_a_run_file_once_they_were_shown(viewer, runs):
    viewer.choose(*runs.glob("*.csv"))
    for name, other in (("coin3", ""), ("coin", "coin3")):
        go(viewer, name)
        viewer.select("Compare with", "run")
        assert viewer.page.get_by_label("Other run", exact=True).input_value() == other
        viewer.select("Compare with", "")


@pytest.mark.parametrize(
    "kind, mode, title",
    [
        ("step", "difference", "Difference of L2 distances, Full: step 0 minus step 1"),
        ("variant", "side", "L2 distance, step 0: Full beside Attn"),
        ("run", "side", "L2 distance, Full, step 0: coin beside coin3"),
    ],
)
def test_what_is_compared_is_named_and_what_is_not_says_so(viewer, runs, kind, mode, title):
    open_runs(viewer, runs)
    go(viewer, "coin")
    text = lambda: viewer.page.locator("main").inner_text()
    assert "Bright:" in text() and "Orange to red" not in text() and "alone: not of the comparison" not in text()
    viewer.select("Compare with", kind)
    viewer.select("Compare as", mode)
    viewer.page.wait_for_function("(title) => document.getElementById('map-title').textContent === title", arg=title)
    signed = mode == "difference"
    assert ("Bright:" in text(), "Orange to red: larger here" in text()) == (not signed, signed)
    assert text().count("Of coin, step 0, alone: not of the comparison above.") == 2  # strongest cells, all heads


# Messages about files that are no result


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("settings.json", b'{"a": 1, "b": {"c": 2}}', "is a JSON object of a, b, but no result of this tool"),
        ("numbers.json", b"[1, 2, 3]", "is a JSON list of numbers or words, but no result"),
        (
            "sheet.csv",
            bytes(range(256)) * 40,
            "is no text but a binary file (its first bytes are 00 01 02 03), but no result",
        ),
    ],
)
def test_what_a_file_is_that_is_no_result(viewer, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    viewer.choose(tmp_path / name)
    [error] = viewer.errors()
    assert error.startswith(f"{name}: {said}") and "generation_step" in error and error.isprintable()


# Tables in neighbouring forms


def test_a_table_without_its_last_line_end_is_read_with_a_note(viewer, runs, tmp_path):
    (tmp_path / "short.csv").write_bytes((runs / "akey_results.csv").read_bytes().rstrip())
    viewer.choose(tmp_path / "short.csv")
    assert viewer.errors() == [] and viewer.heatmap()["state"] == "drawn"
    assert "short.csv ends without a line end" in viewer.at("notes").inner_text()


@pytest.mark.parametrize(
    "name, said",
    [
        ("semi.csv", "by semicolons or tabs; save it with commas"),
        ("lines.jsonl", "is JSON Lines"),
        ("lines.json", "is JSON Lines"),
    ],
)
def test_a_table_in_a_form_that_is_not_read_says_what_to_do(viewer, runs, tmp_path, name, said):
    table = pd.read_csv(runs / "akey_results.csv")
    table.to_csv(tmp_path / name, sep=";") if name.endswith("csv") else table.to_json(
        tmp_path / name, orient="records", lines=True
    )
    viewer.choose(tmp_path / name)
    [error] = viewer.errors()
    assert error.startswith(name) and said in error and "pandas" in error


# The list


def test_equal_names_in_two_folders_show_their_folders(viewer, runs, tmp_path):
    for folder in ("may", "june"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "coin_results.csv").write_bytes((runs / "coin_results.csv").read_bytes())
    viewer.at("folder").set_input_files(str(tmp_path))
    viewer.page.wait_for_function("() => document.querySelectorAll('[data-testid=runs] li').length === 2")
    assert sorted(viewer.runs()) == ["june/coin", "may/coin"]


def test_the_filter_finds_runs_by_name_and_by_prompt(viewer, runs, tmp_path):
    for number in range(9):
        for kind in ("results.csv", "run.json"):
            (tmp_path / f"r{number}_{kind}").write_bytes(
                (runs / f"{'akey' if number == 4 else 'coin'}_{kind}").read_bytes()
            )
    viewer.choose(*tmp_path.iterdir())
    viewer.page.wait_for_function("() => document.querySelectorAll('[data-testid=runs] li').length === 9")
    look = viewer.page.get_by_label("Filter runs")
    for text, found in (
        ("R7", ["r7"]),
        ("the KEY", ["r4"]),
        ("nothing such", []),
        ("", [f"r{number}" for number in range(9)]),
    ):
        look.fill(text)
        viewer.settle()
        assert viewer.runs() == found
    look.fill("r7")
    assert "1 of 9" in viewer.page.locator("#runs").inner_text()


def test_ctrl_and_the_wheel_zoom_the_wheel_alone_does_not(viewer, runs):
    viewer.choose(runs / "coin_results.csv")
    before = viewer.heatmap()["cell"]
    viewer.move(1, 2)
    viewer.page.mouse.wheel(0, 20)
    viewer.settle()
    assert viewer.heatmap()["cell"] == before
    viewer.move(1, 2)
    viewer.page.keyboard.down("Control")
    viewer.page.mouse.wheel(0, 100)
    viewer.page.wait_for_function(
        "(before) => Number(document.querySelector('[data-testid=heatmap]').dataset.cell) < before", arg=before
    )
    viewer.page.keyboard.up("Control")


def test_files_that_the_browser_itself_drops(viewer, runs):
    session = viewer.page.context.new_cdp_session(viewer.page)
    data = {
        "items": [],
        "files": [str(runs / name) for name in ("coin_results.csv", "coin_run.json")],
        "dragOperationsMask": 1,
    }
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 400, "data": data})
    viewer.page.wait_for_function("() => document.querySelector('[data-testid=heatmap]').dataset.state === 'drawn'")
    assert viewer.runs() == ["coin"] and viewer.errors() == []
    assert not viewer.page.locator("#drop-sign").is_visible()


# Several images


def two_pictures(folder):
    """Two images of one run, of 1 x 2 and 2 x 2 patches, with a word before each and behind."""
    places = [None, (0, 0, 0), (0, 0, 1), None, *((1, row, col) for row in range(2) for col in range(2)), None]
    tokens = ["word" if place is None else "img{}[{},{}]".format(*place) for place in places]
    table = pd.DataFrame(
        {
            "generation_step": 0,
            "layer": 0,
            "token_masked": tokens,
            "token_position": range(len(places)),
            "variant": "Full",
            "l2_distance": [float(position) for position in range(len(places))],
            "cosine_distance": 0.5,
            "token_type": ["text" if place is None else "vision" for place in places],
        }
    )
    for index, name in enumerate(("image_index", "patch_row", "patch_col")):
        table[name] = pd.array([None if place is None else place[index] for place in places], dtype="Int64")
    table.to_csv(folder / "pair_results.csv", index=False)
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    images = [
        {
            "width": 32 * cols,
            "height": 32 * rows,
            "resized": [32 * rows, 32 * cols],
            "grid": [rows, cols],
            "uri": f"data:image/png;base64,{dot}",
        }
        for rows, cols in ((1, 2), (2, 2))
    ]
    record = {
        "schema_version": 1,
        "status": "complete",
        "layers": [0],
        "variants": ["Full"],
        "steps": [],
        "images": images,
    }
    (folder / "pair_run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder / "pair_results.csv", folder / "pair_run.json"


def test_each_of_two_images_has_its_own_patches(viewer, tmp_path):
    viewer.choose(*two_pictures(tmp_path))
    images = viewer.at("image")
    assert images.evaluate_all("all => all.map(({ width, height }) => [width / 16, height / 16])") == [[2, 1], [2, 2]]
    for image, (x, y), position in ((0, (0.75, 0.5), 2), (1, (0.25, 0.75), 6), (1, (0.75, 0.75), 7)):
        images.nth(image).scroll_into_view_if_needed()
        box = images.nth(image).bounding_box()
        viewer.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        viewer.settle()
        assert viewer.at("tooltip").get_attribute("data-position") == str(position)
    assert viewer.at("text").locator("[data-token]").count() == 5  # three words, and one chip for each image
