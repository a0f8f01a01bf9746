"""What result files cost: the writers against DataFrame.to_csv on the same table, in one run.

    python benchmarks/tables.py                 # 2.5 million rows, 5 rounds, about two minutes

The table has the shape of Qwen3-0.6B on 256 tokens (28 layers, Full, Attn and 16 heads), one generation step after the
other. In each round every way of writing takes its turn; printed are medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402

from mask_impact.results import ResultTable, StepDistances  # noqa: E402
from mask_impact.writers import write_csv, write_json, write_parquet  # noqa: E402

TOKENS, LAYERS, HEADS = 256, 28, 16


def table_of(rows: int) -> ResultTable:
    """At least `rows` rows of distances as a model gives them: over many powers of ten, with all their digits."""
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(HEADS))]
    cells = [(variant, layer) for variant in variants for layer in range(LAYERS)]
    table, draw = ResultTable([], cells), np.random.default_rng(0)
    while len(table) < rows:
        shape = (len(cells), TOKENS + len(table.steps))
        l2, cosine = (draw.lognormal(mean, 3, shape).astype(np.float32) for mean in (-3, -6))
        table.steps.append(StepDistances(len(table.steps), l2, cosine))
    table.tokens = [f" word{position % 150}" for position in range(table.steps[-1].l2.shape[1])]
    return table


def seconds(write: Callable[[Path], None], path: Path) -> float:
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    write(path)
    return time.perf_counter() - started


def measure(table: ResultTable, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Per way of writing: seconds (median), bytes per row, and how many times as fast as DataFrame.to_csv (median)."""
    frame = table.to_dataframe()
    ways = {"DataFrame.to_csv": lambda path: frame.to_csv(path, index=False),
            "CSV": lambda path: write_csv(table, path),
            "JSON": lambda path: write_json(table, path),
            "Parquet": lambda path: write_parquet(table, path)}
    with tempfile.TemporaryDirectory() as folder:
        path = {way: Path(folder) / way for way in ways}
        taken = [{way: seconds(write, path[way]) for way, write in ways.items()} for _ in range(rounds)]
        return {way: {"seconds": median(one[way] for one in taken),
                      "bytes per row": path[way].stat().st_size / len(table),
                      "times as fast": median(one["DataFrame.to_csv"] / one[way] for one in taken)} for way in ways}


def hardware() -> str:
    """The processor's name and the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] \
        if cpuinfo.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_500_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{hardware()}; Python {platform.python_version()}, pandas {pd.__version__}, pyarrow {pa.__version__}")
    table = table_of(options.rows)
    print(f"{len(table):,} rows, medians of {options.rounds} alternating rounds")
    print(f"{'':18}{'seconds':>9}{'bytes per row':>15}{'times as fast':>15}")
    for way, found in measure(table, options.rounds).items():
        print(f"{way:18}{found['seconds']:9.2f}{found['bytes per row']:15.1f}{found['times as fast']:15.1f}")


if __name__ == "__main__":
    main()
