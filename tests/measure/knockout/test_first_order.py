"""First-order effects against numerical derivatives of the plain model."""

import pytest
import torch
import zoo
from oracle import attention_of, decoder_layers, layer_calls, masked_vectors

from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.closed_form.sets import masked_heads
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.knockout.clean import query_at
from mask_impact.measure.knockout.first_order import first_order
from mask_impact.measure.step import Method
from mask_impact.sites.attention import attached, tapped
from mask_impact.sites.parts import decoder_of

IDS, TOKEN = zoo.tokens(12).tolist(), 7
SETS = KeySets.of([[3], [1, 2], [11]])
STEP = 1e-5
ROWS_CANNOT = ("llama4", "gemma4_shared")  # see test_effects.py


def logprob(model, layer, add_output=None, head=None, add_head=None):
    """Log p(TOKEN) of the plain model, the last position of one layer's output, or one head's, moved."""
    module = decoder_layers(model)[layer]

    def answer(call):
        output = call.run(call.query, call.key, call.value, call.mask)
        if head is not None and call.module is attention_of(model, module):
            output = output.clone()
            output[0, -1, head] += add_head
        return output

    def moved(_module, _args, output):
        tensor = output if torch.is_tensor(output) else output[0]
        if add_output is not None:
            tensor[0, -1] += add_output
        return output

    handle = module.register_forward_hook(moved)
    try:
        with torch.inference_mode(), attached(decoder_of(model)), tapped(answer):
            logits = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
    finally:
        handle.remove()
    return float(logits.double().log_softmax(-1)[TOKEN])


def derivative(model, layer, difference, head=None):
    """Of log p(TOKEN) along a difference, by central differences."""

    def moved(step):
        return logprob(model, layer, head=head, add_head=step) if head is not None else logprob(model, layer, step)

    return (moved(STEP * difference) - moved(-STEP * difference)) / (2 * STEP)


@pytest.mark.parametrize("name", [name for name in (*zoo.ARCHITECTURES, *zoo.EXTRAS) if name not in ROWS_CANNOT])
def test_cells_are_derivatives(name):
    with zoo.true_float64():
        model = zoo.build(name, torch.float64)
        method = Method(dtype=torch.float64)
        parts, _ = measurable_parts(model, method)
        with knockouts(model, parts, IDS, [TOKEN], lambda _: {}, method, True) as found:
            cuts, effects = first_order(found.clean, 0, TOKEN, SETS, method, ("full", "heads"))
            heads = {}
            for layer in found.clean.layers:
                closed = masked_heads(query_at(found.clean, layer, 0, torch.float64), SETS)
                heads[layer.parts.index] = closed.differences(torch.arange(len(SETS))).clone()
        assert len({cut.first for cut in cuts}) == 3
        updates = vectors(model)
        for cut, effect in zip(cuts, effects.tolist()):
            difference = updates[cut.first][cut.unit] if cut.head is None else heads[cut.first][cut.unit, cut.head]
            expected = derivative(model, cut.first, difference, cut.head)
            assert abs(effect - expected) <= 1e-6 * max(1, abs(expected)), cut


def test_a_bfloat16_model_has_the_cells_of_its_weights_in_float32():
    narrow = zoo.build("qwen3", torch.bfloat16)
    found = []
    for model in (narrow, zoo.build("qwen3").to(torch.bfloat16).float()):
        parts, _ = measurable_parts(model)
        with knockouts(model, parts, IDS, [TOKEN], lambda _: {}, Method(), True) as knocked:
            found.append(first_order(knocked.clean, 0, TOKEN, SETS, Method(), ("full", "heads"))[1])
    narrow_cells, wide_cells = map(torch.from_numpy, found)
    assert (narrow_cells - wide_cells).abs().max() < 0.05 * wide_cells.abs().max()
    assert narrow.lm_head.weight.dtype == torch.bfloat16


def vectors(model):
    """Full's differences of the sets in each layer, by the independent implementation: {layer: (set, d_model)}."""
    with torch.no_grad():
        calls = layer_calls(model, IDS)
        found = {}
        for index, call in calls.items():
            full = masked_vectors(model, call, [SETS.positions(n).tolist() for n in range(len(SETS))])["Full"]
            found[index] = full[1:] - full[0]
    return found
