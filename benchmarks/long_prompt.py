"""A long prompt on the shape of Qwen3-0.6B, cut to some layers, random weights, float32: seconds and peak memory.

    python benchmarks/long_prompt.py                  # 16,384 tokens, 4 layers: about four minutes on two cores
    python benchmarks/long_prompt.py --tokens 32768

All variants are measured, and written as CSV and Parquet. The peak is the process's own, weights and files included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cost import CONFIG
from benchmarks.tables import peak_resident
from benchmarks.timing import head, line, random_model
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import ModelInputs
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_results


def main() -> None:
    """Print what a long prompt takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    head(1)
    model = random_model(Qwen3ForCausalLM, Qwen3Config(**CONFIG | {"num_hidden_layers": options.layers}))
    parts, _ = measurable_parts(model)
    ids = torch.randint(0, CONFIG["vocab_size"], (options.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    built, started = peak_resident(), time.perf_counter()
    layers = list(measured_layers(model, parts, ModelInputs(ids, 1)))
    measured, seconds = peak_resident(), time.perf_counter() - started
    names = layers[0].variants
    rows = [(layer, names.index(name)) for name in names for layer in layers]
    l2, cosine = (np.stack([getattr(layer, kind)[row] for layer, row in rows]) for kind in ("l2", "cosine"))
    table = ResultTable(
        [f" word{token}" for token in ids],
        [(name, layer.layer) for name in names for layer in layers],
        [StepDistances(0, l2, cosine)],
    )
    with tempfile.TemporaryDirectory() as folder:
        write_results(table, Path(folder), "long", ("csv", "parquet"), {"schema_version": 1, "status": "complete"})
    what = f"{options.tokens:,} tokens, {options.layers} layers"
    line(f"{what}: seconds of measuring", f"{seconds:.0f} s", "-")
    line(
        f"{what}: peak memory (once built {built / 1e9:.1f} GB, measured {measured / 1e9:.1f} GB)",
        f"{peak_resident() / 1e9:.1f} GB",
        "at most 12 GB",
    )


if __name__ == "__main__":
    main()
