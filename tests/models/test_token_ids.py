"""Token ids as a prompt, or as a continuation, from Python:
measured as what they are, in every form that holds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from asking import QUESTION
from from_python import PROMPT, experiment, run_of

from mask_impact.base.errors import RequestError
from mask_impact.results.report import write_report
from mask_impact.settings import batch_file
from mask_impact.settings.text_settings import Settings
from mask_impact_vl import run_vl_masking_experiment

IDS = zoo.tokenizer()(PROMPT)["input_ids"]
FORMS = {
    "list": IDS,
    "tuple": tuple(IDS),
    "batch of one": [IDS],
    "numpy": np.array(IDS),
    "numpy row": np.array([IDS], dtype=np.int32),
    "tensor": torch.tensor(IDS),
    "tensor row": torch.tensor([IDS], dtype=torch.int32),
    "numpy integers": list(np.array(IDS)),
    "tensors of one": list(torch.tensor(IDS)),
    "list of a tensor": [torch.tensor(IDS)],
}
forms = pytest.mark.parametrize("ids", FORMS.values(), ids=FORMS.keys())


@forms
def test_ids_are_measured_as_the_text_is(ids, model):
    found, expected = experiment(model, ids), experiment(model)
    assert found.equals(expected)
    asked = found.attrs["run"]["settings"]
    assert asked == expected.attrs["run"]["settings"] | {"prompt": IDS}


@forms
def test_a_continuation_of_ids_is_that_of_its_text(ids, model):
    found = experiment(model, continuation=ids, layers=[0])
    assert found.equals(experiment(model, continuation=PROMPT, layers=[0]))
    assert found.attrs["run"]["settings"]["continuation"] == IDS and len(found.attrs["run"]["steps"]) == len(IDS)
    assert len(run_of(model, continuation=ids, num_output_tokens=2)["steps"]) == 2


def test_ids_that_no_text_gives_are_kept(model):
    tokenizer = zoo.tokenizer()
    end, (_, *letters) = tokenizer.eos_token_id, tokenizer("The")["input_ids"]
    ids = [end, *letters, 300, end]
    table = experiment(model, ids, layers=[0], variants=["attn"])
    assert [token["id"] for token in table.attrs["run"]["tokens"][:-1]] == ids
    assert table.token_masked.tolist() == [
        "<|endoftext|>",
        *tokenizer.convert_ids_to_tokens(letters),
        "<300>",
        "<|endoftext|>",
    ]
    assert run_of(model, (0,))["prompt_length"] == 1


def test_a_table_of_ids_can_become_a_report(model, tmp_path):
    write_report(experiment(model, IDS), None, tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 10_000


WRONG = {
    "a batch": (
        torch.tensor([IDS, IDS]),
        "expected the token ids of one prompt, found a batch of 2; give one row of it",
    ),
    "a batch of lists": ([IDS, IDS], "found a batch of 2"),
    "three axes": (torch.tensor([[IDS]]), "found a list"),
    "a number": (torch.tensor(7), "expected text, or token ids as a list, tuple, array or tensor, found 7"),
    "floats": (
        torch.tensor(IDS).double(),
        "expected token ids (whole numbers from 0, a list or an array of shape (n,) or (1, n)), found 5",
    ),
    "whole floats of numpy": (np.array([1.0, 2.0]), "found 1.0"),
    "truth values": (torch.tensor([True, False]), "found true"),
    "words": (["The", "cat"], "found 'The'"),
    "no numbers": (torch.empty(3, device="meta"), "found tensor(..., device='meta'"),
    "a range": (range(5), "expected text, or token ids as a list, tuple, array or tensor, found range(0, 5)"),
    "what a tokenizer gives": (zoo.tokenizer()("The cat"), 'found a BatchEncoding; give its ["input_ids"]'),
    "a mapping of something else": ({"ids": [1]}, "array or tensor, found a dict"),
    "nothing": ([None], "found nothing"),
    "a negative id": ([3, -1], "found -1"),
    "an empty list": ([], "expected token ids, found none"),
    "an empty tensor": (torch.zeros(1, 0, dtype=torch.long), "expected token ids, found none"),
    "beyond the embedding": ([3, 320], "token 320 is beyond the model's vocabulary of 320; give ids from 0 to 319"),
    "far beyond it": ([10**30], "found a number of more than 18 digits"),
}


@pytest.mark.parametrize("argument", ["prompt", "continuation"])
@pytest.mark.parametrize("ids, part", WRONG.values(), ids=WRONG.keys())
def test_wrong_ids_are_one_line(ids, part, argument, model):
    with pytest.raises(ValueError) as caught:
        experiment(model, **{argument: ids})
    message = str(caught.value)
    assert message.startswith(f"{argument}: ") and part in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "settings", [dict(chat=True), dict(system="S"), dict(chat=True, system="S"), dict(thinking=True)]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda **settings: experiment(zoo.build("llama"), IDS, **settings),
        lambda **settings: vision(IDS, None, **settings),
    ],
    ids=["text", "vision"],
)
def test_a_chat_does_not_go_with_ids(settings, call):
    with pytest.raises(ValueError) as caught:
        call(**settings)
    it = "them" if len(settings) > 1 else "it"
    assert str(caught.value) == f"token ids are a complete prompt already, found {', '.join(settings)}; leave {it} out"


def test_batch_files_take_text_alone(tmp_path):
    file = tmp_path / "b.yaml"
    file.write_text("prompts:\n- prompt: [1, 2]\n- {prompt: x, continuation: [1, 2]}\n", encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        batch_file.read(str(file))
    assert [fault.partition(":2: ")[2] or fault.partition(":3: ")[2] for fault in caught.value.faults] == [
        "prompt: expected text, found a list",
        "continuation: expected text, found a list",
    ]


OBJECTS = [
    torch.tensor([1, 2]),
    torch.tensor(1.5),
    torch.tensor([[1]]),
    np.array([1, 2]),
    np.array(1.5),
    torch.nn.Linear(1, 1),
    torch.Generator(),
]


@pytest.mark.parametrize(
    "name", ["num_tokens", "chat", "system", "model", "revision", "device", "dtype", "method", "max_memory", "layers"]
)
@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: str(value).split(" object at ")[0])
def test_no_other_object_of_torch_becomes_text(name, value):
    if name == "layers" and getattr(value, "ndim", 0) == 1:
        assert Settings.from_python(prompt="P", layers=value).layers == (1, 2)
        return
    with pytest.raises(RequestError) as caught:
        Settings.from_python(prompt="P", **{name: value})
    word = {"num_tokens": "num_output_tokens", "model": "model_name"}.get(name, name)
    assert any(
        fault.startswith((f"{name}: ", f"{word}: ")) and len(fault.splitlines()) == 1 for fault in caught.value.faults
    )


# Pictures


@pytest.fixture
def pictures(two_pictures):
    """Of 3 x 5 and 7 x 2 cells."""
    return ["cat.png", "dog.png"]


def vision(prompt, image, **settings):
    own = dict(model=vision_zoo.build("qwen3_vl"), tokenizer=vision_zoo.tokenizer(), layers=[0], variants=["attn"])
    own["image_processor"] = vision_zoo.processor()
    return run_vl_masking_experiment(prompt, image, **(own | settings))


def chat_of(counts):
    """The question as the chat template has it, with so many image tokens for each picture."""
    images = "".join(f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>" for count in counts)
    text = f"<|im_start|>user\n{images}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    return vision_zoo.tokenizer()(text, return_tensors="pt")["input_ids"]


def test_ids_leave_out_the_chat_that_is_on_by_default():
    tokenizer = vision_zoo.tokenizer()
    table = vision(tokenizer(QUESTION)["input_ids"], None)
    assert table.equals(vision(QUESTION, None, chat=False))
    assert table.attrs["run"]["settings"]["chat"] is False
    assert vision(chat_of([]), None, chat=False).equals(vision(QUESTION, None))


@pytest.mark.parametrize("counts", [(1, 1), (15, 14)])
def test_image_tokens_are_one_for_each_picture_or_expanded(counts, pictures):
    assert vision(chat_of(counts), pictures, mask_mode="both").equals(vision(QUESTION, pictures, mask_mode="both"))


@pytest.mark.parametrize(
    "counts, found",
    [
        ((), "none"),
        ((15,), "15"),
        ((15, 1), "15, 1"),
        ((14, 15), "14, 15"),
        ((15, 15), "15, 15"),
        ((1, 1, 1), "1, 1, 1"),
        ((29,), "29"),
    ],
)
def test_any_other_number_of_image_tokens_is_one_line(counts, found, pictures):
    with pytest.raises(ValueError) as caught:
        vision(chat_of(counts), pictures)
    assert str(caught.value) == (
        f"the prompt's ids hold '<|image_pad|>' in runs of: {found}; give one for each picture, or as many in a "
        "row as it has tokens: 15, 14"
    )


def test_image_tokens_without_a_picture_and_video_tokens_are_one_line():
    with pytest.raises(ValueError, match="in runs of: 1; .*: there is no picture$"):
        vision(chat_of([1]), None)
    video = vision_zoo.tokenizer().convert_tokens_to_ids("<|video_pad|>")
    with pytest.raises(ValueError, match=r"^the prompt holds '<\|video_pad\|>', but video is not supported"):
        vision([5, video], None)


def test_the_encoder_takes_no_ids(pictures):
    with pytest.raises(
        ValueError, match="^part encoder measures a picture alone and predicts nothing, found prompt; leave it out$"
    ):
        vision(IDS, pictures, part="encoder", at="0,0")
