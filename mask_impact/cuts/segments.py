"""Cuts a text into words, sentences or lines, and tells which of its tokens each of them has.

text = TokenizedText("Hi. You?", [(0, 2), (2, 3), (3, 7), (7, 8)], ["Hi", ".", " You", "?"])
[unit.label for unit in segment_units(text, "sentences", range(4))]      # ["Hi.", " You?"]
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import regex
import sentencex

from mask_impact.cuts.units import Unit

# Of sentencex's rules: which abbreviations end no sentence. The marks of other scripts end one in it too.
LANGUAGE = "en"
WORD_BOUNDARY = regex.compile(r"(?w)\b")  # by UAX 29, not between \w and \W
BREAK = regex.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
PUNCTUATION = regex.compile(r"\p{P}+")

OTHER_SPACE = regex.compile(r"[^\S \t\n\r]")  # sentencex 1.0 breaks off at white space of several bytes
FRONT = 0  # of special tokens in front of all text: pieces are numbered from 1

Cell = tuple[int, int, int]  # picture, row, column


@dataclass(frozen=True)
class TokenizedText:
    """The tokens that a model has seen, and the text that they decode to.

    `ranges` has the characters (start, end) of each token; tokens that are whole characters only together have the same
    ones. `shown` are the tokens as results show them. `special` are positions of tokens that are no text, such as the
    end of a turn, and `cells` those of pictures.
    """

    text: str
    ranges: Sequence[tuple[int, int]]
    shown: Sequence[str]
    special: frozenset[int] = frozenset()
    cells: dict[int, Cell] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ranges)

    @cached_property
    def visible(self) -> str:
        """The text with line breaks in place of what is none: special tokens and pictures, where a new line begins."""
        blanked = list(self.text)
        for position in (*self.special, *self.cells):
            start, end = self.ranges[position]
            blanked[start:end] = "\n" * (end - start)
        return "".join(blanked)

    def first_visible(self, position: int) -> int | None:
        """The first character of a token that is no white space; None if it has none."""
        return first_visible(self.visible, *self.ranges[position])

    def said(self, positions: Iterable[int]) -> str:
        """The text of these ascending positions; of tokens with the same characters once."""
        return "".join(self.text[start:end] for start, end in dict.fromkeys(self.ranges[one] for one in positions))


@dataclass(frozen=True)
class Turns:
    """A chat's turns: a label for each, and the number of the turn of each token of the prompt.

    What is generated goes on in the last turn, which may have no token of the prompt.
    """

    labels: tuple[str, ...]
    of_tokens: tuple[int, ...]

    def repeated(self, times: Sequence[int]) -> Turns:
        """The same where each token stands so many times in a row."""
        of_each = zip(self.of_tokens, times)
        return Turns(self.labels, tuple(turn for turn, count in of_each for _ in range(count)))


def first_visible(text: str, start: int, end: int) -> int | None:
    """The first character from `start` on and before `end` that is no white space; None if there is none."""
    return next((place for place in range(start, end) if not text[place].isspace()), None)


def word_starts(text: str) -> list[int]:
    """Where each word begins. Punctuation goes with the word that it touches, with that before it if it touches two;
    alone between spaces it is a word, as symbols are."""
    starts: list[int] = []
    place, before = 0, "space"
    for piece in WORD_BOUNDARY.split(text):
        kind = "space" if not piece or piece.isspace() else "mark" if PUNCTUATION.fullmatch(piece) else "word"
        if (kind == "word" and before != "opening") or (kind == "mark" and before == "space"):
            starts.append(place)
        if piece:
            before = kind if kind != "mark" else "opening" if before in ("space", "opening") else "closing"
        place += len(piece)
    return starts


def starts_of(pieces: Sequence[str]) -> list[int]:
    """Where each of these pieces of a text begins."""
    return [0, *accumulate(map(len, pieces))][:-1]


def sentence_starts(text: str) -> list[int]:
    """Where each sentence begins."""
    return starts_of(sentencex.segment(LANGUAGE, OTHER_SPACE.sub(" ", text)))


def line_starts(text: str) -> list[int]:
    """Where each line begins."""
    return starts_of(text.splitlines(keepends=True))


STARTS = {"words": word_starts, "sentences": sentence_starts, "lines": line_starts}


def segment_units(text: TokenizedText, kind: str, masked: Sequence[int]) -> list[Unit]:
    """The words, sentences or lines that the masked positions lie in, each picture as one unit among them.

    A token lies where its first visible character does. Spaces go with what they lead to, and so does a special token
    behind a line break; line breaks and other special tokens go with what they end, and none beyond a
    picture. Special tokens in front of all text are a unit of their own. A piece in which no token begins is no unit.
    """
    held: dict[tuple[str, int], list[int]] = {}
    wanted = set(masked)
    for position, owner in enumerate(owners(text, STARTS[kind](text.visible))):
        key = ("img", text.cells[position][0]) if position in text.cells else ("", owner)
        if position in wanted:
            held.setdefault(key, []).append(position)
    return [
        Unit(f"img{number}" if picture else text.said(positions), kind, tuple(positions))
        for (picture, number), positions in held.items()
    ]


def owners(text: TokenizedText, starts: Sequence[int]) -> list[int]:
    """The number of the piece that each token lies in, from 1, or FRONT; `starts` says where each piece begins."""
    places = [None if position in text.cells else text.first_visible(position) for position in range(len(text))]
    own = [None if place is None else bisect_right(starts, place) for place in places]
    first = next((position for position, number in enumerate(own) if number is not None), len(own))
    front = max((position for position in text.special if position < first), default=-1)
    pictures = [position in text.cells for position in range(len(text))]
    near, far = nearest_known(own, pictures), nearest_known(own, [False] * len(own))  # far: beyond pictures
    found: list[int] = []
    for position, number in enumerate(own):
        nearest = [known for pair in (near, far) for known in pair[position][:: 1 if leads(text, position) else -1]]
        chosen = FRONT if position <= front else next((one for one in nearest if one is not None), FRONT)
        found.append(chosen if number is None else number)
    return found


def leads(text: TokenizedText, position: int) -> bool:
    """Whether a token without visible text goes with what follows: a space, or a special token behind a line break."""
    start, end = text.ranges[position]
    if position in text.special:
        return start > 0 and bool(BREAK.match(text.text[start - 1]))
    return not BREAK.search(text.text[start:end])


def nearest_known(numbers: Sequence[int | None], walls: Sequence[bool]) -> list[tuple[int | None, int | None]]:
    """For each number that is None the next one and the last one that are not, with no wall between; else itself."""
    behind = last_known(numbers[::-1], walls[::-1])[::-1]
    return list(zip(behind, last_known(numbers, walls)))


def last_known(numbers: Sequence[int | None], walls: Sequence[bool]) -> list[int | None]:
    """Each number, or the last one before it where it is None; None where a wall stands between."""
    known: list[int | None] = []
    for number, wall in zip(numbers, walls):
        known.append(None if wall else number if number is not None or not known else known[-1])
    return known


def image_units(text: TokenizedText, masked: Sequence[int]) -> list[Unit]:
    """Each picture as one unit, whatever of it is masked."""
    held: dict[int, list[int]] = {}
    for position in masked:
        if position in text.cells:
            held.setdefault(text.cells[position][0], []).append(position)
    return [Unit(f"img{number}", "images", tuple(positions)) for number, positions in held.items()]


def turn_units(turns: Turns, masked: Sequence[int]) -> list[Unit]:
    """Each turn of a chat as one unit."""
    held: dict[int, list[int]] = {}
    for position in masked:
        within = position < len(turns.of_tokens)
        held.setdefault(turns.of_tokens[position] if within else len(turns.labels) - 1, []).append(position)
    return [Unit(turns.labels[number], "messages", tuple(positions)) for number, positions in held.items()]
