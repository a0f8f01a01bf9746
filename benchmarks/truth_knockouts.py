"""Do knock-outs name what the demo models' answers rest on, and does the answer change without it?

An answer rests on the word or the cell that holds it, and as much on the words that say which one is asked for ("The
coin is in the"): without either it is lost. So the token whose hiding lowers its log-probability most is looked for
among all, and among those that the question does not say: the prompt's other words, or the picture's cells.

A thing on a picture lies within one cell; it is hidden alone, and with the cells around it as one named span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from demo.vision.world import SIDE_CELLS, Question
from mask_impact.models.loading import LoadedModel
from mask_impact.models.vision.picture_tokens import VisionInputs
from mask_impact.runs import planning
from mask_impact.runs.run import Run
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact_analysis import measure
from mask_impact_vl import measure as measure_vl

ASKED: dict[str, Any] = {"knockout": ["all"], "model": "demo", "layers": "0", "variants": ["attn"]}
COLUMNS = {
    "prompts": "answered rightly",
    "first": "first of all",
    "beside": "first beside the question's words",
    "named": "named in the line",
    "changed": "hidden, another answer",
    "around": "with the cells around it",
}


def found_in(run: Run, holder: int, beside: np.ndarray) -> Counter:
    """Where the token that holds the answer stands among a run's tokens by `all`, and whether hiding it changes the
    answer; `beside` tells which tokens the question does not say, (position,)."""
    assert run.knockout is not None, "knock-outs are asked for"
    (table, record), length = run.knockout, len(beside)
    [rows] = table.rows
    order = np.argsort(rows.unit)
    changes = rows.logprob_change[order]
    other = [table.tops[top] != run.texts[-1] for top in rows.top[order]]
    return Counter(
        prompts=1,
        first=int(changes[:length].argmin() == holder),
        beside=int(np.where(beside, changes[:length], 0).argmin() == holder),
        named=int(holder in [one["position"] for one in record["rests_on"]]),
        changed=int(other[holder]),
        around=int(any(other[length:])),
    )


def prompt_counts(loaded: LoadedModel, prompts: Iterable[tuple[list[int], int]]) -> Counter:
    """What `found_in` says of these prompts, which are answered rightly, summed."""
    hits: Counter = Counter()
    [stop] = loaded.tokenizer(".")["input_ids"]
    for ids, holder in prompts:
        question = ids[len(ids) - ids[::-1].index(stop) :]
        plan = planning.plan(Settings.from_python(prompt=ids, **ASKED), loaded.model_info)
        hits += found_in(measure(plan, loaded), holder, ~np.isin(ids, question))
    return hits


def picture_counts(loaded: LoadedModel, questions: Iterable[tuple[str, Question]], count: int) -> Counter:
    """The same of the first `count` pictures that are answered rightly."""
    hits: Counter = Counter()
    for path, question in questions:
        if hits["prompts"] == count:
            break
        [cell] = question.asked.cells
        block = ",".join(f"{max(0, place - 1)}-{min(SIDE_CELLS - 1, place + 1)}" for place in cell)
        around = {"units": ["tokens"], "spans": [f"around=img0[{block}]"], "mask_mode": "both"}
        asked = VisionSettings.from_python(prompt=question.text, image=path, **around, **ASKED)
        plan = planning.plan(asked, loaded.model_info)
        run = measure_vl(plan, loaded)
        assert isinstance(plan.prompt, VisionInputs), "the prompt has a picture"
        if run.all_ids[-1] == loaded.tokenizer(question.answer)["input_ids"][0]:
            places = plan.prompt.places
            hits += found_in(run, places.tolist().index([0, *cell]), places[:, 0] == 0)
    return hits


def table(found: dict[str, Counter], columns: Iterable[str]) -> str:
    """The counts by kind of answer, in Markdown."""
    names = list(columns)
    lines = [[what, *(str(hits[name]) for name in names)] for what, hits in found.items()]
    head = ["answer", *(COLUMNS[name] for name in names)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
