"""Words, sentences and lines: where a text is cut, and which tokens each piece has."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mask_impact.cuts.segments import (
    STARTS,
    TokenizedText,
    Turns,
    image_units,
    segment_units,
    turn_units,
)


def tokenized(*tokens, special=(), cells=None):
    ranges, place = [], 0
    for token in tokens:
        ranges.append((place, place + len(token)))
        place += len(token)
    return TokenizedText("".join(tokens), ranges, tokens, frozenset(special), cells or {})


def pieces(kind, text):
    starts = [*STARTS[kind](text), len(text)]
    return [text[start:end] for start, end in pairwise(starts)]


def units(kind, text, masked=None):
    made = segment_units(text, kind, range(len(text)) if masked is None else masked)
    assert all(unit.kind == kind for unit in made)
    return [(unit.label, unit.where) for unit in made]


@pytest.mark.parametrize(
    "text, words",
    [
        ("The cat sat", ["The ", "cat ", "sat"]),
        ("Tom's 3.14, isn't it?", ["Tom's ", "3.14, ", "isn't ", "it?"]),
        ('He said "(yes)." Well', ["He ", "said ", '"(yes)." ', "Well"]),
        ("well-known a,b", ["well-", "known ", "a,", "b"]),
        ("2+2 = 4", ["2", "+", "2 ", "= ", "4"]),
        ("a — b", ["a ", "— ", "b"]),
        ("école 日本 👍🏽!", ["école ", "日", "本 ", "👍🏽!"]),
        ("a\n\nb", ["a\n\n", "b"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert pieces("words", text) == words


def test_sentences_and_lines():
    text = "Dr. Smith came. He said: “Go!”\n\nThey went.\n\nEnd"
    assert pieces("sentences", text)[:2] == ["Dr. Smith came. ", "He said: “Go!”"]
    assert pieces("lines", "a\n\nb\r\nc") == ["a\n", "\n", "b\r\n", "c"]


def test_a_token_lies_where_its_first_visible_character_does():
    text = tokenized("The", " E", "iff", "el.", "\n", "\n", " He", " ran. W", "e")
    words = [("The", "0"), (" Eiffel.\n\n", "1-5"), (" He", "6"), (" ran. W", "7"), ("e", "8")]
    assert units("words", text) == words
    assert units("sentences", text) == [("The Eiffel.\n\n", "0-5"), (" He ran. W", "6-7"), ("e", "8")]
    assert units("lines", text) == [("The Eiffel.\n\n", "0-5"), (" He ran. We", "6-8")]


def test_spaces_go_with_what_they_lead_to_and_special_tokens_in_front_are_a_unit():
    text = tokenized("<s>", " ", "Hi", " ", "there", "<e>", "You", special=(0, 5))
    assert units("words", text) == [("<s>", "0"), (" Hi", "1-2"), (" there<e>", "3-5"), ("You", "6")]
    assert units("lines", text) == [("<s>", "0"), (" Hi there<e>", "1-5"), ("You", "6")]
    assert units("lines", tokenized("a", "<e>", "\n", "<s>", "b", special=(1, 3))) == [
        ("a<e>\n", "0-2"),
        ("<s>b", "3-4"),
    ]
    assert units("lines", tokenized("a", "\n", "    ", "b")) == [("a\n", "0-1"), ("    b", "2-3")]
    assert units("words", tokenized(" ", "\n")) == [(" \n", "0-1")]
    assert units("words", tokenized("a", " ")) == [("a ", "0-1")]


@pytest.mark.parametrize("space", ["\u00a0", "\u0085", "\u2028", "\u3000"])
def test_white_space_of_other_kinds_ends_no_sentence_by_an_error(space):
    text = f"\n\nB{space}.\r]/ One. Two{space}. Three."
    assert "".join(pieces("sentences", text)) == text


def test_tokens_that_share_a_character_lie_in_one_unit():
    text = TokenizedText("a 👍b", [(0, 1), (1, 3), (1, 3), (3, 4)], ["a", "x", "y", "b"])
    assert units("words", text) == [("a", "0"), (" 👍", "1-2"), ("b", "3")]


def test_a_piece_in_which_no_token_begins_is_no_unit():
    assert units("words", tokenized("a b c", " d")) == [("a b c", "0"), (" d", "1")]


def test_a_picture_is_one_unit_and_text_goes_on_behind_it():
    text = tokenized("See", "<v>", "<p>", "<p>", "</v>", "it", special=(1, 4), cells={2: (0, 0, 0), 3: (0, 0, 1)})
    assert units("words", text) == [("See<v>", "0-1"), ("img0", "2-3"), ("</v>it", "4-5")]
    assert units("words", text, [0, 1, 4, 5]) == [("See<v>", "0-1"), ("</v>it", "4-5")]
    assert [(one.label, one.positions) for one in image_units(text, range(6))] == [("img0", (2, 3))]
    assert image_units(text, [0, 1, 4, 5]) == []


def test_what_is_generated_goes_on_in_the_last_turn():
    turns = Turns(("user 1", "assistant 1"), (0, 0))
    assert [unit.label for unit in turn_units(turns, range(2))] == ["user 1"]
    assert [(unit.label, unit.where) for unit in turn_units(turns, range(4))] == [
        ("user 1", "0-1"),
        ("assistant 1", "2-3"),
    ]
    assert Turns(("a", "b"), (0, 1)).repeated([1, 3]).of_tokens == (0, 1, 1, 1)


def test_what_stands_around_a_picture_stays_on_its_side():
    """Although a line break stands in front of the token that opens it."""
    text = tokenized("user", "\n", "<v>", "<p>", "</v>", "it", special=(2, 4), cells={3: (0, 0, 0)})
    for kind in ("words", "sentences", "lines"):
        units = segment_units(text, kind, range(6))
        assert [(unit.label, unit.positions) for unit in units] == [
            ("user\n<v>", (0, 1, 2)),
            ("img0", (3,)),
            ("</v>it", (4, 5)),
        ]
