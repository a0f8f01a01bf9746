"""Named spans: the positions that `NAME=TEXT` stands for.

    tower=Eiffel Tower          every token that the first occurrence of the text touches
    tower=Eiffel Tower#2        the second one; #all for all of them as one
    start=@0-3,7                positions
    corner=img0[1-3,2-5]        rows 1 to 3 and columns 2 to 5 of picture 0's cells

A text that itself looks like one of the last three has #1 behind it: `issue=see #2#1` is the text "see #2".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.cuts.segments import TokenizedText
from mask_impact.cuts.units import Unit
from mask_impact.settings.readers import quoted

RANGE = r"[0-9]{1,9}(?:-[0-9]{1,9})?"
POSITIONS = re.compile(rf"@({RANGE}(?:,{RANGE})*)", re.ASCII)
BLOCK = re.compile(rf"img([0-9]{{1,9}})\[({RANGE}),({RANGE})\]", re.ASCII)
WHICH = re.compile(r"(.*)#([0-9]{1,9}|all)", re.ASCII | re.DOTALL)


def span_units(spans: Sequence[str], text: TokenizedText) -> list[Unit]:
    """The spans, each `NAME=TEXT`, of a prompt, in the order given. Raises RequestError with a line for each that is
    not there."""
    units: list[Unit] = []
    faults: list[str] = []
    for span in spans:
        name, _, wanted = span.partition("=")
        with collect_faults(faults, lambda fault: f"span {quoted(name)}: {fault}"):
            units.append(Unit(name, "spans", tuple(sorted(positions(wanted, text)))))
    if faults:
        raise RequestError(*faults)
    return units


def positions(wanted: str, text: TokenizedText) -> set[int]:
    """The positions that a span's text stands for. Raises RequestError if they are not there."""
    if given := POSITIONS.fullmatch(wanted):
        return numbered(given[1], text)
    if block := BLOCK.fullmatch(wanted):
        return cells(block, text)
    return touched(wanted, text)


def is_block(span: str) -> bool:
    """Whether a span `NAME=TEXT` names cells of a picture."""
    return bool(BLOCK.fullmatch(span.partition("=")[2]))


def span_range(given: str) -> range:
    """`3` or `3-7` as the numbers that it stands for. Raises RequestError for one that runs backwards."""
    first, _, last = given.partition("-")
    if last and int(last) < int(first):
        raise RequestError(f"the range {given} runs backwards; write {last}-{first}")
    return range(int(first), int(last or first) + 1)


def numbered(given: str, text: TokenizedText) -> set[int]:
    """These positions. Raises RequestError for one outside the prompt."""
    ranges = [span_range(one) for one in given.split(",")]
    last = max(one[-1] for one in ranges)
    if last >= len(text):
        raise RequestError(f"position {last} lies outside the prompt; its positions are 0 to {len(text) - 1}")
    return {position for one in ranges for position in one}


def cells(block: re.Match[str], text: TokenizedText) -> set[int]:
    """The positions of a block of cells. Raises RequestError for a picture that is not there, and outside its grid."""
    image, (rows, columns) = int(block[1]), map(span_range, block.groups()[1:])
    there = {cell: position for position, cell in text.cells.items() if cell[0] == image}
    if not there:
        raise RequestError(f"there is no picture {image} for {block[0]}; if that is text, write {block[0]}#1")
    _, last_row, last_column = max(there)
    if rows[-1] > last_row or columns[-1] > last_column:
        raise RequestError(
            f"{block[0]} lies outside the picture's grid; its rows are 0 to {last_row}, its columns 0 to {last_column}"
        )
    return {there[image, row, column] for row in rows for column in columns}


def touched(wanted: str, text: TokenizedText) -> set[int]:
    """Every position that has a character of the text's occurrence. Raises RequestError if there is none."""
    which = WHICH.fullmatch(wanted)
    words, number = (which[1], which[2]) if which else (wanted, "1")
    if not words:
        raise RequestError(f"no text stands before #{number}; write NAME=TEXT")
    found = [match.span() for match in re.finditer(re.escape(words), text.text)]
    if not found:
        raise RequestError(f"{quoted(words)} does not occur in the prompt{nearest(words, text.text)}")
    if number != "all" and not 1 <= int(number) <= len(found):
        raise RequestError(f"{quoted(words)} occurs {len(found)} times, and there is no #{number}; count from #1")
    chosen = found if number == "all" else [found[int(number) - 1]]
    return {
        position
        for position, (first, last) in enumerate(text.ranges)
        if any(first < end and start < last for start, end in chosen)
    }


def nearest(words: str, text: str) -> str:
    """What the text has instead, in other case or with other spaces, as the end of a fault; or what to do."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    near = re.search(pattern, text, re.IGNORECASE) if pattern else None
    if near:
        return f", but {quoted(near[0])} does; write it so"
    if words.startswith("@"):
        return "; positions are written as NAME=@3-7,12"
    return "; cells are written as NAME=img0[1-3,2-5]" if re.match(r"img\d", words) else "; write it as it stands there"
