"""Text from anywhere in the shell: no token drives the terminal, every line fits, columns stand under each other."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from looking import hostile

from mask_impact.base.terminal import MOST_MARKS, Screen, columns_of
from mask_impact.lookup.heatmap_text import RAMP, column_widths


@pytest.mark.parametrize("screen", [Screen(), Screen(40, unicode=False), Screen(30), Screen(200)])
def test_no_token_drives_the_terminal(folder, ask, screen):
    hostile(folder)
    evil = "output/evil"
    for words in (["show", evil, "--top", 30], ["compare", evil, evil], ["show", evil, "--json"]):
        code, out, err = ask(*words, screen=screen)
        assert (code, err) == (0, [])
        text = "".join(out)
        assert text.isprintable() and not re.search(f"[\u0300-\u036f]{{{MOST_MARKS + 1}}}", text)
        assert screen.unicode or text.isascii()


@pytest.mark.parametrize("screen", [Screen(), Screen(40, unicode=False), Screen(30), Screen(200)])
def test_every_line_of_show_fits_and_columns_stand_under_each_other(folder, ask, screen):
    hostile(folder)
    for name in ("evil", "france", "circle"):
        out = ask("show", f"output/{name}", "--top", 30, screen=screen)[1]
        assert max(map(columns_of, out)) <= screen.width
        places = [n for n, line in enumerate(out) if line.startswith("layer")]
        assert places
        for n in places:
            starts = [found.start() for found in re.finditer(r"\d+", out[n])]
            for row in out[n + 2 : n + 4]:
                assert [found.start() for found in re.finditer(r"\S+", row)][2:] == starts
    wide = ask("show", "output/evil", screen=Screen(200))[1]
    label = next(line for line in wide if "漢" in line and "layer" not in line and "prompt" not in line)
    above = wide[wide.index(label) - 1]
    assert columns_of(label[: label.index("漢")]) == above.index(" 6 ") + 1


def test_text_made_safe():
    screen = Screen()
    assert screen.quoted('a\x1b[0m"\\') == r'"a\x1b[0m\"\\"' and screen.safe("\\\u202e") == r"\\u202e"
    assert (
        screen.safe("e\u0301\u0301\u0301\u0301") == "e\u0301\u0301\u0301\\u0301" and screen.safe("\u0301") == "◌\u0301"
    )
    assert screen.safe("\x1b\u0301") == "\\x1b\\u0301"
    assert (
        screen.cut("漢字漢字", 5) == "漢字…" and screen.cut("漢字漢字", 4) == "漢…" and screen.cut("漢字", 4) == "漢字"
    )
    assert columns_of(screen.padded("漢字", 3)) == 3 and screen.padded("漢字", 3) == "漢 "
    assert screen.cut("\x1b\x1b\x1b", 10) == r"\x1b\x1b…" and Screen(unicode=False).cut("é" * 9, 10) == r"\xe9\xe9.."


@pytest.mark.parametrize(
    "encoding, unicode",
    [("utf-8", True), ("ascii", False), ("cp1252", False), ("latin-1", False), ("gb18030", True), (None, False)],
)
def test_blocks_where_the_encoding_has_them(encoding, unicode):
    assert Screen.of(SimpleNamespace(encoding=encoding, isatty=lambda: False)).unicode == unicode


@pytest.mark.parametrize(
    "terminal, variables, colour",
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colour_only_on_a_terminal_that_wants_it(folder, ask, monkeypatch, terminal, variables, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm", "WT_SESSION": "1", "COLUMNS": "70"} | variables).items():
        monkeypatch.setenv(name, value)

    screen = Screen.of(SimpleNamespace(encoding="utf-8", isatty=lambda: terminal))
    assert (screen.colour, screen.width) == (colour, 70)
    assert ("\x1b[" in "".join(ask("show", "output/france", screen=screen)[1])) == colour
    plain = [re.sub(r"\x1b\[[\d;]+m", "", line) for line in ask("show", "output/france", screen=screen)[1]]
    assert plain == ask("show", "output/france", screen=Screen(70))[1]
    assert "\x1b" not in ask("show", "output/france", "--json", screen=screen)[1][0]


def test_ascii_where_there_are_no_blocks(folder, ask):
    out = ask("show", "output/france", screen=Screen(unicode=False))[1]
    assert "".join(out).isascii() and RAMP in " ".join(out) and "@@@@@@@" in " ".join(out)


@pytest.mark.parametrize(
    "texts, last, room, expected",
    [
        ([3, 7, 2, 6, 2], 4, 64, (8, 5)),
        ([5000] * 5, 4, 64, (10, 5)),
        ([4] * 52, 51, 64, (5, 13)),
        ([3] * 2000, 1999, 64, (5, 13)),
        ([3] * 20000, 19999, 64, (6, 10)),
        ([9] * 10, 9, 64, (6, 10)),
        ([1], 0, 8, (2, 1)),
        ([9] * 3, 2, 8, (5, 1)),
        ([], 0, 64, (2, 1)),
    ],
)
def test_widths_and_folds(texts, last, room, expected):
    assert column_widths(texts, last, room) == expected
