"""From settings to units: a text's tokens, a chat's turns, pictures and named spans, at every step of a prompt."""

from __future__ import annotations

import pytest
import vision_zoo
import zoo
from asking import planned
from transformers import AutoTokenizer

from mask_impact.base.errors import RequestError
from mask_impact.models import info, loading
from mask_impact.models.chat import chat_ids, chat_turns
from mask_impact.models.tokens import decode, tokenized_text
from mask_impact.models.vision import qwen3_vl
from mask_impact.runs import planning
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "A b"},
    {"role": "assistant", "content": " C "},
    {"role": "user", "content": "D\n"},
]
GOING_ON = [*TALK, {"role": "assistant", "content": "E f"}]


def planned_text(prompt="Anna put the key in the red box.", **settings):
    asked = Settings.from_python(prompt=prompt, model_name="demo", **settings)
    return planning.plan(asked, info.examine(asked))


def shown(inputs, ids=None):
    return [(unit.kind, unit.label, unit.where) for unit in inputs.units(ids or inputs.token_ids)]


def labelled(inputs, kind):
    return [(label, where) for found, label, where in shown(inputs) if found == kind]


@pytest.mark.parametrize("settings", [{}, {"units": "tokens"}, {"units": ["tokens"], "pairs": None}])
def test_each_token_alone_is_no_list_of_units(settings):
    plan = planned_text(**settings)
    assert plan.prompt.asked is None and plan.prompt.units(plan.prompt.token_ids) is None
    assert plan.settings.to_record().keys().isdisjoint({"units", "spans", "pairs"})


def test_kinds_stand_in_the_order_asked_and_spans_behind_them():
    inputs = planned_text(units="lines,tokens", spans={"b": "key", "a": "Anna"}).prompt
    kinds = [unit.kind for unit in inputs.units(inputs.token_ids)]
    assert list(dict.fromkeys(kinds)) == ["lines", "tokens", "spans"]
    assert kinds.count("tokens") == len(inputs.token_ids)
    assert labelled(inputs, "spans") == [("b", "3"), ("a", "0")]
    inputs = planned_text(units="spans,words", spans={"b": "key"}).prompt
    assert shown(inputs)[0] == ("spans", "b", "3")
    inputs = planned_text(units="spans", spans={"b": "key"}).prompt
    assert shown(inputs) == [("spans", "b", "3")]


def test_pairs_alone_make_units_of_the_tokens():
    inputs = planned_text(pairs=2).prompt
    assert [label for label, _ in labelled(inputs, "tokens")][:2] == ["Anna", " put"]


@pytest.mark.parametrize("kind", ["words", "sentences", "lines"])
def test_what_is_generated_is_part_of_the_text(kind):
    inputs = planned_text("The", units=kind, spans={"x": "The"}).prompt
    grown = [*inputs.token_ids, *inputs.token_ids]  # "TheThe"
    assert shown(inputs, grown) == [(kind, "TheThe", f"0-{len(grown) - 1}"), *shown(inputs)[1:]]


def test_tokens_that_are_characters_only_together_have_the_same_ones():
    tokenizer = zoo.tokenizer()
    ids = tokenizer("a é👍 the\ufffd")["input_ids"]
    text = tokenized_text(tokenizer, ids, list, {})
    assert text.text == decode(tokenizer, ids) == "a é👍 the\ufffd"
    assert [text.text[start:end] for start, end in text.ranges] == [
        *("a", " ", "é", "é", "👍", "👍", "👍", "👍", " the", *["\ufffd"] * 3)
    ]
    cut_off = tokenized_text(tokenizer, ids[:6], list, {})
    assert cut_off.ranges[:4] == text.ranges[:4] and len(cut_off) == 6


def test_the_last_word_grows_by_bytes():
    tokenizer = zoo.tokenizer()
    whole = tokenizer("an é")["input_ids"]
    for length in range(1, 1 + len(whole)):
        text = tokenized_text(tokenizer, whole[:length], list, {})
        assert len(text) == length and text.text == decode(tokenizer, whole[:length])


