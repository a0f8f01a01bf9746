"""One run while it is measured: its table, and the record of what produced it ({name}_run.json)."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from datetime import datetime, timezone
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mask_impact import __version__
from mask_impact.jsontext import plain
from mask_impact.measure import MeasuredLayer, ModelInputs, Step, context_full
from mask_impact.models import Subject, measured_parts, method_of
from mask_impact.preflight import Plan, computed_with
from mask_impact.results import ResultTable, StepDistances
from mask_impact.strongest import STRONGEST, strongest_tokens
from mask_impact.tokens import decode, token_texts

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")
PER_CELL = ("baseline_norm", "noise_floor_l2", "noise_floor_cosine", "max_l2", "max_cosine")


class Run:
    """Collects measured layers, in the order they come, into a table and a record.

    `parts` are the layers asked for, `inputs` what the model is fed, `method` how it is measured.
    """

    def __init__(self, plan: Plan, subject: Subject):
        self.plan, self.subject = plan, subject
        self.parts = measured_parts(plan.settings, subject)
        self.inputs = ModelInputs(
            plan.prompt.token_ids, plan.steps, plan.continuation_ids, subject.stop_ids, subject.candidate.context_length,
            plan.prompt.masked, partial(plan.prompt.further, device=subject.model.device))
        self.method = method_of(plan.settings)
        self.steps: list[dict[str, Any]] = []
        self.distances: list[StepDistances] = []
        self.cells: list[tuple[str, int]] = []
        self.last: Step | None = None
        self._open: list[MeasuredLayer] = []
        self._texts: list[str] = []
        self._started, self._clock = datetime.now(timezone.utc), time.monotonic()

    def add(self, measured: MeasuredLayer) -> None:
        """Take one more layer; after a step's last one the step is closed."""
        self._open.append(measured)
        if len(self._open) == len(self.parts):
            self._close_step()

    def _close_step(self) -> None:
        layers, self._open = self._open, []
        names = list(dict.fromkeys(name for layer in layers for name in layer.variants))
        rows = [(name, layer, layer.variants.index(name)) for name in names for layer in layers if name in layer.variants]
        self.last = layers[0].step
        self.cells = [(name, layer.layer) for name, layer, _ in rows]
        masked = self.last.masked
        distances = StepDistances(
            self.last.index,
            np.stack([layer.l2[row, masked] for _, layer, row in rows]),
            np.stack([layer.cosine[row, masked] for _, layer, row in rows]),
            masked)
        self.distances.append(distances)
        self.steps.append(self._step_record(rows, distances))

    def _step_record(self, rows: list, distances: StepDistances) -> dict[str, Any]:
        """Per variant one number for each measured layer, null where a layer has no such head."""
        step = self.last
        values = {kind: [getattr(layer, kind)[row] for _, layer, row in rows] for kind in PER_CELL[:3]}
        values |= {"max_l2": largest(distances.l2, distances.positions), "max_cosine": largest(distances.cosine, distances.positions)}
        return {
            "step": step.index,
            "positions": len(step.token_ids),
            "top": [self._token(token, probability) for token, probability in step.top],
            "next": self._token(step.next_id, step.next_probability),
            **{kind: self._by_variant(rows, values[kind]) for kind in PER_CELL},
        }

    def _token(self, token: int, probability: float) -> dict[str, Any]:
        """A likely next token as it would read after the last one."""
        text = token_texts(self.subject.tokenizer, [self.last.token_ids[-1], token])[-1]
        return {"id": token, "text": text, "probability": probability}

    def _by_variant(self, rows: list, values: list[float]) -> dict[str, list[float | None]]:
        table: dict[str, list[float | None]] = {}
        place = {part.index: number for number, part in enumerate(self.parts)}
        for (name, layer, _), value in zip(rows, values):
            table.setdefault(name, [None] * len(self.parts))[place[layer.layer]] = value
        return table

    @property
    def all_ids(self) -> list[int]:
        """The prompt's tokens and those that were generated or given."""
        return [*self.last.token_ids, self.last.next_id]

    @property
    def generated_text(self) -> str:
        """What the model generated, or the given continuation, as text."""
        whole, prompt = (decode(self.subject.tokenizer, ids) for ids in (self.all_ids, self.plan.prompt.token_ids))
        if whole.startswith(prompt):
            return whole[len(prompt):]
        return decode(self.subject.tokenizer, self.all_ids[len(self.plan.prompt.token_ids):])

    def table(self) -> ResultTable:
        """The long table of the steps measured so far."""
        seen = len(self.last.token_ids)
        return ResultTable(self.texts[:seen], self.cells, self.distances, self.plan.prompt.columns(seen))

    def to_dataframe(self) -> pd.DataFrame:
        """The long table as a DataFrame, with the run record in `attrs["run"]`."""
        frame = self.table().to_dataframe()
        frame.attrs["run"] = self.record()
        return frame

    @property
    def texts(self) -> list[str]:
        """What each of `all_ids` adds to the text; made once for each step, as every token is decoded three times."""
        if len(self._texts) != len(self.all_ids):
            self._texts = self.plan.prompt.texts(token_texts(self.subject.tokenizer, self.all_ids))
        return self._texts

    @property
    def undefined(self) -> int:
        """How many distances are undefined, since masking leaves no key at all."""
        return sum(int(np.isnan(step.l2).sum()) for step in self.distances)

    def stopped_by(self) -> str:
        """Why the run took no further step."""
        if len(self.steps) < self.plan.steps:
            return "end token"
        if len(self.steps) < self.plan.steps_asked and context_full(self.last, self.inputs):
            return "context length"
        given = self.plan.continuation_ids
        return "continuation" if given and len(self.steps) == len(given) else "num_tokens"

    def record(self) -> dict[str, Any]:
        """What produced the table, in plain JSON types: written as {name}_run.json, and in `df.attrs["run"]`."""
        return plain({
            "schema_version": SCHEMA_VERSION,
            "status": "complete",
            **plan_record(self.plan, self.subject),
            "dtypes": self._dtypes(),
            "tokens": [{"id": token, "text": text} for token, text in zip(self.all_ids, self.texts)],
            "prompt_length": len(self.plan.prompt.token_ids),
            "generated_text": self.generated_text,
            "strongest": [{"position": one.position, "text": one.text, "l2": one.total} for one in strongest_tokens(self.table(), STRONGEST)],
            "stopped_by": self.stopped_by(),
            "variants": list(dict.fromkeys(name for name, _ in self.cells)),
            "layers": [part.index for part in self.parts],
            "skipped_layers": [{"layer": layer, "reason": why} for layer, why in self.subject.skipped.items()],
            "steps": self.steps,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 3),
            "rows": len(self.table()),
            **self.plan.prompt.record(),
        })

    def _dtypes(self) -> dict[str, str]:
        own = self.subject.model.dtype
        measured = own if self.method.dtype is None else torch.promote_types(own, self.method.dtype)
        names = {"model": own, "measure": measured}
        return {**{key: str(dtype).removeprefix("torch.") for key, dtype in names.items()}, "results": str(self.distances[0].l2.dtype)}


