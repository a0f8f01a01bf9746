"""`python -m mask_impact` on results whose rows are units: one kind at a time, compared by what is hidden, exported."""

from __future__ import annotations

import json

import numpy as np
import pytest
from looking import long_table
from unit_tables import UNITS, hostile_kinds, tokens_as_units, units_table

from mask_impact import read_results
from mask_impact.base.formats import FORMATS
from mask_impact.base.terminal import Screen
from mask_impact.results.table import ResultTable, StepDistances, UnitLabels
from mask_impact.results.writing import write_results

MIXED = [
    (" The", "words", "0"),
    (" Eiffel Tower", "words", "1-3"),
    (" is", "words", "4"),
    ("tower", "spans", "2-3"),
    ("all", "spans", "0-4"),
    ("turm", "spans", "2-3"),
    ("tower + all", "pairs", "0-4"),
    ("tower + turm", "pairs", "2-3"),
]
WORDS, SPANS, PAIRS = MIXED[:3], MIXED[3:6], MIXED[6:]


def table_of(units, l2, steps=1, interaction=True) -> ResultTable:
    """A table of these units in two layers of Full, with L2 distances of (layer, unit), and a tenth of a pair's as its
    interaction."""
    l2 = np.array(l2, np.float32)
    labels = UnitLabels(*map(list, zip(*units)))
    first = np.array([int(where[0]) for *_, where in units])
    tenth = np.where([kind == "pairs" for kind in labels.kinds], l2 / 10, np.nan).astype(np.float32)
    table = ResultTable([""] * 5, [("Full", layer) for layer in range(len(l2))])
    for step in range(steps):
        table.steps.append(StepDistances(step, l2, l2 / 100, first, labels, tenth if interaction else None))
    return table


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Write a table as the result of a name; the name for the command."""
    monkeypatch.chdir(tmp_path)

    def write(name, table, **record):
        write_results(table, tmp_path / "output", name, ("csv",), {"status": "complete", **record})
        return f"output/{name}"

    return write


@pytest.fixture
def mixed(store):
    return store("mixed", table_of(MIXED, [[90, 2, 1, 5, 60, 4, 70, 8], [90, 3, 0, 6, 60, 4, 70, 9]]))


def section(out, start):
    """The lines from the one that starts so up to the next empty one."""
    first = next(number for number, line in enumerate(out) if line.startswith(start))
    return out[first : out.index("", first)]


# show


def test_show_has_one_kind_at_a_time(ask, mixed):
    code, out, err = ask("show", mixed)
    assert (code, err) == (0, []) and any(line.endswith("unit words of words, spans, pairs") for line in out)
    heading, *listed = section(out, "Words")
    assert heading == "Words that move the layers most (summed L2 distance, position 0 left out)"
    assert [line.split() for line in listed] == [
        ["1-3", "5", "layer", "1:", "3", '"', "Eiffel", 'Tower"'],
        ["4", "1", "layer", "0:", "1", '"', 'is"'],
    ]
    assert section(out, "layer")[0].split() == ["layer", "largest", "0", "1", "4"]
    assert [line.split()[:2] for line in section(out, "layer")[2:]] == [["0", "2"], ["1", "3"]]
    assert "Position 0 may be larger" in " ".join(out)


def test_a_unit_of_which_position_0_is_a_part_is_not_left_out(ask, mixed):
    out = ask("show", mixed, "--unit", "Spans")[1]
    heading, *listed = section(out, "Spans")
    assert heading == "Spans that move the layers most (summed L2 distance)" and "position 0" not in " ".join(out)
    assert [line.split()[0] for line in listed] == ["0-4", "2-3", "2-3"]
    assert [line.split('"')[1] for line in listed] == ["all", "tower", "turm"]
    assert section(out, "layer")[1].split() == ["tower", "all", "turm"]
    assert [line.split()[:2] for line in section(out, "layer")[2:]] == [["0", "60"], ["1", "60"]]


def test_a_pair_has_its_interaction_beside_its_own(ask, mixed):
    out = ask("show", mixed, "--unit", "pairs", screen=Screen(100))[1]
    heading, *listed = section(out, "Pairs")
    assert heading == "Pairs that move the layers most (summed L2 distance; beside it, the interaction's)"
    assert [line.split()[:3] for line in listed] == [["0-4", "140", "14"], ["2-3", "17", "1.7"]]
    out = ask("show", mixed, "--metric", "interaction")[1]
    heading, *listed = section(out, "Pairs")
    assert heading == "Pairs that move the layers most (summed L2 of the interaction)"
    assert [line.split()[:2] for line in listed] == [["0-4", "14"], ["2-3", "1.7"]]
    assert [line.split()[:2] for line in section(out, "layer")[2:]] == [["0", "7"], ["1", "7"]]


def test_json_of_units_has_their_positions(ask, mixed):
    found = json.loads(ask("show", mixed, "--unit", "pairs", "--json", "--top", 1)[1][0])
    assert (found["unit"], found["units"]) == ("pairs", ["words", "spans", "pairs"])
    [pair] = found["strongest"]
    assert (pair["token"], pair["position"], pair["positions"]) == ("tower + all", 0, "0-4")
    assert pair["interaction"] == pytest.approx(14)
    found = json.loads(ask("show", mixed, "--json", "--top", 1)[1][0])
    assert "interaction" not in found["strongest"][0] and found["strongest"][0]["positions"] == "1-3"


def test_of_a_long_step_the_strongest_of_units_that_begin_alike_are_shown(ask, store):
    plain = long_table(layers=30, positions=300).steps[0]
    labels = UnitLabels([f"s{place}" for place in range(300)], ["spans"] * 300, ["2-5"] * 300)
    step = StepDistances(0, plain.l2, plain.cosine, np.full(300, 2), labels)
    table = ResultTable([""] * 9, [("Full", layer) for layer in range(30)], [step])
    out = ask("show", store("long", table))[1]
    strongest = np.argsort(-plain.l2.astype(float).sum(0), kind="stable")
    [line] = [line for line in out if "of 300 spans that move the layers most, in their order" in line]
    shown = int(line.split()[1])
    assert section(out, "layer")[1].split() == [f"s{place}" for place in sorted(strongest[:shown])]


@pytest.mark.parametrize(
    "words, fault",
    [
        (["mixed", "--unit", "word"], "--unit: unknown unit 'word', did you mean 'words'? valid: words, spans, pairs"),
        (["mixed", "--unit", "spans", "--metric", "interaction"], "--metric interaction is of pairs, and not of spans"),
        (["words", "--metric", "interaction"], "words_results.csv has no pairs of units"),
        (["plain", "--unit", "words"], "--unit: unknown unit 'words'"),
        (["plain", "--metric", "interaction"], "plain_results.csv has no pairs of units; --pairs measures them"),
    ],
)
def test_what_a_result_does_not_have_is_refused(ask, store, mixed, words, fault):
    store("words", table_of(WORDS, [[1, 2, 3]], interaction=False))
    store("plain", long_table(layers=1, positions=3))
    code, out, [line] = ask("show", *words)
    assert (code, out) == (2, []) and fault in line


def test_a_plain_result_says_nothing_of_units(ask, store):
    name = store("plain", long_table(layers=1, positions=3))
    out = ask("show", name)[1]
    assert out[2] == "shown      step 0 of 0, variant Full of Full" or "unit" not in " ".join(out)
    assert ask("show", name, "--unit", "tokens")[1] == out and not {"unit", "units"} & set(
        json.loads(ask("show", name, "--json")[1][0])
    )


def test_kinds_and_positions_from_a_file_drive_no_terminal(ask, store):
    name = store("evil", hostile_kinds(units_table(pairs=False, pictures=False)))
    for words in (["show", name], ["compare", name, name], ["show", name, "--unit", "x"]):
        _, out, err = ask(*words)
        assert "\x1b" not in "".join(out + err) and "\r" not in "".join(out + err)


# compare


def test_units_are_paired_by_kind_positions_and_text(ask, store, mixed):
    """Their order may differ, and what one has alone is left out; two spans of the same positions are told apart."""
    turned = [PAIRS[1], SPANS[2], SPANS[0], WORDS[2], WORDS[1], ("new", "sentences", "0-4")]
    other = store("other", table_of(turned, [[8, 4, 5, 1, 2, 7], [9, 4, 6, 0, 3, 7]]))
    code, out, err = ask("compare", mixed, other)
    assert (code, err) == (0, [])
    assert "left out, as the other has no such unit: 1 pairs, 1 spans, 1 words of A and 1 sentences of B" in " ".join(
        out
    )
    assert "equal: every L2 distance is the same in both" in out
    assert (
        "the 3 units that move the layers most are the same, in the same order, in all 3 triples of step, variant and "
        "kind" in " ".join(out)
    )


def test_a_change_names_its_unit(ask, store, mixed):
    changed = [[90, 2, 1, 5, 60, 4, 70, 8], [90, 3, 9, 6, 60, 4, 70, 9]]
    out = ask("compare", mixed, store("other", table_of(MIXED, changed)))[1]
    assert 'Full   9 (A 0, B 9): layer 1, step 0, words 4 " is"' in out
    place = out.index("step 0, Full: words that move the layers most changed (position 0 left out)")
    assert out[place + 1 : place + 3] == ['  A  1-3 " Eiffel Tower", 4 " is"', '  B  4 " is", 1-3 " Eiffel Tower"']
    assert "in 2 of 3 triples" in " ".join(out)


def test_the_largest_change_of_position_0_alone_has_a_second_and_of_a_part_has_none(ask, store, mixed):
    l2 = [[90, 2, 1, 5, 60, 4, 70, 8], [95, 3, 2, 6, 60, 4, 70, 9]]
    out = ask("compare", mixed, store("word", table_of(MIXED, l2)))[1]
    assert 'Full   5 (A 90, B 95): layer 1, step 0, words 0 " The"' in out
    assert '       without position 0: 2 (A 0, B 2): layer 1, step 0, words 4 " is"' in out
    l2 = [[90, 2, 1, 5, 60, 4, 70, 8], [90, 3, 2, 6, 99, 4, 70, 9]]
    out = ask("compare", mixed, store("span", table_of(MIXED, l2)))[1]
    assert 'Full   39 (A 60, B 99): layer 1, step 0, spans 0-4 "all"' in out and "without position" not in " ".join(out)


def test_another_text_at_the_same_positions_is_named_and_compared(ask, store):
    names = [
        store(name, table_of([(text, "words", "1-2"), (" is", "words", "3")], [[1, 2]], interaction=False))
        for name, text in (("a", " France"), ("b", " Italy"))
    ]
    out = ask("compare", *names)[1]
    assert 'words 1-2: A " France" B " Italy"' in out and not any("left out" in line for line in out)
    assert "the 3 words that move the layers most are the same, in the same order, in all 1 pairs" in " ".join(out)


def test_a_plain_result_is_compared_with_the_tokens_among_units(ask, store):
    plain = long_table(layers=2, positions=5)
    both = tokens_as_units(plain)
    l2, labels = both.steps[0].l2, both.steps[0].units
    labels = UnitLabels([*labels.texts, "s"], [*labels.kinds, "spans"], [*labels.positions, "1-2"])
    l2 = np.concatenate([l2, l2[:, :1]], axis=1)
    both.steps[0] = StepDistances(0, l2, l2, np.array([0, 1, 2, 3, 4, 1]), labels)
    out = ask("compare", store("a", plain), store("b", both))[1]
    assert "equal: every L2 distance is the same in both" in out
    assert "left out, as the other has no such unit: 1 spans of B" in out


@pytest.mark.parametrize(
    "units, fault",
    [
        (SPANS, "their units differ (words and spans)"),
        ([(" The", "words", "0-1"), ("Eiffel", "words", "1-2"), (" is", "words", "4-5")], "their positions differ (0,"),
    ],
)
def test_results_that_share_no_unit_are_refused(ask, store, units, fault):
    """Though they are as many, and begin at the same positions."""
    one, other = (table_of(each, [[1, 2, 3]], interaction=False) for each in (WORDS, units))
    code, out, err = ask("compare", store("a", one), store("b", other))
    assert (code, out) == (2, []) and fault in err[0]


def test_interactions_are_compared_where_both_have_them(ask, store, mixed):
    l2 = [[90, 2, 1, 5, 60, 4, 70, 8], [90, 3, 0, 6, 60, 4, 70, 29]]
    out = ask("compare", mixed, store("other", table_of(MIXED, l2)), "--metric", "interaction")[1]
    assert 'Full   2 (A 0.9, B 2.9): layer 1, step 0, pairs 2-3 "tower + turm"' in out
    name = store("words", table_of(WORDS, [[1, 2, 3]], interaction=False))
    code, _, [line] = ask("compare", mixed, name, "--metric", "interaction")
    assert code == 2 and "words_results.csv has no pairs of units" in line


# export and report


@pytest.mark.parametrize("source, target", [(a, b) for a in FORMATS for b in FORMATS if a != b])
@pytest.mark.parametrize("units", [UNITS, UNITS[3:6]])
def test_exports_are_what_a_run_writes_byte_for_byte(ask, tmp_path, monkeypatch, source, target, units):
    monkeypatch.chdir(tmp_path)
    table = units_table(units=units)
    write_results(table, tmp_path / "output", "a", FORMATS, {"status": "complete", "dtypes": {"results": "float32"}})
    wanted = tmp_path / "output" / f"a_results.{target}"
    before = wanted.read_bytes()
    wanted.unlink()
    assert ask("export", f"output/a_results.{source}", "--to", target)[0] == 0
    assert wanted.read_bytes() == before and read_results(wanted).equals(table.to_dataframe())


def test_a_report_is_made_of_a_result_of_units(ask, store, mixed, tmp_path):
    assert ask("report", mixed)[0] == 0
    assert '"units":[{"texts":[" The"," Eiffel Tower"' in (tmp_path / "output/mixed_report.html").read_text("utf-8")
