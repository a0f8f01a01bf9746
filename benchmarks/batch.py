"""What a batch costs beyond the model's own work: 200 short prompts on the demo model, and the memory that they leave.

    python benchmarks/batch.py                  # five batches, each in a process of its own; half a minute, on Linux

A batch is run as `mask_impact_analysis.py --config` runs it, results, summary and all. Model work is the time inside
`measured_layers`, which runs the model and its masked rows; loading comes before. The rest is what is timed here, by
the prompt: the checks before the weights are loaded, the loop with the files of each prompt, and the end with table and
summary. Memory is what the process holds after a prompt. Printed are medians over the batches, in milliseconds for each
prompt.
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
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tables import hardware

PROMPTS, EARLY = 200, 10  # after so many prompts memory is looked at for the first time
GOALS = {"checks": "", "loop": "", "end": "", "beyond": "at most 20 ms", "growth": "at most 5%"}


def batch_file(prompts: int) -> str:
    """A batch of short prompts, no two alike."""
    lines = [f'  - prompt: "Ann put coin {number} in the red box. The coin is in the"' for number in range(prompts)]
    return "\n".join(["model: demo", "prompts:", *lines, ""])


class Clock:
    """Seconds spent inside the functions that it watches, by name."""

    def __init__(self):
        self.spent: dict[str, float] = {}

    def add(self, name: str, started: float) -> None:
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started

    def watched(self, name: str, function: Callable) -> Callable:
        """The function, its time taken."""

        def timed(*words: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*words, **options)
            finally:
                self.add(name, started)

        return timed

    def watched_steps(self, name: str, function: Callable) -> Callable:
        """The generator function, the time taken that its own steps take, and not what is done between them."""

        def timed(*words: Any, **options: Any) -> Iterator:
            steps = iter(function(*words, **options))
            while True:
                started = time.perf_counter()
                step = next(steps, None)
                self.add(name, started)
                if step is None:
                    return
                yield step

        return timed


def resident() -> int:
    """The bytes that this process holds now."""
    [kilobytes] = [
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(kilobytes) * 1024


def one_batch(prompts: int) -> dict[str, float]:
    """Run a batch in this process; milliseconds for each prompt, and bytes."""
    import mask_impact_analysis
    from mask_impact.measure import loop as measure
    from mask_impact.runs import batch, batch_summary, messages, planning

    clock, held = Clock(), []
    measure.measured_layers = clock.watched_steps("model", measure.measured_layers)
    planning.plan_all = clock.watched("checks", planning.plan_all)
    batch.load = clock.watched("loading", batch.load)
    batch_summary.print_and_write = clock.watched("end", batch_summary.print_and_write)
    batch.exit_code = clock.watched("exit", batch.exit_code)
    after, begun = messages.after, []

    def noted(*words: Any) -> None:
        after(*words)
        held.append(resident())

    def before(*words: Any, said: Callable = messages.before) -> None:
        begun.append(time.perf_counter())
        said(*words)

    messages.after, messages.before = noted, before
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(open(os.devnull, "w", encoding="utf-8")):
        os.chdir(folder)
        Path("batch.yaml").write_text(batch_file(prompts), encoding="utf-8")
        code = mask_impact_analysis.main(["--config", "batch.yaml"])
        ended = time.perf_counter()
        files = len(list(Path("output").iterdir()))
        os.chdir(os.sep)
    assert code == 0 and len(held) == prompts and files == 3 * prompts + 1
    loop = ended - begun[0] - clock.spent["end"] - clock.spent["model"]
    found = {"model": clock.spent["model"], "checks": clock.spent["checks"], "loop": loop, "end": clock.spent["end"]}
    found = {name: 1000 * seconds / prompts for name, seconds in found.items()}
    return found | {
        "beyond": found["checks"] + found["loop"] + found["end"],
        "early": held[EARLY - 1],
        "late": held[-1],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(one_batch(options.prompts)))
        return
    command = [sys.executable, __file__, "--once", "--prompts", str(options.prompts)]
    rounds = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(options.rounds)
    ]
    found = {name: median(one[name] for one in rounds) for name in rounds[0]}
    growth = median(one["late"] / one["early"] - 1 for one in rounds)
    print(
        f"{hardware()}; Python {platform.python_version()}; {options.prompts} prompts, medians of "
        f"{options.rounds} batches\n"
    )
    print("| for each prompt | measured | goal |\n|---|---|---|")
    print(f"| the model's own work | {found['model']:.1f} ms | |")
    for name, what in {
        "checks": "checks before the weights are loaded",
        "loop": "the loop: record, files, lines",
        "end": "table and summary",
        "beyond": "all beyond the model's work",
    }.items():
        print(f"| {what} | {found[name]:.1f} ms | {GOALS[name]} |")
    print(
        f"| memory after the last prompt, over that after the tenth ({found['early'] / 1e6:.0f} MB) "
        f"| {growth:+.1%} | {GOALS['growth']} |"
    )


if __name__ == "__main__":
    main()
