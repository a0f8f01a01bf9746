"""From coarse to fine: which units are hidden at each level, for how many passes, and what is said about it."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import pairwise

import pytest

from mask_impact.cuts.refine import BUDGET, MOST_UNITS, passes, refine, strongest
from mask_impact.cuts.units import Unit


def cut_at(kind, starts, tokens):
    """Units of neighbouring positions, each from one start to the next."""
    return [Unit(f"{kind[0]}{start}", kind, tuple(range(start, end))) for start, end in pairwise([*starts, tokens])]


def text_of(tokens, **starts):
    """The lists of units of a text, by kind: tokens, and each kind with a unit for every so many tokens."""
    lists = {kind: cut_at(kind, range(0, tokens, every), tokens) for kind, every in starts.items()}
    return lists | {"tokens": cut_at("tokens", range(tokens), tokens)}


class Answer:
    """An answer that rests on some positions: hiding one of them costs its weight; and what was hidden to see that."""

    def __init__(self, **weights):
        self.weights = {int(name[2:]): weight for name, weight in weights.items()}
        self.levels = []

    def effect(self, units):
        self.levels.append(units)
        return [-sum(self.weights.get(position, 0.0) for position in unit.positions) for unit in units]

    @property
    def kinds(self):
        return [sorted({unit.kind for unit in level}) for level in self.levels]


def found(lists, answer, **more):
    tokens = len(lists["tokens"])
    result = refine(tuple(lists), lists.__getitem__, answer.effect, partial(passes, tokens=tokens), **more)
    hidden = [unit for level in answer.levels for unit in level]
    assert result.units == hidden and len(result.changes) == len(hidden)
    assert result.passes == pytest.approx(passes(hidden, tokens)) and result.passes <= more.get("budget", BUDGET)
    assert len({unit.positions for unit in hidden}) == len(hidden)
    json.dumps(result.refined, allow_nan=False)
    return result


def test_passes_are_the_positions_behind_a_units_first():
    assert passes(cut_at("tokens", range(10), 10), 10) == pytest.approx(4.5)
    assert passes([Unit("a", "spans", (3, 8)), Unit("b", "spans", (9,))], 10) == pytest.approx(0.6)


@pytest.mark.parametrize("tokens, at_once", [(1, True), (49, True), (50, False)])
def test_tokens_are_hidden_at_once_where_that_is_cheap(tokens, at_once):
    answer = Answer(at3=1.0)
    result = found(text_of(tokens, sentences=10, words=2), answer)
    assert (answer.kinds == [["tokens"]]) is at_once is (result.refined == [])


def test_from_sentences_to_words_to_tokens_inside_what_matters():
    answer = Answer(at101=4.0, at65=1.0)
    lists = text_of(200, sentences=20, words=4)
    result = found(lists, answer)
    assert answer.kinds == [["sentences"], ["words"], ["tokens"]]
    assert answer.levels[0] == lists["sentences"]
    assert [unit.positions[0] for unit in answer.levels[1]] == [*range(100, 120, 4), *range(60, 80, 4)]
    assert [unit.positions[0] for unit in answer.levels[2]] == [*range(100, 104), *range(64, 68)]
    assert [(entry["unit"], entry["text"], entry["into"], entry["units"]) for entry in result.refined] == [
        ("all", "", "sentences", 10),
        ("sentences", "s100", "words", 5),
        ("sentences", "s60", "words", 5),
        ("words", "w100", "tokens", 4),
        ("words", "w64", "tokens", 4),
    ]
    assert [entry["share"] for entry in result.refined] == pytest.approx([1.0, 0.8, 0.2, 0.8, 0.2])
    assert result.refined[1]["positions"] == "100-119" and result.refined[1]["passes"] == pytest.approx(2.275)
    assert sum(entry["passes"] for entry in result.refined) == pytest.approx(result.passes)


@pytest.mark.parametrize(
    "changes, chosen",
    [
        ([-9.0, 0.5, 0.5], [0]),
        ([0.5, -8.9, 0.6], [1, 2]),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0, 1, 2, 3]),
        ([math.nan, -1.0], [1]),
        ([0.0, -0.0, math.nan], []),
    ],
)
def test_what_is_refined_makes_up_most_of_the_change(changes, chosen):
    units = cut_at("words", range(len(changes)), len(changes))
    total = sum(abs(change) for change in changes if change == change)
    assert strongest(units, changes) == [(units[number], abs(changes[number]) / total) for number in chosen]


def test_where_nothing_changes_nothing_is_refined():
    answer = Answer()
    assert len(found(text_of(200, sentences=20, words=4), answer).refined) == len(answer.levels) == 1


def test_the_coarsest_kind_has_the_fewest_units_and_more_than_one():
    answer = Answer(at150=1.0)
    found(text_of(200, messages=200, sentences=5, lines=50), answer)
    assert answer.kinds == [["lines"], ["sentences"], ["tokens"]]
    assert len(answer.levels[1]) == 10


def test_a_kind_that_cuts_across_a_unit_does_not_divide_it():
    answer, lists = Answer(at30=1.0), text_of(200, sentences=40)
    lists["lines"] = cut_at("lines", range(10, 200, 20), 200)
    lists["lines"][0] = Unit("l0", "lines", tuple(range(30)))
    found({"sentences": lists["sentences"], "lines": lists["lines"], "tokens": lists["tokens"]}, answer, budget=50.0)
    assert answer.kinds == [["sentences"], ["tokens"]]


def test_neighbours_are_hidden_as_one_where_units_are_too_many():
    answer, lists = Answer(at1500=1.0), text_of(2000, sentences=20, words=2)
    result = found(lists, answer)
    first = answer.levels[0]
    assert 2 < len(first) <= MOST_UNITS and passes(first, 2000) <= BUDGET / 2
    assert [position for unit in first for position in unit.positions] == list(range(2000))
    assert first[0].label == f"s0 … s{first[1].positions[0] - 20}" and first[0].kind == "sentences"
    assert (result.refined[0]["pieces"], result.refined[0]["units"]) == (100, len(first))
    assert answer.kinds == [["sentences"], ["sentences"], ["words"], ["tokens"]]
    assert answer.levels[-1] == lists["tokens"][1500:1502]


def test_cheap_units_are_not_too_many_either():
    answer = Answer(at1998=1.0)
    result = found(text_of(2000, sentences=100), answer)
    assert result.refined[1]["text"] == "s1900" and passes(answer.levels[1], 2000) < 3
    assert [entry["units"] for entry in result.refined] == [20, 34, 3]


def test_what_is_too_dear_is_hidden_in_longer_pieces_for_half_of_what_is_left():
    answer = Answer(at5=3.0, at25=2.0)
    result = found(text_of(200, sentences=20), answer, budget=20.0)
    first, second = result.refined[1:3]
    assert (first["text"], first["pieces"], first["units"]) == ("s0", 20, 7)
    assert first["passes"] <= first["left"] / 2 == pytest.approx((20.0 - passes(answer.levels[0], 200)) / 2)
    assert (second["text"], second["pieces"], second["units"]) == ("s20", 20, 4)
    assert second["passes"] <= second["left"] / 2 == pytest.approx((first["left"] - first["passes"]) / 2)


def test_what_even_two_pieces_are_too_dear_for_is_said_and_left():
    answer = Answer(at5=3.0)
    result = found(text_of(200, sentences=20), answer, budget=6.0)
    assert (result.refined[1]["text"], result.refined[1]["units"], result.refined[1]["passes"]) == ("s0", 0, 0.0)


@pytest.mark.parametrize("tokens", [51, 700, 2048, 4096])
@pytest.mark.parametrize("kinds", [{}, {"words": 2}, {"sentences": 25, "words": 2}, {"messages": 2000, "lines": 90}])
def test_the_budget_holds_and_the_token_is_found(tokens, kinds):
    """Whatever the text is made of: where it rests on one token the way ends there, or in its neighbourhood."""
    for position in (0, tokens // 3, tokens - 2):
        answer = Answer(**{f"at{position}": 2.0})
        last = found(text_of(tokens, **kinds), answer).units[-1]
        assert all(position in {one for unit in level for one in unit.positions} for level in answer.levels)
        assert len(last.positions) <= 30


def test_positions_that_are_not_hidden_are_in_no_level():
    """As where a picture's cells are masked alone."""
    lists = {"tokens": [Unit(f"c{at}", "tokens", (at,)) for at in range(4, 260)]}
    answer = Answer(at77=1.0)
    result = refine(("tokens",), lists.__getitem__, answer.effect, partial(passes, tokens=300))
    assert {one for unit in answer.levels[0] for one in unit.positions} == set(range(4, 260))
    assert result.passes <= BUDGET
    assert any(unit.positions == (77,) for unit in answer.levels[-1])
