"""The independent reference against itself: tiny models, the plain attention, and one architecture by hand."""

import pytest
import torch
import zoo
from oracle import (
    PlainAttention,
    attention_of,
    decoder_layers,
    distances,
    first,
    layer_calls,
    masked_vectors,
    oracle,
    plain_attention,
    qwen3_by_hand,
)
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

LOGITS = 1e-5  # float32 rounding of three layers: measured 3e-6 at most
SINGLE = 5e-5  # float32 against float64, relative to the largest distance: measured 1e-5 at most
DOUBLE = 1e-9  # what float64 is claimed to give
ROUNDING = 1e-5  # of a vector that sums two of its own size
PROMPT = zoo.tokens(40)
MEASURABLE = zoo.ARCHITECTURES + zoo.EXTRAS + zoo.HYBRIDS
PARALLEL = ("gpt_neox", "phi", "cohere2", "stablelm_parallel")


@pytest.fixture(scope="module", params=MEASURABLE)
def model(request):
    built = zoo.build(request.param)
    built.zoo_name = request.param
    return built


@pytest.fixture(scope="module")
def table(model):
    return oracle(model, PROMPT)


def logits(model, input_ids=PROMPT):
    with torch.no_grad():
        return model(input_ids[None], use_cache=False).logits


def relative(values, reference):
    """The largest difference over the largest reference value, NaN and NaN being equal."""
    assert torch.equal(values.isnan(), reference.isnan())
    return float((values - reference).nan_to_num().abs().max() / reference.nan_to_num().abs().max())


def windowed(model, layer):
    """The first position that the last query of PROMPT sees in `layer`."""
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * 4
    if model.zoo_name in ("mistral", "starcoder2") or kinds[layer] in ("sliding_attention", "chunked_attention"):
        return len(PROMPT) - zoo.WINDOW  # 40 is a multiple of the chunk, so the last chunk is the last window
    return 0


def test_names_are_each_in_one_group():
    groups = zoo.ARCHITECTURES + zoo.EXTRAS + zoo.HYBRIDS + zoo.REFUSED
    assert sorted(groups) == sorted(zoo.CONFIGURATIONS) and len(zoo.ARCHITECTURES) == 31


def test_plain_attention_gives_the_models_own_logits(model):
    attention = PlainAttention()
    with plain_attention(attention):
        ours = logits(model)
    assert relative(ours, logits(model)) < LOGITS
    assert len(attention.heads) == len(layer_calls(model, PROMPT))


def test_every_attention_layer_has_every_variant(model, table):
    layers = sorted({layer for _, layer in table})
    every_layer = list(range(len(decoder_layers(model))))
    assert layers == (every_layer[1::2] if model.zoo_name in zoo.HYBRIDS else every_layer)
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(model.config.num_attention_heads))]
    assert list(table) == [(variant, layer) for layer in layers for variant in variants]
    assert all(values.shape == (len(PROMPT),) and values.isfinite().all() for pair in table.values() for values in pair)


def test_masking_matters_exactly_where_the_layer_looks(model, table):
    for (variant, layer), (l2, cosine) in table.items():
        start = windowed(model, layer)
        assert not l2[:start].any() and not cosine[:start].any()
        assert cosine[start:].max() > 1e-4
        assert variant != "Full" or (l2[start:] > 0).all()


def test_output_is_input_plus_attn_plus_the_rest(model):
    """A layer whose attention is silent, on an input that holds Attn already, gives the same output.

    Where MLP and attention read the same input, the silent layer's output lacks Attn instead.
    """
    for module, args, kwargs in layer_calls(model, PROMPT).values():
        vectors = masked_vectors(model, (module, args, kwargs), keys=[])
        added, full = vectors["Attn"][0].float(), vectors["Full"][0].float()
        scale = getattr(module, "layer_scalar", 1.0)
        stream = args[0].clone()
        parallel = model.zoo_name in PARALLEL
        if not parallel:
            stream[0, -1] += added / scale
        output = silent(model, module, stream, args, kwargs)[0, -1] + (added if parallel else 0)
        expected = args[0][0, -1] + full
        torch.testing.assert_close(output, expected, rtol=0, atol=ROUNDING * float(expected.abs().max()))


