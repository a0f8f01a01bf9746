"""Kills a batch at random moments and resumes it, until it is done: is the result that of an uninterrupted batch?

    python benchmarks/chaos.py                     # 100 kills, in about three minutes
    python benchmarks/chaos.py --kills 10 --seed 7

A batch of 20 prompts on the demo model is started, killed (SIGKILL) after a random time, and started again. After every
kill no file under a final name may be torn, and no finished result or part file be written anew afterwards; when the
batch comes to its end its tables must be those of the uninterrupted batch, byte for byte, with no other file beside
them. Then the next batch begins, until so many kills are done. Nine in ten are forked from one process that has
imported torch, the rest are started as commands. Exits with 1 at the first fault. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch

import mask_impact_analysis
from mask_impact import read_results
from mask_impact.base import console
from mask_impact.runs.on_disk.finished_steps import FinishedSteps

PEOPLE, THINGS, COLOURS, CONTAINERS = (
    ("Anna", "Ben"),
    ("key", "coin"),
    ("red", "blue", "green", "black"),
    ("box", "bag"),
)
TIMES = ("started", "seconds")
FORMATS = {"csv": 8, "csv,json": 8, "csv,json,parquet": 4}  # of the entries
AS_COMMAND = 0.1  # of the starts


def batch_of(entries: int, seed: int) -> str:
    """A batch file of prompts of the demo's world, each with a continuation of many tokens."""
    chance, prompts = random.Random(seed), []
    formats = [form for form, count in FORMATS.items() for _ in range(count)]
    for number in range(entries):
        said = [
            f"{who} put the {what} in the {chance.choice(COLOURS)} {chance.choice(CONTAINERS)}."
            for who, what in zip(PEOPLE, THINGS)
        ]
        prompts.append(
            {
                "name": f"entry_{number:02}",
                "prompt": f"{' '.join(said)} The coin is in the",
                "continuation": " " + " ".join(said),
            }
        )
    return json.dumps({"model": "demo", "formats": formats[seed % len(formats)].split(","), "prompts": prompts})


def start(words: list[str], as_command: bool) -> int:
    """Start the batch in a process of its own; its id."""
    if as_command:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, str(ROOT / "mask_impact_analysis.py"), *words], **silent).pid
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(console.exit_code(lambda: mask_impact_analysis.main(words)))
    return child


def ended(process: int, seconds: float) -> int | None:
    """The exit code of a process that ends within so many seconds; None where it had to be killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of a finished result and of every whole part, by path;
    a torn final file is a fault."""
    whole = {}
    for run in folder.glob("*_run.json"):
        if json.loads(run.read_text(encoding="utf-8"))["status"] == "complete":
            for path in folder.glob(run.name.replace("_run.json", "_*")):
                whole[str(path)] = path
                if path.suffix in (".csv", ".json", ".parquet") and path != run:
                    read_results(path)
    for place in folder.glob(".partial/entry_*"):
        if place.is_dir():
            whole |= {
                str(path): path for path in sorted(place.glob("step_*"))[: len(FinishedSteps(folder, place.name))]
            }
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in whole.items()}


def content(folder: Path) -> dict[str, object]:
    """What must be the same in two batches, by file:
    bytes of tables, a Parquet file's rows, run files without their times."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            found[path.name] = read_results(path).to_csv()
        elif path.name.endswith("_run.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            record["settings"].pop("output_dir", None)
            found[path.name] = {key: value for key, value in record.items() if key not in TIMES}
        elif path.name.endswith("_summary.csv"):
            found[path.name] = [line.split(",")[:5] for line in path.read_text(encoding="utf-8").splitlines()]
        else:
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


def fault(what: str) -> None:
    """End with the fault that was found."""
    print(f"FAULT: {what}", flush=True)
    sys.exit(1)


def resumed_batch(words: list[str], folder: Path, longest: float, chance: random.Random, kills: int) -> int:
    """Start a batch again and again until it ends, killing it at most so many times; how often it was."""
    done, before = 0, {}
    while True:
        as_command = chance.random() < AS_COMMAND
        process = start(words, as_command)
        seconds = chance.uniform(0, longest + 3 * as_command) if done < kills else 600
        code = ended(process, seconds)
        now = finished(folder)
        redone = [name for name, mark in before.items() if name in now and now[name] != mark]
        gone = [name for name in before if name not in now and ".partial" not in name]
        if redone or gone:
            fault(f"written anew or gone after it was finished: {', '.join(redone + gone)}")
        if code is not None:
            if code:
                fault(f"the batch ended with exit code {code}")
            return done
        done, before = done + 1, now


def main() -> None:
    """Print what was done, and the first fault if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--entries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands: a result is of so many threads
    chance, kills, batches, began = random.Random(options.seed), 0, 0, time.monotonic()
    while kills < options.kills:
        with tempfile.TemporaryDirectory() as place:
            config, whole, cut = (Path(place, name) for name in ("night.yaml", "whole", "cut"))
            config.write_text(batch_of(options.entries, options.seed + batches), encoding="utf-8")
            words = ["--config", str(config), "--output-dir"]
            started = time.monotonic()
            if code := ended(start([*words, str(whole)], False), 600):
                fault(f"the uninterrupted batch ended with exit code {code}")
            longest = (time.monotonic() - started) / 4
            kills += resumed_batch([*words, str(cut)], cut, longest, chance, options.kills - kills)
            one, other = content(whole), content(cut)
            if one != other:
                fault(
                    "not as in the uninterrupted batch: "
                    f"{', '.join(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))}"
                )
            batches += 1
    print(
        f"{kills} kills in {batches} batches of {options.entries} prompts: every result is that of the uninterrupted "
        f"batch, no torn or foreign file, nothing finished redone; {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
