"""Generation settings that are saved with a model:
the text is that of `generate(do_sample=False)`, the measurement is as ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from asking import QUESTION
from cutting import tables
from from_python import run_of
from running import record_of, yaml_file

from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.next_token import picking
from mask_impact.measure.step import ModelInputs
from mask_impact.models.vision import qwen3_vl
from mask_impact.runs import planning
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact_vl import run_vl_masking_experiment

PROMPT, STEPS = "The cat sat on the", 8
IDS = zoo.tokenizer()(PROMPT)["input_ids"]
SEEDS = {"qwen3": 46, "llama": 28}  # with these the text takes up tokens of the prompt
QUICK = {"num_output_tokens": STEPS, "layers": [0], "variants": ("attn",)}


def settings(plain):
    """Settings by name, each of which changes the text whose first tokens are `plain`;
    the third one ends it where that matters."""
    ends = {"eos_token_id": plain[2]}
    return {
        "repetition_penalty": {"repetition_penalty": 3.0},
        "encoder_repetition_penalty": {"encoder_repetition_penalty": 5.0},
        "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
        "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
        "sequence_bias": {"sequence_bias": [[[plain[0], plain[1]], -90.0], [[plain[4]], -90.0]]},
        "bad_words_ids": {"bad_words_ids": [[plain[3]], [plain[0], plain[1]]]},
        "min_length": {"min_length": len(IDS) + 6, **ends},
        "min_new_tokens": {"min_new_tokens": 6, **ends},
        "min_new_tokens before min_length": {"min_new_tokens": 4, "min_length": len(IDS) + 7, **ends},
        "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (2, 90.0), "eos_token_id": IDS[0]},
        "suppress_tokens": {"suppress_tokens": [plain[0], plain[3]]},
        "begin_suppress_tokens": {"begin_suppress_tokens": [plain[0]]},
        "two": {"repetition_penalty": 1.5, "suppress_tokens": [plain[1]]},
        "two with an end": {"min_new_tokens": 6, "begin_suppress_tokens": [plain[0]], **ends},
    }


def generated(model, ids=IDS):
    return model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=STEPS)[0, len(ids) :].tolist()


def ids_of(record):
    return [token["id"] for token in record["tokens"][record["prompt_length"] :]]


def with_settings(name, chosen):
    """The tiny model `name` with chosen settings, and the plain text that it generates without them."""
    model = zoo.build(name, seed=SEEDS[name])
    plain = generated(model)
    model.generation_config.update(**settings(plain)[chosen])
    return model, plain


@pytest.mark.parametrize("chosen", settings(range(STEPS)))
@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_the_text_is_that_of_generate(name, chosen):
    model, plain = with_settings(name, chosen)
    expected = generated(model)
    assert expected != plain and expected != plain[:3]
    record = run_of(model, **QUICK)
    assert ids_of(record) == expected
    followed = {key: value for key, value in settings(plain)[chosen].items() if key != "eos_token_id"}
    if "before" in chosen:
        followed.pop("min_length")
    assert record["generation"] == {"followed": json.loads(json.dumps(followed)), "not_followed": {}}


def test_a_token_that_is_to_begin_every_text_begins_that_of_a_single_token():
    model = zoo.build("llama")
    model.generation_config.forced_bos_token_id = 7
    pick = picking(model.generation_config, [5], model.device)
    assert generated(model, [5])[0] == 7 == pick([5], torch.zeros(320)) and pick([5, 7], torch.arange(320)) == 319


def test_a_bias_from_python_may_be_a_dictionary():
    model = zoo.build("llama")
    model.generation_config.sequence_bias = {(generated(model)[0],): -90.0}
    record = run_of(model, **QUICK)
    assert ids_of(record) == generated(model)
    assert record["generation"]["followed"]["sequence_bias"] == [[[generated(zoo.build("llama"))[0]], -90.0]]


def test_the_numbers_are_the_models_own():
    """Distances and probabilities are those of a run in which the same tokens are given."""
    model, _ = with_settings("llama", "two")
    parts, _ = measurable_parts(model)
    pick = picking(model.generation_config, IDS, model.device)
    found = list(measured_layers(model, parts, ModelInputs(IDS, STEPS, pick=pick)))
    given = [*found[-1].step.token_ids, found[-1].step.next_id][len(IDS) :]
    assert given == generated(model)
    expected = list(measured_layers(model, parts, ModelInputs(IDS, STEPS, continuation_ids=given)))
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.l2, other.l2) and np.array_equal(one.cosine, other.cosine)
        assert (one.step.top, one.step.next_id, one.step.next_probability) == (
            other.step.top,
            other.step.next_id,
            other.step.next_probability,
        )
    assert any(layer.step.next_id != layer.step.top[0][0] for layer in found)


def test_the_run_stops_where_the_picked_token_ends_it():
    model = zoo.build("llama")
    end = generated(model)[0]
    model.generation_config.update(eos_token_id=end, suppress_tokens=[end])
    assert run_of(model, **QUICK)["stopped_by"] == "num_tokens"
    model.generation_config.update(eos_token_id=9, suppress_tokens=None, sequence_bias=[[[9], 90.0]])
    record = run_of(model, **QUICK)
    assert (record["stopped_by"], ids_of(record)) == ("end token", [9])


def test_a_given_continuation_is_followed_as_it_is():
    model = zoo.build("llama")
    expected = run_of(model, continuation=" the mat", layers=[0])
    model.generation_config.update(repetition_penalty=3.0, num_beams=4)
    found = run_of(model, continuation=" the mat", layers=[0])
    assert found["steps"] == expected["steps"] and found["generation"] is expected["generation"] is None


def test_settings_that_say_nothing_are_left_out():
    model = zoo.build("llama")
    model.generation_config.update(
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        min_new_tokens=0,
        suppress_tokens=[],
        bad_words_ids=[],
        num_beams=1,
        guidance_scale=1.0,
        do_sample=True,
        temperature=0.6,
        top_k=20,
        top_p=0.9,
    )
    assert run_of(model, **QUICK)["generation"] == {"followed": {}, "not_followed": {}}


def test_a_question_about_a_picture_is_answered_as_generate_does(two_pictures):
    loaded = {
        "model": vision_zoo.build("qwen3_vl"),
        "tokenizer": vision_zoo.tokenizer(),
        "image_processor": vision_zoo.processor(),
    }
    asked = VisionSettings.from_python(prompt=QUESTION, image="cat.png", num_output_tokens=STEPS)
    prompt = planning.plan(asked, qwen3_vl.from_loaded(*loaded.values(), asked)).prompt
    texts = []
    for _ in range(2):
        third = [text[len(prompt.token_ids) + 2] for text in texts]
        loaded["model"].generation_config.update(repetition_penalty=1.5, suppress_tokens=third or None)
        run = run_vl_masking_experiment(QUESTION, "cat.png", **QUICK, **loaded).attrs["run"]
        call = prompt.further(prompt.token_ids, torch.device("cpu"))
        texts.append(
            loaded["model"]
            .generate(torch.tensor([prompt.token_ids]), do_sample=False, max_new_tokens=STEPS, **call)[0]
            .tolist()
        )
        assert [token["id"] for token in run["tokens"]] == texts[-1]
    assert texts[0] != texts[1]


def saved(**settings):
    """A folder with a tiny model and these saved settings."""
    zoo.save("llama", "saved", seed=SEEDS["llama"])
    Path("saved/generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return ["--model", "saved", "--num-tokens", STEPS, "--layers", "0", "--variants", "attn"]


@pytest.mark.usefixtures("here")
def test_a_resumed_run_gives_the_same(command, cut_off):
    model, _ = with_settings("llama", "two")
    chosen = {name: getattr(model.generation_config, name) for name in ("repetition_penalty", "suppress_tokens")}
    words = [*saved(**chosen), "--prompt", PROMPT, "--output", "x"]
    assert command(*words, "--output-dir", "whole")[0] == 0
    cut_off(2, *words)
    cut_off(5, *words)
    assert command(*words)[::2] == (0, []) and tables("output") == tables("whole") != {}
    assert ids_of(record_of("x")) == generated(model)


@pytest.mark.usefixtures("here")
def test_what_is_not_followed_is_said_once_and_stands_in_the_run_file(command):
    words = saved(num_beams=4, forced_eos_token_id=3, repetition_penalty=1.2, stop_strings=["x"])
    batch = yaml_file("prompts:\n  - {prompt: one, name: a}\n  - {prompt: two, name: b}\n")
    said = [
        "warning: --model 'saved' has generation settings that are not followed (num_beams, forced_eos_token_id, "
        "stop_strings): its generate() may give other text"
    ]
    assert command(*words, "--config", batch, "--dry-run")[::2] == (0, said)
    assert command(*words, "--config", batch)[::2] == (0, said)
    expected = {
        "followed": {"repetition_penalty": 1.2},
        "not_followed": {"num_beams": 4, "forced_eos_token_id": 3, "stop_strings": ["x"]},
    }
    assert record_of("a")["generation"] == record_of("b")["generation"] == expected
    for flag in ([], ["--dry-run"]):
        assert command(*words, "--prompt", "one", "--continuation", "two", "--output", "c", *flag)[2] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("old", [True, False])
def test_a_dry_run_finds_the_settings_where_a_run_does(old, command):
    """Without a file of their own they stand in the model's configuration."""
    words = saved(num_beams=4)
    file, config = Path("saved/generation_config.json"), Path("saved/config.json")
    if old:
        file.unlink()
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_beams": 4}))
    told = [command(*words, "--prompt", PROMPT, *flag)[2] for flag in (["--dry-run"], [])]
    assert told[0] == told[1] and "(num_beams)" in told[0][0]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("flag", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    "text, found",
    [
        ("[]", "holds [] in place of an object of settings; fetch the model again, or remove the file"),
        ("{", "cannot be read (Expecting property name"),
        ('{"max_new_tokens": -1}', "cannot be loaded ("),
    ],
)
def test_settings_that_are_none_are_one_line_that_names_the_file(text, found, flag, command):
    words = saved()
    Path("saved/generation_config.json").write_text(text)
    code, _, err = command(*words, "--prompt", PROMPT, *flag)
    assert code == 2 and len(err) == 1
    assert err[0].startswith(f"error: --model 'saved': its generation_config.json {found}")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("wrong", [{"repetition_penalty": -1.0}, {"bad_words_ids": [[100_000]]}])
def test_a_setting_that_cannot_be_is_one_line(wrong, command):
    code, _, err = command(*saved(**wrong), "--prompt", PROMPT, "--output", "x")
    assert code == 1 and len(err) == 1
    assert (
        "a saved generation setting cannot be followed" in err[0]
        and "; mend the model's generation_config.json" in err[0]
    )
