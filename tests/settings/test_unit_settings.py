"""Units, spans and pairs: the same by flag, YAML and Python, and what is refused, a line each."""

from pathlib import Path

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.settings import batch_file, command_line
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

PROMPT = ["--prompt", "P"]


def faults_of(call, *arguments, **keywords) -> list[str]:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **keywords)
    return list(caught.value.faults)


def from_yaml(entry, folder):
    Path(folder, "b.yaml").write_text(f"prompts:\n- prompt: P\n  {entry}\n", encoding="utf-8")
    [settings] = batch_file.read(str(folder / "b.yaml"))
    return settings


def test_spans_are_the_same_from_everywhere(tmp_path):
    [flags] = command_line.read([*PROMPT, "--span", "it=a = b#2", "--span", " at =@3-7,12"])
    for settings in (
        flags,
        from_yaml('spans: {it: "a = b#2", at: "@3-7,12"}', tmp_path),
        Settings.from_python(prompt="P", spans={"it": "a = b#2", "at ": "@3-7,12"}),
    ):
        assert settings.spans == ("it=a = b#2", "at=@3-7,12")
        assert settings.unit_kinds == ("tokens", "spans")


@pytest.mark.parametrize(
    "settings, kinds",
    [
        ({}, None),
        ({"units": "tokens"}, None),
        ({"pairs": 3}, ("tokens",)),
        ({"units": "words"}, ("words",)),
        ({"units": ["spans"], "spans": {"a": "P"}}, ("spans",)),
        ({"units": ["spans", "lines"], "spans": {"a": "P"}}, ("spans", "lines")),
        ({"units": ["lines"], "spans": {"a": "P"}}, ("lines", "spans")),
    ],
)
def test_what_is_hidden(settings, kinds):
    assert Settings.from_python(prompt="P", **settings).unit_kinds == kinds


@pytest.mark.parametrize(
    "settings, fault",
    [
        (
            {"units": "word"},
            "units: expected one of tokens, words, sentences, lines, messages, images, spans, found 'word', did you "
            "mean 'words'?",
        ),
        ({"units": "spans"}, "units spans needs a span; add --span NAME=TEXT (in YAML spans: {NAME: TEXT})"),
        (
            {"units": "messages"},
            "units messages needs a chat; add --chat (in YAML chat: true), or give the turns with --messages FILE",
        ),
        ({"pairs": "spans"}, "pairs spans needs at least two spans, found 0; add --span NAME=TEXT"),
        (
            {"pairs": "spans", "spans": {"a": "P"}},
            "pairs spans needs at least two spans, found 1; add --span NAME=TEXT",
        ),
        (
            {"pairs": 3, "variants": "attn"},
            "pairs 3 needs the variant full, which tells what moves the layers most; add it to --variants",
        ),
        ({"pairs": 1}, "pairs: expected a whole number from 2 to 1000, or spans, found 1"),
        ({"spans": {}}, "spans: expected at least one span, found none; leave it out for none"),
        ({"spans": {"a": ""}}, "spans: the span 'a' has no text; write NAME=TEXT"),
        ({"spans": {" ": "P"}}, "spans: expected NAME=TEXT, found ' =P'"),
        ({"spans": {"a=b": "P"}}, "spans: expected a span's name, without =, found 'a=b'"),
        ({"spans": {"a": 3}}, "spans: the span 'a': expected text in quotes, found 3"),
        ({"spans": ["a=P", "a =Q"]}, "spans: two spans have the name 'a'; give each its own"),
        ({"spans": "a"}, "spans: expected names with their texts, found 'a'"),
    ],
)
def test_what_is_refused(settings, fault):
    found = faults_of(Settings.from_python, prompt="P", **settings)
    assert found == [fault]


@pytest.mark.parametrize(
    "words, fault",
    [
        (["--span", "Eiffel Tower"], "--span: expected NAME=TEXT, found 'Eiffel Tower'"),
        (["--span", "a=b", "--span", "a=c"], "--span: two spans have the name 'a'; give each its own"),
        (["--pairs", "many"], "--pairs: expected a whole number from 2 to 1000, or spans, found 'many'"),
    ],
)
def test_flags_are_refused_by_their_names(words, fault):
    assert faults_of(command_line.read, [*PROMPT, *words]) == [fault]


def test_a_name_twice_in_yaml_is_refused(tmp_path):
    assert "'a' stands twice" in faults_of(from_yaml, "spans: {a: b, a: c}", tmp_path)[0]


def test_messages_are_units_of_a_chat():
    for settings in ({"prompt": "P", "chat": True}, {"messages": [{"role": "user", "content": "P"}]}):
        assert Settings.from_python(**settings, units="messages").units == ("messages",)
    assert "needs a chat" in faults_of(Settings.from_python, prompt=(1, 2), units="messages")[0]


def test_images_are_units_where_they_are_masked():
    asked = {"prompt": "P", "image": "x.png", "units": "images"}
    assert VisionSettings.from_python(**asked, mask_mode="both").units == ("images",)
    assert faults_of(VisionSettings.from_python, **asked) == [
        "units images needs the pictures masked, found mask_mode text; add --mask-mode both (in YAML mask_mode: both)"
    ]
    VisionSettings.from_python(part="encoder", at="0,0", image="x.png", units="images")