def silent(model, module, stream, args, kwargs):
    """The layer's output for `stream` when its attention module answers zeros."""

    def zeros(_, __, output):
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    handle = attention_of(model, module).register_forward_hook(zeros)
    try:
        return first(module(stream, *args[1:], **kwargs))
    finally:
        handle.remove()


def test_float64_agrees(model, table):
    double = zoo.build(model.zoo_name, torch.float64)
    with zoo.true_float64():
        reference = oracle(double, PROMPT)
    assert max(relative(table[cell][0], reference[cell][0]) for cell in reference) < SINGLE
    assert max(float((table[cell][1] - reference[cell][1]).abs().max()) for cell in reference) < SINGLE


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss", "gemma4_shared"])
def test_rows_of_a_batch_do_not_know_each_other(name):
    model = zoo.build(name)
    for call in layer_calls(model, PROMPT).values():
        together, alone = masked_vectors(model, call), masked_vectors(model, call, keys=[36])
        for variant in together:
            assert relative(alone[variant], together[variant][[0, 37]]) < LOGITS


def test_qwen3_by_hand():
    model = zoo.build("qwen3", torch.float64)
    expected_logits, by_hand = qwen3_by_hand(model, PROMPT)
    with zoo.true_float64():
        table = oracle(model, PROMPT)
        assert relative(logits(model)[0], expected_logits) < DOUBLE
    assert table.keys() == by_hand.keys()
    for cell in table:
        assert all(relative(ours, theirs) < DOUBLE for ours, theirs in zip(table[cell], by_hand[cell]))


