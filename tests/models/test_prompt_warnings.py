"""What a user may not expect of a prompt's tokens: one line each, printed by the command, and kept in the run file."""

from __future__ import annotations

import shutil

import pytest
import vision_zoo
import zoo
from from_python import PROMPT, run_of
from PIL import Image
from running import record_of, yaml_file
from tokenizers.processors import TemplateProcessing

import mask_impact_vl

BEHIND = (
    "the tokenizer puts '<|im_end|>' behind the prompt, where it is the final position; from Python "
    "token ids can be given without it"
)
TWICE = (
    "the prompt begins with '<bos>' twice; the one that the tokenizer or the chat template puts there is enough: "
    "leave out the other"
)
DROPPED = "system: the model's chat template has no place for a system message, and drops it; write it into the prompt"
BLANK = "the prompt is white space alone; if text was meant, look at its quotes"
PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"


def tokenizer(form="$A", template=None):
    """The zoo's, which puts `<bos>` and `<|im_end|>` where `form` has them."""
    made = zoo.tokenizer()
    made.add_special_tokens({"bos_token": "<bos>"})
    special = [(word, made.convert_tokens_to_ids(word)) for word in ("<bos>", "<|im_end|>")]
    made.backend_tokenizer.post_processor = TemplateProcessing(single=form, special_tokens=special)
    made.chat_template = template
    return made


CASES = {
    "an end token": ("$A <|im_end|>", None, PROMPT, {}, [BEHIND]),
    "of two, the last": ("<bos> $A <|im_end|>", None, PROMPT, {}, [BEHIND]),
    "an end token of the text": ("<bos> $A", None, f"{PROMPT}<|im_end|>", {}, []),
    "one of each": ("$A <|im_end|>", None, f"{PROMPT}<|im_end|>", {}, [BEHIND]),
    "in ids": ("$A <|im_end|>", None, [5, 6, 264], {}, []),
    "a start token": ("<bos> $A", None, PROMPT, {}, []),
    "two of them": ("<bos> $A", None, f"<bos>{PROMPT}", {}, [TWICE]),
    "two of them in ids": ("$A", None, [265, 265, 5], {}, [TWICE]),
    "two of them in the text": ("$A", None, f"<bos><bos>{PROMPT}", {}, [TWICE]),
    "two of them later": ("<bos> $A", None, f"a<bos><bos>{PROMPT}", {}, []),
    "both": ("<bos> $A <|im_end|>", None, f"<bos>{PROMPT}", {}, [BEHIND, TWICE]),
    "a template's start token": ("<bos> $A", "{{ bos_token }}" + PLAIN, PROMPT, {"chat": True}, []),
    "a template's two": ("<bos> $A", "{{ bos_token }}{{ bos_token }}" + PLAIN, PROMPT, {"chat": True}, [TWICE]),
    "white space alone": ("$A", None, "   ", {}, [BLANK]),
    "behind a chat": ("$A <|im_end|>", PLAIN, PROMPT, {"chat": True}, []),
    "a system message": ("$A", PLAIN, PROMPT, {"chat": True, "system": "S"}, []),
    "an empty one": ("$A", PLAIN, PROMPT, {"chat": True, "system": ""}, []),
    "one that is dropped": ("$A", NO_SYSTEM, PROMPT, {"chat": True, "system": "S"}, [DROPPED]),
    "an empty one that is dropped": ("$A", NO_SYSTEM, PROMPT, {"chat": True, "system": ""}, [DROPPED]),
    "one in the user's message": (
        "$A",
        "<user>{{ messages[0].content }} {{ messages[-1].content }}<answer>",
        PROMPT,
        {"chat": True, "system": "S"},
        [],
    ),
    "none": ("$A", NO_SYSTEM, PROMPT, {"chat": True}, []),
}


