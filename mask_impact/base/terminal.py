r"""What a terminal can show, and text from models and files made safe for it.

    screen = Screen.of(sys.stdout)
    screen.quoted("\x1b[2J")         # "\x1b[2J" in quotes, with a backslash and no escape character

Tokens, prompts and names come from models and files. A control character in them could clear the screen or change the
window's title, and a bidirectional mark could show a line in another order: each is written as its escape.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

LEVELS = 8
BLOCKS, RAMP = "▁▂▃▄▅▆▇█", "_-=+*%#@"
NARROWEST = 24  # columns; a terminal that is narrower breaks the lines itself
MOST_MARKS = 3  # on one character: more would climb over the lines above
_INVISIBLE = {"\u115f", "\u1160", "\u3164", "\uffa0"}  # letters that show nothing
# One hue from grey to red, by the numbers that terminals of 256 colours have; readable on white and on black.
_COLOURS = (245, 245, 180, 179, 173, 172, 166, 160)


@dataclass(frozen=True)
class Screen:
    """Columns of the terminal, whether its encoding has block characters, and whether colour is wanted."""

    width: int = 80
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """The screen behind `stream`, by the encoding that the stream has now."""
        wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        able = os.name != "nt" or "WT_SESSION" in os.environ  # Windows' old console shows the codes themselves
        return cls(
            max(NARROWEST, shutil.get_terminal_size().columns),
            _can_encode(stream.encoding, BLOCKS + "·…◌␣"),
            wanted and able,
        )

    def columns(self, text: str) -> int:
        """How many columns the text takes once it is safe."""
        return sum(columns for _, columns in _graphemes(text, self.unicode))

    def safe(self, text: str) -> str:
        """The text with every character that could drive a terminal written as its escape."""
        return "".join(shown for shown, _ in _graphemes(text, self.unicode))

    def quoted(self, text: str, width: int | None = None) -> str:
        """The text in quotes, safe, backslashes and quotes escaped too; cut to `width` columns if it is wider."""
        escaped = text.replace("\\", r"\\").replace('"', r"\"")
        return f'"{self.cut(escaped, None if width is None else width - 2)}"'

    def cut(self, text: str, width: int | None, mark: str | None = None) -> str:
        """The text, safe; if it is wider than `width` columns, its beginning and a mark, together no wider."""
        graphemes = _graphemes(text, self.unicode)
        if width is None or sum(columns for _, columns in graphemes) <= width:
            return "".join(shown for shown, _ in graphemes)
        mark = ("…" if self.unicode else "..") if mark is None else mark
        kept, left = "", max(0, width - len(mark))
        for shown, columns in graphemes:
            if columns > left:
                break
            kept, left = kept + shown, left - columns
        return kept + mark[:width]

    def padded(self, text: str, width: int) -> str:
        """The text, safe, in exactly `width` columns; what is too wide is cut off."""
        shown = self.cut(text, width, "")
        return shown + " " * (width - columns_of(shown))

    def lines(self, text: str, indent: str = "") -> Iterator[str]:
        """The text, safe, wrapped between words at the screen's width; lines after the first begin with `indent`."""
        yield from textwrap.wrap(self.safe(text), self.width, subsequent_indent=indent, break_on_hyphens=False)

    def painted(self, text: str, level: int) -> str:
        """The text in the colour of a level from 1 to LEVELS, where colour is wanted."""
        return f"\x1b[38;5;{_COLOURS[level - 1]}m{text}\x1b[0m" if self.colour and level > 0 else text

    def bold(self, text: str) -> str:
        """The text in bold, where colour is wanted."""
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text


def columns_of(text: str) -> int:
    """How many columns the text takes: two for East Asian wide characters, none for combining marks."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character).startswith("M"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _graphemes(text: str, unicode: bool) -> list[tuple[str, int]]:
    """The text in pieces that must not be cut, each with its columns: a character with its marks, or an escape."""
    graphemes: list[tuple[str, int]] = []
    marks = MOST_MARKS  # of the last grapheme; an escape takes none
    for character in text:
        mark = unicodedata.category(character).startswith("M")
        if (
            (not unicode and character > "~")
            or _needs_escape(character)
            or (mark and graphemes and marks >= MOST_MARKS)
        ):
            shown = character.encode("unicode_escape").decode("ascii")
            graphemes.append((shown, len(shown)))
            marks = MOST_MARKS
        elif mark and graphemes:
            graphemes[-1] = (graphemes[-1][0] + character, graphemes[-1][1])
            marks += 1
        else:
            graphemes.append(("◌" + character, 1) if mark else (character, _columns(character)))
            marks = int(mark)
    return graphemes


def _needs_escape(character: str) -> bool:
    """Whether a character does more than fill its columns: controls, formats and bidirectional marks, spaces other than
    the plain one, surrogates, private and unassigned characters, variation selectors, halves of flags."""
    if character == " ":
        return False
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    joined = (
        "\u1160" <= character <= "\u11ff"
        or "\ud7b0" <= character <= "\ud7ff"
        or "\U0001f1e6" <= character <= "\U0001f1ff"
    )
    return unicodedata.category(character)[0] in "CZ" or selector or joined or character in _INVISIBLE


def _can_encode(encoding: str | None, text: str) -> bool:
    try:
        return bool(text.encode(encoding or "ascii"))
    except (UnicodeEncodeError, LookupError):
        return False
