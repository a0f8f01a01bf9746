"""Products by oneDNN: the same numbers as torch's own, in the rows' modules alone, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
import zoo
from torch import nn

from mask_impact import products
from mask_impact.load_check import measurable_parts
from mask_impact.measure import Method, ModelInputs, measured_layers

needs_onednn = pytest.mark.skipif(not products.there(), reason="torch has no oneDNN product on this machine")


def spied(monkeypatch):
    """The modules and numbers of rows of all products that go through `products.linear`, by oneDNN or not."""
    seen, own = [], products.linear

    def linear(module, input):
        seen.append((module, input.shape[-2]))
        return own(module, input)

    monkeypatch.setattr(products, "linear", linear)
    return seen


def module_of(features: int, answers: int, bias: bool, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(features, answers, bias=bias, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (1, 265, 48), (2, 3, 48), (0, 48)])
def test_a_product_is_that_of_the_module(shape, bias):
    module, rows = module_of(48, 33, bias), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = products.linear(module, rows)
    assert found.shape == (*shape[:-1], 33) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), nn.functional.linear(rows.double(), *(None if t is None else t.double() for t in (
        module.weight, module.bias))), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [torch.randn(48, 5).T, torch.randn(1, 48).expand(4, 48), torch.randn(1, 9, 48)[:, 2:7]],
                         ids=["transposed", "expanded", "cut"])
def test_rows_may_lie_anyhow_in_memory(rows):
    module = module_of(48, 33, True)
    torch.testing.assert_close(products.linear(module, rows), module(rows.clone()), rtol=1e-5, atol=1e-6)


@needs_onednn
def test_onednn_makes_it(monkeypatch):
    monkeypatch.setattr(nn.functional, "linear", None)
    assert products.linear(module_of(48, 33, True), torch.ones(3, 48)).shape == (3, 33)


@needs_onednn
@pytest.mark.parametrize("name", products.ROUNDING)
@pytest.mark.parametrize("mode, taken", [("BF16", False), ("any", False), ("STRICT", True), ("strict", True)])
def test_not_where_onednn_was_told_to_round(monkeypatch, name, mode, taken):
    monkeypatch.setenv(name, mode)
    assert products.there.__wrapped__() is taken


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_torch_own(dtype):
    module = module_of(48, 33, True, dtype)
    rows = torch.randn(5, 48).to(dtype)
    assert torch.equal(products.linear(module, rows), module(rows))


def test_a_weight_may_lie_anyhow_too():
    module = module_of(48, 33, False)
    module.weight.data = torch.randn(48, 33).T
    torch.testing.assert_close(products.linear(module, torch.ones(5, 48)), module(torch.ones(5, 48)), rtol=1e-5, atol=1e-5)


def test_only_plain_linear_modules_with_their_own_forward():
    class Other(nn.Linear):
        pass

    plain, other, watched = nn.Linear(2, 2), Other(2, 2), nn.Linear(2, 2)
    watched.forward = watched.forward
    assert list(products.of(nn.Sequential(plain, other, watched, nn.LayerNorm(2)))) == [plain]


def distances(model, parts, method):
    layers = measured_layers(model, parts, ModelInputs(list(range(3, 23)), 2), method)
    return torch.cat([torch.as_tensor(layer.l2[:2]).flatten() for layer in layers])  # Full and Attn


@pytest.mark.parametrize("riding", [True, False])
def test_all_rows_go_that_way_and_the_modules_are_as_before(monkeypatch, riding):
    model = zoo.build("qwen2")
    parts, _ = measurable_parts(model)
    seen = spied(monkeypatch)
    distances(model, parts, Method(riding=riding))
    mlps = [layer.mlp for layer in model.model.layers]
    behind = {part.projection for part in parts}.union(*({mlp.gate_proj, mlp.up_proj, mlp.down_proj} for mlp in mlps))
    assert {module for module, _ in seen} == behind
    assert max(rows for _, rows in seen) == (20 + 20 + 9 if riding else 21 + 9)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_projection_behind_a_gate_is_torch_own(monkeypatch):
    """Its rows come to it under vmap, for which oneDNN has no rule: torch would take row by row."""
    model = zoo.build("qwen3_next")
    parts, _ = measurable_parts(model)
    seen = spied(monkeypatch)
    distances(model, parts, Method())
    assert seen and not any(part.direct or part.projection in [module for module, _ in seen] for part in parts)


def test_rerun_does_not():
    model = zoo.build("qwen3")
    parts, _ = measurable_parts(model)
    with pytest.MonkeyPatch.context() as patch:
        seen = spied(patch)
        distances(model, parts, Method("rerun"))
    assert seen == []


@needs_onednn
@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gpt_oss", "qwen3_moe", "phi3"])
def test_distances_are_those_of_the_other_library(monkeypatch, name):
    model = zoo.build(name)
    parts, _ = measurable_parts(model)
    found = distances(model, parts, Method())
    monkeypatch.setattr(products, "there", lambda: False)
    expected = distances(model, parts, Method())
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
