"""Forward hooks of the caller's inside a layer:
what they make of an answer is measured, or they are named and refused."""

import pytest
import torch
import zoo
from adapters import plain_model
from layer_oracle import copied, decoder_steps
from measuring import measure, relative_error, right_or_named, wrong_numbers

from mask_impact.base.errors import RunError

IDS = zoo.tokens(4).tolist()
VECTOR = 2 * torch.randn(64, generator=torch.Generator().manual_seed(5))
PLACES = ("mlp", "mlp.down_proj", "self_attn.o_proj", "self_attn", "post_attention_layernorm")
SAID = {"self_attn.o_proj": "o_proj|output projection"}  # what a refusal may call the module, where not by its name
# Rows that join the pass, rows wider than the model, a projection with a bias, and norms behind attention and MLP.
MODELS = [("mistral", "float32"), ("mistral", "bfloat16"), ("qwen3", "float32"), ("gemma2", "float32")]
models = pytest.mark.parametrize("name, dtype", MODELS)


def adding(module, inputs, output):
    return output + VECTOR.to(output)


def scaling(module, inputs, output):
    return 1.75 * output


def adding_at_the_end(module, inputs, output):
    hidden = output[0] if isinstance(output, tuple) else output
    hidden[:, -1] += VECTOR.to(hidden)


def scaling_at_the_end(module, inputs, output):
    hidden = output[0] if isinstance(output, tuple) else output
    hidden[:, -1] *= 1.75


def hooked(name, dtype, place, hook):
    model = copied(plain_model(name, getattr(torch, dtype)))
    model.model.layers[1].get_submodule(place).register_forward_hook(hook)
    return model


def assert_right_or_named(model, place, steps):
    """Numbers and generated tokens are those of the hooked model,
    or a line names the layer and the module with the hook."""
    called = SAID.get(place, place.split(".")[-1])
    right_or_named(wrong_numbers(model, IDS, steps), rf"layer 1\b.*({called})|({called}).*layer 1\b|layers\.1\.{place}")


@models
@pytest.mark.parametrize("hook", [adding, scaling])
def test_a_hook_that_changes_an_mlps_answer(hook, name, dtype):
    assert_right_or_named(hooked(name, dtype, "mlp", hook), "mlp", 2)


@models
@pytest.mark.parametrize("steps, hook", [(1, scaling_at_the_end), (3, adding_at_the_end)])
@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_changes_the_last_position(place, steps, hook, name, dtype):
    """Rows of ours that pass the hook are no positions, and their last one is no last position."""
    assert_right_or_named(hooked(name, dtype, place, hook), place, steps)


@pytest.mark.parametrize("hook", [adding_at_the_end, scaling_at_the_end])
@pytest.mark.parametrize("place", PLACES)
def test_without_the_hook_full_is_another(place, hook):
    with_hook = hooked("mistral", "float32", place, hook)
    [(_, own)], [(_, without)] = (decoder_steps(model, IDS) for model in (with_hook, zoo.build("mistral")))
    assert relative_error(without["Full", 1].baseline_norm, own["Full", 1].baseline_norm) > 0.01


def steering(module, inputs, output):
    """At one position of the prompt, if it is there."""
    output = first(output)
    if output.shape[1] > 5:
        output = output.clone()
        output[:, 5] += 3
    return output


def longer_than_eight(module, inputs, output):
    return 2 * output if output.shape[1] > 8 else output


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("hook", [steering, longer_than_eight])
@pytest.mark.parametrize("place", ["mlp", "mlp.down_proj", "self_attn.o_proj"])
@pytest.mark.parametrize("name", ["mistral", "qwen3"])
def test_a_hook_that_counts_positions(name, place, hook):
    """Rows of ours stand where positions stand in the model, so it is named, on load or in the run."""
    model = hooked(name, "float32", place, hook)
    with pytest.raises(RunError, match=f"layer 1: .*forward hooks are on .*{place}"):
        measure(model, zoo.tokens(13).tolist(), 3)


def test_a_wrapper_that_chooses_among_positions_is_refused():
    """The two largest rows of all go through, the others do not: a row by itself always does."""
    model = copied(plain_model("mistral", torch.float32))
    projection = model.model.layers[1].self_attn.o_proj
    whole = projection.forward
    projection.forward = lambda rows: (
        whole(rows)
        * (rows.norm(dim=-1, keepdim=True) >= rows.norm(dim=-1).flatten().topk(min(2, rows.shape[-2])).values[-1])
    )
    with pytest.raises(RunError, match="layer 1: the parts found do not give the same"):
        measure(model, zoo.tokens(13).tolist(), 1)
