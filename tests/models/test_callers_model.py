"""A model as its caller has it: compiled, under autocast, on no device, shared by threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import zoo

from mask_impact.base.errors import RunError
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import ModelInputs
from mask_impact.models.compiled import uncompiled
from mask_impact_analysis import run_masking_experiment

IDS = zoo.tokens(12).tolist()
DISTANCES = ["l2_distance", "cosine_distance"]


def table(model, prompt="Red boxes", **settings):
    return run_masking_experiment(prompt, model=model, tokenizer=zoo.tokenizer(), **settings)


def same(one, other):
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in DISTANCES)


def whole(model):
    model.compile()
    return model


def its_layers(model):
    for layer in model.model.layers:
        layer.compile()
    return model


def wrapped_layers(model):
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = torch.compile(layer)
    return model


def its_forward(model):
    model.forward = torch.compile(model.forward)
    return model


@pytest.mark.parametrize(
    "compiled", [whole, its_layers, wrapped_layers, its_forward, torch.compile], ids=lambda one: one.__name__
)
def test_a_compiled_model_is_measured_uncompiled(compiled):
    plain, model = table(zoo.build("qwen2")), compiled(zoo.build("qwen2"))
    with pytest.warns(UserWarning, match="^the model is compiled; its modules were measured uncompiled$") as told:
        found = table(model)
    assert same(found, plain) and plain.attrs["run"]["warnings"] == []
    assert told[0].filename == __file__ and found.attrs["run"]["warnings"] == [str(told[0].message)]


def test_what_was_compiled_is_so_again():
    model = wrapped_layers(its_layers(its_forward(whole(zoo.build("qwen2")))))
    before = (
        model._compiled_call_impl,
        model.forward,
        [(layer, layer._orig_mod._compiled_call_impl) for layer in model.model.layers],
    )
    with uncompiled(model):
        assert model._compiled_call_impl is None and not any(
            hasattr(layer, "_orig_mod") for layer in model.model.layers
        )
    assert before == (
        model._compiled_call_impl,
        model.forward,
        [(layer, layer._orig_mod._compiled_call_impl) for layer in model.model.layers],
    )


@pytest.mark.parametrize("name", ["qwen2", "gemma2"])
def test_autocast_around_the_call_is_off_inside(name):
    plain = table(zoo.build(name), num_output_tokens=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = table(zoo.build(name), num_output_tokens=2)
        assert torch.is_autocast_enabled("cpu")
    assert same(found, plain)


def test_weights_that_are_not_in_memory_are_refused():
    model = zoo.build("qwen2")
    model.model.layers[1].to("meta")
    with pytest.raises(
        ValueError, match="Qwen2ForCausalLM has weights that are not in memory .model.layers.1.*'meta'.*load it whole"
    ):
        table(model)


def test_a_model_offloaded_by_accelerate_is_refused():
    accelerate = pytest.importorskip("accelerate", reason="offloading needs accelerate")
    model = zoo.build("qwen2")
    accelerate.cpu_offload(model, execution_device="cpu")
    with pytest.raises(ValueError, match="weights that are not in memory"):
        table(model)


def texts(count):
    return [f"{color} boxes" for color in ("Red", "Blue", "Green", "Grey", "Black", "White")[:count]]


def test_threads_that_measure_models_of_their_own():
    expected = [table(zoo.build("qwen2"), text) for text in texts(4)]
    models = [zoo.build("qwen2") for _ in expected]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(table, models, texts(4)))
    assert all(map(same, found, expected))


def test_threads_that_measure_one_model_take_turns():
    model = zoo.build("qwen2")
    expected = [table(model, text) for text in texts(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: table(model, text), texts(4)))
    assert all(map(same, found, expected))
    assert model.config._attn_implementation == "sdpa"


def test_a_run_that_is_not_at_its_end_is_named():
    model = zoo.build("qwen2")
    parts, _ = measurable_parts(model)
    running = measured_layers(model, parts, ModelInputs(IDS, 1))
    next(running)
    with pytest.raises(RunError, match="^this model is being measured already, .*load the model a second time$"):
        table(model)
    running.close()
    assert len(table(model)) > 0
