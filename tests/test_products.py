"""Products by oneDNN: the same numbers as torch's own, in the rows' modules alone, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


LYING = {"transposed": lambda rows: rows.T, "expanded": lambda rows: rows[:, :1].T.expand(4, 48), "cut": lambda rows: rows.T[None, 1:4]}


@pytest.mark.parametrize("lying", LYING.values(), ids=LYING.keys())
def test_rows_may_lie_anyhow_in_memory(lying):
    module, rows = module_of(48, 33, True), lying(torch.randn(48, 5, generator=torch.Generator().manual_seed(1)))
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


class Doubled(torch.Tensor):
    """A weight that makes its own products, as quantised ones do."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        plain = [arg.as_subclass(torch.Tensor) if isinstance(arg, cls) else arg for arg in args]
        answer = function(*plain, **(kwargs or {}))
        return 2 * answer if function is nn.functional.linear else answer


class DoublingMode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        return 2 * answer if function is nn.functional.linear else answer


def test_a_weight_that_makes_its_own_products_and_a_function_mode_are_asked():
    module, rows = module_of(48, 33, False), torch.ones(5, 48)
    expected = 2 * module(rows)
    with DoublingMode():
        torch.testing.assert_close(products.linear(module, rows), expected)
    weight = module.weight.data.as_subclass(Doubled)
    del module.weight
    module.weight = weight
    torch.testing.assert_close(products.linear(module, rows).as_subclass(torch.Tensor), expected)


def test_what_another_library_makes_of_all_linear_modules_stays(monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda module, input: 2 * input)
    assert products.of(nn.Linear(2, 2)) == {}
    monkeypatch.undo()
    monkeypatch.setattr(nn.functional, "linear", lambda input, weight, bias=None: 2 * input)
    assert products.of(nn.Linear(2, 2)) == {}


@needs_onednn
def test_not_where_the_caller_has_turned_it_off(monkeypatch):
    own = nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda *args: 2 * own(*args))
    module, rows = module_of(48, 33, True), torch.ones(5, 48)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(products.linear(module, rows), 2 * own(rows, module.weight, module.bias))


def test_a_shape_that_onednn_does_not_take_is_torch_own():
    module = module_of(48, 33, True)
    module.bias = nn.Parameter(torch.ones(1), requires_grad=False)
    assert torch.equal(products.linear(module, torch.ones(5, 48)), module(torch.ones(5, 48)))


GROWING = """
import ctypes, torch
from mask_impact import products

def resident():
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

module = torch.nn.Linear(96, 96, bias=False).requires_grad_(False)
for rows in range(20, 240):
    products.linear(module, torch.ones(rows, 96))
    before = resident() if rows == 60 else before if rows > 60 else 0
print(resident() - before)
"""


@needs_onednn
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_every_number_of_rows():
    """Without a bound 180 shapes took 100 MB, which were never given back."""
    root = Path(products.__file__).parent.parent
    grown = subprocess.run([sys.executable, "-c", GROWING], cwd=root, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 10e6


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