def largest(distances: np.ndarray, positions: np.ndarray) -> list[float]:
    """The largest distance of each cell (cell, position) without position 0, the usual attention sink; NaN where there is none."""
    rest = distances[:, positions > 0]
    filled = np.where(np.isnan(rest), -1, rest).max(1, initial=-1)
    return [float("nan") if value < 0 else value for value in filled]


def plan_record(plan: Plan, subject: Subject) -> dict[str, Any]:
    """The settings, the model and the machine, as the run file has them."""
    candidate, device = subject.candidate, subject.model.device
    return {
        "name": plan.choice.name if plan.choice else None,
        "settings": plan.settings.to_record() | {"model": candidate.name},
        "model_class": type(subject.model).__name__,
        "model_type": subject.model.config.model_type,
        "model_identity": candidate.identity,
        "device": str(device),
        **plan.prompt.facts(),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "computed_with": computed_with(),
        "versions": dict(versions()),
    }


@cache
def versions() -> dict[str, str]:
    """This project's version, Python's and the libraries'; looked up once, as it takes some milliseconds."""
    return {"mask_impact": __version__, "python": platform.python_version(),
            **{library: importlib.metadata.version(library) for library in LIBRARIES}}


def failure_record(plan: Plan, subject: Subject, reason: str) -> dict[str, Any]:
    """What is left of a run that failed: its settings and the reason."""
    return {"schema_version": SCHEMA_VERSION, "status": "failed", "reason": reason, **plan_record(plan, subject)}
