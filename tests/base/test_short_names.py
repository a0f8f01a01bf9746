"""Names cut to a column's width: what tells them apart is left."""

from __future__ import annotations

import pytest

from mask_impact.base.short_names import short_names
from mask_impact.base.terminal import columns_of

COUNTRIES = (
    "france finland spain portugal austria australia chad china japan norway sweden kenya nigeria algeria libya "
    "liberia germany italy greece turkey india indonesia iran iraq ireland iceland peru chile cuba"
).split()
REST = "_and_all_that_follows_is_the_same_for_each_of_them"


def told_apart(names: list[str], most: int = 30, widest: int = 30) -> list[str]:
    """The names as they are shown, no two alike and none wider than `widest`."""
    shown = short_names(names, most)
    assert len(set(shown)) == len(names) == len(shown)
    assert max(map(columns_of, shown)) <= widest
    return shown


def test_names_that_differ_in_their_middle_show_it():
    assert len(COUNTRIES) == 29
    shown = told_apart([f"the_capital_of_{name}_is_the_city_of" for name in COUNTRIES])
    assert shown[0] == "the_capital_of_france...ity_of"
    assert all(name in one for name, one in zip(COUNTRIES, shown))


def test_names_that_differ_only_at_the_start_or_only_at_the_end_show_that():
    first, last = told_apart([name + REST for name in COUNTRIES]), told_apart([REST + name for name in COUNTRIES])
    assert all(one.startswith(name) for name, one in zip(COUNTRIES, first))
    assert all(one.endswith(name) for name, one in zip(COUNTRIES, last))


def test_a_lone_long_name_has_no_middle():
    assert short_names(["n" * 99, "france"], 30) == ["n" * 13 + "..." + "n" * 14, "france"]


def test_wide_characters_take_two_columns():
    names = [
        f"请告诉我这个国家的首都是哪一座城市我想知道{name}的首都在哪里" for name in ("法国", "西班牙", "日本", "中国")
    ]
    assert all("..." in one for one in told_apart(names))


def test_a_name_that_is_the_beginning_of_another_stays_another():
    name = "same_again_" * 5
    told_apart([name, name + "2", name + "2_3"])


@pytest.mark.parametrize("between", ["_" * 30, "b" * 30])
def test_columns_grow_where_they_are_too_few(between):
    """What tells lies in three places, farther apart than the column is wide."""
    names = [between.join((a, b, c)) for a in "01" for b in "01" for c in "01"]
    told_apart(names, widest=63)


def test_names_that_fit_stay_and_the_same_name_twice_stays_the_same():
    assert short_names([], 30) == [] and short_names(["a", "b"], 30) == ["a", "b"]
    assert len(set(short_names(["x" * 40] * 2, 30))) == 1
