"""A real browser on visualize_results.html, for the viewer's tests, its benchmark and the README's picture.

    python tests/support/browser.py screenshot FILE [FILE ...] PICTURE.png     # what `make screenshot` runs

The page is opened from the disk, as a person does it. Everything is found by what a person or a screen reader finds it
by, or by a data-testid; a heatmap's place on the canvas comes from the data attributes of its root.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserType, Page, sync_playwright
from repository import ROOT

PAGE = ROOT / "visualize_results.html"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")
NEED = "MASK_IMPACT_NEED_BROWSERS"
# Brings a cell into view as a person does who scrolls: the heatmap first, then the page.
SCROLL = """(canvas, [row, col]) => {
  const cell = Number(canvas.closest("[data-testid=heatmap]").dataset.cell);
  const scroller = canvas.closest(".scroller");
  scroller.scrollTo((col + 0.5) * cell - scroller.clientWidth / 2, (row + 0.5) * cell - scroller.clientHeight / 2);
  scroller.scrollIntoView({ block: "center" });
}"""
# Changes with each drawing of the heatmap, and with each sentence about a file.
SEEN = """() => [document.querySelector("[data-testid=heatmap]")?.dataset.draws,
  document.querySelectorAll("[data-testid=errors] [role=alert]").length].join()"""
OWN_REQUEST = re.compile(r"(blob|data):")


def program(*names: str) -> str | None:
    """The first of these programs that is installed."""
    return next(filter(None, map(shutil.which, names)), None)


def needs(what: str, found: object, how: str) -> None:
    """Skip the test by name where something is not installed; fail instead where the environment says it must be."""
    if not found:
        message = f"needs {what}: {how}"
        pytest.fail(message) if os.environ.get(NEED) else pytest.skip(message)


def needs_chromium() -> str:
    path = program(*CHROMIUMS)
    needs("Chromium", path, "apt-get install chromium, or Google Chrome on the PATH")
    return path


def needs_node() -> str:
    node = program("node")
    needs("Node 18 or newer", node, "apt-get install nodejs npm")
    needs("the viewer's Node packages", (ROOT / "viewer" / "node_modules" / "esbuild").exists(), "make viewer")
    return node


@contextmanager
def chromium() -> Iterator[Browser]:
    """The installed Chromium, headless."""
    with sync_playwright() as playwright, closing(launched(playwright.chromium)) as browser:
        yield browser


def launched(kind: BrowserType) -> Browser:
    """One more process of the installed Chromium."""
    path = program(*CHROMIUMS)
    if path is None:
        raise FileNotFoundError(f"no Chromium on the PATH, looked for {', '.join(CHROMIUMS)}")
    return kind.launch(executable_path=path, args=list(ARGUMENTS))


class Viewer:
    """The page in a browser: what is on it, and what a person does with it.

    `requests` has the address of everything that the page asked for beside itself, `complaints` each error that
    it wrote to the console or did not catch.
    """

    def __init__(self, page: Page, address: str = PAGE.as_uri()):
        self.page, self.requests, self.complaints = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        self.own = address

    def foreign(self) -> list[str]:
        """What was asked of anything but the page itself."""
        return [
            url for url in self.requests if url.split("#")[0] != self.own.split("#")[0] and not OWN_REQUEST.match(url)
        ]

    def at(self, name: str):
        """The element that carries this data-testid."""
        return self.page.get_by_test_id(name)

    def choose(self, *paths: Path, wait: bool = True) -> None:
        """Choose files as in the dialog, and wait for their heatmap or for a sentence that says why there is none."""
        before = self.page.evaluate(SEEN)
        self.at("files").set_input_files([str(path) for path in paths])
        if wait:
            self.page.wait_for_function(f"(before) => ({SEEN})() !== before", arg=before, timeout=30_000)
            self.settle()

    def settle(self) -> None:
        """Wait until nothing is being read and the heatmap is drawn."""
        self.page.wait_for_function(
            "async () => { for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);"
            " const busy = document.querySelector('[data-testid=progress]')?.textContent.trim();"
            " return !busy && document.querySelector('[data-testid=heatmap]')?.dataset.state !== 'loading'; }",
            timeout=30_000,
        )

    def heatmap(self) -> dict[str, Any]:
        """Where the heatmap's cells are: the data attributes of its root, numbers where they are numbers."""
        attributes = self.at("heatmap").evaluate("root => ({...root.dataset})")
        return {
            key: float(value) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", value) else value
            for key, value in attributes.items()
        }

    def centre(self, row: int, col: int) -> tuple[float, float]:
        """A cell's centre on the canvas, in CSS pixels."""
        place = self.heatmap()
        return (
            place["offsetX"] + (col - place["firstCol"] + 0.5) * place["cell"],
            place["offsetY"] + (row - place["firstRow"] + 0.5) * place["cell"],
        )

    def colours(self, centres: list[tuple[float, float]]) -> np.ndarray:
        """The canvas' colours at these places: (place, 3), whole numbers."""
        found = self.at("cells").evaluate(
            """(canvas, centres) => {
                 const box = canvas.getBoundingClientRect(), pen = canvas.getContext("2d");
                 return centres.map(([x, y]) => [...pen.getImageData(
                   Math.floor(x * canvas.width / box.width), Math.floor(y * canvas.height / box.height), 1, 1).data]);
               }""",
            centres,
        )
        return np.array(found)[:, :3].astype(int)

    def cells(self, rows: int, cols: int) -> np.ndarray:
        """The colours of a whole small heatmap: (row, col, 3)."""
        centres = [self.centre(row, col) for row in range(rows) for col in range(cols)]
        return self.colours(centres).reshape(rows, cols, 3)

    def on_screen(self, row: int, col: int) -> tuple[float, float]:
        """A cell's centre in the window, scrolled there first where it is out of sight."""
        box = self.at("cells").bounding_box()
        x, y = self.centre(row, col)
        if not (
            0 < x < box["width"] and 0 < y < box["height"] and 0 < box["y"] + y < self.page.viewport_size["height"]
        ):
            self.at("cells").evaluate(SCROLL, [row, col])
            self.settle()
            box = self.at("cells").bounding_box()
            x, y = self.centre(row, col)
        return box["x"] + x, box["y"] + y

    def move(self, row: int, col: int) -> None:
        """Move the mouse onto a cell."""
        self.page.mouse.move(*self.on_screen(row, col))

    def hover(self, row: int, col: int) -> dict[str, str]:
        """Move the mouse onto a cell; what the tooltip then carries."""
        self.move(row, col)
        self.page.wait_for_function("() => new Promise(requestAnimationFrame)")
        return self.at("tooltip").evaluate("tip => ({...tip.dataset, text: tip.textContent})")

    def click(self, row: int, col: int, modifiers: tuple[str, ...] = ()) -> None:
        x, y = self.on_screen(row, col)
        box = self.at("cells").bounding_box()
        self.at("cells").click(position={"x": x - box["x"], "y": y - box["y"]}, modifiers=modifiers)
        self.settle()

    def select(self, label: str, value: str) -> None:
        """Set a control that is a select."""
        self.page.get_by_label(label, exact=True).select_option(value)
        self.settle()

    def check(self, label: str, on: bool) -> None:
        self.page.get_by_label(label, exact=True).set_checked(on)
        self.settle()

    def step(self, index: int) -> None:
        """Move the slider to a generation step."""
        self.page.get_by_label("Generation step", exact=True).evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true}));"
            " slider.dispatchEvent(new Event('change', {bubbles: true})); }",
            str(index),
        )
        self.settle()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.settle()

    def errors(self) -> list[str]:
        """The sentences that say what could not be read."""
        return [text.strip() for text in self.at("errors").get_by_role("alert").all_inner_texts() if text.strip()]

    def runs(self) -> list[str]:
        """The names in the list of runs."""
        return [text.strip() for text in self.at("runs").get_by_role("button").all_inner_texts()]


@pytest.fixture(scope="module")
def a_browser() -> Iterator[Browser]:
    needs_chromium()
    with chromium() as browser:
        yield browser


@pytest.fixture
def viewer(a_browser: Browser) -> Iterator[Viewer]:
    """The page, just opened. Behind every test: it asked for nothing, and had no error."""
    context = a_browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = Viewer(context.new_page())
    yield opened
    foreign, complaints = opened.foreign(), opened.complaints
    context.close()
    assert not foreign and not complaints, (foreign, complaints)


def screenshot(files: list[Path], picture: Path) -> None:
    """The page as it shows these files."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1)
        viewer = Viewer(page)
        viewer.choose(*files)
        page.screenshot(path=picture)


if __name__ == "__main__":
    _, _, *names = sys.argv
    screenshot([Path(name) for name in names[:-1]], Path(names[-1]))