class Float32Results(TorchDispatchMode):
    """Notes every operation that gives a float32 tensor of activations."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            self.operations.append(str(function))
        return result


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss"])
def test_true_float64_leaves_no_float32_in_a_layer(name):
    model = zoo.build(name, torch.float64)
    calls = layer_calls(model, PROMPT)
    with Float32Results() as without:
        masked_vectors(model, calls[0])
    with Float32Results() as within, zoo.true_float64():
        masked_vectors(model, calls[0])
    assert without.operations and not within.operations


def test_distances_of_known_vectors():
    l2, cosine = distances(torch.tensor([[3.0, 4.0], [4.0, 3.0], [-3.0, -4.0], [3.0, 4.0], [0.0, 0.0]]))
    assert l2.tolist() == pytest.approx([2**0.5, 10, 0, 5])
    assert cosine[:3].tolist() == pytest.approx([0.04, 2, 0])
    assert cosine[3].isnan()


def test_a_masked_key_is_gone_and_a_sink_stays():
    query, value = torch.tensor([[[[1.0]]]]).expand(4, 1, 3, 1), torch.tensor([[[[1.0], [2.0], [4.0]]]])
    logs = torch.tensor([[[[1.0], [2.0], [5.0]]]]).log()
    plain, sink = PlainAttention([None, 0, 1, 2]), PlainAttention([None, 0, 1, 2])
    logs, value = logs.expand(4, -1, -1, -1), value.expand(4, -1, -1, -1)
    plain(None, query, logs, value, None, scaling=1.0)
    assert plain.heads[0].flatten().tolist() == pytest.approx([25 / 8, 24 / 7, 21 / 6, 5 / 3])
    sink(None, query, logs, value, None, scaling=1.0, s_aux=torch.tensor([2.0]).log())
    assert sink.heads[0].flatten().tolist() == pytest.approx([25 / 10, 24 / 9, 21 / 8, 5 / 5])


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma2"])
def test_without_any_key_distances_are_undefined(name):
    assert all(values.isnan().all() for pair in oracle(zoo.build(name), PROMPT[:1]).values() for values in pair)


def test_without_any_key_a_sink_leaves_zero():
    table = oracle(zoo.build("gpt_oss"), PROMPT[:1])
    assert all(l2.isfinite().all() and l2 > 0 for l2, _ in table.values())
    assert table["Head_0", 0][1].isnan() and table["Full", 0][1].isfinite()


def test_the_first_position_of_a_chunk_sees_itself_alone():
    table = oracle(zoo.build("llama4"), PROMPT[: 4 * zoo.WINDOW + 1])
    assert not table["Full", 0][0][:-1].any() and table["Full", 0][0][-1].isnan()
    assert table["Full", 2][0].isfinite().all()


@pytest.mark.parametrize(
    "name, change",
    [
        ("gemma2", lambda layer: setattr(layer.self_attn, "attn_logit_softcapping", None)),
        ("gpt_oss", lambda layer: layer.self_attn.sinks.fill_(-100)),
        ("granite", lambda layer: setattr(layer, "residual_multiplier", 1.0)),
        ("granite", lambda layer: setattr(layer.self_attn, "scaling", 0.25)),
        ("gemma4_scaled", lambda layer: layer.layer_scalar.fill_(1)),
        ("gemma4", lambda layer: layer.per_layer_projection.weight.zero_()),
        ("deepseek_v3", lambda layer: layer.self_attn.kv_a_layernorm.weight.fill_(1)),
    ],
)
def test_what_makes_an_architecture_special_shows(name, change):
    model = zoo.build(name)
    before = logits(model)
    for layer in decoder_layers(model):
        change(layer)
    assert relative(logits(model), before) > 0.05


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_no_parameter_is_left_at_its_initial_value(name):
    for parameter, weight in zoo.build(name).named_parameters():
        assert weight.numel() == 1 or weight.std() > 0.1, parameter


@pytest.mark.parametrize("name", ["qwen3_next", "jamba"])
def test_a_seed_gives_the_same_weights_in_every_dtype(name):
    def weights(*args, **kwargs):
        torch.rand(1)  # the global generator has moved on
        return zoo.build(name, *args, **kwargs).state_dict()

    single, again, half, other = weights(), weights(), weights(torch.bfloat16), weights(seed=1)
    for part, weight in single.items():
        assert torch.equal(weight, again[part]) and torch.equal(weight.bfloat16(), half[part].bfloat16()), part
        assert part.endswith(zoo.KEEP_INITIALISATION) or not torch.equal(weight, other[part]), part


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_refused_models_run_but_do_not_call_attention_once_per_layer(name):
    model, attention = zoo.build(name), PlainAttention()
    with plain_attention(attention), torch.no_grad():
        assert model(PROMPT[None]).logits.isfinite().all()
    assert len(attention.heads) == {"diffllama": 6, "bert": 3, "deepseek_v32": 3}.get(name, 0)


def test_the_sparse_model_hides_keys_by_their_content():
    """With its own attention the choice is in the mask; another implementation is handed `indices`, refused here."""
    model, masks = zoo.build("deepseek_v32"), []
    layer, args, kwargs = layer_calls(model, PROMPT)[0]
    with plain_attention(lambda *args, **kwargs: masks.append(args[4]) or PlainAttention()(*args, **kwargs)):
        logits(model)
    assert [int(mask[0, 0, -1].sum()) for mask in masks] == [model.config.index_topk] * 3
    model.config._attn_implementation = "another"
    with plain_attention(PlainAttention()), pytest.raises(AssertionError, match="indices"):
        layer(*args, **kwargs)


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma2"])
def test_a_saved_model_loads_with_its_tokenizer(name, tmp_path):
    model = zoo.save(name, tmp_path)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = 'the "Föö" 🙂,\r\nNA <|im_end|>'
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text and int(ids.max()) < zoo.VOCABULARY
    assert len(tokenizer(" the").input_ids) == 1
    assert torch.equal(logits(loaded, ids[0]), logits(model, ids[0]))


@pytest.mark.parametrize(
    "damage, report",
    [
        (zoo.missing_weight, "missing_keys"),
        (zoo.misfitting_weight, "mismatched_keys"),
        (zoo.unexpected_weight, "unexpected_keys"),
    ],
)
def test_a_damaged_folder_has_that_one_fault(damage, report, tmp_path):
    tensor = damage("qwen3", tmp_path)
    _, found = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True, ignore_mismatched_sizes=True)
    names = [key if isinstance(key, str) else key[0] for key in found[report]]
    assert names == [tensor]
    assert not any(found[other] for other in ("missing_keys", "mismatched_keys", "unexpected_keys") if other != report)


def test_a_folder_without_weights_has_none(tmp_path):
    zoo.without_weights("qwen3", tmp_path)
    with pytest.raises(OSError, match="model.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a").input_ids
