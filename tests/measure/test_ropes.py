"""Every kind of rotary embedding of transformers, stepped across the length at which its frequencies change.

The reference of a step is a fresh pass of its tokens, without a cache,
on a model that was built for it and has seen nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import zoo
from cutting import tables
from measuring import measure, worst_error
from oracle import oracle
from running import record_of
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import mask_impact_analysis
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import ModelInputs

ORIGINAL, FACTOR = 16, 4.0
PROMPT, STEPS = 13, 7  # the switch is crossed in the middle; the last step sees 19 tokens
BEYOND, STEPS_BEYOND = 18, 2
CLOSE = 1e-4  # relative
SCALED = {"factor": FACTOR, "original_max_position_embeddings": ORIGINAL}
TO_64 = {"max_position_embeddings": int(ORIGINAL * FACTOR)}
LONG = {"short_factor": [1.0] * 8, "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]}


def rope(kind, **parameters):
    """The rotary parameters as a configuration has them."""
    return {"rope_type": kind, "rope_theta": 1e4, **parameters}


def by_layer_type(full):
    """Gemma 3 with these parameters for its full attention.
    With tied embeddings it would say one token over and over."""
    return {"rope_parameters": {zoo.SLIDING: rope("default"), zoo.FULL: full}, "tie_word_embeddings": False}


# case: (model of the zoo, what is changed in its configuration);
# where the frequencies follow the length, CHANGING names it
CASES = {
    "default": ("llama", {"rope_parameters": rope("default")}),
    "linear": ("llama", {"rope_parameters": rope("linear", factor=FACTOR), "max_position_embeddings": ORIGINAL}),
    "dynamic": ("llama", {"rope_parameters": rope("dynamic", factor=FACTOR), "max_position_embeddings": ORIGINAL}),
    "yarn": ("llama", {"rope_parameters": rope("yarn", **SCALED), **TO_64}),
    "llama3": (
        "llama",
        {"rope_parameters": rope("llama3", **SCALED, low_freq_factor=1.0, high_freq_factor=4.0), **TO_64},
    ),
    "longrope": ("llama", {"rope_parameters": rope("longrope", **SCALED, **LONG), **TO_64}),
    "longrope of Phi-3": (
        "phi3",
        {
            "rope_scaling": {"type": "longrope", **LONG},
            "rope_theta": 1e4,
            **TO_64,
            "original_max_position_embeddings": ORIGINAL,
        },
    ),
    "proportional": ("gemma4", {"tie_word_embeddings": False}),
    "linear, of one layer type": ("gemma3", by_layer_type(rope("linear", factor=FACTOR))),
    "dynamic, of one layer type": (
        "gemma3",
        {**by_layer_type(rope("dynamic", factor=FACTOR)), "max_position_embeddings": ORIGINAL},
    ),
    "longrope, of one layer type": ("gemma3", {**by_layer_type(rope("longrope", **SCALED, **LONG)), **TO_64}),
}
CHANGING = tuple(case for case in CASES if case.startswith(("dynamic", "longrope")))


def build(case):
    name, changed = CASES[case]
    return zoo.build(name, **changed)


def kinds(case):
    """The rope types in a case's configuration."""
    name, changed = CASES[case]
    parameters = zoo.configuration(name, **changed).rope_parameters
    return (
        {parameters["rope_type"]} if "rope_type" in parameters else {each["rope_type"] for each in parameters.values()}
    )


def rotary_state(model):
    """What the rotary embeddings of a model hold, by the names of module and attribute."""
    return {
        (place, name): value.clone() if torch.is_tensor(value) else value
        for place, module in model.named_modules()
        if hasattr(module, "max_seq_len_cached")
        for name, value in [*vars(module).items(), *module.named_buffers(recurse=False)]
        if name.endswith(("inv_freq", "max_seq_len_cached", "attention_scaling")) and "long" not in name
    }


def same_state(one, other):
    return one.keys() == other.keys() and all(
        bool((torch.as_tensor(one[key]) == torch.as_tensor(other[key])).all()) for key in one
    )


def same_numbers(found, expected):
    return all(
        (found[key].l2 == m.l2).all() and (found[key].cosine == m.cosine).all() and found[key].step.top == m.step.top
        for key, m in expected.items()
    )


