"""Bad input of every kind, as strategies of Hypothesis, and the folder in which a command meets it."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from mask_impact.base import console
from mask_impact.base.errors import RequestError
from mask_impact.models import loading
from mask_impact.runs import early_check
from mask_impact.settings.option import options
from mask_impact.settings.vision_settings import VisionSettings

HELD_BACK = re.compile(r"\(\w+\.py, line \d+\)")  # how an error that nobody foresaw is told
SWITCHES = [
    word for row in options(VisionSettings).values() if not row.metavar for word in (row.flag, row.off_flag) if word
]


# What goes in

HOSTILE = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "a\nerror: b",
    "\x00",
    "\x07",
    "\x1b[2J",
    "\x1b]0;t\x07",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202eabc",
    "\ufeff",
    "\ud800",
    "\udcff",
    "\U0010ffff",
    "e\u0301",
    "a" * 300,
    "a" * 5000,
    "..",
    "../x",
    ".",
    "CON",
    "nul.txt",
    "~no.such.user/x",
    "a/b/c/d",
    "a\\b",
    "-",
    "--",
    "-1",
    "-x",
    "0",
    "00",
    "1.5",
    "1e9",
    "0x10",
    "1000001",
    "9" * 25,
    "\u0663",
    "\u00b2",
    "nan",
    "inf",
    "None",
    "null",
    "true",
    "yes",
    "%s",
    "%(prog)s",
    "{x}",
    "{",
    "}",
    "[]",
    "*a",
    "&a",
    "!!binary x",
    "0-",
    "-3",
    "3-1",
    "0-9999999",
    "0,,1",
    "full,",
    "csv,xls",
    "cuda:99",
    "cuda:-1",
    "Float32",
    "demo2",
    "a/b",
    "http://x",
    "data:image/png;base64,x",
    "prompt.txt",
    "picture.png",
    "batch.yaml",
    "folder",
    "latin1.txt",
    "gone",
    "broken.png",
    "tiny.png",
    "NA",
    "<|im_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "</script>",
    '"',
    "'",
    ",",
    "\u00a0",
]
GOOD = {
    "prompt": ["The capital of France is", "x"],
    "prompt_file": ["prompt.txt"],
    "messages": [[{"role": "user", "content": "Where is it?"}], None],
    "num_tokens": [1, 2],
    "continuation": [" Paris"],
    "chat": [True, False],
    "system": ["Be brief"],
    "thinking": [True, False],
    "layers": ["0", "0-1", [0, 2]],
    "variants": ["full", "attn,heads", ["full"]],
    "units": ["words", "sentences,tokens", ["lines", "spans"], "messages", "images"],
    "spans": [{"it": "capital"}, ["a=The", "b=@0-1,3"], {"cells": "img0[0,0]", "last": "x#all"}],
    "pairs": [2, 1000, "spans"],
    "knockout": ["none", "all", "final,heads", ["first_order", "final"]],
    "window": [1, 9, "all"],
    "knockout_steps": [0, "0-1", [0, 2], "all"],
    "head_cells": [1, 64],
    "name": ["one", "two", "Two"],
    "output_dir": ["output", "elsewhere"],
    "model": ["demo"],
    "revision": ["main"],
    "device": ["auto", "cpu"],
    "dtype": ["auto", "float32", "bfloat16", "float64"],
    "measure_dtype": ["float32", "model"],
    "method": ["renormalize", "rerun"],
    "formats": ["csv", "json,parquet"],
    "report": [True, False],
    "image": ["picture.png", ["picture.png", "tiny.png"]],
    "mask_mode": ["text", "vision", "both"],
    "max_image_tokens": [1, 16],
    "part": ["decoder", "encoder"],
    "max_memory": ["2MB", 5_000_000],
    "at": ["0,0", "all", "1:0,0", "9,9"],
}
FLAGS = {row.flag: GOOD[name] for name, row in options(VisionSettings).items() if row.metavar} | {
    "--config": ["batch.yaml"]
}
STRAYS = [
    "--promt",
    "--layer",
    "--Prompt",
    "-p",
    "--",
    "stray",
    "--quiet=1",
    "--help=x",
    "--version",
    "--help",
    "-h",
    "--no-quiet",
    "---",
]

hostile = st.sampled_from(HOSTILE)
any_text = st.text(st.characters(exclude_categories=()), max_size=20)


def as_word(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


flag = st.one_of(
    st.sampled_from(sorted(FLAGS)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(st.sampled_from(FLAGS[name]).map(as_word), hostile, any_text))
    ),
    st.tuples(st.sampled_from(SWITCHES)),
    st.tuples(st.sampled_from(SWITCHES)),
    st.tuples(st.sampled_from(STRAYS)),
    st.tuples(hostile),
    st.tuples(st.sampled_from(sorted(FLAGS))),
    st.tuples(st.sampled_from(sorted(FLAGS)), hostile).map("=".join).map(lambda word: (word,)),
)
START = [
    ["--model", "demo", "--prompt", "The cat", "--layers", "0"],
    ["--model", "demo"],
    ["--model", "demo", "--config", "batch.yaml"],
    [],
]
command_lines = st.tuples(st.sampled_from(START), st.lists(flag, min_size=1, max_size=4)).map(
    lambda parts: [*parts[0], *chain.from_iterable(parts[1])]
)

scalars = st.one_of(
    hostile,
    any_text,
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 3),
    st.floats(),
    st.dates(),
    st.binary(max_size=4),
    st.just(10**400),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(hostile, scalars, max_size=2))
KEYS = [*options(VisionSettings), "enabled", "prompts", "defaults", "promt", "<<"]


def keyed(value):
    """A mapping of known and unknown keys, most values sound."""
    sound = st.sampled_from(KEYS).flatmap(
        lambda key: st.tuples(st.just(key), st.one_of(st.sampled_from(GOOD.get(key, [True])), value))
    )
    return st.lists(sound, max_size=4).map(dict)


entries = st.one_of(keyed(values).map(lambda more: {"prompt": "The cat"} | more), keyed(values), values)
documents = st.builds(
    lambda top, defaults, prompts: top | defaults | prompts,
    keyed(values),
    st.one_of(st.just({}), st.one_of(keyed(values), values).map(lambda value: {"defaults": value})),
    st.one_of(st.lists(entries, max_size=3), values).map(lambda value: {"prompts": value}),
)

BATCH = """\
# yaml-language-server: $schema=prompts_config.schema.json
model: demo
layers: 0
defaults: &shared {num_tokens: 1, variants: [full, attn]}
prompts:
  - name: one
    prompt: "The capital of France is"
    <<: *shared
  - {prompt: "A cat", enabled: true, chat: false}
  - prompt_file: prompt.txt
    continuation: ' Paris'
    enabled: no
