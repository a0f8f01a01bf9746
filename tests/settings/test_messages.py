"""Conversations: the same messages by flag, YAML and Python, and what is refused, a line each."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.settings import batch_file, command_line
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "My name is Ann."},
    {"role": "assistant", "content": "Hello: Ann."},
    {"role": "user", "content": "What is my name?"},
]
YAML = "prompts:\n- name: a\n  messages:\n" + "".join(
    f'  - {{role: {turn["role"]}, content: "{turn["content"]}"}}\n' for turn in TALK
)
KINDS = pytest.mark.parametrize("kind", [Settings, VisionSettings])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    Path("b.yaml").write_text(YAML, encoding="utf-8")


def faults_of(call, *arguments, **keywords) -> list[str]:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **keywords)
    return list(caught.value.faults)


def in_yaml(text: str) -> list[Settings]:
    Path("b.yaml").write_text(text, encoding="utf-8")
    return batch_file.read("b.yaml")


@KINDS
def test_the_three_ways_give_the_same(kind, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(TALK).encode())))
    made = [
        *command_line.read(["--messages", "talk.json"], kind=kind),
        *command_line.read(["--messages", "-"], kind=kind),
        *batch_file.read("b.yaml", kind=kind),
        kind.from_python(messages=TALK),
        kind.from_python(prompt=tuple(TALK)),
    ]
    for settings in made:
        assert settings.messages == tuple(TALK) and settings.chat and settings.prompt is None
        assert settings.title == "What is my name?"
        assert settings.changing_numbers()["messages"] == json.loads(json.dumps(TALK))


def test_the_name_is_of_the_users_last_message_behind_the_pictures():
    talk = [*TALK, {"role": "assistant", "content": "Your name is"}]
    assert VisionSettings(messages=talk, image=["cat.png"]).title == "cat What is my name?"
    assert Settings(messages=talk[:1]).title == "Be brief."


def test_without_messages_the_run_file_has_no_such_key():
    assert "messages" not in Settings(prompt="P").to_record()


WRONG = {
    "empty": ([], "expected at least one message, found an empty list"),
    "no mapping": ([TALK[0], "x"], "expected role and content in message 2, found 'x'"),
    "no role": ([{"content": "x"}], "message 1 has no role; it needs role and content"),
    "no content": ([TALK[0], {"role": "user"}], "message 2 has no content; it needs role and content"),
    "another key": ([TALK[0] | {"name": "x"}], "message 1 has the key 'name'; it takes role and content alone"),
    "nothing": ([TALK[0] | {"content": None}], "the content of message 1: expected text, found nothing (null)"),
    "parts": ([TALK[0] | {"content": [1]}], "the content of message 1: expected text, found a list"),
    "a part": ([TALK[0] | {"content": {"x": 1}}], "the content of message 1: expected text, found a mapping"),
    "a number": ([TALK[0] | {"role": 5}], "the role of message 1: expected text in quotes, found 5"),
    "no list": ({"messages": []}, "expected a list of messages, each with role and content, found a mapping"),
    "text": ("Hi", "expected a list of messages, each with role and content, found 'Hi'"),
}


@pytest.mark.parametrize("value, fault", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_list_is_one_line_each_way(value, fault):
    Path("bad.json").write_text(json.dumps(value), encoding="utf-8")
    assert faults_of(command_line.read, ["--messages", "bad.json"]) == [f"bad.json: {fault}"]
    assert faults_of(in_yaml, json.dumps({"prompts": [{"messages": value}]})) == [f"b.yaml:1: messages: {fault}"]
    assert faults_of(Settings.from_python, messages=value) == [f"messages: {fault}"]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("[{", "bad.json:1: not JSON: Expecting property name enclosed in double quotes; write a list such as "),
        ("", "bad.json:1: not JSON: Expecting value; "),
        ("[" * 100_000, "bad.json: nested too deeply; a list of messages needs two levels"),
        ('[{"role": "user", "content": "\\ud800"}]', "bad.json: the content of message 1: expected UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_messages(text, fault):
    Path("bad.json").write_text(text, encoding="utf-8")
    [found] = faults_of(command_line.read, ["--messages", "bad.json"])
    assert found.startswith(fault)


def test_a_file_that_is_not_there_and_standard_input_that_is_not(monkeypatch):
    assert faults_of(command_line.read, ["--messages", "gone.json"]) == [
        "gone.json: there is no such file; check the path"
    ]
    monkeypatch.setattr("sys.stdin", None)
    assert faults_of(command_line.read, ["--messages", "-"]) == [
        "--messages -: there is no standard input; name a file"
    ]


BESIDE = "messages are the whole conversation, found {} beside them; keep the messages, or {}"


@pytest.mark.parametrize(
    "words, found, those",
    [
        (["--prompt", "P"], "prompt", "that"),
        (["--prompt-file", "-"], "prompt_file", "that"),  # and standard input is not waited for
        (["--chat"], "chat", "that"),
        (["--no-chat", "--system", "S"], "chat, system", "those"),
    ],
)
def test_messages_stand_alone_on_the_command_line(words, found, those):
    assert faults_of(command_line.read, ["--messages", "-", *words]) == [BESIDE.format(found, those)]


@pytest.mark.parametrize("key, value", [("prompt", "P"), ("prompt_file", "talk.json"), ("system", "S"), ("chat", True)])
def test_messages_stand_alone_in_an_entry_and_in_python(key, value):
    told = BESIDE.format(key, "that")
    batch = json.dumps({"prompts": [{"messages": TALK, key: value}]})
    assert faults_of(in_yaml, batch) == [f"b.yaml:1: {told}"]
    assert faults_of(Settings.from_python, messages=TALK, **{key: value}) == [told]


def test_a_list_of_messages_as_prompt_and_messages():
    assert faults_of(Settings.from_python, prompt=TALK, messages=TALK) == [
        "'prompt', 'messages': two names of one setting; keep one"
    ]


def test_what_many_entries_share_is_left_out_beside_messages():
    [chat, talk] = in_yaml(
        json.dumps({"defaults": {"chat": True, "system": "S"}, "prompts": [{"prompt": "P"}, {"messages": TALK}]})
    )
    assert (chat.system, talk.system, talk.messages) == ("S", None, tuple(TALK))
    assert talk.given == {"messages"}


def test_messages_in_yaml_may_be_aliases_and_keep_their_faults_lines():
    [settings] = in_yaml(
        'prompts:\n- messages:\n  - &one {role: user, content: "x"}\n  - *one\n  - {<<: *one, role: system}\n'
    )
    assert [turn["role"] for turn in settings.messages] == ["user", "user", "system"]
    assert faults_of(in_yaml, "prompts:\n- messages:\n  - role: user\n    content: a\n    content: b\n") == [
        "b.yaml:5: 'content' stands twice (also on line 4); keep one"
    ]


def test_messages_and_the_encoder():
    said = faults_of(VisionSettings.from_python, messages=TALK, image="cat.png", part="encoder", at="all")
    assert said == ["part encoder measures a picture alone and predicts nothing, found messages; leave it out"]


def test_messages_do_not_go_with_a_batch_file():
    [fault] = faults_of(command_line.read, ["--config", "b.yaml", "--messages", "talk.json"])
    assert fault.startswith("--config does not go with --messages")
