"""What an analysis costs, in plain forward passes of the same prompt, on the shape of Qwen3-0.6B with random weights.

    python benchmarks/cost.py                    # the whole table: about a quarter of an hour on two cores
    python benchmarks/cost.py --lengths 64       # one length of the first block only
    python benchmarks/cost.py --units            # words and pairs of words only
    python benchmarks/cost.py --vl               # Qwen3-VL-2B's shape instead: cost_vl.py
    python benchmarks/cost.py --encoder          # its vision encoder, measured itself: cost_encoder.py
    python benchmarks/cost.py --device cuda --dtype bfloat16    # on a GPU, up to 4,096 tokens: about a minute

A plain forward pass is model(input_ids, use_cache=True, logits_to_keep=1) under inference mode: the same model, dtype
and attention. Both take turns in one process; printed are medians of the ratios, each over the mean of the pass before
and behind.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, combinations, cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import cost_encoder, cost_knockouts, cost_vl, tables
from benchmarks.timing import clock, head, line, random_model, ratio, seconds
from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.generation import generation_steps
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.rerun import Rerun
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_results
from mask_impact.sites.attention import attached
from mask_impact.sites.interventions import in_dtype

CONFIG = dict(
    vocab_size=151_936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
    max_position_embeddings=40_960,
    eos_token_id=None,
)
LIMITS = {64: 1.75, 256: 1.75, 1024: 1.65}
TOKEN_LIMITS = {64: 1.05, 256: 0.85, 1024: 0.75}
GPU_LENGTHS = (64, 256, 1024, 4096)
WHOLE, ATTENTION = Method(), Method(variants=("attn", "heads"))


class Bench:
    """The model, its parts, and the two things that are timed."""

    def __init__(self, pairs: int, device: str = "cpu", dtype: str = "float32"):
        self.pairs, self.model = (
            pairs,
            random_model(Qwen3ForCausalLM, Qwen3Config(**CONFIG), device, getattr(torch, dtype)),
        )
        self.parts, _ = measurable_parts(self.model)
        self.goals = (device, dtype) == ("cpu", "float32")

    def tokens(self, length: int) -> list[int]:
        """Random token ids."""
        generator = torch.Generator().manual_seed(length)
        return torch.randint(0, CONFIG["vocab_size"], (length,), generator=generator).tolist()

    def plain(self, ids: list[int]) -> None:
        """One plain forward pass."""
        with torch.inference_mode():
            self.model(torch.tensor([ids], device=self.model.device), use_cache=True, logits_to_keep=1)

    def analyse(self, ids: list[int], method: Method = WHOLE, steps: int = 1) -> list:
        """All measured layers of a prompt."""
        return list(measured_layers(self.model, self.parts, ModelInputs(ids, steps), method))

    def ratio(self, work: Callable[[], float | None], ids: list[int]) -> tuple[float, float]:
        """The median of work's seconds over those of a plain forward pass, and the median pass in seconds."""
        return ratio(work, lambda: self.plain(ids), self.pairs)

    def line(self, what: str, found: str, goal: str) -> None:
        """One row of the table; goals are those of the CPU in float32."""
        line(what, found, goal if self.goals else "-")


def further_token(bench: Bench, ids: list[int]) -> float:
    """Seconds for one generated token beyond the prompt: its decoding step and its masked rows."""
    running = measured_layers(bench.model, bench.parts, ModelInputs(ids, 2), WHOLE)
    for _ in bench.parts:
        next(running)
    started = clock()
    for _ in running:
        pass
    return clock() - started


