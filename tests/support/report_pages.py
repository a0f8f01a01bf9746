"""What a browser finds in a report's page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path


class Scripts(HTMLParser):
    """What a browser finds in a page: the text of each script element, by id."""

    def __init__(self):
        super().__init__()
        self.found, self.open = {}, None

    def handle_starttag(self, tag, attributes):
        assert tag in ("html", "body", "p", "script"), tag
        if tag == "script":
            self.open = dict(attributes).get("id", "page")
            self.found[self.open] = ""

    def handle_endtag(self, tag):
        self.open = None if tag == "script" else self.open

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_data(self, data):
        if self.open:
            self.found[self.open] += data


def scripts_of(path) -> dict[str, str]:
    reader = Scripts()
    reader.feed(Path(path).read_text(encoding="utf-8"))
    return reader.found
