"""`python -m mask_impact`: results looked at, compared, reported and exported in the shell, whatever their tokens hold."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import mask_impact_analysis
import mask_impact_vl
from mask_impact import __main__, console, read_results
from mask_impact.blocks import RAMP, ROUNDING, UNDEFINED, ZERO, column_widths, levels_of, scales
from mask_impact.comparison import distances_apart
from mask_impact.formats import FORMATS
from mask_impact.lookup import ranges, shorter
from mask_impact.results import COLUMNS, ResultTable, StepDistances
from mask_impact.strongest import strongest_tokens
from mask_impact.terminal import BLOCKS, MOST_MARKS, Screen, columns_of
from mask_impact.writers import write_results

ROOT = Path(__file__).parent.parent
HOSTILE = ["\x1b[2J\x1b]0;title\x07", "\r\n", "\u202etxt.exe", "\u200d\u2066", "\u0301\u0301", "e" + "\u0301" * 40,
           "漢字漢字漢字漢字", "\ufe0f", "\0",
           "\x9b31m", "\u2028", "\"", "\\", "\\x1b", "", " ", "\t", "שלום",
           "😀👩\u200d💻", "\U0001f1eb\U0001f1f7", "e\ue000", "x" * 5000]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of the demo models; not to be changed."""
    folder = tmp_path_factory.mktemp("results")
    where = ["--output-dir", str(folder), "--quiet", "--formats", "csv,json,parquet"]
    text = ["--model", "demo", "--num-tokens", "2", *where, "--prompt"]
    for words in (["The capital of France is", "--output", "france", "--report"],
                  ["The capital of Italy is", "--output", "italy"],
                  ["The", "--output", "one"], ["The capital of France is", "--output", "rerun", "--method", "rerun"],
                  ["The capital of France is", "--output", "double", "--dtype", "float64"]):
        assert mask_impact_analysis.main([*text, *words]) == 0
    picture = ["--image", str(ROOT / "testimg.png"), "--mask-mode", "vision", "--prompt", "What color is the circle?"]
    assert mask_impact_vl.main(["--model", "demo", *picture, "--output", "circle", *where]) == 0
    return folder


@pytest.fixture
def folder(results, tmp_path, monkeypatch):
    """A current folder with a copy of the results in `output`."""
    shutil.copytree(results, tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "output"


@pytest.fixture
def ask(capsys):
    """Run the command in this process: (exit code, lines on standard output, lines on standard error)."""
    def run(*words, screen=Screen()):
        capsys.readouterr()
        code = console.exit_code(lambda: __main__.main([str(word) for word in words], screen))
        said = capsys.readouterr()
        return code, said.out.split("\n")[:-1], said.err.split("\n")[:-1]

    return run


def hostile(folder, name="evil"):
    """A result of one step over hostile tokens, with a record as hostile."""
    table = ResultTable(HOSTILE, [("Full", 0), ("Full", 1)])
    l2 = np.arange(2 * len(HOSTILE), dtype=np.float32).reshape(2, -1)
    table.steps.append(StepDistances(0, l2, l2 / 100))
    settings = {"model": "m\x1b[31m", "prompt": "".join(HOSTILE)}
    record = {"status": "complete", "settings": settings, "generated_text": HOSTILE[0], "device": "\x1b"}
    write_results(table, folder, name, ("csv",), record)
    return table


def program(*words, **options):
    environment = os.environ | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "mask_impact", *map(str, words)], cwd=ROOT, env=environment, **pipes, **options)


# show

