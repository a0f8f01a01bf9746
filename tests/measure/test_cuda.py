"""On a CUDA device: the numbers of both methods and of the commands, memory that runs out, and runs that are cut off.

A kernel of float32 may round as TF32 does, to 10 bits, and atomic sums differ from run to run:
neither may reach a result.
"""

import gc
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import vision_zoo
import zoo
from asking import planned
from cutting import PICTURE, STORY, tables
from encoder_oracle import encoder_oracle
from measuring import (
    COSINE,
    FLOAT32,
    FLOAT64,
    PROMPT,
    STEPS,
    errors_against_oracle,
    measure,
    relative_error,
    worst_error,
)
from measuring_encoder import GRIDS, blocks
from oracle import oracle
from planting import own_numbers_errors
from running import record_of
from transformers import LlamaConfig, LlamaForCausalLM

import mask_impact_analysis
import mask_impact_vl
from mask_impact import read_results
from mask_impact.base.precision import full_float32
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.vision_encoder import sample_pictures, vision_encoder

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
    pytest.mark.usefixtures("here"),
]

DEVICE = "cuda:0"
# Windows, soft caps, sinks, latent and shared keys, experts, gates under vmap, biases, and rows that join or do not.
ARCHITECTURES = (
    "qwen3",
    "llama",
    "llama4",
    "mistral",
    "gemma2",
    "gemma3",
    "gemma4_shared",
    "gpt_oss",
    "deepseek_v3",
    "gpt2",
    "opt",
    "phi3",
    "granite",
    "olmo2",
    "bitnet",
    "qwen3_moe",
    "mixtral",
    "qwen3_next",
    "lfm2",
)
KINDS = [("renormalize", True), ("renormalize", False), ("rerun", True)]


def on_device(name, dtype=torch.float32):
    return zoo.build(name, dtype).to(DEVICE)


def holds(errors, l2_most, cosine_most):
    for kind, (l2, cosine) in errors.items():
        assert l2 <= l2_most and cosine <= cosine_most, (kind, l2, cosine)


def table_error(one, other):
    """The largest relative error of L2 between two tables of the same rows, by step, variant and layer."""
    one, other = (read_results(path) for path in (one, other))
    assert len(one) == len(other)
    keys = ["generation_step", "variant", "layer"]
    groups = zip(one.groupby(keys), other.groupby(keys), strict=True)
    return max(relative_error(a.l2_distance.tolist(), b.l2_distance.tolist()) for (_, a), (_, b) in groups)


# Numbers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_both_methods_equal_the_plain_implementation(name):
    holds(errors_against_oracle(on_device(name), KINDS, zoo.tokens(PROMPT).tolist()), FLOAT32, COSINE)


def test_float64_is_exact():
    with zoo.true_float64():
        errors = errors_against_oracle(on_device("qwen3", torch.float64), KINDS, zoo.tokens(PROMPT).tolist())
    holds(errors, FLOAT64, FLOAT64)


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss"])
def test_one_token_is_undefined_but_for_a_sink(name):
    """Kernels differ in what they answer where every key is masked.
    What a sink leaves of a head has a cosine of few digits."""
    holds(errors_against_oracle(on_device(name), KINDS, [5]), FLOAT32, 1e-3)


@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_pictures(name, tmp_path):
    model = vision_zoo.build(name).to(DEVICE)
    asked = planned(model, [vision_zoo.picture(tmp_path / "p.png", 40, 24)])
    further = partial(asked.further, device=model.device)
    fed, (parts, _) = ModelInputs(asked.token_ids, STEPS, masked=asked.masked, further=further), measurable_parts(model)

    def reference(layer):
        model.model.rope_deltas = None
        return oracle(model, [layer.step.token_ids], layers=[layer.layer], **further(layer.step.token_ids))

    methods = [Method(), Method(join_rows=False), Method("rerun")]
    found = {method.name: dict(enumerate(measured_layers(model, parts, fed, method))) for method in methods}
    with full_float32():
        holds({name: worst_error(layers, reference) for name, layers in found.items()}, FLOAT32, COSINE)


@pytest.mark.parametrize("method", ["renormalize", "rerun"])
@pytest.mark.parametrize("name", vision_zoo.KINDS)
def test_the_vision_encoder(name, method):
    model = vision_zoo.build(name).to(DEVICE)
    found = dict(enumerate(blocks(model, GRIDS[1], 7, method=Method(method))))
    with torch.device(DEVICE), full_float32():
        table = encoder_oracle(model, **sample_pictures(vision_encoder(model), GRIDS[1]), cell=7)
    holds({method: worst_error(found, lambda _: table)}, FLOAT32, COSINE)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma3", "gpt2", "qwen3_moe"])
def test_bfloat16_models_are_measured_from_their_own_numbers(name):
    errors = own_numbers_errors(on_device(name).to(torch.bfloat16))
    assert max(errors.values()) <= 1e-3, errors


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt_oss", "qwen3_moe"])
def test_methods_agree_on_bfloat16_models(name):
    fast, slow = (
        measure(on_device(name).to(torch.bfloat16), zoo.tokens(16).tolist(), STEPS, method)
        for method in ("renormalize", "rerun")
    )
    for key, m in fast.items():
        for row, variant in enumerate(m.variants):
            assert relative_error(m.l2[row], slow[key].l2[row]) <= FLOAT32, (key, variant)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_in_the_models_dtype(dtype):
    found = measure(on_device("llama").to(dtype), zoo.tokens(16).tolist(), STEPS, dtype=None)
    assert all(torch.as_tensor(m.l2).isfinite().all() and (m.noise_floor_l2 > 0).all() for m in found.values())