def rerun_seconds(bench: Bench, ids: list[int], layers: int = 2, sample: int = 6) -> float:
    """Seconds that `rerun` would take on the whole prompt, extrapolated from some layers and tokens."""
    parts, spent = bench.parts[:: len(bench.parts) // layers][:layers], 0.0
    keys = [len(ids) * number // sample for number in range(sample)]
    with torch.inference_mode(), attached(bench.model.get_decoder()):
        _, passed = next(generation_steps(bench.model, parts, ModelInputs(ids, 1), Method("rerun")))
        for layer in passed:
            with in_dtype(layer.parts, torch.float32):
                run = Rerun(layer, [layer.last], KeySets.alone(np.arange(len(ids))), torch.float32)
                run()
                started = clock()
                for key in keys:
                    run(masked_set=key)
                spent += clock() - started
    each = spent / (len(parts) * len(keys))
    return each * len(bench.parts) * (len(ids) + 1)


def with_files(bench: Bench, ids: list[int], folder: str) -> None:
    """Analysis, CSV and JSON."""
    layers = bench.analyse(ids)
    names = layers[0].variants
    cells = [(name, layer.layer) for name in names for layer in layers]
    rows = [(layer, names.index(name)) for name in names for layer in layers]
    l2, cosine = (np.stack([getattr(layer, kind)[row] for layer, row in rows]) for kind in ("l2", "cosine"))
    table = ResultTable([f" word{token}" for token in ids], cells, [StepDistances(0, l2, cosine)])
    write_results(table, Path(folder), "bench", ("csv", "json"), {"schema_version": 1, "status": "complete"})


def peak_memory(length: int) -> tuple[float, float]:
    """GB that an analysis of `length` tokens needs at its peak beyond the weights, and the weights' GB.

    Taken in a process of its own.
    """
    command = [sys.executable, __file__, "--memory", str(length)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    weights, peak = map(float, out.split()[-2:])
    return peak - weights, weights


def weights_of(bench: Bench) -> int:
    """The weights' bytes."""
    return sum(weight.nbytes for weight in bench.model.parameters())


def print_memory(length: int, knockouts: bool) -> None:
    """Print the weights' GB and the process's peak GB after an analysis, or after its knock-outs."""
    bench = Bench(1)
    if knockouts:
        cost_knockouts.each_once(bench, length)
    else:
        for _ in measured_layers(bench.model, bench.parts, ModelInputs(bench.tokens(length), 1), WHOLE):
            pass
    print(weights_of(bench) / 1e9, tables.peak_resident() / 1e9)


def gpu_memory(work: Callable[[], None]) -> float:
    """GB of a GPU's memory that `work` needs at its peak beyond what is there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def print_gpu_memory(bench: Bench, length: int) -> None:
    """Print what an analysis takes of a GPU's memory, beside what a plain forward pass takes."""
    ids = bench.tokens(length)
    plain, whole = (gpu_memory(work) for work in (lambda: bench.plain(ids), lambda: bench.analyse(ids)))
    bench.line(
        (
            f"{length:,} tokens: peak GPU memory beyond the weights ({weights_of(bench) / 1e9:.1f} GB; "
            f"a plain pass {plain:.2f} GB)"
        ),
        f"{whole:.2f} GB",
        "-",
    )


def analyses(bench: Bench, lengths: list[int]) -> None:
    """The whole analysis, and attention and heads only, over a plain forward pass."""
    for length in lengths:
        ids = bench.tokens(length)
        whole, plain = bench.ratio(lambda: bench.analyse(ids) and None, ids)
        limit = f"at most {LIMITS.get(length, '-')}"
        bench.line(f"{length} tokens: whole analysis (a plain pass takes {plain:.3g} s)", f"{whole:.2f} passes", limit)
        attention, _ = bench.ratio(lambda: bench.analyse(ids, ATTENTION) and None, ids)
        bench.line(f"{length} tokens: attention and heads only", f"{attention:.2f} passes", "at most 1.25")


def the_rest(bench: Bench) -> None:
    """Generated tokens, rerun, files and memory."""
    for length, limit in TOKEN_LIMITS.items():
        ids = bench.tokens(length)
        token, _ = bench.ratio(lambda: further_token(bench, ids), ids)
        bench.line(f"{length} tokens: each generated token", f"{token:.2f} passes", f"at most {limit}")
    for length in (64, 256):
        ids = bench.tokens(length)
        bench.analyse(ids)
        faster = median(rerun_seconds(bench, ids) / seconds(lambda: bench.analyse(ids) and None) for _ in range(3))
        what = f"{length} tokens: times as fast as `rerun` (extrapolated from 2 layers, 6 tokens)"
        bench.line(what, f"{faster:.0f}", f"at least {length // 2}")
    with tempfile.TemporaryDirectory() as folder:
        ids = bench.tokens(256)
        files, _ = bench.ratio(lambda: with_files(bench, ids, folder), ids)
    bench.line("256 tokens: analysis, CSV and JSON", f"{files:.2f} passes", "at most 2.1")


def words_of(length: int) -> KeySets:
    """Words as English text has them in this tokenizer: of one, one, two, one and three tokens, and so on."""
    ends = list(accumulate(islice(cycle((1, 1, 2, 1, 3)), length)))
    return KeySets.of([range(first, min(end, length)) for first, end in zip([0, *ends], ends) if first < length])


def units(bench: Bench, length: int = 256, pairs: int = 5_000) -> None:
    """Words, over the analysis of their tokens; and pairs of words, over a plain forward pass."""
    ids, words = bench.tokens(length), words_of(length)
    alone = ModelInputs(ids, 1, sets=lambda _: words)
    paired = replace(alone, pairs=lambda *_: list(combinations(range(len(words)), 2))[:pairs])

    def analyse(inputs: ModelInputs) -> None:
        for _ in measured_layers(bench.model, bench.parts, inputs, WHOLE):
            pass

    over, _ = ratio(lambda: analyse(alone), lambda: analyse(ModelInputs(ids, 1)), bench.pairs)
    bench.line(f"{length} tokens in {len(words)} words: over the analysis of the tokens", f"{over:.2f}", "at most 1")
    whole, _ = ratio(lambda: analyse(paired), lambda: bench.plain(ids), 3)
    bench.line(f"{length} tokens: {pairs:,} pairs of words", f"{whole:.1f} passes", "at most 20")


def integers(text: str) -> list[int]:
    """The numbers of "64,256"."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Print the table, with --lengths its first block alone, with --vl that of a question about a picture,
    with --encoder the encoder's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=integers, help="only the first block, at these lengths")
    parser.add_argument("--units", action="store_true", help="only words and pairs of words")
    parser.add_argument("--knockouts", action="store_true", help="only knock-outs, at these lengths")
    parser.add_argument("--vl", action="store_true", help="a question about a picture, on the shape of Qwen3-VL-2B")
    parser.add_argument(
        "--encoder", action="store_true", help="one cell of a picture, in the encoder of Qwen3-VL-2B's shape"
    )
    parser.add_argument(
        "--depth", type=int, default=cost_vl.DEPTH, help="with --vl: text layers, where memory asks for fewer"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU: cuda")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the model; its rows are float32"
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--memory", type=int, help="GB of the weights and of the process's peak, of so many tokens")
    options = parser.parse_args()
    if (options.vl or options.encoder) and (options.device, options.dtype) != ("cpu", "float32"):
        parser.error("--vl and --encoder run on the CPU in float32; leave --device and --dtype out")
    if options.memory:
        return print_memory(options.memory, options.knockouts)
    head(options.pairs, options.device, options.dtype)
    if options.vl:
        return cost_vl.table(options.pairs, options.depth)
    if options.encoder:
        return cost_encoder.table(options.pairs)
    bench = Bench(options.pairs, options.device, options.dtype)
    on_gpu = options.device != "cpu"
    if options.units:
        return units(bench)
    if options.knockouts:
        return cost_knockouts.table(bench, options.lengths or (64, 256))
    analyses(bench, options.lengths or list(GPU_LENGTHS if on_gpu else LIMITS))
    if options.lengths:
        return
    the_rest(bench)
    units(bench)
    if on_gpu:
        return print_gpu_memory(bench, 4096)
    del bench
    beyond, weights = peak_memory(4096)
    line(f"4,096 tokens: peak memory beyond the weights ({weights:.1f} GB)", f"{beyond:.2f} GB", "at most 2.5 GB")
    csv = tables.measure(tables.table_of(2_500_000))["CSV"]["times as fast"]
    line("CSV of 2.5 million rows: times as fast as `DataFrame.to_csv`", f"{csv:.1f}", "at least 4")


if __name__ == "__main__":
    main()
