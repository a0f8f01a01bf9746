"""What opening and reading a result costs in the viewer, in headless Chromium, each figure beside its comparison.

    python benchmarks/viewer.py                    # the whole table: about six minutes, 4 GB of disk
    python benchmarks/viewer.py --parts size,small,toggles

The parts: size (of the page), small (165,000 rows), large (2 million rows of CSV), parquet (25 million rows), toggles
(16,000 tokens x 64 layers) and gigabyte (a CSV of 1 GB). Files are written by the project's own writers into a
temporary folder. Every loading is timed in a page just opened, from the file input's change event to the pixels on the
canvas; what it is compared with takes turns with it, in a page of its own, and is timed alone, its text read
beforehand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from browser import PAGE, Viewer, chromium, launched

from benchmarks import tables
from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_csv, write_json, write_parquet

WORDS = [" the", " word", ",", ' "quoted"', "\n", " café", " 東京", ".", " and", " of"]
LAYERS, HEADS, PROMPT = 28, 16, 108
PAPAPARSE = ROOT / "viewer" / "node_modules" / "papaparse" / "papaparse.min.js"
AT_REST = 1000  # milliseconds between a page's opening and the file's choice; a person takes longer
GIGABYTE = 1_000_000_000
WIDE_TOKENS, WIDE_LAYERS = 16_000, 64

# Called in the viewer before a file is chosen: milliseconds from the choice to the first heatmap's pixels.
STOPWATCH = """() => {
  const map = document.querySelector("[data-testid=heatmap]");
  window.firstHeatmap = new Promise((done) => {
    let chosen;
    document.addEventListener("change", () => { chosen ??= performance.now(); }, { capture: true, once: true });
    new MutationObserver((_, observer) => {
      if (chosen === undefined || map.dataset.state !== "drawn") return;
      observer.disconnect();
      done(performance.now() - chosen);
    }).observe(map, { attributes: true });
  });
}"""

JSON_PARSE = """async () => {
  const text = await document.querySelector("input").files[0].text();
  const started = performance.now();
  window.kept = JSON.parse(text);
  return performance.now() - started;
}"""

PAPA_PARSE = """async () => {
  const text = await document.querySelector("input").files[0].text();
  const started = performance.now();
  window.kept = Papa.parse(text, { header: true, dynamicTyping: true, skipEmptyLines: true });
  return performance.now() - started;
}"""


def table_of(rows: int) -> ResultTable:
    """About `rows` rows: 108 tokens and as many generation steps as it takes, 28 layers, Full, Attn and 16 heads."""
    variants = ["Full", "Attn", *(f"Head_{head}" for head in range(HEADS))]
    return drawn_table([(variant, layer) for variant in variants for layer in range(LAYERS)], PROMPT, rows)


def wide_table(steps: int = 2) -> ResultTable:
    """16,000 tokens x 64 layers, Full and Attn."""
    cells = [(variant, layer) for variant in ("Full", "Attn") for layer in range(WIDE_LAYERS)]
    return drawn_table(cells, WIDE_TOKENS, steps * len(cells) * WIDE_TOKENS)


def drawn_table(cells: list[tuple[str, int]], prompt: int, rows: int) -> ResultTable:
    """Distances as a model gives them, over many powers of ten with all their digits;
    whole steps, nearest to `rows`."""
    steps: list[StepDistances] = []
    table, draw = ResultTable([], cells, steps), np.random.default_rng(0)
    while not table.steps or abs(len(table) + len(cells) * (prompt + len(table.steps)) - rows) < abs(len(table) - rows):
        shape = (len(cells), prompt + len(table.steps))
        l2, cosine = (np.exp(draw.standard_normal(shape, dtype=np.float32) * 3 + mean) for mean in (-3, -6))
        steps.append(StepDistances(len(steps), l2, cosine))
    table.tokens = [f"{WORDS[position % len(WORDS)]}{position % 150}" for position in range(shape[1])]
    return table


def run_record(table: ResultTable, name: str) -> dict:
    """As much of a run file as the viewer reads."""
    variants, layers = (
        list(dict.fromkeys(name for name, _ in table.heatmap_rows)),
        sorted({layer for _, layer in table.heatmap_rows}),
    )

    def by_variant(values: np.ndarray) -> dict:
        return dict(zip(variants, values.reshape(len(variants), -1).tolist()))

    def step_record(step: StepDistances) -> dict:
        return {
            "step": step.step,
            "positions": step.l2.shape[1],
            "top": [{"id": rank, "text": f" word{rank}", "probability": 0.5 ** (rank + 1)} for rank in range(5)],
            "next": {"id": 0, "text": " word0", "probability": 0.5},
            "baseline_norm": by_variant(np.full(len(table.heatmap_rows), 10.0)),
            "noise_floor_l2": by_variant(np.full(len(table.heatmap_rows), 1e-6)),
            "noise_floor_cosine": by_variant(np.full(len(table.heatmap_rows), 1e-12)),
            "max_l2": by_variant(step.l2[:, 1:].max(1)),
            "max_cosine": by_variant(step.cosine[:, 1:].max(1)),
        }

    return {
        "schema_version": 1,
        "status": "complete",
        "name": name,
        "settings": {},
        "variants": variants,
        "layers": layers,
        "tokens": [{"id": place, "text": text} for place, text in enumerate(table.tokens)],
        "prompt_length": table.steps[0].l2.shape[1],
        "generated_text": "",
        "skipped_layers": [],
        "steps": [step_record(step) for step in table.steps],
        "rows": len(table),
    }


class Bench:
    """A browser, a folder for the files, and the lines of the table."""

    def __init__(self, browser: Browser, folder: Path, rounds: int):
        self.browser, self.folder, self.rounds = browser, folder, rounds

    def first_heatmap(self, path: Path) -> float:
        """Milliseconds from the file's choice to its first heatmap, in a page just opened."""
        page = self.browser.new_page()
        viewer = Viewer(page)
        page.evaluate(STOPWATCH)
        page.wait_for_timeout(AT_REST)
        viewer.at("files").set_input_files(path)
        taken = page.evaluate("() => window.firstHeatmap")
        said = viewer.errors() + viewer.complaints
        page.close()
        if said:
            raise RuntimeError(f"{path.name}: {said}")
        return taken

    def other(self, path: Path, script: str) -> float:
        """Milliseconds that a script takes on the file's text, in an empty page just opened."""
        page = self.browser.new_page()
        page.set_content("<input type=file>")
        page.add_script_tag(path=PAPAPARSE)
        page.wait_for_timeout(AT_REST)
        page.locator("input").set_input_files(path)
        taken = page.evaluate(script)
        page.close()
        return taken

    def pairs(self, ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, float, float]:
        """Medians of both, in milliseconds, and of the rounds' ratios."""
        ours(), theirs()
        found = [(ours(), theirs()) for _ in range(rounds)]
        return (
            median(mine for mine, _ in found),
            median(other for _, other in found),
            median(mine / other for mine, other in found),
        )

    def write(self, name: str, table: ResultTable, write: Callable) -> Path:
        path = self.folder / name
        write(table, path)
        return path


