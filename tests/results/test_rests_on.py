"""What an answer rests on, in words: of a run record, whoever wrote it."""

from __future__ import annotations

import math

import pytest

from mask_impact.results.rests_on import conclusion, in_a_line, in_brief, knockout_of, largest_units


def unit(text=" city", change=-1.3, **values) -> dict:
    return {"text": text, "position": 8, "positions": "8", "unit": "tokens", "logprob_change": change} | values


KNOCKOUT = {"rests_on": [unit("iffel", -4.354), unit()], "read_at": [unit(), unit(" in", 0.28), unit(" is", 0.004)]}
MALFORMED = [
    None,
    "iffel",
    [],
    {},
    unit(text=3),
    unit(text=None),
    unit(positions=8),
    unit(position="8"),
    unit(unit=["tokens"]),
    *(unit(change=change) for change in ("-4.35", None, True, [1], math.nan, math.inf, -math.inf, 10**400, 1e300)),
    {name: value for name, value in unit().items() if name != "logprob_change"},
]


def test_the_conclusion_is_one_line():
    assert list(conclusion(KNOCKOUT, " Paris", "0.699")) == [
        "' Paris' (0.699) rests on: 'iffel' -4.35, ' city' -1.30; the final position reads it at: ' city' -1.30, "
        "' in' +0.28"
    ]
    assert list(conclusion({"read_at": [unit()]}, "x", "1")) == [
        "'x' (1): the final position reads it at: ' city' -1.30"
    ]


def test_without_a_change_to_show_nothing_is_said():
    assert list(conclusion({}, "x", "1")) == list(conclusion({"rests_on": [unit(change=0.0)]}, "x", "1")) == []


@pytest.mark.parametrize("one", MALFORMED, ids=lambda one: repr(one)[:60])
def test_what_no_run_writes_is_passed_over(one):
    assert largest_units({"rests_on": [one, unit()]}, "rests_on") == [unit()]
    assert in_a_line({"rests_on": [one]}, "rests_on") == ""


@pytest.mark.parametrize("found", [None, 3, "rests on", [], {"rests_on": {}}, {"rests_on": "x"}, {"rests_on": None}])
def test_a_record_without_lists_has_no_units(found):
    assert (
        largest_units(knockout_of({"knockout": found}), "rests_on") == largest_units(knockout_of({}), "read_at") == []
    )


def test_a_list_is_no_longer_than_a_run_writes_it_and_its_units_have_no_more():
    assert len(largest_units({"rests_on": [unit()] * 100_000}, "rests_on")) == 3
    assert largest_units({"rests_on": [unit(more={"deep": []})]}, "rests_on") == [unit()]


def test_a_text_is_escaped_and_not_longer_than_a_line():
    assert in_brief(unit("\x1b[2J\n\u202e")) == r"'\x1b[2J\n\u202e' -1.30"
    assert len(in_brief(unit("x" * 10**6))) < 60