"""
PIECES = [
    *HOSTILE[:45],
    ": ",
    "- ",
    "? ",
    "| ",
    "|-\n",
    ">\n",
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "*shared",
    "<<: ",
    "!!python/object:os.system ",
    "!!float ",
    "!!set ",
    "!!timestamp ",
    "!!map ",
    "!x ",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "#",
    "\t",
    "\r",
    "\ufeff",
    '"\\UFFFFFFFF"',
    "0o7",
    "1:2:3",
    "2024-13-45",
    "=",
    "[" * 2000,
    "{a: " * 1500,
    "prompts: []\n",
    "name: one\n",
    "image: gone.png\n",
    "method: rerun\n",
    "model: [demo]\n",
]


CELLS = [
    "999999999999",
    "-1",
    "1e400",
    "nan",
    "",
    ",",
    '"',
    "\n",
    "\r",
    "0.5",
    '"Full"',
    "Head_99",
    "null",
    "[]",
    "{",
    "\x00",
    "\ud800",
    "true",
    "2" * 30,
]


@st.composite
def mutated(draw, text, pieces=tuple(PIECES)):
    """The text with a few pieces of it left out, doubled, moved, or replaced by what does not belong there."""
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(text)))
        last = min(len(text), first + draw(st.sampled_from([0, 1, 1, 3, 10, 50])))
        new = draw(st.one_of(st.sampled_from(pieces), st.just(""), st.just(text[first:last] * 2), any_text))
        text = text[:first] + new + text[last:]
    return text


@st.composite
def damaged(draw, data):
    """The bytes with some of them left out, replaced or added."""
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(data)))
        last = min(len(data), first + draw(st.sampled_from([0, 1, 4, 100, len(data)])))
        data = data[:first] + draw(st.binary(max_size=6)) + data[last:]
    return data


def leaves(value, way=()):
    """The ways to all values inside a value."""
    yield way
    for key in value if isinstance(value, dict) else range(min(len(value), 3)) if isinstance(value, list) else ():
        yield from leaves(value[key], (*way, key))


@st.composite
def changed(draw, record):
    """The record with a few of its values replaced, whatever their type, or left out."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from([way for way in leaves(record) if way]))
        place = record
        for key in way:
            place = place[key]
        if draw(st.booleans()):
            place[last] = draw(
                st.one_of(
                    st.none(),
                    st.booleans(),
                    st.integers(-1, 2**70),
                    st.floats(),
                    hostile,
                    st.sampled_from([[], {}, [[1]]]).map(copy.deepcopy),
                )
            )
        elif len(record) > 1:
            del place[last]
    return record