def line(what: str, measured: str, beside: str, ratio: str, goal: str) -> str:
    return f"| {what} | {measured} | {beside} | {ratio} | {goal} |"


def milliseconds(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"


def size(bench: Bench) -> Iterator[str]:
    yield line("the page", f"{len(PAGE.read_bytes()) / 1000:.0f} KB", "", "", "at most 250 KB")


def small(bench: Bench) -> Iterator[str]:
    table = table_of(165_000)
    for form, write, script, name, goal in (
        ("JSON", write_json, JSON_PARSE, "`JSON.parse` alone", "at most 2"),
        ("CSV", write_csv, PAPA_PARSE, "PapaParse, typed", "at most 0.2"),
    ):
        path = bench.write(f"small_results.{form.lower()}", table, write)
        ours, theirs, ratio = bench.pairs(
            lambda: bench.first_heatmap(path), lambda: bench.other(path, script), bench.rounds
        )
        yield line(
            f"{len(table):,} rows of {form}, file chosen to heatmap drawn",
            milliseconds(ours),
            f"{name}: {milliseconds(theirs)}",
            f"{ratio:.2f}",
            goal,
        )


def large(bench: Bench) -> Iterator[str]:
    table = table_of(2_000_000)
    path = bench.write("large_results.csv", table, write_csv)
    ours, theirs, ratio = bench.pairs(
        lambda: bench.first_heatmap(path), lambda: bench.other(path, PAPA_PARSE), min(bench.rounds, 3)
    )
    path.unlink()
    yield line(
        f"{len(table):,} rows of CSV, file chosen to heatmap drawn",
        milliseconds(ours),
        f"PapaParse, typed: {milliseconds(theirs)}",
        f"{ratio:.2f}",
        "at most 0.25",
    )


def parquet(bench: Bench) -> Iterator[str]:
    table, whole = table_of(165_000), table_of(25_000_000)
    one, other = (bench.write(f"rows_{len(made)}_results.parquet", made, write_parquet) for made in (table, whole))
    ours, theirs, ratio = bench.pairs(
        lambda: bench.first_heatmap(other), lambda: bench.first_heatmap(one), bench.rounds
    )
    yield line(
        f"{len(whole):,} rows of Parquet ({other.stat().st_size / 1e6:.0f} MB), first heatmap",
        milliseconds(ours),
        f"{len(table):,} rows of Parquet: {milliseconds(theirs)}",
        f"{ratio:.2f}",
        "at most 5",
    )
    other.unlink()


def gigabyte(bench: Bench) -> Iterator[str]:
    """The largest memory that any of the browser's page processes ever held: heap, buffers, worker and program code."""
    rows = 1_000_000
    sample = bench.write("sample.csv", table_of(rows), write_csv)
    table = table_of(int(1.01 * rows * GIGABYTE / sample.stat().st_size))
    path = bench.write("gigabyte_results.csv", table, write_csv)
    with closing(launched(bench.browser.browser_type)) as browser:
        page = browser.new_page()
        viewer = Viewer(page)
        page.evaluate(STOPWATCH)
        viewer.at("files").set_input_files(path)
        taken = page.evaluate("() => window.firstHeatmap")
        viewer.hover(3, 5)
        peak = peak_of_pages(browser)
        said = viewer.errors() + viewer.complaints
    if said:
        raise RuntimeError(f"{path.name}: {said}")
    yield line(
        f"{path.stat().st_size / 1e9:.2f} GB of CSV ({len(table):,} rows): the page's whole process, at its peak",
        f"{peak / 1e9:.2f} GB, after {taken / 1000:.0f} s",
        "",
        "",
        "at most 1.5 GB of heap",
    )
    path.unlink()


def peak_of_pages(browser: Browser) -> float:
    """Bytes: the largest resident size that one of the renderers has had (Linux)."""
    session = browser.new_browser_cdp_session()
    renderers = [
        one["id"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"] if one["type"] == "renderer"
    ]
    peaks = [
        found for pid in renderers for found in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in found
    ]
    return max(float(found.split()[1]) * 1024 for found in peaks)


class Script:
    """How long the page's script runs, by the browser's own count (ScriptDuration), in the thread's own time.

    Script that the driver evaluates is not counted, nor what follows it in the same task; timers, events, frames are.
    """

    def __init__(self, page: Page):
        self.page, self.session = page, page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def seconds(self) -> float:
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ScriptDuration")

    def of(self, work: Callable[[], object], rest: float = 500) -> float:
        """Milliseconds of script from before `work` until `rest` ms later, which is after all that panels put off."""
        before = self.seconds()
        work()
        self.page.wait_for_timeout(rest)
        return 1000 * (self.seconds() - before)


CHANGE = """([label, value]) => {
  const control = [...document.querySelectorAll("select, input")].find((one) => [...one.labels].some(
    (its) => its.textContent.trim().startsWith(label)) || one.getAttribute("aria-label") === label);
  setTimeout(() => {
    if (control.type === "checkbox") return control.click();
    control.value = value;
    for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
  });
}"""

# Each control with two values to go between; every pair of changes leaves the page as it was.
CHANGES = {
    "Metric": ("cosine", "l2"),
    "Metric ": ("relative", "l2"),
    "Variant": ("Attn", "Full"),
    "Generation step": ("1", "0"),
    "Intensity": ("picture", "layer"),
    "Intensity ": ("steps", "layer"),
    "Curve": ("linear", "sqrt"),
    "Curve ": ("log", "sqrt"),
    "Palette": ("cividis", "viridis"),
    "Theme": ("dark", "light"),
    "Exclude position 0": ("", ""),
    "Tokens as rows": ("", ""),
    "Compare with": ("variant", ""),
    "Compare with ": ("step", ""),
    "Search": ("word", ""),
}


def toggles(bench: Bench) -> Iterator[str]:
    """The slowest control's median, and the hover's, after everything has been shown once."""
    table = wide_table()
    path = bench.write("wide_results.parquet", table, write_parquet)
    record = bench.folder / "wide_run.json"
    record.write_text(json.dumps(run_record(table, "wide")))
    page = bench.browser.new_page()
    viewer = Viewer(page)
    viewer.choose(path, record)
    script = Script(page)
    found = {label: changes(viewer, script, label.strip(), values, bench.rounds) for label, values in CHANGES.items()}
    slowest = max(found, key=found.get)
    hovers = median(
        script.of(lambda: viewer.move(3 + place % 5, 3 + place % 11), rest=100) for place in range(10 * bench.rounds)
    )
    page.close()
    each = ", ".join(f"{label.strip()} {taken:.0f}" for label, taken in found.items())
    print(f"script, ms: {each}", file=sys.stderr)
    where = f"{WIDE_TOKENS:,} tokens x {WIDE_LAYERS} layers"
    yield line(
        f"{where}: the slowest change ({slowest.strip()})",
        f"{found[slowest]:.0f} ms of script",
        "",
        "",
        "at most 50 ms",
    )
    yield line(f"{where}: hover", f"{hovers:.1f} ms of script", "", "", "at most 4 ms")


def changes(viewer: Viewer, script: Script, label: str, values: tuple[str, str], rounds: int) -> float:
    """The larger median, in milliseconds of script, of going there and going back."""

    def change(value: str) -> float:
        return script.of(lambda: viewer.page.evaluate(CHANGE, [label, value]))

    for value in values:
        change(value)
    there, back = zip(*[[change(value) for value in values] for _ in range(rounds)])
    return max(median(there), median(back))


PARTS = {part.__name__: part for part in (size, small, large, parquet, toggles, gigabyte)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7, help="of each measurement; of the largest CSV 3")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(dir=options.folder) as name, chromium() as browser:
        if shutil.disk_usage(name).free < 4e9:
            parser.error(f"{name} has less than 4 GB free; choose another place with --folder")
        bench = Bench(browser, Path(name), options.rounds)
        print("| | measured | compared with | ratio | goal |\n|---|---|---|---|---|", flush=True)
        for part in options.parts.split(","):
            for found in PARTS[part](bench):
                print(found, flush=True)
        print(f"\n{tables.hardware()}; Chromium {browser.version}, headless; medians of {options.rounds} rounds.")


if __name__ == "__main__":
    main()
