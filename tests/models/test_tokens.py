"""The text of single tokens: joined it is the decoded text, and what is no whole UTF-8 shows its vocabulary piece."""

from __future__ import annotations

import time

import pytest
import zoo
from repository import ROOT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from mask_impact.base.errors import RequestError
from mask_impact.models.chat import chat_ids
from mask_impact.models.tokens import continuation_ids, decode, end_ids, prompt_ids, token_texts
from mask_impact.settings.text_settings import Settings

STORIES = ROOT.parent / "shared" / "models" / "stories260K"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def bytes_tokenizer():
    return zoo.tokenizer()


@pytest.fixture(scope="module")
def stories():
    if not STORIES.is_dir():
        pytest.skip(f"{STORIES.name} is not there")
    return AutoTokenizer.from_pretrained(STORIES)


TEXTS = [
    "The cat",
    " the cat",
    "  two  spaces ",
    "a\n\tb\r\nc",
    'He said, "I don\'t ."',
    "x .  , !",
    "",
    " ",
    "<|im_end|>",
    "a<|endoftext|> b",
]


@pytest.mark.parametrize("text", TEXTS)
def test_joined_texts_are_the_decoded_text_byte_level(text, bytes_tokenizer):
    ids = bytes_tokenizer(text)["input_ids"]
    texts = token_texts(bytes_tokenizer, ids)
    assert len(texts) == len(ids) and "".join(texts) == decode(bytes_tokenizer, ids) == text


@pytest.mark.parametrize("text", [*TEXTS, "</s>", "Lily</s> and <s> Max", "naïve"])
def test_joined_texts_are_the_decoded_text_sentence_piece(text, stories):
    ids = stories(text)["input_ids"]
    texts = token_texts(stories, ids)
    if "ï" not in text:  # which this vocabulary spells in bytes
        assert len(texts) == len(ids) and "".join(texts) == decode(stories, ids)
    bare = stories(text, add_special_tokens=False)["input_ids"]
    if "ï" not in text:
        assert "".join(token_texts(stories, bare)) == decode(stories, bare)


def test_a_word_keeps_its_space_and_the_first_one_has_none(stories):
    ids = stories("Lily saw Max", add_special_tokens=False)["input_ids"]
    texts = token_texts(stories, ids)
    assert texts[0] == "L" or texts[0] == "Lily"
    assert " s" in [text[:2] for text in texts] and " M" in texts
    assert token_texts(stories, [1, *ids])[0] == "<s>"


def test_a_character_of_several_tokens_shows_its_pieces(bytes_tokenizer):
    ids = bytes_tokenizer("a😀b")["input_ids"]
    texts = token_texts(bytes_tokenizer, ids)
    assert texts == ["a", "ð", "Ł", "ĺ", "Ģ", "b"] == bytes_tokenizer.convert_ids_to_tokens(ids)
    for text in ("é", "日本", "\ufffd", "👩\u200d👧"):
        pieces = token_texts(bytes_tokenizer, bytes_tokenizer(f"x {text} y")["input_ids"])
        assert "\ufffd" not in "".join(pieces) and pieces[:2] == ["x", " "] and pieces[-2:] == [" ", "y"]


def test_a_character_of_byte_tokens_shows_its_bytes(stories):
    texts = token_texts(stories, stories("a 😀 b")["input_ids"])
    assert texts == ["<s>", " a", " ", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", " b"]


def test_an_id_beyond_the_tokenizer_shows_its_number(bytes_tokenizer, stories):
    ids = bytes_tokenizer("a the")["input_ids"]
    assert token_texts(bytes_tokenizer, [310, *ids, 319, *ids, 319, 319]) == [
        "<310>",
        "a",
        " the",
        "<319>",
        "a",
        " the",
        "<319>",
        "<319>",
    ]
    assert token_texts(bytes_tokenizer, [319]) == ["<319>"]
    lily = stories(" Lily")["input_ids"]
    assert token_texts(stories, [*lily, 151_999]) == [*token_texts(stories, lily), "<151999>"]


def test_broken_bytes_of_a_byte_tokenizer_show_their_pieces():
    tokenizer = ByT5Tokenizer()
    ids = tokenizer("né 日", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, ids) == ["n", "Ã", "©", " ", "æ", "\x97", "¥"] == tokenizer.convert_ids_to_tokens(ids)
    assert token_texts(tokenizer, [ids[1]]) == ["Ã"] and token_texts(tokenizer, [*ids[:1], ids[1], ids[1]]) == [
        "n",
        "Ã",
        "Ã",
    ]


@pytest.mark.parametrize("text", ["cat  s", "  cat", " ", "", "cat </s> sat", "cat<unk>"])
@pytest.mark.parametrize(
    "decoder",
    [
        decoders.Metaspace(),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    ],
    ids=["metaspace", "llama"],
)
def test_a_space_by_itself_is_text_wherever_it_stands(text, decoder):
    """SentencePiece's decoders drop the first space: a lone one in front shows nothing, as it adds nothing there."""
    pieces = ["<unk>", "</s>", "▁", *"cats"]
    backend = Tokenizer(
        models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], unk_token="<unk>")
    )
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(split=False), decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    ids = tokenizer(text)["input_ids"]
    texts = token_texts(tokenizer, ids)
    assert "".join(texts) == decode(tokenizer, ids)
    assert token_texts(tokenizer, [2]) == [""] and token_texts(tokenizer, [3, 2, 2, 99, 2]) == [
        "c",
        " ",
        " ",
        "<99>",
        " ",
    ]