@st.composite
def broken_result(draw, files, name):
    """The bytes of one of a result's files, damaged as bytes, as text, or with other values in the right form."""
    way = draw(st.sampled_from(["bytes", "text", "values", "values"]))
    if way == "bytes" or (way == "text" and name.endswith(".parquet")):
        return draw(damaged(files[name]))
    if way == "text":
        return draw(mutated(files[name].decode(), CELLS)).encode("utf-8", "surrogatepass")
    if name.endswith("_run.json"):
        return json.dumps(draw(changed(json.loads(files[name])))).encode()
    return as_file(draw(changed(draw(fewer_rows(json.loads(files["one_results.json"]))))), Path(name).suffix)


@st.composite
def fewer_rows(draw, columns):
    """The columns without some rows, or with some twice, or in another order."""
    rows = list(range(len(columns["layer"])))
    first, last = sorted(draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows)))))
    rows = draw(
        st.sampled_from(
            [rows, rows, rows[first:last], rows[:first] + rows[last:], rows[:last] + rows[first:], rows[::-1]]
        )
    )
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def as_file(columns, suffix):
    """The columns as a result file of this suffix; as JSON where they do not fit into it."""
    file = io.BytesIO()
    try:
        if suffix == ".parquet":
            pq.write_table(pa.table(columns), file)
        if suffix == ".csv":
            table = pa.table(
                {
                    name: [json.dumps(value) if isinstance(value, (dict, list)) else str(value) for value in values]
                    for name, values in columns.items()
                }
            )
            pa.csv.write_csv(table, file)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError):
        return json.dumps(columns).encode()
    return file.getvalue() or json.dumps(columns).encode()


# What comes out


@dataclass
class Answer:
    """What a command exited with and printed, and the files before and after it: their sizes and times by path."""

    code: int
    out: bytes
    err: bytes
    before: dict
    after: dict
    output_dir: Path

    def check(self):
        """Of whatever was asked."""
        assert self.code in (0, 1, 2)
        lines = self.err.decode("utf-8").split("\n")
        assert lines.pop() == "" and all(
            line.startswith(("error: ", "warning: ")) and line.isprintable() for line in lines
        ), lines
        assert not any(HELD_BACK.search(line) or "Traceback" in line or "out of memory" in line for line in lines), (
            lines
        )
        assert all(line.isprintable() for line in self.out.decode("utf-8").split("\n")), self.out
        assert any(line.startswith("error: ") for line in lines) == (self.code != 0), lines
        if self.code == 2:
            assert self.after == self.before
        new = {path for path, what in self.after.items() if what is not None and what != self.before.get(path)}
        assert all(path.is_relative_to(self.output_dir) for path in new), new


class Place:
    """A folder of its own to run commands in; everything that a wrong path could hit by accident lies around it."""

    def __init__(self, root):
        self.root, self.here = root, root / "around" / "here"
        self.asked, self.subjects = [], {}

    def fresh(self, **files):
        """The folder as it was, with these files: text or bytes."""
        shutil.rmtree(self.root)
        (self.here / "folder").mkdir(parents=True)
        Image.new("RGB", (64, 64), "red").save(self.here / "picture.png")
        Image.new("RGB", (3, 3), "red").save(self.here / "tiny.png")
        os.chdir(self.here)
        known = {
            "prompt.txt": "The cat\n",
            "batch.yaml": BATCH,
            "latin1.txt": "caf\u00e9".encode("latin-1"),
            "broken.png": b"\x89PNG\r\n\x1a\n\0\0",
        }
        for name, content in {**known, **files}.items():
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    def files(self):
        """Size and time of every file, None for a folder, by path."""
        return {
            path: None if path.is_dir() else (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
        }

    def watched(self, settings):
        """In place of early_check.check: note the output folder, and refuse one that lies elsewhere on this machine."""
        folder = Path(os.path.abspath(settings.output_dir))
        self.asked = [folder]
        if not folder.is_relative_to(self.root):
            raise RequestError("outside of the test")
        return self.find(settings)

    find, load = staticmethod(early_check.check), staticmethod(loading.load)

    def loaded(self, model_info, settings, wanted):
        """In place of models.load: each model is loaded once, and checked once in each way of measuring."""
        key = (
            model_info.checkpoint.folder,
            settings.dtype,
            settings.measure_dtype,
            settings.method,
            settings.variants,
            *sorted(wanted),
        )
        if key not in self.subjects:
            self.subjects[key] = self.load(model_info, settings, wanted)
        return replace(self.subjects[key], model_info=model_info)

    def run(self, main, words, stdin=b""):
        """Run a front door in this process."""
        before, self.asked = self.files(), [self.here / "output"]
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
        sys.stdin = SimpleNamespace(buffer=io.BytesIO(stdin))
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = console.exit_code(lambda: main(words))
            except SystemExit as end:  # --help and --version
                code = end.code
        for stream in (out, err):
            stream.flush()
        return Answer(code, out.buffer.getvalue(), err.buffer.getvalue(), before, self.files(), self.asked[-1])
