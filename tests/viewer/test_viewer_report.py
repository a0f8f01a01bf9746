"""`--report`: a page with one run inside, which shows it when it is opened, with nothing to load."""

from __future__ import annotations

import pytest
from browser import Viewer
from viewing import agrees, matrix

import mask_impact_analysis
from mask_impact import read_results

HOSTILE = (
    "Say </script><script>document.title='broken'</script> & <!-- <img src=x "
    "onerror=\"document.title='broken'\"> 'é' שלום 😀"
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A folder with the report of a plain run and of one whose prompt is hostile."""
    folder = tmp_path_factory.mktemp("reports")
    for name, prompt in (("plain", "The coin is in the blue bag. The coin is in the"), ("hostile", HOSTILE)):
        code = mask_impact_analysis.main(
            [
                "--model",
                "demo",
                "--prompt",
                prompt,
                "--num-tokens",
                "2",
                "--output",
                name,
                "--report",
                "--output-dir",
                str(folder),
                "--quiet",
            ]
        )
        assert code == 0
    return folder


@pytest.fixture
def opened(a_browser):
    """Opens a report in a page of its own; behind every test: it asked for nothing, and had no error."""
    seen = []

    def open_report(path):
        seen.append(Viewer(a_browser.new_page(), path.as_uri()))
        seen[-1].settle()
        return seen[-1]

    yield open_report
    for report in seen:
        assert report.foreign() == [] and report.complaints == []
        report.page.close()


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_report_shows_its_run_at_once(opened, reports, name):
    report = opened(reports / f"{name}_report.html")
    table = read_results(reports / f"{name}_results.csv")
    assert report.heatmap()["state"] == "drawn" and report.errors() == [] and report.page.title() != "broken"
    wanted = matrix(table)
    agrees(report, wanted, places=[(0, 0), (1, 3), (2, wanted.shape[1] - 1)])
    report.select("Variant", "Head_1")
    report.step(1)
    agrees(report, matrix(table, 1, "Head_1"))
    report.select("Metric", "relative")
    texts = report.at("text").locator("[data-token]")
    assert texts.count() == matrix(table, 1).shape[1]


def test_a_report_opens_other_files_too(opened, reports):
    report = opened(reports / "plain_report.html")
    report.choose(reports / "hostile_results.csv")
    assert report.runs() == ["plain", "hostile"]


def test_a_report_holds_its_data_in_a_form_that_no_token_can_end(reports):
    """Both runs have as many steps and variants, and so as many elements."""
    plain, hostile = (
        (reports / f"{name}_report.html").read_text(encoding="utf-8").lower() for name in ("plain", "hostile")
    )
    assert "broken" in hostile
    for mark in ("<script", "</script", "<!--", "<img"):
        assert hostile.count(mark) == plain.count(mark)


def test_the_strongest_cells_are_open_and_whole(opened, reports):
    """A report reads them when it is opened; a long token is shortened, so that no column is out of sight."""
    viewer = opened(reports / "hostile_report.html")
    viewer.page.wait_for_selector("[data-testid=top-list] tbody tr", timeout=5000)
    assert "not on the scale of Full" in viewer.page.locator("#top").inner_text()
    viewer.at("top-list").locator("bdi").first.evaluate("name => name.textContent = 'long'.repeat(40)")
    assert viewer.page.locator("#top .scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
