"""`python -m mask_impact`: results looked at and compared in the shell; what it answers to wrong requests."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from looking import long_table, stored
from repository import ROOT

from mask_impact import __main__, read_results
from mask_impact.base.terminal import BLOCKS, Screen
from mask_impact.lookup.compare import distances_apart
from mask_impact.lookup.find import abbreviated, ranges
from mask_impact.lookup.heatmap_text import ROUNDING, UNDEFINED, ZERO, levels_of, scales
from mask_impact.results.strongest import strongest_tokens
from mask_impact.results.table import COLUMNS, ResultTable, StepDistances


def program(*words, **options):
    environment = os.environ | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "mask_impact", *map(str, words)], cwd=ROOT, env=environment, **pipes, **options
    )


# show


def test_show(folder, ask):
    code, out, err = ask("show", "output/france_results.csv", "--step", 0, "--variant", "Full")
    assert (code, err) == (0, []) and out.pop(5) == 'predicts   " Paris"'
    assert out[:6] == [
        "output/france_results.csv",
        "model      demo on cpu",
        'prompt     "The capital of France is"',
        'generated  " Paris."',
        "shown      step 0 of 0-1, variant Full of Full, Attn, Head_0 to Head_3",
        "",
    ]
    frame = read_results("output/france_results.csv").query(
        "generation_step == 0 and variant == 'Full' and token_position > 0"
    )
    sums = frame.astype({"l2_distance": float}).groupby("token_position").l2_distance.sum().sort_values(ascending=False)
    listed = [line.split(maxsplit=2) for line in out[7:11]]
    assert [(int(position), total) for position, total, _ in listed] == [
        (place, f"{total:.3g}") for place, total in sums.items()
    ]
    assert listed[0][2].endswith('" France"')
    assert out[12].split() == ["layer", "largest", "0", "1", "2", "3", "4"]
    assert out[13].split() == ["The", "capital", "of", "France", "is"]
    assert [line.split()[0] for line in out[14:17]] == ["0", "1", "2"]
    for line, (_, rows) in zip(out[14:17], frame.groupby("layer")):
        assert line.split()[1] == f"{rows.l2_distance.max():.3g}"
        assert line.split()[2 + int(rows.token_position.iloc[rows.l2_distance.argmax()])] == "█" * 7
    assert "scale" in out[18] and "without position 0" in " ".join(out[18:])


def test_show_says_what_was_given_and_what_the_step_predicts(command, ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        command(
            "--model", "demo", "--prompt", "The capital of France is", "--continuation", " Rome.", "--output", "rome"
        )[0]
        == 0
    )
    out = ask("show", "output/rome", "--step", 1)[1]
    assert (
        'given      " Rome."' in out
        and 'predicts   "."' in out
        and not any(line.startswith("generated") for line in out)
    )


def test_a_folder_is_told_with_what_lies_in_it(folder, ask):
    _, _, [error] = ask("show", "output")
    assert error.startswith("error: output: this is a folder; name a result in it: ") and "france" in error


@pytest.mark.parametrize(
    "word",
    ["output/france", "output/france_run.json", "output/france_report.html", "output/france_results.json", "france"],
)
def test_a_result_is_found_by_any_of_its_names(folder, ask, word):
    code, out, err = ask("show", word, "--json")
    assert (code, err) == (0, []) and json.loads(out[0])["prompt"] == "The capital of France is"


def test_json_is_for_scripts(folder, ask):
    words = ["--json", "--step", 1, "--variant", "head_2", "--top", 2, "--metric", "cosine"]
    code, [line], err = ask("show", "output/france", *words)
    found = json.loads(line)
    assert (code, err) == (0, []) and line.isascii()
    assert (found["step"], found["variant"], found["metric"], found["steps"]) == (
        1,
        "Head_2",
        "cosine_distance",
        [0, 1],
    )
    rows = read_results("output/france_results.csv").query("generation_step == 1 and variant == 'Head_2'")
    rows = rows.astype({"cosine_distance": float})
    for token in found["strongest"]:
        mine = rows[rows.token_position == token["position"]]
        assert token["sum_over_layers"] == mine.cosine_distance.sum() and token["largest"] == mine.cosine_distance.max()
        assert (
            token["token"] == mine.token_masked.iloc[0]
            and token["layer"] == mine.layer.iloc[mine.cosine_distance.argmax()]
        )
    assert (
        len(found["strongest"]) == 2
        and found["strongest"][0]["sum_over_layers"] > found["strongest"][1]["sum_over_layers"]
    )


def test_a_table_of_pictures_shows_the_masked_positions_alone(folder, ask):
    code, out, _ = ask("show", "output/circle")
    headings = [line.split()[2:] for line in out if line.startswith("layer")]
    assert code == 0 and [int(word) for words in headings for word in words] == list(range(4, 40))
    assert (
        "img0[1,2]"
        in out[out.index(next(line for line in out if line.startswith("Tokens that move the layers most"))) + 1]
    )
    assert any(line.split()[:3] == ["0,0", "0,1", "0,2"] for line in out) and any("testimg.png" in line for line in out)


def test_undefined_is_not_zero(folder, ask):
    code, out, _ = ask("show", "output/one")
    assert code == 0 and any("none: no distance is defined" in line for line in out)
    rows = [line for line in out if re.match(r" +[0-2] ", line)]
    assert len(rows) == 3 and all(line.split()[1:] == ["-", "???"] for line in rows)
    assert "? undefined" in " ".join(out) and "exactly 0" not in " ".join(out)
    levels = levels_of(np.array([[9, 0, np.nan, 1e-9, 1, 8]]), np.array([8.0]), [1e-6])
    assert levels.tolist() == [[8, ZERO, UNDEFINED, ROUNDING, 1, 8]]


def picture_of(out):
    """The positions and the rows of layers of a printed picture of one piece or more."""
    positions = [int(word) for line in out if line.startswith("layer ") for word in line.split()[2:]]
    return positions, [line for line in out if re.match(r" +\d+ +[\d.e+]+ [▁▂▃▄▅▆▇█·~?]", line)]


def test_of_a_long_step_the_strongest_columns_are_shown_in_their_order(folder, ask):
    table = long_table()
    name = stored(table, folder, "long")
    code, out, _ = ask("show", name)
    positions, rows = picture_of(out)
    assert code == 0 and len(out) < 60 and len(rows) == 30
    assert positions == sorted(token.position for token in strongest_tokens(table, 13))
    assert "The 13 of 600 tokens that move the layers most, in their order; --all draws every one" in " ".join(out)
    assert not any("may be larger" in line for line in out)  # position 0 is not drawn
    wide = picture_of(ask("show", name, screen=Screen(200))[1])[0]
    assert len(wide) > 30 and set(positions) < set(wide)


def test_a_column_has_the_same_blocks_among_the_strongest_as_among_all(folder, ask):
    name = stored(long_table(layers=2), folder, "long")
    wide = [picture_of(ask("show", name, *flag, screen=Screen(3100))[1]) for flag in ((), ("--all",))]
    assert wide[0] == wide[1]  # it fits
    short, whole = (ask("show", name, *flag)[1] for flag in ((), ("--all",)))
    positions, rows = picture_of(short)
    assert picture_of(whole)[0] == list(range(600)) and not any("--all" in line for line in whole)
    drawn = "".join(line[16:] + " " for line in picture_of(whole)[1] if line.split()[0] == "0").split()
    assert rows[0][16:].split() == [drawn[place] for place in positions]


def test_where_nothing_is_defined_the_first_columns_are_shown(folder, ask):
    table = long_table()
    table.steps[0].l2[:] = np.nan
    assert picture_of(ask("show", stored(table, folder, "none"))[1])[0] == list(range(13))


def test_the_scale_of_a_layer_leaves_position_0_out():
    values = np.array([[9.0, 1, 2], [3, 0, 0], [np.nan, np.nan, np.nan], [np.nan, 0, 5]])
    assert scales(values, np.array([True, False, False])).tolist() == [2, 3, -1, 5]
    assert scales(values, np.array([False, False, False])).tolist() == [9, 3, -1, 5]


def test_cells_at_the_noise_floor_are_drawn_apart(folder, ask):
    record = json.loads((folder / "italy_run.json").read_text(encoding="utf-8"))
    record["steps"][0]["noise_floor_l2"]["Full"] = [1e9, None, 0]
    (folder / "italy_run.json").write_text(json.dumps(record), encoding="utf-8")
    out = ask("show", "output/italy_results.csv")[1]
    rows = [line.split()[2:] for line in out if re.match(r" +[0-2] ", line) and "layer" not in line]
    assert (
        set("".join(rows[0])) == {"~"}
        and not set("~") & set("".join(rows[1] + rows[2]))
        and "noise floor" in " ".join(out)
    )


@pytest.mark.parametrize(
    "record",
    ["[]", '{"settings": 3, "steps": {"a": 1}, "layers": 7}', '{"steps": [{"step": 0}], "status": "\\u001b[2J"}'],
)
def test_a_strange_run_record_is_no_traceback(folder, ask, record):
    (folder / "italy_run.json").write_text(record, encoding="utf-8")
    code, out, err = ask("show", "output/italy_results.csv")
    assert code in (0, 2) and (len(err) == 1) == (code == 2) and "\x1b" not in "".join(out + err)


def with_knockouts(folder, knockout) -> str:
    """The result `italy` with these knock-outs in its run file."""
    path = folder / "italy_run.json"
    record = json.loads(path.read_text(encoding="utf-8")) | {"knockout": knockout}
    path.write_text(json.dumps(record), encoding="utf-8")
    return "output/italy_results.csv"


def cut_unit(text, change) -> dict:
    return {"text": text, "position": 2, "positions": "2", "unit": "tokens", "logprob_change": change}


def test_what_the_answer_rests_on_comes_before_what_moves_the_layers(folder, ask):
    rests_on = [cut_unit("iffel", -4.354), cut_unit(" city", -1.31), cut_unit(" is", -0.224)]
    read_at = [cut_unit(" city", -1.31), cut_unit("The", 0.004)]
    name = with_knockouts(folder, {"rests_on": rests_on, "read_at": read_at})
    out = ask("show", name)[1]
    place = out.index("rests on   'iffel' -4.35, ' city' -1.31, ' is' -0.22")
    assert out[place - 1].startswith("generated") and out[place + 1] == "read at    ' city' -1.31"
    assert out[place + 2].startswith("shown") and any("move the layers most" in line for line in out[place:])
    found = json.loads(ask("show", name, "--json")[1][0])
    assert (found["rests_on"], found["read_at"]) == (rests_on, read_at) and found["strongest"]
    plain = ask("show", "output/france")[1], ask("show", "output/france", "--json")[1]
    assert not any("rests" in line or "read" in line for lines in plain for line in lines)


@pytest.mark.parametrize(
    "knockout",
    [
        7,
        {"rests_on": 3, "read_at": {"a": 1}},
        {"rests_on": [None, cut_unit("x", "-1"), cut_unit("x", None), {"text": "x"}], "read_at": [[]] * 9},
        {
            "rests_on": [cut_unit("\x1b[2J\x07\u202e\ud800" * 99, -1e8)] * 99,
            "read_at": [cut_unit("\r\n" * 99, math.nan)],
        },
    ],
)
def test_strange_knockouts_neither_fail_nor_drive_the_terminal(folder, ask, knockout):
    name = with_knockouts(folder, knockout)
    for words in ([], ["--json"]):
        code, out, err = ask("show", name, *words)
        assert (code, err) == (0, []) and all(line.isprintable() for line in out)
        assert words or all(len(line) <= 80 for line in out)


def test_strongest_leave_out_what_is_undefined_in_every_layer():
    table = ResultTable(list("abcd"), [("Full", 3), ("Full", 5), ("Attn", 3)])
    l2 = np.array([[9, np.nan, 1, 2], [9, np.nan, np.nan, 0], [0, 5, 0, 0]], np.float32)
    table.steps.append(StepDistances(0, l2, l2))
    found = [(token.text, token.total, token.layer, token.largest) for token in strongest_tokens(table, 9)]
    assert found == [("d", 2, 3, 2), ("c", 1, 3, 1)]
    assert strongest_tokens(table, 1, variant="Attn")[0].text == "b"


# compare


def test_equal_results_compare_equal(folder, ask):
    code, out, err = ask("compare", "output/france_results.csv", "output/france_results.parquet")
    assert (code, err) == (0, []) and any(line.startswith("equal: every L2 distance") for line in out)
    assert "the same order, in all 12 pairs" in " ".join(out)


def test_undefined_in_both_is_equal(folder, ask):
    assert any(line.startswith("equal: every L2 distance") for line in ask("compare", "output/one", "output/one")[1])


def test_differences_are_those_of_the_tables(folder, ask):
    code, out, _ = ask("compare", "output/france", "output/italy")
    a, b = (read_results(f"output/{name}_results.csv") for name in ("france", "italy"))
    a, b = (frame.astype({"l2_distance": float}) for frame in (a, b))
    apart = a.assign(apart=(a.l2_distance - b.l2_distance).abs())
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in out if re.match(r"\w+ +\d+ +[\d.]", line)}
    assert code == 0 and len(lines) == 18
    for (variant, layer), rows in apart.groupby(["variant", "layer"]):
        largest, mean, scale = rows.apart.max(), rows.apart.mean(), rows.l2_distance.max()
        assert lines[variant, str(layer)] == [
            f"{value:.3g}" for value in (largest, mean, largest / scale, mean / scale)
        ]
    assert 'position 3: A " France" B " Italy"' in out


def test_changed_strongest_tokens_are_named(folder, ask):
    rows = read_results("output/france_results.csv").query(
        "generation_step == 1 and variant == 'Attn' and token_position > 0"
    )
    sums = rows.astype({"l2_distance": float}).groupby("token_position").l2_distance.sum()
    strongest = rows[rows.token_position == sums.idxmax()]
    text = (folder / "france_results.csv").read_text(encoding="utf-8").splitlines()
    for row in strongest.index:
        words = text[row + 1].split(",")
        text[row + 1] = ",".join([*words[:5], "0", *words[6:]])
    (folder / "changed_results.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
    code, out, _ = ask("compare", "output/france", "output/changed")
    place = out.index("step 1, Attn: tokens that move the layers most changed (position 0 left out)")
    token = f'{sums.idxmax()} "{strongest.token_masked.iloc[0]}"'
    assert code == 0 and out[place + 1].startswith(f"  A  {token}") and token not in out[place + 2]
    assert "in 11 of 12 pairs" in " ".join(out) and "Full     equal in all layers" in out


def test_the_largest_changes_come_first_and_of_a_long_table_alone(folder, ask):
    one, other = (long_table(("Full", "Head_0", "Head_1"), positions=9) for _ in range(2))
    kind = np.array([variant == "Full" for variant, _ in one.heatmap_rows])
    other.steps[0].l2[kind] += np.arange(30, dtype=np.float32)[:, None]  # the first of equals is position 0's
    other.steps[0].l2[30 + 7, 4] += 1000
    names = [stored(table, folder, name) for table, name in ((one, "first"), (other, "second"))]
    code, out, _ = ask("compare", *names)
    assert code == 0 and len(out) < 40
    assert out[3] == "Largest |A - B| of the L2 distance"
    assert out[4].startswith("Full   29 (A ") and "): layer 29, step 0, position " in out[4]
    assert out[5].startswith("       without position 0: 29 (A ")
    assert out[6].startswith("Heads  1e+03 (A ") and out[6].endswith('): Head_0, layer 7, step 0, position 4 " t4"')
    rows = [line.split()[:3] for line in out if re.match(r"\w+ +\d+ +[\d.]", line)]
    assert rows == [*(["Full", str(layer), str(layer)] for layer in range(29, 24, -1)), ["Head_0", "7", "1e+03"]]
    end = "... and 84 more pairs of variant and layer, 60 of them equal; --all prints every one, in order"
    assert " ".join(out).endswith(end)
    rows = [line.split()[:2] for line in ask("compare", *names, "--all")[1] if re.match(r"\w+ +\d+ +[\d.]", line)]
    assert rows == [[variant, str(layer)] for variant in ("Full", "Head_0") for layer in range(30)]


def test_of_many_changed_pairs_the_first_are_named(folder, ask):
    variants = ["Full", *(f"Head_{head}" for head in range(7))]
    names = [stored(long_table(variants, 1, 9, seed), folder, f"seed{seed}") for seed in range(2)]
    listed = [
        [line for line in ask("compare", *names, *flag)[1] if "most changed" in line] for flag in ((), ("--all",))
    ]
    assert len(listed[0]) == 5 and len(listed[1]) > 5 and listed[0] == listed[1][:5]
    assert f"... and in {len(listed[1]) - 5} more; --all prints them" in ask("compare", *names)[1]


def test_undefined_in_one_alone_comes_before_all_changes(folder, ask):
    one, other = (long_table(positions=9) for _ in range(2))
    other.steps[0].l2[:] += 1
    other.steps[0].l2[3, 2] = np.nan
    out = ask("compare", *(stored(table, folder, name) for table, name in ((one, "first"), (other, "second"))))[1]
    assert "distances that are undefined in one of the two alone: 1" in out
    assert next(line for line in out if re.match(r"Full +\d+ +[\d.]", line)).split()[1] == "3"


def test_undefined_in_one_alone_is_counted():
    tables = [
        ResultTable(["a", "b"], [("Full", 0)], [StepDistances(0, np.array([values]), np.array([values]))])
        for values in ([np.nan, 1.0], [2.0, 1.5], [np.nan, np.nan])
    ]
    assert distances_apart(tables[0], tables[1], 0, "l2") == (0.5, 0.5, 1.0, 1)
    assert distances_apart(tables[0], tables[0], 0, "l2") == (0, 0, 1, 0)
    assert distances_apart(tables[2], tables[2], 0, "l2") == (0, 0, 0, 0)
    found = distances_apart(tables[2], tables[1], 0, "l2")
    assert np.isnan(found[:2]).all() and found[3] == 2


def step_alone(folder, name, step):
    """A result with one of the steps of `france`; its name."""
    rows = read_results("output/france_results.csv").query(f"generation_step == {step}")
    rows.to_csv(folder / f"{name}_results.csv", index=False)
    return f"output/{name}"


@pytest.mark.parametrize("turned, whose", [(False, "B"), (True, "A")])
def test_the_steps_that_both_have_are_compared(turned, whose, folder, ask):
    pair = [step_alone(folder, "first", 0), "output/france"]
    code, out, err = ask("compare", *(reversed(pair) if turned else pair))
    assert (code, err) == (0, []) and out[2] == f"left out, as the other has no such generation step: 1 of {whose}"
    assert " ".join(out).endswith("in all 6 pairs of step and variant") and any(
        line.startswith("equal: every") for line in out
    )


def test_results_that_share_no_step_are_refused(folder, ask):
    code, out, err = ask("compare", step_alone(folder, "first", 0), step_alone(folder, "second", 1))
    assert (code, out) == (2, []) and "their generation steps differ (0 and 1)" in err[0]


def test_other_axes_are_refused_by_name(folder, ask):
    code, out, err = ask("compare", "output/france", "output/circle")
    assert (code, out, len(err)) == (2, [], 1) and "their positions differ (0-4 and 4-39)" in err[0]


# Wrong requests


@pytest.mark.parametrize(
    "words, fault",
    [
        ([], "required: COMMAND"),
        (["shwo", "output/france"], "invalid choice: 'shwo'"),
        (["show"], "required: RESULT"),
        (["compare", "output/france"], "required: B"),
        (["report"], "required: RESULT"),
        (["export", "output/france"], "required: --to"),
        (["export", "output/france", "--to", "xml"], "--to: invalid choice: 'xml'"),
        (["export", "output/france", "--to", "parquet"], "is parquet already"),
        (["show", "output/france", "--step", "2"], "--step 2 is not in output/france_results.parquet; it has 0-1"),
        (["show", "output/france", "--step", "-1"], "--step: expected"),
        (["show", "output/france", "--step", "one"], "--step: expected a generation step, counted from 0, found 'one'"),
        (
            ["show", "output/france", "--variant", "Head_9"],
            "unknown variant 'Head_9'; valid: Full, Attn, Head_0 to Head_3",
        ),
        (["show", "output/france", "--top", "0"], "--top: expected a whole number from 1"),
        (["show", "output/france", "--metric", "l3"], "--metric: invalid choice: 'l3'"),
        (["show", "output/france", "--step", "0", "--step", "1"], "--step 0 and 1: two different values"),
        (["show", "output/france", "--stepp", "0"], "unrecognized arguments: --stepp"),
        (["show", "output/france", "output/italy"], "unrecognized arguments: output/italy"),
        (
            ["show", "output/frence"],
            "no such result, did you mean 'france'? in 'output' there is circle, double, france",
        ),
        (["show", "output/france_results.txt"], "no such result"),
        (["show", "output"], "this is a folder"),
        (["show", "nowhere/x"], "in 'nowhere' there is none"),
        (["show", ""], "expected text"),
        (["show", "a\0b"], "null character"),
        (["show", "x" * 5000], "no result can be found there"),
        (["show", "testimg.txt"], "suffix '.txt' is not one of"),
        (["show", "empty_results.csv"], "not a whole result file"),
        (["show", "short_results.csv"], "cut short"),
        (["show", "odd_results.csv"], r"\x1b[2J"),
        (["show", "headings_results.csv"], "has no rows"),
        (["show", "gaps_results.csv"], "rows are missing"),
        (["report", "gaps_results.csv"], "rows are missing"),
        (["compare", "gaps_results.csv", "output/france"], "rows are missing"),
        (["show", "holes_results.csv"], "rows without a value for one of"),
        (["show", "huge_results.json"], "not a whole result file"),
        (["show", "deep_results.json"], "not a whole result file"),
        (["show", "far_results.csv"], "rows are missing"),
        (["show", "failed"], "not finished (failed: out of memory)"),
    ],
)
def test_wrong_requests_are_one_line(folder, ask, words, fault):
    lines = (folder / "france_results.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    here = folder.parent
    for name, text in {
        "testimg.txt": "",
        "empty_results.csv": "\n",
        "odd_results.csv": '"\x1b[2J"\n1\n',
        "short_results.csv": "".join(lines)[:-5],
        "headings_results.csv": lines[0],
        "gaps_results.csv": "".join(lines[:5] + lines[7:]),
        "deep_results.json": "[" * 10**5,
        "far_results.csv": "".join([*lines[:2], f'0,0,"a",{10**12},"Full",1,1\n']),
        "holes_results.csv": "".join([*lines[:5], ',,"a",,"Full",1,1\n']),
        "huge_results.json": json.dumps({name: [10**30] for name in COLUMNS}),
    }.items():
        (here / name).write_text(text, encoding="utf-8")
    (folder / "failed_run.json").write_text('{"status": "failed", "reason": "out of memory"}', encoding="utf-8")
    files = sorted(path for path in here.rglob("*"))
    code, out, err = ask(*words)
    assert (code, out, len(err)) == (2, [], 1) and fault in err[0] and "\x1b" not in err[0], err
    assert sorted(path for path in here.rglob("*")) == files


def test_what_cannot_be_written_is_exit_code_1(folder, ask, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (folder / "france_results.json").unlink()
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = ask("export", "output/france", "--to", "json")
    assert (
        (code, len(err)) == (1, 1)
        and "No space left on device" in err[0]
        and not (folder / "france_results.json").exists()
    )


def test_interrupted_is_exit_code_130(ask, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "answer", interrupted)
    assert ask("show", "x")[0] == 130


# As people call it


def test_help_has_examples_that_are_understood(capsys):
    lines = [line.strip() for line in __main__.EXAMPLES.splitlines() if line.startswith("  python")]
    assert len(lines) == 5 and all(__main__.read(line.split()[3:]) for line in lines)
    for words in (["--help"], ["show", "--help"]):
        with pytest.raises(SystemExit) as end:
            __main__.read(words)
        assert end.value.code == 0 and "examples:" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_traceback(results):
    process = program("show", results / "france")
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 0)


@pytest.mark.parametrize("encoding, blocks", [("utf-8", True), ("ascii", False), ("cp1252", False)])
def test_as_a_command(results, encoding, blocks):
    out, err = program("show", results / "france", env={"PYTHONIOENCODING": encoding, "COLUMNS": "60"}).communicate(
        timeout=60
    )
    assert err == b"" and (BLOCKS in out.decode(encoding if not blocks else "utf-8")) == blocks and b"\x1b" not in out


def test_ranges_and_heads():
    assert ranges([0]) == "0" and ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8" and ranges([]) == ""
    assert abbreviated(["Full", *(f"Head_{n}" for n in range(16))]) == ["Full", "Head_0 to Head_15"]
    assert abbreviated(["Head_0"]) == ["Head_0"]


def test_no_model_library_is_imported(results):
    look = f"import sys; from mask_impact import __main__; __main__.main(['show', {str(results / 'france')!r}]); "
    answer = subprocess.run(
        [sys.executable, "-c", look + "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    assert answer.returncode == 0
