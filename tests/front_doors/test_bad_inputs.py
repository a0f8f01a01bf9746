"""Bad input by the thousand, made by Hypothesis:
every fault is one line, nothing is written where nothing was asked for.

Both front doors and the look-up run in this process, on the demo models, with flags in every wrong combination, batch
files that were mutated as text, as bytes and as values, prompts of every Unicode plane, and broken results and
pictures; some more run as the commands that people type. The inputs are the same each time.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from bad_inputs import (
    BATCH,
    Answer,
    Place,
    any_text,
    broken_result,
    command_lines,
    damaged,
    documents,
    hostile,
    mutated,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from repository import ROOT

import mask_impact_analysis
import mask_impact_vl
from mask_impact import __main__ as look_up
from mask_impact.models import loading
from mask_impact.runs import early_check


def inputs(count):
    """Decorator: so many examples, the same each time."""
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = Place(tmp_path_factory.mktemp("bad").resolve() / "root")
        place.root.mkdir()
        patch.chdir(place.root)
        patch.setattr(sys, "stdin", None)
        patch.setattr(early_check, "check", place.watched)
        patch.setattr(loading, "load", place.loaded)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place.root / "hub"))
        patch.setenv("HOME", str(place.root / "around"))
        patch.setenv("TRANSFORMERS_VERBOSITY", "critical")
        yield place


DOORS = {"text": mask_impact_analysis.main, "vision": mask_impact_vl.main}


@pytest.mark.parametrize("door", DOORS)
@inputs(300)
@given(words=command_lines, stdin=st.one_of(st.just(b"The cat"), st.binary(max_size=8)))
def test_flags_in_every_wrong_combination(place, door, words, stdin):
    place.fresh()
    place.run(DOORS[door], words, stdin).check()


@inputs(350)
@given(text=mutated(BATCH), more=st.sampled_from([[], [], ["--dry-run"], ["--quiet"], ["--num-tokens", "0"]]))
def test_batch_files_mutated_as_text(place, text, more):
    place.fresh(**{"batch.yaml": text})
    place.run(DOORS["text"], ["--config", "batch.yaml", *more]).check()


@inputs(50)
@given(data=damaged(BATCH.encode()))
def test_batch_files_mutated_as_bytes(place, data):
    place.fresh(**{"batch.yaml": data})
    place.run(DOORS["text"], ["--config", "batch.yaml"]).check()


@pytest.mark.parametrize("door", DOORS)
@inputs(150)
@given(document=documents, more=st.sampled_from([[], ["--dry-run"]]))
def test_batch_files_of_any_values(place, door, document, more):
    place.fresh(**{"batch.yaml": yaml.safe_dump(document, allow_unicode=True)})
    place.run(DOORS[door], ["--config", "batch.yaml", "--model", "demo", *more]).check()


PLANES = {f"plane {number}": (number * 0x10000, number * 0x10000 + 0xFFFF) for number in range(17)}


@pytest.mark.parametrize("first, last", [*PLANES.values(), (0xD800, 0xDFFF)], ids=[*PLANES, "surrogates"])
@inputs(12)
@given(data=st.data())
def test_prompts_of_every_unicode_plane(place, first, last, data):
    letters = st.characters(min_codepoint=first, max_codepoint=last, exclude_categories=())
    prompt, end = data.draw(st.text(letters, min_size=1, max_size=8)), data.draw(st.text(letters, max_size=2))
    place.fresh(**{"prompt.txt": prompt})
    where = data.draw(
        st.sampled_from(
            [
                ["--prompt", prompt],
                ["--prompt-file", "prompt.txt"],
                ["--prompt-file", "-"],
                ["--prompt", "x", "--output", prompt],
            ]
        )
    )
    words = ["--model", "demo", "--layers", "0", *where, *(["--continuation", end] if end else [])]
    answer = place.run(DOORS["text"], words, prompt.encode("utf-8", "surrogatepass"))
    answer.check()
    assert answer.code in (0, 2)


@inputs(60)
@given(data=st.one_of(st.binary(max_size=40), st.binary(max_size=9).map(lambda data: b"\xff\xfe" + data)))
def test_prompt_files_of_any_bytes(place, data):
    place.fresh(**{"prompt.txt": data})
    place.run(DOORS["text"], ["--model", "demo", "--layers", "0"]).check()


@pytest.fixture(scope="module")
def pictures(place):
    """The bytes of a picture in several formats."""

    def written(kind):
        file = io.BytesIO()
        Image.radial_gradient("L").resize((64, 48)).save(file, kind)
        return file.getvalue()

    return [written(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")]


@inputs(60)
@given(data=st.data())
def test_broken_pictures(place, pictures, data):
    picture = data.draw(damaged(data.draw(st.sampled_from(pictures))))
    place.fresh(**{"broken.png": picture})
    asked = ["--image", "broken.png", "--prompt", "What is this?", "--mask-mode", "vision", "--max-image-tokens", "16"]
    place.run(DOORS["vision"], ["--model", "demo", "--layers", "0", *asked]).check()


@pytest.fixture(scope="module")
def result(place):
    """The files of a result, by name."""
    place.fresh()
    assert (
        place.run(
            DOORS["vision"],
            [
                "--model",
                "demo",
                "--image",
                "picture.png",
                "--prompt",
                "What is this?",
                "--mask-mode",
                "both",
                "--max-image-tokens",
                "4",
                "--layers",
                "0-1",
                "--output",
                "one",
                "--formats",
                "csv,json,parquet",
            ],
        ).code
        == 0
    )
    return {path.name: path.read_bytes() for path in Path("output").iterdir()}


LOOKS = [
    ["show"],
    ["show", "--json"],
    ["show", "--metric", "cosine", "--top", "3"],
    ["show", "--step", "1"],
    ["show", "--variant", "head_0"],
    ["report"],
    ["report", "--overwrite"],
    ["compare"],
    ["export", "--to", "csv"],
    ["export", "--to", "json", "--overwrite"],
    ["export", "--to", "parquet", "--overwrite"],
]


@inputs(300)
@given(data=st.data())
def test_broken_results(place, result, data):
    target = data.draw(st.sampled_from(sorted(result)))
    files = {**result, target: data.draw(broken_result(result, target))}
    if data.draw(st.booleans()):
        files.pop("one_run.json")
    command, *more = data.draw(st.sampled_from(LOOKS))
    asked = [
        data.draw(st.sampled_from([f"output/{target}", "one"])),
        *(["output/one_results.csv"] if command == "compare" else []),
    ]
    place.fresh()
    Path("output").mkdir()
    for name, content in files.items():
        Path("output", name).write_bytes(content)
    place.run(look_up.main, [command, *asked, *more]).check()


look_words = st.one_of(
    hostile,
    any_text,
    st.sampled_from(
        [
            "show",
            "compare",
            "report",
            "export",
            "one",
            "output/one",
            "--to",
            "csv",
            "parquet",
            "--step",
            "--variant",
            "Full",
            "--top",
            "--json",
            "--metric",
            "cosine",
        ]
    ),
)


@inputs(150)
@given(command=st.sampled_from(["show", "compare", "report", "export"]), words=st.lists(look_words, max_size=5))
def test_look_ups_of_any_words(place, result, command, words):
    place.fresh()
    Path("output").mkdir()
    for name, content in result.items():
        Path("output", name).write_bytes(content)
    place.run(look_up.main, [command, *words]).check()


real_words = command_lines.filter(
    lambda words: "demo" not in words
)  # which most often ends before torch is imported, in half a second
real_commands = st.one_of(
    st.tuples(st.just(["mask_impact_analysis.py"]), real_words),
    st.tuples(st.just(["mask_impact_vl.py"]), real_words),
    st.tuples(st.just(["-m", "mask_impact"]), st.lists(look_words, max_size=4)),
)


@inputs(30)
@example(
    command=(
        ["mask_impact_analysis.py"],
        ["--model", "demo", "--prompt", "a\x1b[2J\u202e", "--layers", "0", "--output", "\u202e"],
    )
)
@example(command=(["mask_impact_vl.py"], ["--model", "demo", "--prompt", "a\udcff", "--image", "broken.png"]))
@given(command=real_commands)
def test_real_commands(place, result, command):
    program, words = command
    place.fresh()
    Path("output").mkdir()
    for name, content in result.items():
        Path("output", name).write_bytes(content)
    program = [str(ROOT / word) if word.endswith(".py") else word for word in program]
    words = [
        word.replace("\0", "").encode("utf-8", "surrogateescape" if word == "\udcff" else "replace") for word in words
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(place.root / "hub"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("TRANSFORMERS_VERBOSITY")
    before = place.files()
    ended = subprocess.run(
        [sys.executable, *program, *words], input=b"The cat", capture_output=True, env=environment, timeout=60
    )
    answer = Answer(ended.returncode, ended.stdout, ended.stderr, before, place.files(), place.here)
    answer.check()
