"""The committed visualize_results.html is what viewer/ gives, is small, and asks for nothing."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser

import browser
import pytest
from repository import ROOT

VIEWER = ROOT / "viewer"
LARGEST = 250_000


def html() -> str:
    return browser.PAGE.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def node(*arguments: str, folder=VIEWER) -> subprocess.CompletedProcess:
    return subprocess.run([browser.needs_node(), *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_committed_page_is_what_the_sources_give():
    done = node("build.mjs", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_another_page_is_told_in_one_line(tmp_path):
    copy = tmp_path / "page.html"
    copy.write_bytes(browser.PAGE.read_bytes() + b" ")
    done = node("build.mjs", "--check", "--out", str(copy))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "make viewer" in done.stderr


def test_the_viewers_unit_tests_pass():
    tests = sorted(str(path.relative_to(VIEWER)) for path in VIEWER.glob("tests/*.test.mjs"))
    done = node("--test", *tests)
    assert tests and done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_page_is_small():
    assert len(browser.PAGE.read_bytes()) <= LARGEST


def test_the_page_has_one_classic_script_and_names_nothing_outside():
    elements = Elements(html()).found
    assert [attributes for tag, attributes in elements if tag == "script"] == [{}]
    for tag, attributes in elements:
        for name in {"src", "href", "action", "srcset", "data", "poster"} & attributes.keys():
            assert attributes[name].startswith(("#", "data:")), f"<{tag} {name}={attributes[name]}>"
        assert tag not in ("iframe", "object", "embed", "base")


def test_the_policy_forbids_every_request():
    [policy] = [
        attributes["content"]
        for tag, attributes in Elements(html()).found
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "content-security-policy"
    ]
    rules = {name: values for name, *values in (rule.split() for rule in policy.split(";") if rule.strip())}
    assert rules["default-src"] == ["'none'"]
    assert rules.get("connect-src", ["'none'"]) == rules["base-uri"] == rules["form-action"] == ["'none'"]
    allowed = {value for values in rules.values() for value in values}
    assert allowed <= {"'none'", "'unsafe-inline'", "blob:", "data:"}


def test_the_page_keeps_hyparquets_licence():
    licence = VIEWER / "node_modules" / "hyparquet" / "LICENSE"
    browser.needs_node()
    assert licence.read_text(encoding="utf-8").strip() in html() and "Contains hyparquet" in html()


@pytest.mark.parametrize("name", ["package.json", "package-lock.json", ".npmrc"])
def test_the_node_packages_are_exact_and_name_no_registry(name):
    text = (VIEWER / name).read_text(encoding="utf-8")
    assert not re.search(r'"resolved"|registry\s*=|registry\.', text)
    assert name != "package.json" or not re.search(r'"(esbuild|hyparquet|papaparse|puppeteer-core)": "[^\d]', text)