def test_tf32_that_a_caller_has_switched_on_does_not_reach_the_numbers():
    model, ids = zoo.wide_model().to(DEVICE), list(range(7, 67))
    exact = measure(model, ids, STEPS)
    torch.set_float32_matmul_precision("high")
    try:
        found = measure(model, ids, STEPS)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    errors = {
        key: relative_error(m.l2[row], exact[key].l2[row]) for key, m in found.items() for row in range(len(m.variants))
    }
    assert max(errors.values()) <= FLOAT32, errors


# The commands

ENCODER = ["--model", "demo", "--image", PICTURE[3], "--part", "encoder", "--at", "1,2", "--output", "x"]
COIN = ["--model", "demo", "--prompt", STORY[0], "--num-tokens", "4", "--output", "x"]
COMMANDS = {
    "text": (COIN, mask_impact_analysis),
    "chat": ([*COIN, "--chat"], mask_impact_analysis),
    "picture": (PICTURE, mask_impact_vl),
    "encoder": (ENCODER, mask_impact_vl),
}


@pytest.mark.parametrize("asked", ["cuda", "auto"])
@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_gives_the_numbers_of_the_cpu(case, asked, command):
    words, door = COMMANDS[case]
    for device, folder in (("cpu", "cpu"), (asked, "gpu")):
        assert command(*words, "--device", device, "--output-dir", folder, door=door)[0] == 0
    cpu, gpu = record_of("x", "cpu"), record_of("x", "gpu")
    assert (cpu["device"], gpu["device"]) == ("cpu", DEVICE) and gpu["device_name"] == torch.cuda.get_device_name(
        DEVICE
    )
    assert (
        gpu["tokens"] == cpu["tokens"]
        and gpu["generated_text"] == cpu["generated_text"]
        and gpu["dtypes"] == cpu["dtypes"]
    )
    for one, other in zip(gpu["steps"], cpu["steps"], strict=True):
        assert [top["id"] for top in one["top"][:1]] == [top["id"] for top in other["top"][:1]]
        assert [top["probability"] for top in one["top"]] == pytest.approx(
            [top["probability"] for top in other["top"]], abs=1e-4
        )
    assert table_error("gpu/x_results.csv", "cpu/x_results.csv") <= FLOAT32


# Memory that runs out


@pytest.fixture
def long(tmp_path):
    """A run of a thousand tokens through a model whose MLP takes most of its memory."""
    shape = dict(zoo.SHAPE, hidden_size=512, intermediate_size=8192, num_hidden_layers=2, max_position_embeddings=2048)
    for part in (LlamaForCausalLM(LlamaConfig(**shape)), zoo.tokenizer()):
        part.save_pretrained(tmp_path / "wide")
    return ["--model", tmp_path / "wide", "--device", "cuda", "--output", "x", "--prompt", "a cat " * 166]


def peak(command, *words):
    """Bytes of the device's memory that the command takes at its peak."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    assert command(*words)[0] == 0
    return torch.cuda.max_memory_reserved()


@contextmanager
def room_for(size):
    """As if the device had so many bytes for this process."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_rows_that_do_not_fit_are_halved(long, command):
    """Room for the model's own pass, but not for the rows beside it.

    Each of a thousand tokens moves the update by less than a hundredth,
    and on the CPU either way is within 7e-5 of float64.
    """
    most = peak(command, *long, "--num-tokens", 3, "--output-dir", "whole")
    least = peak(command, *long, "--variants", "heads", "--output-dir", "heads")
    with room_for((least + most) // 2):
        assert command(*long, "--num-tokens", 3)[0] == 0
    assert record_of("x", "output")["rows_halved"] >= 1 and "rows_halved" not in record_of("x", "whole")
    assert table_error("output/x_results.csv", "whole/x_results.csv") <= 3 * FLOAT32


def test_where_the_model_itself_does_not_fit_one_line_says_so(long, command):
    most = peak(command, *long, "--variants", "heads", "--output-dir", "heads")
    least = peak(command, *long[:-1], "a cat", "--output-dir", "short")
    with room_for((least + most) // 2):
        code, _, err = command(*long)
    assert code == 1 and len(err) == 1 and "out of memory (CUDA out of memory" in err[0]
    assert [path.name for path in Path("output").iterdir() if path.is_file()] == ["x_run.json"]
    assert record_of("x", "output")["status"] == "failed"
    assert command(*long)[0] == 0 and record_of("x", "output")["status"] == "complete"


# Runs that are cut off


@pytest.mark.parametrize("more", [[], ["--dtype", "bfloat16"], ["--method", "rerun"]], ids=" ".join)
@pytest.mark.parametrize("model", ["demo", "qwen3_moe", "gpt_oss"])
def test_a_cut_off_run_ends_with_the_tables_of_an_uninterrupted_one(model, more, command, cut_off, tmp_path):
    if model != "demo":
        zoo.save(model, tmp_path / model)
    place = model if model == "demo" else tmp_path / model
    words = [
        "--model",
        place,
        "--prompt",
        "The coin is",
        "--continuation",
        " in the box.",
        "--output",
        "x",
        "--device",
        "cuda",
        *more,
    ]
    assert command(*words, "--output-dir", "whole")[0] == 0
    cut_off(1, *words)
    cut_off(3, *words)
    code, out, err = command(*words)
    assert (code, err) == (0, []) and out[0] == "x: cut off before; it goes on behind the steps that are there"
    assert tables("output") == tables("whole") and tables("whole")