STRINGS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
WAITING = STRINGS + "{% if add_generation_prompt %}<assistant>{% endif %}"
TRIMMED = WAITING.replace("m.content", "m.content | trim")
INSIDE = (  # as Llama 2: the system message stands in the user's turn, which ends where the answer begins
    "{% for m in messages %}{% if m.role == 'system' %}[S]{{ m.content }}[/S]"
    "{% elif m.role == 'user' %}[I]{{ m.content }}[/I]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
FIRST = INSIDE.replace(
    "{% for", "{% if messages[1] is undefined %}{{ raise_exception('no user') }}{% endif %}{% for", 1
)
NO_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    + WAITING[len(STRINGS) :]
)


@pytest.mark.parametrize(
    "template, messages, turns",
    [
        (
            WAITING,
            TALK,
            [
                ("system 1", "<system>Be kind.</>"),
                ("user 1", "<user>A b</>"),
                ("assistant 1", "<assistant> C </>"),
                ("user 2", "<user>D\n</>"),
                ("assistant 2", "<assistant>"),
            ],
        ),
        (WAITING, TALK[1:2], [("user 1", "<user>A b</>"), ("assistant 1", "<assistant>")]),
        (WAITING, GOING_ON[3:], [("user 1", "<user>D\n</>"), ("assistant 1", "<assistant>E f")]),
        (
            TRIMMED,
            TALK[1:],
            [
                ("user 1", "<user>A b</>"),
                ("assistant 1", "<assistant>C</>"),
                ("user 2", "<user>D</>"),
                ("assistant 2", "<assistant>"),
            ],
        ),
        (
            INSIDE,
            TALK,
            [
                ("system 1", "[S]Be kind.[/S]"),
                ("user 1", "[I]A b[/I]"),
                ("assistant 1", " C </s>"),
                ("user 2", "[I]D\n[/I]"),
                ("assistant 2", ""),
            ],
        ),
        (
            FIRST,
            TALK[:2],
            [("system 1", "[S]Be kind."), ("user 1", "[/S][I]A b[/I]"), ("assistant 1", "")],
        ),
        (NO_SYSTEM, TALK[:2], [("user 1", "<user>A b</>"), ("assistant 1", "<assistant>")]),
    ],
)
def test_turns_begin_where_the_template_opens_them(template, messages, turns):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    asked = Settings(messages=messages)
    ids, found = chat_ids(tokenizer, asked), chat_turns(tokenizer, asked)
    assert len(found.of_tokens) == len(ids)
    assert [
        (label, decode(tokenizer, [token for token, turn in zip(ids, found.of_tokens) if turn == number]))
        for number, label in enumerate(found.labels)
    ] == turns


def test_turns_of_a_model_with_special_tokens():
    tokenizer = AutoTokenizer.from_pretrained("demo/text/model")
    found, ids = chat_turns(tokenizer, Settings(messages=TALK[:2])), chat_ids(tokenizer, Settings(messages=TALK[:2]))
    starts = [found.of_tokens.index(number) for number in range(3)]
    assert [decode(tokenizer, ids[start : start + 1]) for start in starts] == ["<|im_start|>"] * 3


BACKWARDS = "{% for m in messages | reverse %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TWICE = WAITING.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}")


@pytest.mark.parametrize("template", [BACKWARDS, TWICE])
def test_turns_that_cannot_be_found_are_one_line(template):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(RequestError) as caught:
        chat_turns(tokenizer, Settings(messages=TALK))
    assert caught.value.faults == (
        "units messages: the turns cannot be found in what the model's chat template makes of them; "
        "take sentences or lines, or name spans",
    )


def test_the_answer_to_a_chat_is_the_last_turn():
    inputs = planned_text("Who?", chat=True, units="messages").prompt
    (_, label, where), (_, answer, opened) = shown(inputs)
    assert (label, answer) == ("user 1", "assistant 1")
    first, last = opened.split("-")
    longer = shown(inputs, [*inputs.token_ids, 5, 6])
    assert longer == [("messages", "user 1", where), ("messages", "assistant 1", f"{first}-{int(last) + 2}")]


@pytest.fixture
def pictures(tmp_path):
    """Paths of two pictures, of 4 and of 6 cells."""
    return [vision_zoo.picture(tmp_path / f"{size}.png", 16, size) for size in (16, 24)]