def test_show(folder, ask):
    code, out, err = ask("show", "output/france_results.csv", "--step", 0, "--variant", "Full")
    assert (code, err) == (0, [])
    assert out[:6] == ["output/france_results.csv", "model      demo on cpu", 'prompt     "The capital of France is"',
                       'generated  " Paris."', "shown      step 0 of 0-1, variant Full of Full, Attn, Head_0 to Head_3", ""]
    frame = read_results("output/france_results.csv").query("generation_step == 0 and variant == 'Full' and token_position > 0")
    sums = frame.astype({"l2_distance": float}).groupby("token_position").l2_distance.sum().sort_values(ascending=False)
    listed = [line.split(maxsplit=2) for line in out[7:11]]
    assert [(int(position), total) for position, total, _ in listed] == [(place, f"{total:.3g}") for place, total in sums.items()]
    assert listed[0][2].endswith('" France"')
    assert out[12].split() == ["layer", "largest", "0", "1", "2", "3", "4"]
    assert out[13].split() == ["The", "capital", "of", "France", "is"]
    assert [line.split()[0] for line in out[14:17]] == ["0", "1", "2"]
    for line, (_, rows) in zip(out[14:17], frame.groupby("layer")):
        assert line.split()[1] == f"{rows.l2_distance.max():.3g}"
        assert line.split()[2 + int(rows.token_position.iloc[rows.l2_distance.argmax()])] == "█" * 7
    assert "scale" in out[18] and "without position 0" in " ".join(out[18:])


@pytest.mark.parametrize("word", [
    "output/france", "output/france_run.json", "output/france_report.html", "output/france_results.json", "france"])
def test_a_result_is_found_by_any_of_its_names(folder, ask, word):
    code, out, err = ask("show", word, "--json")
    assert (code, err) == (0, []) and json.loads(out[0])["prompt"] == "The capital of France is"


def test_json_is_for_scripts(folder, ask):
    words = ["--json", "--step", 1, "--variant", "head_2", "--top", 2, "--metric", "cosine"]
    code, [line], err = ask("show", "output/france", *words)
    found = json.loads(line)
    assert (code, err) == (0, []) and line.isascii()
    assert (found["step"], found["variant"], found["metric"], found["steps"]) == (1, "Head_2", "cosine_distance", [0, 1])
    rows = read_results("output/france_results.csv").query("generation_step == 1 and variant == 'Head_2'")
    rows = rows.astype({"cosine_distance": float})
    for token in found["strongest"]:
        mine = rows[rows.token_position == token["position"]]
        assert token["sum_over_layers"] == mine.cosine_distance.sum() and token["largest"] == mine.cosine_distance.max()
        assert token["token"] == mine.token_masked.iloc[0] and token["layer"] == mine.layer.iloc[mine.cosine_distance.argmax()]
    assert len(found["strongest"]) == 2 and found["strongest"][0]["sum_over_layers"] > found["strongest"][1]["sum_over_layers"]


def test_a_table_of_pictures_shows_the_masked_positions_alone(folder, ask):
    code, out, _ = ask("show", "output/circle")
    headings = [line.split()[2:] for line in out if line.startswith("layer")]
    assert code == 0 and [int(word) for words in headings for word in words] == list(range(4, 40))
    assert "img0[1,2]" in out[out.index(next(line for line in out if line.startswith("Strongest"))) + 1]
    assert any(line.split()[:3] == ["0,0", "0,1", "0,2"] for line in out) and any("testimg.png" in line for line in out)


def test_undefined_is_not_zero(folder, ask):
    code, out, _ = ask("show", "output/one")
    assert code == 0 and any("none: there is no defined distance" in line for line in out)
    rows = [line for line in out if re.match(r" +[0-2] ", line)]
    assert len(rows) == 3 and all(line.split()[1:] == ["-", "???"] for line in rows)
    assert "? undefined" in " ".join(out) and "exactly 0" not in " ".join(out)
    levels = levels_of(np.array([[9, 0, np.nan, 1e-9, 1, 8]]), np.array([8.0]), [1e-6])
    assert levels.tolist() == [[8, ZERO, UNDEFINED, ROUNDING, 1, 8]]


def test_the_scale_of_a_layer_leaves_position_0_out():
    values = np.array([[9.0, 1, 2], [3, 0, 0], [np.nan, np.nan, np.nan], [np.nan, 0, 5]])
    assert scales(values, np.array([0, 1, 2])).tolist() == [2, 3, -1, 5]
    assert scales(values, np.array([4, 7, 9])).tolist() == [9, 3, -1, 5]


