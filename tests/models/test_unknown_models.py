"""Models that do what the tool does not know: one line that names them, whatever their code raises."""

import pytest
import torch
import transformers
import zoo
from measuring import measure

from mask_impact.base.errors import RequestError
from mask_impact.measure.check_on_load import measurable_parts


def gemma3n():
    """Several residual streams: its layers take (stream, 1, position, d_model)."""
    config = transformers.Gemma3nTextConfig(
        **zoo.HEAD | {"num_hidden_layers": 4, "pad_token_id": 0},
        layer_types=[zoo.SLIDING, zoo.FULL] * 2,
        sliding_window=zoo.WINDOW,
        vocab_size_per_layer_input=zoo.VOCABULARY,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=0,
        laurel_rank=8,
        altup_num_inputs=4,
        activation_sparsity_pattern=[0.0] * 4,
    )
    return transformers.Gemma3nForCausalLM._from_config(config)


def deepseek_v4():
    config = transformers.DeepseekV4Config(
        **zoo.HEAD | {"pad_token_id": 0, "moe_intermediate_size": 48, "n_routed_experts": 4}
    )
    return transformers.DeepseekV4ForCausalLM._from_config(config)


@pytest.mark.parametrize("make", [gemma3n, deepseek_v4])
def test_layers_of_an_unknown_kind_are_refused_by_name(make):
    model = make().eval()
    layer = rf"layer 0 \({type(model).__name__.removesuffix('ForCausalLM')}(Text)?DecoderLayer\)"
    with pytest.raises(
        RequestError, match=rf"^{layer} works in a way that is not known here \(.*line \d+\)\); it cannot be measured$"
    ) as told:
        measurable_parts(model)
    assert len(told.value.faults) == 1
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())
    assert not model.config._attn_implementation.startswith("mask_impact")


def test_a_configuration_that_counts_no_layers_is_named():
    model = zoo.build("llama")
    model.config = transformers.BltConfig.from_dict({})
    with pytest.raises(
        RequestError, match="^LlamaForCausalLM has layers that its configuration does not count; it cannot be measured$"
    ):
        measurable_parts(model)


def test_memory_that_runs_out_is_no_unknown_model(monkeypatch):
    model = zoo.build("llama")
    monkeypatch.setattr(
        model.model.layers[1].mlp, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        measurable_parts(model)


def test_a_model_that_gives_no_cache_is_fed_from_the_start():
    """As some recurrent ones, whose cache stays inside."""
    model = zoo.build("llama")
    plain, forward = measure(model, zoo.tokens(9).tolist(), 3, use_cache=False), model.forward

    def without_cache(*args, **kwargs):
        answer = forward(*args, **kwargs)
        return transformers.utils.ModelOutput(logits=answer.logits)

    model.forward = without_cache
    found = measure(model, zoo.tokens(9).tolist(), 3)
    assert all((found[key].l2 == plain[key].l2).all() for key in plain) and found.keys() == plain.keys()


class CastingItself(torch.nn.Module):
    """A wrapper that runs what is inside in half precision, whatever comes in."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner.to(torch.bfloat16)

    def forward(self, rows):
        return self.inner(rows.to(torch.bfloat16)).to(rows.dtype)


def test_a_wrapper_that_casts_itself_is_named_with_the_way_out():
    model = zoo.build("qwen2")
    model.model.layers[1].mlp.down_proj = CastingItself(model.model.layers[1].mlp.down_proj)
    with pytest.raises(
        RequestError, match=r"^layer 1 \(Qwen2DecoderLayer\) works .*--measure-dtype model.* it may be measured$"
    ):
        measurable_parts(model)
    assert measure(model, zoo.tokens(9).tolist(), dtype=None)


def test_a_hook_that_raises_is_named():
    model = zoo.build("qwen2")
    model.model.layers[1].mlp.register_forward_hook(lambda *_: {}["key"])
    with pytest.raises(RequestError, match="KeyError.*forward hooks are on model.layers.1.mlp"):
        measurable_parts(model)