def test_pictures_turns_and_cells(pictures):
    model = vision_zoo.build("qwen3_vl")
    settings = dict(units=["messages", "words", "images"], spans={"corner": "img0[0,0-1]"})
    both = planned(model, pictures, **settings)
    cells = [position for position, token in enumerate(both.token_ids) if token == both.image_token]
    first, second = cells[:4], cells[4:]
    assert labelled(both, "images") == [("img0", f"{first[0]}-{first[-1]}"), ("img1", f"{second[0]}-{second[-1]}")]
    assert [where for label, where in labelled(both, "words") if label == "img0"] == [f"{first[0]}-{first[-1]}"]
    assert labelled(both, "spans") == [("corner", f"{first[0]}-{first[1]}")]
    asked, answer = (unit for unit in both.units(both.token_ids) if unit.kind == "messages")
    assert (asked.label, answer.label) == ("user 1", "assistant 1")
    ids = [both.token_ids[position] for position in answer.positions]
    assert decode(vision_zoo.tokenizer(), ids) == "<|im_start|>assistant\n"
    for kind in ("messages", "words"):
        held = [position for unit in both.units(both.token_ids) if unit.kind == kind for position in unit.positions]
        assert sorted(held) == list(range(len(both.token_ids)))
    text = planned(model, pictures, mask_mode="text", **settings | {"units": "words"})
    assert labelled(text, "spans") == labelled(both, "spans")
    assert labelled(text, "words") == [one for one in labelled(both, "words") if not one[0].startswith("img")]


def encoded(paths, **settings):
    asked = VisionSettings.from_python(part="encoder", at="0,0", image=paths, **settings)
    model = vision_zoo.build("qwen3_vl")
    model_info = qwen3_vl.from_loaded(model, vision_zoo.tokenizer(), vision_zoo.processor(), asked)
    return planning.plan(asked, model_info).prompt


def test_the_encoder_hides_pictures_and_cells(pictures):
    inputs = encoded(pictures[:1], units="tokens,images", spans={"x": "img0[0-1,1]"})
    assert labelled(inputs, "tokens")[0] == ("img0[0,0]", "0")
    assert labelled(inputs, "images") == [("img0", "0-3")] and labelled(inputs, "spans") == [("x", "1,3")]
    with pytest.raises(RequestError) as caught:
        encoded(pictures, units="words,lines", spans={"x": "cat"})
    assert caught.value.faults == (
        "units words, lines: the encoder sees no text; take tokens, images, spans, or --part decoder",
        "span 'x=cat': the encoder sees no text; name cells, such as NAME=img0[1-3,2-5]",
    )


def test_what_is_not_there_is_found_before_weights_are_loaded():
    for settings, fault in [
        (dict(units="images"), "units images need a picture, and there is none; leave images out of units"),
        (
            dict(spans={"x": "anna"}),
            "span 'x': 'anna' does not occur in the prompt, but 'Anna' does; write it so",
        ),
    ]:
        with pytest.raises(RequestError) as caught:
            planned_text(**settings)
        assert caught.value.faults == (fault,)


def test_rows_are_counted_in_units_and_pairs():
    plan = planned_text("Anna put", units="words", num_output_tokens=2)
    assert planning.masked_positions(plan) == [2, 3]
    plan = planned_text("Anna put", units="words", spans={"a": "Anna", "b": "put"}, pairs="spans", num_output_tokens=2)
    assert planning.masked_positions(plan) == [5, 6]
    plan = planned_text("Anna put", pairs=9)
    assert planning.masked_positions(plan) == [3]


@pytest.mark.parametrize("pairs, experts", [(2, "eager"), (None, "as before")])
def test_pairs_run_experts_one_by_one(pairs, experts):
    """There are no grouped kernels for the float64 of a pair's rows."""
    model = zoo.build("mixtral")
    before = model.config._experts_implementation
    asked = Settings.from_python(prompt="The cat", pairs=pairs)
    with loading.ready(info.from_loaded(model, zoo.tokenizer(), asked), asked, model):
        assert model.config._experts_implementation == (before if experts == "as before" else experts) != ""
    assert model.config._experts_implementation == before != "eager"