@pytest.mark.parametrize("form, template, prompt, settings, expected", CASES.values(), ids=CASES.keys())
def test_the_run_record_has_the_warnings(form, template, prompt, settings, expected, model, capsys):
    run = run_of(model, prompt, tokenizer=tokenizer(form, template), layers=[0], variants=["attn"], **settings)
    assert run["warnings"] == expected and capsys.readouterr() == ("", "")
    if isinstance(prompt, str) and expected == [BEHIND]:
        assert run["tokens"][run["prompt_length"] - 1]["text"] == "<|im_end|>"


@pytest.fixture
def noisy(tmp_path):
    """A folder whose tokenizer puts an end token behind a prompt, and whose template drops the system message."""
    zoo.build("llama").save_pretrained(tmp_path / "noisy")
    tokenizer("$A <|im_end|>", NO_SYSTEM).save_pretrained(tmp_path / "noisy")
    return str(tmp_path / "noisy")


def test_the_command_prints_them_and_keeps_them(noisy, command, here):
    words = ["--model", noisy, "--layers", 0, "--quiet", "--output", "r"]
    ends = (
        "--prompt: the text ends in a line break, which is kept and can change the answer; "
        "leave it out if it is not meant"
    )
    for more in (["--dry-run"], [], ["--overwrite"]):
        code, _, err = command(*words, "--prompt", "x\n", *more)
        assert (code, err) == (0, [f"warning: {ends}", f"warning: {BEHIND}"])
    assert record_of("r")["warnings"] == [ends, BEHIND]
    code, _, err = command(*words, "--prompt", "x", "--chat", "--overwrite")
    assert (code, err, record_of("r")["warnings"]) == (0, [], [])


def test_those_of_a_batch_name_their_entries(noisy, command, here):
    file = yaml_file(
        f"model: {noisy}\ndefaults: {{layers: 0}}\nprompts:\n- {{name: a, prompt: x}}\n"
        '- {name: b, prompt: x, chat: true, system: S}\n- {name: c, prompt: "x\\n", chat: true}\n'
    )
    code, _, err = command("--config", file, "--quiet")
    expected = {
        "a": f"batch.yaml:4: {BEHIND}",
        "b": f"batch.yaml:5: {DROPPED}",
        "c": "batch.yaml:6: the prompt ends in a line break, which is "
        "kept; begin the text with |- or put it in quotes to leave it out",
    }
    assert code == 0 and err == [f"warning: {line}" for line in expected.values()]
    assert {name: record_of(name)["warnings"] for name in expected} == {name: [line] for name, line in expected.items()}


def test_a_run_that_fails_keeps_them_too(noisy, command, here, monkeypatch):
    def full(*_arguments, **_options):
        raise MemoryError("no room")

    monkeypatch.setattr("mask_impact_analysis.measure", full)
    assert command("--model", noisy, "--prompt", "x", "--output", "r")[0] == 1
    assert (record_of("r")["status"], record_of("r")["warnings"]) == ("failed", [BEHIND])


@pytest.mark.parametrize("words", [["--prompt", "x"], ["--part", "encoder", "--at", "0,0"]])
def test_notes_on_pictures_are_among_them(words, vl, command, two_pictures):
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    code, _, err = command(
        "--model", vl, "--image", "film.gif", *words, "--layers", 0, "--output", "r", "--quiet", door=mask_impact_vl
    )
    assert (code, err) == (0, ["warning: film.gif: 2 frames; the first is taken"])
    assert record_of("r")["warnings"] == ["film.gif: 2 frames; the first is taken"]


@pytest.mark.parametrize("image", [[], ["--image", "cat.png"]])
def test_a_vision_language_template_that_drops_the_system_message(image, vl, command, two_pictures, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(vl, folder)
    made = vision_zoo.tokenizer()
    made.chat_template = made.chat_template.replace("in messages %}", "in messages if m.role != 'system' %}")
    made.save_pretrained(folder)
    words = ["--model", folder, *image, "--prompt", "x", "--system", "S", "--layers", 0, "--quiet", "--output", "r"]
    code, _, err = command(*words, door=mask_impact_vl)
    assert (code, err, record_of("r")["warnings"]) == (0, [f"warning: {DROPPED}"], [DROPPED])
