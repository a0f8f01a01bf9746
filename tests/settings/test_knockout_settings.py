"""Cuts down to the answer: the same by flag, YAML and Python, what is refused, and what entries of a batch share."""

from pathlib import Path

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.runs import result_names
from mask_impact.settings import batch_file, command_line
from mask_impact.settings.text_settings import CUTS, Settings
from mask_impact.settings.vision_settings import VisionSettings

PROMPT = ["--prompt", "P"]
SETTINGS_OF_CUTS = ("knockout", "window", "knockout_steps", "head_cells")
ENCODER = {"part": "encoder", "at": "0,0", "image": "x.png"}


def faults_of(call, *arguments, **keywords) -> list[str]:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **keywords)
    return list(caught.value.faults)


def in_batch(text, folder, kind=Settings, **flags):
    Path(folder, "b.yaml").write_text(text, encoding="utf-8")
    return batch_file.read(str(folder / "b.yaml"), flags, kind)


def test_cuts_are_the_same_from_everywhere(tmp_path):
    words = "--knockout first_order,final,heads --window 5 --knockout-steps 2,0-1 --head-cells 7 --num-tokens 3"
    [flags] = command_line.read([*PROMPT, *words.split()])
    [entry] = in_batch(
        "prompts:\n- prompt: P\n  num_tokens: 3\n  knockout: [first_order, final, heads]\n  window: 5\n"
        "  knockout_steps: [2, 0, 1]\n  head_cells: 7\n",
        tmp_path,
    )
    asked = {"knockout": {"first_order", "final", "heads"}, "knockout_steps": range(3), "head_cells": 7, "window": 5}
    for settings in (flags, entry, Settings.from_python(prompt="P", num_output_tokens=3, **asked)):
        found = [getattr(settings, name) for name in SETTINGS_OF_CUTS]
        assert found == [("final", "heads", "first_order"), 5, (0, 1, 2), 7]


def test_all_cuts_are_made_unless_none_is_asked_for():
    plain, none = Settings(prompt="P"), Settings.from_python(prompt="P", knockout="none", window="all")
    assert plain.cuts == plain.cuts_at(0) == CUTS and plain.to_record()["knockout"] == [*CUTS]
    assert none.cuts == none.cuts_at(0) == ()
    assert none.to_record().keys().isdisjoint(SETTINGS_OF_CUTS)
    before = none.to_record()  # as of a version without knock-outs
    assert result_names.differing_settings({"settings": before}, none, {}) == []
    assert result_names.differing_settings({"settings": before}, plain, {}) == ["knockout"]
    assert not plain.cuts_named and Settings.from_python(prompt="P", knockout=CUTS).cuts_named


def test_all_is_read_at_every_step_and_the_others_where_they_are_asked_for():
    settings = Settings.from_python(prompt="P", knockout=CUTS, num_output_tokens=4)
    assert [settings.cuts_at(step) for step in (0, 1)] == [CUTS, ("all",)]
    settings = Settings.from_python(prompt="P", knockout=CUTS, num_output_tokens=4, knockout_steps="1-2")
    assert [settings.cuts_at(step) for step in range(4)] == [("all",), CUTS, CUTS, ("all",)]
    settings = Settings.from_python(prompt="P", knockout=["heads"], knockout_steps="all")
    assert settings.cuts_at(99) == ("heads",)


def test_cuts_by_default_are_those_that_can_be_made():
    assert Settings(prompt="P", knockout=CUTS).cuts == CUTS
    short = Settings(prompt="P", knockout=CUTS, variants="attn")
    assert short.cuts == ("all", "final", "heads") and short.to_record()["knockout"] == list(short.cuts)
    encoder = VisionSettings(**ENCODER, knockout=CUTS)
    assert encoder.cuts == () and "knockout" not in encoder.to_record()


@pytest.mark.parametrize("variants", ["full", "heads", "attn,heads"])
def test_first_order_needs_whole_layers_or_heads(variants):
    assert Settings.from_python(prompt="P", knockout="first_order", variants=variants).cuts == ("first_order",)


