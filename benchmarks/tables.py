"""What result files cost: the writers against DataFrame.to_csv on the same table, in one run.

    python benchmarks/tables.py                 # 2.5 million rows, 5 rounds, about two minutes
    python benchmarks/tables.py --long          # 10 million rows, each way in a process of its own, with its memory

The table has the shape of Qwen3-0.6B on 256 tokens (28 layers, Full, Attn and 16 heads), one generation step after the
other. In each round every way of writing takes its turn; printed are medians, and the median of the rounds' ratios.
With `--long` the peak is all that such a process ever holds, the table and the libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd
import pyarrow as pa

from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_csv, write_json, write_parquet

TOKENS, LAYERS, HEADS = 256, 28, 16
PANDAS = "DataFrame.to_csv"
OURS = {"CSV": write_csv, "JSON": write_json, "Parquet": write_parquet}
LONG_ROWS, LONG_ROUNDS = 10_000_000, 3
LONG_WAYS = (PANDAS, "CSV", "Parquet")  # JSON gives way to Parquet at so many rows


def table_of(rows: int) -> ResultTable:
    """At least `rows` rows of distances as a model gives them: over many powers of ten, with all their digits."""
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(HEADS))]
    cells = [(variant, layer) for variant in variants for layer in range(LAYERS)]
    steps: list[StepDistances] = []
    table, draw = ResultTable([], cells, steps), np.random.default_rng(0)
    while len(table) < rows:
        shape = (len(cells), TOKENS + len(table.steps))
        l2, cosine = (draw.lognormal(mean, 3, shape).astype(np.float32) for mean in (-3, -6))
        steps.append(StepDistances(len(steps), l2, cosine))
    table.tokens = [f" word{position % 150}" for position in range(table.steps[-1].l2.shape[1])]
    return table


def seconds(write: Callable[[Path], None], path: Path) -> float:
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    write(path)
    return time.perf_counter() - started


def writer_of(table: ResultTable, way: str) -> Callable[[Path], None]:
    """What writes the table in this way."""
    if way == PANDAS:
        frame = table.to_dataframe()
        return lambda path: frame.to_csv(path, index=False)
    return lambda path: OURS[way](table, path)


def measure(table: ResultTable, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Per way of writing: seconds (median), bytes per row, and how many times as fast as DataFrame.to_csv (median)."""
    ways = {way: writer_of(table, way) for way in (PANDAS, *OURS)}
    with tempfile.TemporaryDirectory() as folder:
        path = {way: Path(folder) / way for way in ways}
        taken = [{way: seconds(write, path[way]) for way, write in ways.items()} for _ in range(rounds)]
        return {
            way: {
                "seconds": median(one[way] for one in taken),
                "bytes per row": path[way].stat().st_size / len(table),
                "times as fast": median(one[PANDAS] / one[way] for one in taken),
            }
            for way in ways
        }


def measure_long(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """As `measure`, each way in a process of its own, and the most megabytes that it held."""

    def alone(way: str) -> dict[str, float]:
        command = [sys.executable, __file__, "--rows", str(rows), "--alone", way]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    taken = [{way: alone(way) for way in LONG_WAYS} for _ in range(rounds)]
    return {
        way: {name: median(one[way][name] for one in taken) for name in taken[0][way]}
        | {
            "times as fast": median(one[PANDAS]["seconds"] / one[way]["seconds"] for one in taken),
            "peak MB": max(one[way]["peak MB"] for one in taken),
        }
        for way in LONG_WAYS
    }


def measure_alone(rows: int, way: str) -> dict[str, float]:
    """One way of writing in this process: seconds, bytes per row, and the most megabytes that were held."""
    table = table_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        taken = seconds(writer_of(table, way), path)
        return {"seconds": taken, "bytes per row": path.stat().st_size / len(table), "peak MB": peak_resident() / 1e6}


def peak_resident() -> int:
    """The most bytes this process has held. Linux's own mark of this program alone: getrusage's outlives an exec, and
    would tell of the process that started this one where that was larger."""
    status = Path("/proc/self/status")
    if status.exists():
        [kilobytes] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(kilobytes) * 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hardware() -> str:
    """The processor's name and the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--long", action="store_true", help=f"{LONG_ROWS:,} rows, each way in a process of its own, with its memory"
    )
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--alone", choices=LONG_WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows, rounds = (
        options.rows or (LONG_ROWS if options.long else 2_500_000),
        options.rounds or (LONG_ROUNDS if options.long else 5),
    )
    if options.alone:
        print(json.dumps(measure_alone(rows, options.alone)))
        return
    print(f"{hardware()}; Python {platform.python_version()}, pandas {pd.__version__}, pyarrow {pa.__version__}")
    print(f"at least {rows:,} rows, medians of {rounds} alternating rounds")
    results = measure_long(rows, rounds) if options.long else measure(table_of(rows), rounds)
    columns = ("seconds", "bytes per row", "times as fast", *(["peak MB"] if options.long else []))
    print(f"{'':18}" + "".join(f"{name:>15}" for name in columns))
    for way, found in results.items():
        print(
            f"{way:18}"
            + "".join(
                f"{found[name]:15.{0 if name == 'peak MB' else 2 if name == 'seconds' else 1}f}" for name in columns
            )
        )


if __name__ == "__main__":
    main()