def test_cells_at_the_noise_floor_are_drawn_apart(folder, ask):
    record = json.loads((folder / "italy_run.json").read_text(encoding="utf-8"))
    record["steps"][0]["noise_floor_l2"]["Full"] = [1e9, None, 0]
    (folder / "italy_run.json").write_text(json.dumps(record), encoding="utf-8")
    out = ask("show", "output/italy_results.csv")[1]
    rows = [line.split()[2:] for line in out if re.match(r" +[0-2] ", line) and "layer" not in line]
    assert set("".join(rows[0])) == {"~"} and not set("~") & set("".join(rows[1] + rows[2])) and "noise floor" in " ".join(out)


@pytest.mark.parametrize("record", [
    "[]", '{"settings": 3, "steps": {"a": 1}, "layers": 7}', '{"steps": [{"step": 0}], "status": "\\u001b[2J"}'])
def test_a_strange_run_record_is_no_traceback(folder, ask, record):
    (folder / "italy_run.json").write_text(record, encoding="utf-8")
    code, out, err = ask("show", "output/italy_results.csv")
    assert code in (0, 2) and (len(err) == 1) == (code == 2) and "\x1b" not in "".join(out + err)


# Text from anywhere

@pytest.mark.parametrize("screen", [Screen(), Screen(40, unicode=False), Screen(30), Screen(200)])
def test_no_token_drives_the_terminal(folder, ask, screen):
    hostile(folder)
    evil = "output/evil"
    for words in (["show", evil, "--top", 30], ["compare", evil, evil], ["show", evil, "--json"]):
        code, out, err = ask(*words, screen=screen)
        assert (code, err) == (0, [])
        text = "".join(out)
        assert text.isprintable() and not re.search("[\u0300-\u036f]{%d}" % (MOST_MARKS + 1), text)
        assert screen.unicode or text.isascii()


@pytest.mark.parametrize("screen", [Screen(), Screen(40, unicode=False), Screen(30), Screen(200)])
def test_every_line_of_show_fits_and_columns_stand_under_each_other(folder, ask, screen):
    hostile(folder)
    for name in ("evil", "france", "circle"):
        out = ask("show", f"output/{name}", "--top", 30, screen=screen)[1]
        assert max(map(columns_of, out)) <= screen.width
        places = [n for n, line in enumerate(out) if line.startswith("layer")]
        assert places
        for n in places:
            starts = [found.start() for found in re.finditer(r"\d+", out[n])]
            for row in out[n + 2:n + 4]:
                assert [found.start() for found in re.finditer(r"\S+", row)][2:] == starts
    wide = ask("show", "output/evil", screen=Screen(200))[1]
    label = next(line for line in wide if "漢" in line and "layer" not in line and "prompt" not in line)
    above = wide[wide.index(label) - 1]
    assert columns_of(label[:label.index("漢")]) == above.index(" 6 ") + 1


def test_text_made_safe():
    screen = Screen()
    assert screen.quoted('a\x1b[0m"\\') == r'"a\x1b[0m\"\\"' and screen.safe("\\\u202e") == r"\\u202e"
    assert screen.safe("e\u0301\u0301\u0301\u0301") == "e\u0301\u0301\u0301\\u0301" and screen.safe("\u0301") == "◌\u0301"
    assert screen.safe("\x1b\u0301") == "\\x1b\\u0301"
    assert screen.cut("漢字漢字", 5) == "漢字…" and screen.cut("漢字漢字", 4) == "漢…" and screen.cut("漢字", 4) == "漢字"
    assert columns_of(screen.padded("漢字", 3)) == 3 and screen.padded("漢字", 3) == "漢 "
    assert screen.cut("\x1b\x1b\x1b", 10) == r"\x1b\x1b…" and Screen(unicode=False).cut("é" * 9, 10) == r"\xe9\xe9.."


