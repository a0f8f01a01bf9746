"""Named spans: the positions that a text, numbers or a block of cells stand for, and those that are not there."""

from __future__ import annotations

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.cuts.segments import TokenizedText
from mask_impact.cuts.spans import is_block, span_units

TOKENS = ["The", " E", "iff", "el", " cat#2", " and", " el", "@3", "img0[0,1]", *["<p>"] * 6]
CELLS = {9 + number: (0, *divmod(number, 3)) for number in range(6)}  # two rows of three


def text():
    ends = [len("".join(TOKENS[: number + 1])) for number in range(len(TOKENS))]
    return TokenizedText("".join(TOKENS), list(zip([0, *ends], ends)), TOKENS, frozenset(), CELLS)


def where(span):
    [unit] = span_units([f"x={span}"], text())
    assert (unit.label, unit.kind) == ("x", "spans")
    return unit.where


@pytest.mark.parametrize(
    "span, positions",
    [
        ("Eiffel", "1-3"),
        ("iffe", "2-3"),
        ("el c", "3-4"),
        ("el", "3"),
        ("el#1", "3"),
        ("el#2", "6"),
        ("el#all", "3,6"),
        ("cat#2#1", "4"),
        ("@3", "3"),
        ("@3#1", "7"),
        ("@0,5-6,5", "0,5-6"),
        ("img0[0,1]", "10"),
        ("img0[0-1,1-2]", "10-11,13-14"),
        ("img0[0,1]#1", "8"),
    ],
)
def test_a_span_is_found(span, positions):
    assert where(span) == positions


def test_spans_stand_in_the_order_given():
    assert [unit.label for unit in span_units(["b=cat", "a=The"], text())] == ["b", "a"]


@pytest.mark.parametrize(
    "span, fault",
    [
        ("dog", "'dog' does not occur in the prompt; write it as it stands there"),
        ("eiffel  CAT", "'eiffel  CAT' does not occur in the prompt, but 'Eiffel cat' does; write it so"),
        ("el#3", "'el' occurs 2 times, and there is no #3; count from #1"),
        ("el#0", "'el' occurs 2 times, and there is no #0; count from #1"),
        ("#2", "no text stands before #2; write NAME=TEXT"),
        ("@3-15", "position 15 lies outside the prompt; its positions are 0 to 14"),
        ("@7-3", "the range 7-3 runs backwards; write 3-7"),
        (
            "img0[0-2,1]",
            "img0[0-2,1] lies outside the picture's grid; its rows are 0 to 1, its columns 0 to 2",
        ),
        ("img1[0,0]", "there is no picture 1 for img1[0,0]; if that is text, write img1[0,0]#1"),
    ],
)
def test_a_span_that_is_not_there_is_one_line(span, fault):
    with pytest.raises(RequestError) as caught:
        span_units([f"x={span}", "y=The", "z=nowhere"], text())
    assert caught.value.faults == (
        f"span 'x': {fault}",
        "span 'z': 'nowhere' does not occur in the prompt; write it as it stands there",
    )


def test_blocks_are_told_from_text():
    assert is_block("x=img0[1-3,2]") and not is_block("x=img0") and not is_block("x=img0[1]")