@pytest.mark.parametrize(
    "settings, fault",
    [
        (
            {"knockout": "last"},
            "knockout: expected one of none, all, final, heads, first_order, found 'last'",
        ),
        (
            {"knockout": ["all", "none"]},
            "knockout none stands alone, found none,all; leave none out, or the others",
        ),
        ({"knockout": []}, "knockout: expected one or more of none, all, final, heads, first_order, found a list"),
        (
            {"window": 5, "knockout": "none"},
            "window needs the cut final, found knockout none; ask for it with --knockout, or leave window out",
        ),
        (
            {"window": 5, "knockout": ["all", "heads"]},
            "window needs the cut final, found knockout all,heads; ask for it with --knockout, or leave window out",
        ),
        (
            {"knockout_steps": "all", "knockout": "all"},
            "knockout_steps needs the cut final or heads or first_order, found knockout all; ask for it with "
            "--knockout, or leave knockout_steps out",
        ),
        (
            {"head_cells": 8, "knockout": "final"},
            "head_cells needs the cut heads, found knockout final; ask for it with --knockout, or leave head_cells out",
        ),
        (
            {"knockout": "first_order", "variants": "attn"},
            "knockout first_order needs the variant full or heads, found attn; add one to --variants",
        ),
        (
            {"knockout": "final", "knockout_steps": [0, 3], "num_tokens": 3},
            "knockout_steps 3 needs 4 tokens, as steps count from 0; add --num-tokens N",
        ),
        ({"knockout": "final", "window": 0}, "window: expected a whole number from 1 to 10000, or all, found 0"),
        (
            {"knockout": "final", "window": "wide"},
            "window: expected a whole number from 1 to 10000, or all, found 'wide'",
        ),
        ({"knockout": "heads", "head_cells": 0}, "head_cells: expected a whole number from 1 to 1000000, found 0"),
        (
            {"knockout": "heads", "knockout_steps": "first"},
            "knockout_steps: expected step numbers counted from 0, such as 0-3,10, found 'first'",
        ),
        (
            {"knockout": "heads", "knockout_steps": []},
            "knockout_steps: expected at least one step, found an empty list; leave it out for step 0",
        ),
        ({"knockout": "heads", "knockout_steps": "2-1"}, "knockout_steps: the range 2-1 runs backwards; write 1-2"),
    ],
)
def test_what_is_refused(settings, fault):
    assert faults_of(Settings.from_python, prompt="P", **settings) == [fault]


@pytest.mark.parametrize(
    "words, fault",
    [
        (["--window", "0"], "--window: expected a whole number from 1 to 10000, or all, found 0"),
        (["--head-cells", "x"], "--head-cells: expected a whole number from 1 to 1000000, found 'x'"),
        (
            ["--knockout-steps", "-1"],
            "--knockout-steps: expected step numbers counted from 0, such as 0-3,10, found '-1'",
        ),
        (
            ["--knockout", "all,al"],
            "--knockout: expected one of none, all, final, heads, first_order, found 'al', did you mean 'all'?",
        ),
    ],
)
def test_flags_are_refused_by_their_names(words, fault):
    assert faults_of(command_line.read, [*PROMPT, *words]) == [fault]


def test_steps_of_a_continuation_are_as_many_as_its_tokens():
    asked = {"prompt": "P", "continuation": " Q", "knockout": "final", "knockout_steps": "0-9"}
    assert Settings.from_python(**asked).knockout_steps == tuple(range(10))
    assert "needs 10 tokens" in faults_of(Settings.from_python, **asked, num_output_tokens=9)[0]


@pytest.mark.parametrize(
    "name, value", [("knockout", "all"), ("window", 5), ("knockout_steps", "all"), ("head_cells", 8)]
)
def test_the_encoder_has_no_answer(name, value):
    assert faults_of(VisionSettings.from_python, **ENCODER, **{name: value}) == [
        f"part encoder measures a picture alone and predicts nothing, found {name}; leave it out"
    ]
    assert VisionSettings.from_python(**ENCODER, knockout="none").cuts == ()


def test_what_entries_share_goes_by_the_order_of_all_settings(tmp_path):
    text = """\
knockout: [final, heads]
window: 5
defaults: {window: 3, head_cells: 8}
prompts:
- {prompt: P}
- {prompt: P, window: 1, knockout: final}
- {prompt: P, knockout: none}
"""
    assert [(entry.cuts, entry.window, entry.head_cells) for entry in in_batch(text, tmp_path)] == [
        (("final", "heads"), 3, 8),
        (("final",), 1, 64),
        ((), "all", 64),
    ]
    shared = text.replace(", window: 1", "")
    assert [entry.cuts for entry in in_batch(shared, tmp_path, knockout=("all",))] == [("all",)] * 3
    own = text.replace("knockout: none", "knockout: none, head_cells: 9")
    assert faults_of(in_batch, own, tmp_path) == [
        f"{tmp_path / 'b.yaml'}:7: head_cells needs the cut heads, found knockout none; ask for it with --knockout, "
        "or leave head_cells out"
    ]


def test_pictures_shared_cuts_leave_the_encoder_alone(tmp_path):
    text = "knockout: all\nprompts:\n- {prompt: P}\n- {part: encoder, at: '0,0', image: x.png}\n"
    assert [entry.cuts for entry in in_batch(text, tmp_path, VisionSettings)] == [("all",), ()]