def fresh_probabilities(case, ids):
    return build(case)(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().softmax(-1)


def test_every_rope_type_of_transformers_is_there():
    assert set().union(*map(kinds, CASES)) == {"default", *ROPE_INIT_FUNCTIONS}


@pytest.mark.parametrize("case", CASES)
def test_the_cases_are_what_they_are_called(case):
    """The frequencies change between the first step and the last one, or they do not."""
    assert case.split()[0].strip(",") in kinds(case)
    model, states = build(case), []
    for length in (PROMPT, PROMPT + STEPS - 1):
        model(input_ids=zoo.tokens(length)[None], use_cache=False)
        states.append(rotary_state(model))
    assert same_state(*states) == (case not in CHANGING)


@pytest.mark.parametrize("case", CASES)
def test_every_step_is_that_of_a_fresh_pass(case):
    """The next token, the probabilities, and the distances of both methods."""
    fresh = {}

    def reference(m):
        key = tuple(m.step.token_ids)
        if key not in fresh:
            fresh[key] = oracle(build(case), list(key)), fresh_probabilities(case, list(key))
        return fresh[key][0]

    for length, steps in ((PROMPT, STEPS), (BEYOND, STEPS_BEYOND)):
        for method in ("renormalize", "rerun"):
            measured = measure(build(case), zoo.tokens(length).tolist(), steps, method)
            l2, cosine = worst_error(measured, reference)
            for m in measured.values():
                check_prediction(m.step, fresh[tuple(m.step.token_ids)][1])
            assert l2 <= CLOSE and cosine <= CLOSE, (method, length, l2, cosine)


def check_prediction(step, probabilities):
    """The step's next token and likeliest ones are those of these probabilities (vocabulary,)."""
    expected = probabilities.topk(len(step.top))
    assert step.next_id == int(probabilities.argmax())
    assert [token for token, _ in step.top] == expected.indices.tolist(), step.index
    assert [value for _, value in step.top] == pytest.approx(expected.values.tolist(), rel=CLOSE), step.index


@pytest.mark.parametrize("length", [PROMPT, BEYOND])
def test_phi_3_generates_the_text_of_transformers(length):
    model, ids = build("longrope of Phi-3"), zoo.tokens(length).tolist()
    generated = (
        build("longrope of Phi-3").generate(torch.tensor([ids]), do_sample=False, max_new_tokens=STEPS)[0].tolist()
    )
    last = measure(model, ids, STEPS)[STEPS - 1, 0].step
    assert [*last.token_ids, last.next_id] == generated


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("length", [PROMPT, BEYOND])
def test_a_long_prompt_before_a_short_one_leaves_no_trace(case, length):
    """Neither one that was measured nor one that the caller ran himself,
    and the model's state is the caller's afterwards."""
    ids, used, steps = zoo.tokens(length).tolist(), build(case), 20 - length  # up to 19 tokens
    expected = measure(build(case), ids, steps)
    measure(used, zoo.tokens(30, seed=1).tolist(), 2)
    assert same_numbers(measure(used, ids, steps), expected)
    parts, _ = measurable_parts(used)
    used(input_ids=zoo.tokens(40)[None], use_cache=False)
    before = rotary_state(used)
    found = {(m.step.index, m.layer): m for m in measured_layers(used, parts, ModelInputs(ids, steps))}
    assert same_numbers(found, expected) and same_state(rotary_state(used), before)


@pytest.mark.parametrize("case", CASES)
def test_the_callers_model_has_the_rotary_state_it_had(case):
    """After a run from Python, and after one that was dropped half way."""
    model, text = build(case), "Red boxes, ten"
    parts, _ = measurable_parts(model)
    for seen in (5, 30):
        model(input_ids=zoo.tokens(seen)[None], use_cache=False)
        before = rotary_state(model)
        mask_impact_analysis.run_masking_experiment(
            prompt=text, model=model, tokenizer=zoo.tokenizer(), num_output_tokens=1
        )
        assert same_state(rotary_state(model), before)
        running = measured_layers(model, parts, ModelInputs(zoo.tokens(20).tolist(), 2))
        next(running)
        running.close()
        assert same_state(rotary_state(model), before)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", ["longrope of Phi-3", "dynamic"])
def test_a_run_cut_off_on_either_side_of_the_switch_ends_with_the_same_bytes(case, command, cut_off):
    name, changed = CASES[case]
    zoo.save(name, Path("saved"), **changed)
    words = [
        "--model",
        "saved",
        "--prompt",
        "Red boxes, ten",
        "--num-tokens",
        STEPS,
        "--output",
        "x",
        "--formats",
        "csv,json",
    ]
    assert command(*words, "--output-dir", "whole")[0] == 0
    lengths = [step["positions"] for step in record_of("x", "whole")["steps"]]
    assert len(lengths) == STEPS and 12 <= lengths[0] <= 14
    cut_off(2, *words)
    cut_off(5, *words)
    code, _, err = command(*words)
    assert (code, err) == (0, []) and tables("output") == tables("whole") and tables("whole")