@pytest.mark.parametrize("encoding, unicode", [
    ("utf-8", True), ("ascii", False), ("cp1252", False), ("latin-1", False), ("gb18030", True), (None, False)])
def test_blocks_where_the_encoding_has_them(encoding, unicode):
    assert Screen.of(SimpleNamespace(encoding=encoding, isatty=lambda: False)).unicode == unicode


@pytest.mark.parametrize("terminal, variables, colour", [
    (True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)])
def test_colour_only_on_a_terminal_that_wants_it(folder, ask, monkeypatch, terminal, variables, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm", "WT_SESSION": "1", "COLUMNS": "70"} | variables).items():
        monkeypatch.setenv(name, value)

    screen = Screen.of(SimpleNamespace(encoding="utf-8", isatty=lambda: terminal))
    assert (screen.colour, screen.width) == (colour, 70)
    assert ("\x1b[" in "".join(ask("show", "output/france", screen=screen)[1])) == colour
    plain = [re.sub(r"\x1b\[[\d;]+m", "", line) for line in ask("show", "output/france", screen=screen)[1]]
    assert plain == ask("show", "output/france", screen=Screen(70))[1]
    assert "\x1b" not in ask("show", "output/france", "--json", screen=screen)[1][0]


def test_ascii_where_there_are_no_blocks(folder, ask):
    out = ask("show", "output/france", screen=Screen(unicode=False))[1]
    assert "".join(out).isascii() and RAMP in " ".join(out) and "@@@@@@@" in " ".join(out)


@pytest.mark.parametrize("texts, last, room, expected", [
    ([3, 7, 2, 6, 2], 4, 64, (8, 5)), ([5000] * 5, 4, 64, (10, 5)), ([4] * 52, 51, 64, (5, 13)), ([3] * 2000, 1999, 64, (5, 13)),
    ([3] * 20000, 19999, 64, (6, 10)), ([9] * 10, 9, 64, (6, 10)), ([1], 0, 8, (2, 1)), ([9] * 3, 2, 8, (5, 1)), ([], 0, 64, (2, 1))])
def test_widths_and_folds(texts, last, room, expected):
    assert column_widths(texts, last, room) == expected


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
        assert lines[variant, str(layer)] == [f"{value:.3g}" for value in (largest, mean, largest / scale, mean / scale)]
    assert 'position 3: A " France" B " Italy"' in out


def test_changed_strongest_tokens_are_named(folder, ask):
    rows = read_results("output/france_results.csv").query("generation_step == 1 and variant == 'Attn' and token_position > 0")
    sums = rows.astype({"l2_distance": float}).groupby("token_position").l2_distance.sum()
    strongest = rows[rows.token_position == sums.idxmax()]
    text = (folder / "france_results.csv").read_text(encoding="utf-8").splitlines()
    for row in strongest.index:
        words = text[row + 1].split(",")
        text[row + 1] = ",".join([*words[:5], "0", *words[6:]])
    (folder / "changed_results.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
    code, out, _ = ask("compare", "output/france", "output/changed")
    place = out.index("step 1, Attn: the 3 strongest tokens (position 0 left out) changed")
    token = f'{sums.idxmax()} "{strongest.token_masked.iloc[0]}"'
    assert code == 0 and out[place + 1].startswith(f"  A  {token}") and token not in out[place + 2]
    assert "in 11 of 12 pairs" in " ".join(out) and "Full     equal in all layers" in out


def test_undefined_in_one_alone_is_counted():
    tables = [ResultTable(["a", "b"], [("Full", 0)], [StepDistances(0, np.array([values]), np.array([values]))])
              for values in ([np.nan, 1.0], [2.0, 1.5], [np.nan, np.nan])]
    assert distances_apart(tables[0], tables[1], 0, "l2") == (0.5, 0.5, 1.0, 1)
    assert distances_apart(tables[0], tables[0], 0, "l2") == (0, 0, 1, 0)
    assert distances_apart(tables[2], tables[2], 0, "l2") == (0, 0, 0, 0)
    found = distances_apart(tables[2], tables[1], 0, "l2")
    assert np.isnan(found[:2]).all() and found[3] == 2


def test_other_axes_are_refused_by_name(folder, ask):
    code, out, err = ask("compare", "output/france", "output/circle")
    assert (code, out, len(err)) == (2, [], 2)
    assert "their generation steps differ (0-1 and 0)" in err[0] and "their positions differ (0-4, 0-5 and 4-39)" in err[1]


# report and export

def test_the_report_is_the_one_that_a_run_writes(folder, ask):
    written = (folder / "france_report.html").read_bytes()
    code, _, err = ask("report", "output/france")
    assert (code, len(err)) == (2, 1) and "--overwrite replaces it" in err[0]
    for form in FORMATS:
        (folder / "france_report.html").write_bytes(b"another")
        assert ask("report", f"output/france_results.{form}", "--overwrite")[0] == 0
        assert (folder / "france_report.html").read_bytes() == written
    code, out, _ = ask("report", "output/circle_run.json")
    assert code == 0 and (folder / "circle_report.html").exists() and "circle_report.html" in out[0]


@pytest.mark.parametrize("name", ["france", "double", "one", "circle"])
@pytest.mark.parametrize("source, target", [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_exports_are_what_a_run_writes_byte_for_byte(folder, ask, name, source, target):
    wanted = folder / f"{name}_results.{target}"
    before, table = wanted.read_bytes(), read_results(wanted)
    code, _, err = ask("export", f"output/{name}_results.{source}", "--to", target)
    assert (code, len(err)) == (2, 1) and wanted.read_bytes() == before
    wanted.unlink()
    assert ask("export", f"output/{name}_results.{source}", "--to", target)[0] == 0
    again = read_results(wanted)
    assert again.equals(table) and again.dtypes.equals(table.dtypes) and again.attrs == table.attrs
    assert wanted.read_bytes() == before
    wanted.write_bytes(b"another")
    assert ask("export", f"output/{name}_results.{source}", "--to", target, "--overwrite")[0] == 0
    assert wanted.read_bytes() == before


def test_hostile_tokens_are_exported_as_they_are(folder, ask):
    table = hostile(folder).to_dataframe()
    for source, target in (("csv", "json"), ("json", "parquet")):
        assert ask("export", f"output/evil_results.{source}", "--to", target)[0] == 0
        assert read_results(folder / f"evil_results.{target}").equals(table)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_no_file_name_drives_the_terminal(folder, ask):
    hostile(folder, "a\x1b[2J")
    for words in (["show"], ["report"], ["export", "--to", "json"], ["export", "--to", "json"]):
        code, out, err = ask(words[0], "output/a\x1b[2J", *words[1:])
        assert code in (0, 2) and r"\x1b" in "".join(out + err) and "\x1b" not in "".join(out + err)


def test_further_columns_and_missing_rows_are_kept(folder, ask):
    further = {"span": pa.array(["x", None, "z"]), "weight": pa.array([1, None, 2**53])}
    table = ResultTable(list("abc"), [("Full", 0), ("Full", 2)], places=further)
    table.steps.append(StepDistances(4, *np.ones((2, 2, 2)), np.array([0, 2])))
    write_results(table, folder, "more", ("csv",), {"status": "complete", "dtypes": {"results": "float64"}})
    for source, target in (("csv", "parquet"), ("csv", "json")):
        assert ask("export", f"output/more_results.{source}", "--to", target)[0] == 0
        assert read_results(folder / f"more_results.{target}").equals(read_results(folder / "more_results.csv"))


def test_a_parquet_file_alone_brings_its_run_file(folder, ask):
    run = (folder / "france_run.json").read_bytes()
    (folder / "france_run.json").unlink()
    (folder / "france_results.csv").unlink()
    assert ask("export", "output/france_results.parquet", "--to", "csv")[0] == 0
    assert (folder / "france_run.json").read_bytes() == run
    (folder / "france_results.csv").unlink()
    (folder / "france_run.json").write_bytes((folder / "italy_run.json").read_bytes())
    code, _, err = ask("export", "output/france_results.parquet", "--to", "csv", "--overwrite")
    assert code == 2 and "belongs to another run" in err[0] and not (folder / "france_results.csv").exists()


def test_json_holds_its_rows_and_no_more(folder, ask, monkeypatch):
    from mask_impact import exporting
    monkeypatch.setattr(exporting, "JSON_ROWS", 10)
    (folder / "france_results.json").unlink()
    code, _, err = ask("export", "output/france_results.csv", "--to", "json")
    assert code == 2 and "more than the 10 that JSON holds" in err[0] and not (folder / "france_results.json").exists()


# Wrong requests

@pytest.mark.parametrize("words, fault", [
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
    (["show", "output/france", "--variant", "Head_9"], "unknown variant 'Head_9'; valid: Full, Attn, Head_0 to Head_3"),
    (["show", "output/france", "--top", "0"], "--top: expected a whole number from 1"),
    (["show", "output/france", "--metric", "l3"], "--metric: invalid choice: 'l3'"),
    (["show", "output/france", "--step", "0", "--step", "1"], "--step 0 and 1: two different values"),
    (["show", "output/france", "--stepp", "0"], "unrecognized arguments: --stepp"),
    (["show", "output/france", "output/italy"], "unrecognized arguments: output/italy"),
    (["show", "output/frence"], "no such result, did you mean 'france'? in 'output' there is circle, double, france"),
    (["show", "output/france_results.txt"], "no such result"),
    (["show", "output"], "no such result"),
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
    (["show", "holes_results.csv"], "have a value in every row"),
    (["show", "huge_results.json"], "not a whole result file"),
    (["show", "deep_results.json"], "not a whole result file"),
    (["show", "far_results.csv"], "rows are missing"),
    (["show", "failed"], "not finished (failed: out of memory)"),
])
def test_wrong_requests_are_one_line(folder, ask, words, fault):
    lines = (folder / "france_results.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    here = folder.parent
    for name, text in {"testimg.txt": "", "empty_results.csv": "\n", "odd_results.csv": '"\x1b[2J"\n1\n',
                       "short_results.csv": "".join(lines)[:-5], "headings_results.csv": lines[0],
                       "gaps_results.csv": "".join(lines[:5] + lines[7:]), "deep_results.json": "[" * 10**5,
                       "far_results.csv": "".join([*lines[:2], f'0,0,"a",{10**12},"Full",1,1\n']),
                       "holes_results.csv": "".join([*lines[:5], ',,"a",,"Full",1,1\n']),
                       "huge_results.json": json.dumps({name: [10**30] for name in COLUMNS})}.items():
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
    assert (code, len(err)) == (1, 1) and "No space left on device" in err[0] and not (folder / "france_results.json").exists()


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
    out, err = program("show", results / "france", env={"PYTHONIOENCODING": encoding, "COLUMNS": "60"}).communicate(timeout=60)
    assert err == b"" and (BLOCKS in out.decode(encoding if not blocks else "utf-8")) == blocks and b"\x1b" not in out


def test_ranges_and_heads():
    assert ranges([0]) == "0" and ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8" and ranges([]) == ""
    assert shorter(["Full", *(f"Head_{n}" for n in range(16))]) == ["Full", "Head_0 to Head_15"]
    assert shorter(["Head_0"]) == ["Head_0"]


def test_no_model_library_is_imported(results):
    look = f"import sys; from mask_impact import __main__; __main__.main(['show', {str(results / 'france')!r}]); "
    answer = subprocess.run([sys.executable, "-c", look + "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"], cwd=ROOT,
                            stdout=subprocess.DEVNULL)
    assert answer.returncode == 0
