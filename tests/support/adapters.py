"""Modules that people wrap around a linear module:
adapters in plain torch and peft's own, gates, and some that are not affine.

    model = adapted("qwen3", torch.bfloat16, "gate", {0: ["o_proj"], 2: ["q_proj", "down_proj"]})

Every weight of an adapter is random and strong: without it the layer is another one.
peft's are put into the transformers model itself.
"""

from functools import cache, partial

import pytest
import torch
import vision_zoo
import zoo
from layer_oracle import copied
from oracle import decoder_layers
from repository import ROOT
from torch import nn
from transformers import AutoModelForImageTextToText

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of a decoder layer
ENCODER_LINEARS = ("qkv", "proj", "linear_fc1", "linear_fc2")
DECODERS = ("qwen3", "llama", "gemma2", "mistral", "demo")
STRONG, WEAK = 0.7, 0.035  # of the projection's norm
RANK = 4


class LowRank(nn.Module):
    """base(x) + B A x * scale, as LoRA; `share` is the norm of the second term's matrix over the first's."""

    def __init__(self, base_layer, share=STRONG):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base_layer.out_features, bias=False)
        self.scale = float(share * base_layer.weight.float().norm() / (self.lora_B.weight @ self.lora_A.weight).norm())

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x)) * self.scale


class Decomposed(LowRank):
    """Columns of base and low-rank matrix together, scaled to a magnitude of their own, as DoRA; the bias stays."""

    def __init__(self, base_layer):
        super().__init__(base_layer)
        self.magnitude = nn.Parameter(self.norm().detach() * (1 + 0.4 * torch.randn(base_layer.out_features)))

    def norm(self):
        return (self.base_layer.weight + self.scale * self.lora_B.weight @ self.lora_A.weight).float().norm(dim=1)

    def forward(self, x):
        share, bias = (self.magnitude / self.norm()).to(x.dtype), self.base_layer.bias
        base = self.base_layer(x) if bias is None else self.base_layer(x) - bias
        answer = share * (base + self.lora_B(self.lora_A(x)) * self.scale)
        return answer if bias is None else answer + bias


class Gate(nn.Module):
    """gate * inner(x), the gate a learned number."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.gate = inner, nn.Parameter(torch.tensor(0.4))

    def forward(self, x):
        return self.gate * self.inner(x)


class Rescaled(nn.Module):
    """Each number of the output times one of its own, as IA3; or of the input."""

    def __init__(self, base_layer, on_input=False):
        super().__init__()
        self.base_layer, self.on_input = base_layer, on_input
        self.vector = nn.Parameter(
            1 + 0.7 * torch.randn(base_layer.in_features if on_input else base_layer.out_features)
        )

    def forward(self, x):
        return self.base_layer(x * self.vector) if self.on_input else self.base_layer(x) * self.vector


class Hadamard(nn.Module):
    """The product, number by number, of two low-rank matrices added to the base's, as LoHa."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        rows, columns = base_layer.weight.shape
        self.factors = nn.ParameterList(torch.randn(*shape) for shape in 2 * [(rows, RANK), (RANK, columns)])
        self.scale = float(STRONG * base_layer.weight.float().norm() / self.product().norm())

    def product(self):
        one, two, three, four = self.factors
        return (one @ two) * (three @ four)

    def forward(self, x):
        return self.base_layer(x) + nn.functional.linear(x, self.product()) * self.scale


class Bent(nn.Module):
    """No longer affine: tanh of what the inner module answers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.tanh(self.inner(x))


class Summed(Bent):
    """Mixes positions: each row is the mean of the inner module's rows up to it."""

    def forward(self, x):
        rows = self.inner(x)
        return rows.cumsum(-2) / torch.arange(1, rows.shape[-2] + 1).to(rows)[:, None]


PLAIN = {
    "low_rank": LowRank,
    "weak": partial(LowRank, share=WEAK),
    "gate": Gate,
    "decomposed": Decomposed,
    "rescaled": Rescaled,
    "rescaled_input": partial(Rescaled, on_input=True),
    "hadamard": Hadamard,
}
PEFT = ("peft_lora", "peft_dora", "peft_ia3", "peft_loha")
AFFINE = (*PLAIN, *PEFT)
OTHERS = {"tanh": Bent, "cumsum": Summed}
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).split(".")[1])


@cache
def plain_model(name, dtype):
    """The model without adapters; not to be changed."""
    if name == "demo":
        folder = ROOT / "demo" / "vision" / "model"
        return (
            AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
            .eval()
            .requires_grad_(False)
            .to(dtype)
        )
    return (vision_zoo.build(name) if name in vision_zoo.KINDS else zoo.build(name)).to(dtype)


def stack(model, encoder=False):
    """The decoder's layers, or the blocks of the vision encoder."""
    return model.model.visual.blocks if encoder else decoder_layers(model)


def adapted(name, dtype, kind, places, encoder=False):
    """A copy of the model with adapters around modules, by layer index their names' last parts;
    no kind is no adapter."""
    model = copied(plain_model(name, dtype))
    torch.manual_seed(0)
    if kind in PEFT:
        return with_peft(model, kind, sorted(full_names(model, places, encoder)))
    if kind is not None:
        for dotted in full_names(model, places, encoder):
            wrap(model, dotted, (PLAIN | OTHERS)[kind])
    return model.eval().requires_grad_(False)


def full_names(model, places, encoder=False):
    """The dotted names in the model of the linear modules that `places` names by layer."""
    inside = {module: index for index in places for module in stack(model, encoder)[index].modules()}
    return [
        name
        for name, module in model.named_modules()
        if module in inside and name.split(".")[-1] in places[inside[module]]
    ]


def wrap(model, dotted, make):
    """Put `make` of a module in that module's place, in its dtype."""
    parent, _, own = dotted.rpartition(".")
    module = model.get_submodule(dotted)
    setattr(model.get_submodule(parent), own, make(copied(module).float()).to(module.weight.dtype))


def with_peft(model, kind, names):
    """The model with one of peft's adapters around these modules, its weights drawn anew, as some begin at 0.

    LoRA and DoRA are in float32 whatever the model is, as peft makes them by itself.
    """
    peft = pytest.importorskip("peft", reason="peft is not installed: its own adapters are not tried")
    config = {
        "peft_lora": lambda: peft.LoraConfig(r=RANK, target_modules=names),
        "peft_dora": lambda: peft.LoraConfig(r=RANK, target_modules=names, use_dora=True),
        "peft_ia3": lambda: peft.IA3Config(
            target_modules=names, feedforward_modules=[name for name in names if name.endswith(("down_proj", "fc2"))]
        ),
        "peft_loha": lambda: peft.LoHaConfig(r=RANK, target_modules=names, init_weights=False),
    }[kind]()
    before, lora = set(model.parameters()), kind in ("peft_lora", "peft_dora")
    if lora:
        model.add_adapter(config)
    else:
        peft.inject_adapter_in_model(config, model)
    for weight in model.parameters():
        if weight not in before:
            weight.data = drawn(kind, weight.data.float() if lora else weight.data)
    return model.eval().requires_grad_(False)


def drawn(kind, weight):
    """Random weights for one of an adapter's tensors: matrices small, vectors about what they were."""
    noise = torch.randn(weight.shape).to(weight)
    return weight * (1 + 0.7 * noise) if weight.dim() == 1 or kind == "peft_ia3" else 0.4 * noise