def test_special_tokens_are_shown(bytes_tokenizer):
    ids = bytes_tokenizer("a<|im_end|> the")["input_ids"]
    assert token_texts(bytes_tokenizer, ids) == ["a", "<|im_end|>", " the"]


def test_many_tokens_take_little_time(bytes_tokenizer):
    ids = (bytes_tokenizer("Once upon a time, there was the 😀. ")["input_ids"] * 1000)[:16_000]
    started = time.monotonic()
    texts = token_texts(bytes_tokenizer, ids)
    assert time.monotonic() - started < 5 and len(texts) == 16_000


def test_a_continuation_has_no_special_tokens(stories):
    settings = Settings(prompt="Lily")
    assert prompt_ids(stories, settings)[0] == 1
    assert 1 not in continuation_ids(stories, " Max")
    assert decode(stories, continuation_ids(stories, " Max")).strip() == "Max"


def test_chat_goes_through_the_template():
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = TEMPLATE
    chat = lambda **settings: decode(tokenizer, chat_ids(tokenizer, Settings(prompt="Hi", chat=True, **settings)))
    assert chat() == "<user>Hi<answer>"
    assert chat(system="S", thinking=True) == "<system>S<user>Hi<think><answer>"
    assert chat(system="") == "<system><user>Hi<answer>"


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no system message') }}", "{{ raise_exception('') }}", "{% if %}"]
)
def test_a_template_that_refuses_is_a_fault(template):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(RequestError, match="the model's chat template refuses this prompt"):
        chat_ids(tokenizer, Settings(prompt="Hi", chat=True))


LOOP = "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}<answer>"
TYPED = LOOP.replace("{{ part.text }}", "{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}")
FIRST = "{% for m in messages %}<{{ m.role }}>{{ m.content[0]['text'] + '' }}{% endfor %}<answer>"  # an error of text
STRICT = LOOP.replace(
    "{{ part.text }}", "{% if part is string %}{{ raise_exception('no text') }}{% endif %}{{ part.text }}"
)
UPPER = "{% for m in messages %}<{{ m.role }}>{{ m.content | tojson }}{% endfor %}<answer>"


@pytest.mark.parametrize("template", [LOOP, TYPED, FIRST, STRICT], ids=["loop", "typed", "first", "strict"])
def test_a_template_gets_the_prompt_in_the_form_that_it_wants(template):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    chat = lambda prompt, **settings: decode(
        tokenizer, chat_ids(tokenizer, Settings(prompt=prompt, chat=True, **settings))
    )
    assert chat("Hi") == "<user>Hi<answer>"
    assert chat("Hi", system="S") == "<system>S<user>Hi<answer>"
    assert chat("text") == "<user>text<answer>" and chat("'") == "<user>'<answer>"


@pytest.mark.parametrize(
    "template",
    [
        (
            "{% for m in messages %}<{{ m.role }}>{% if m.role == 'system' %}{{ m.content }}"
            "{% else %}{{ m.content[0].text }}{% endif %}{% endfor %}<answer>"
        ),
        (
            "{% for m in messages %}<{{ m.role }}>{% if m.role == 'user' %}{{ m.content }}"
            "{% else %}{{ m.content[0].text }}{% endif %}{% endfor %}<answer>"
        ),
    ],
)
def test_system_and_user_may_want_different_forms(template):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    ids = chat_ids(tokenizer, Settings(prompt="Hi", chat=True, system="S"))
    assert decode(tokenizer, ids) == "<system>S<user>Hi<answer>"


def test_behind_a_picture_the_system_message_has_the_form_that_the_template_wants():
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = LOOP.replace(
        "{{ part.text }}", "{{ '[picture]' if part.type == 'image' else part.text }}"
    )
    ids = chat_ids(tokenizer, Settings(prompt="Hi", chat=True, system="S"), [{"type": "image"}])
    assert decode(tokenizer, ids) == "<system>S<user>[picture]Hi<answer>"


def test_a_template_that_takes_text_gets_text():
    tokenizer = zoo.tokenizer()
    for template, expected in ((TEMPLATE, '<user>a\n"b"<answer>'), (UPPER, '<user>"a\\n\\"b\\""<answer>')):
        tokenizer.chat_template = template
        assert decode(tokenizer, chat_ids(tokenizer, Settings(prompt='a\n"b"', chat=True))) == expected


@pytest.mark.parametrize(
    "template, part",
    [
        ("{% for m in messages %}<{{ m.role }}>{% endfor %}<answer>", "leaves the prompt out"),
        ("{% for m in messages %}{{ m.content.body }}{% endfor %}<answer>", "leaves the prompt out"),
        ("{% for m in messages %}{{ m.content[0].body + 'x' }}{% endfor %}", "refuses this prompt"),
    ],
)
def test_a_template_that_takes_neither_form_is_one_line(template, part):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(RequestError, match=f"the model's chat template {part}") as caught:
        chat_ids(tokenizer, Settings(prompt="Hi", chat=True))
    assert len(caught.value.faults) == 1 and "leave chat off (--no-chat)" in str(caught.value)


def test_end_tokens():
    tokenizer = zoo.tokenizer()
    turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (
        end_ids(tokenizer, None) == {turn}
        and end_ids(tokenizer, 3) == {3, turn}
        and end_ids(tokenizer, [3, 0]) == {0, 3, turn}
    )
    tokenizer.unk_token = "<|im_end|>"
    assert end_ids(tokenizer, 0) == {0}
