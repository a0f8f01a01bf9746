"""Conversations in a model's chat template: the ids are those of transformers' own `apply_chat_template`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zoo
from from_python import experiment
from running import files_in, record_of, yaml_file
from transformers import AutoTokenizer

import mask_impact_vl
from mask_impact.base.errors import RequestError
from mask_impact.models.chat import chat_ids
from mask_impact.models.tokens import decode
from mask_impact.models.vision import qwen3_vl
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "A"},
    {"role": "assistant", "content": "B "},
    {"role": "user", "content": "C"},
]
GOING_ON = [*TALK, {"role": "assistant", "content": "D e"}]
STRINGS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PARTS = STRINGS.replace("{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}")
STRICT = STRINGS.replace(
    "<{{ m.role }}>",
    "{% if m.role not in ['user', 'assistant', 'system'] %}{{ raise_exception('no such role') }}{% endif %}"
    "<{{ m.role }}>",
)


def tokenizer(template):
    made = zoo.tokenizer()
    made.chat_template = template
    return made


def rendered(template, messages) -> str:
    made = tokenizer(template)
    return decode(made, chat_ids(made, Settings(messages=messages)))


@pytest.mark.parametrize("template", [STRINGS, PARTS], ids=["strings", "parts"])
def test_turns_stand_in_the_template_and_the_assistants_last_is_continued(template):
    start = "<system>S</><user>A</><assistant>B </><user>C</><assistant>"
    assert rendered(template, TALK) == start
    assert rendered(template, GOING_ON) == start + "D e"


def test_the_ids_are_those_of_transformers():
    own = AutoTokenizer.from_pretrained("demo/text/model")
    made = chat_ids(own, Settings(messages=TALK, thinking=True))
    assert made == own.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    made = chat_ids(own, Settings(messages=GOING_ON))
    assert made == own.apply_chat_template(GOING_ON, continue_final_message=True)["input_ids"]


@pytest.mark.parametrize(
    "single, messages",
    [({"prompt": "C", "chat": True}, TALK[3:]), ({"prompt": "A", "chat": True, "system": "S"}, TALK[:2])],
)
def test_one_message_is_the_chat_of_a_prompt(single, messages):
    made = tokenizer(STRINGS)
    assert chat_ids(made, Settings(**single)) == chat_ids(made, Settings(messages=messages))


NO_LAST = "{% for m in messages[:-1] %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    "template, fault",
    [
        (None, "messages need a chat template, and the model has none; give their text as the prompt"),
        (STRICT, "the model's chat template refuses these messages ('no such role'); change them"),
        (NO_LAST, "the model's chat template leaves the last of the messages out; change them"),
    ],
    ids=["none", "refuses", "drops"],
)
def test_messages_that_cannot_be_rendered_are_one_line(template, fault):
    with pytest.raises(RequestError) as caught:
        chat_ids(tokenizer(template), Settings(messages=[*TALK, {"role": "critic", "content": "x"}]))
    assert caught.value.faults == (fault,)


def warnings_of(model, template, messages) -> list[str]:
    made = tokenizer(template)
    made.add_special_tokens({"bos_token": "<bos>"})
    table = experiment(model, messages, tokenizer=made, layers=[0], variants=["attn"])
    return table.attrs["run"]["warnings"]


def test_what_a_template_drops_or_cannot_continue_is_told(model):
    dropping = STRINGS.replace("in messages", "in messages if m.role != 'system'")
    assert warnings_of(model, STRINGS, GOING_ON) == []
    assert warnings_of(model, dropping, TALK) == [
        "messages: the model's chat template drops message 1 (system); write its text into another"
    ]
    altering = STRINGS.replace("{{ m.content }}", "{{ m.content | replace(' e', '') }}")
    assert warnings_of(model, altering, GOING_ON) == [
        "messages: the model's chat template cannot go on in the assistant's last message, and begins another one"
    ]
    [twice] = warnings_of(model, "{{ bos_token }}{{ bos_token }}" + STRINGS, TALK)
    assert twice.startswith("the prompt begins with '<bos>' twice")


def test_a_conversation_is_measured_kept_and_recognised(command, here):
    Path("talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    words = ["--model", "demo", "--layers", 0]
    assert command(*words, "--messages", "talk.json")[0] == 0
    record = record_of("c")
    assert record["settings"]["messages"] == TALK and record["settings"]["prompt"] is None
    assert "this result is there" in " ".join(command(*words, "--messages", "talk.json")[1])
    file = yaml_file(json.dumps({"model": "demo", "prompts": [{"messages": TALK, "layers": 0}]}))
    assert "this result is there" in " ".join(command("--config", file)[1])
    Path("talk.json").write_text(json.dumps([*TALK[1:]]), encoding="utf-8")
    code, out, _ = command(*words, "--messages", "talk.json", "--dry-run")
    assert code == 0 and out[0].startswith("c_2: ")
    assert command(*words, "--prompt", "C", "--chat", "--dry-run")[1][0].startswith("c_2: ")


def test_a_model_without_a_template_is_refused_before_its_weights(command, llama, loads, here):
    Path("talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    code, out, err = command("--model", llama, "--messages", "talk.json")
    assert (code, out, loads, files_in(here)) == (2, [], [], ["talk.json"])
    assert err == ["error: messages need a chat template, and the model has none; give their text as the prompt"]


def test_pictures_stand_in_front_of_the_users_first_message(vl, two_pictures):
    asked = VisionSettings(model=vl, messages=GOING_ON, image=["cat.png"])
    info = qwen3_vl.examine(asked)
    text = decode(info.tokenizer, info.question_ids(asked))
    single = decode(
        info.tokenizer, info.question_ids(VisionSettings(model=vl, prompt="A", system="S", image=["cat.png"]))
    )
    front = single[: single.index("A") + 1]
    assert text.startswith(front) and text.endswith("D e") and text.count("image") == front.count("image") > 0
    with pytest.raises(RequestError, match="pictures stand in front of the user's first message, and there is none"):
        info.question_ids(VisionSettings(model=vl, messages=TALK[:1], image=["cat.png"]))


def test_a_conversation_about_a_picture_is_measured(vl, two_pictures, command):
    Path("talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    words = ["--model", vl, "--image", "cat.png", "--messages", "talk.json", "--layers", 0, "--mask-mode", "both"]
    assert command(*words, "--quiet", door=mask_impact_vl)[0] == 0
    assert record_of("cat_c")["settings"]["messages"] == TALK
