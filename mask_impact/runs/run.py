"""A run while it is measured: collects its table and its record ({name}_run.json)."""

from __future__ import annotations

import base64
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mask_impact.base import console, interrupts
from mask_impact.base.errors import RequestError, RunError, StopRequested
from mask_impact.base.json_text import json_value
from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.pairs import Pair, pair_units, pairs_among, strongest
from mask_impact.cuts.units import Unit
from mask_impact.measure.distances import LayerDistances
from mask_impact.measure.generation import context_full, ends
from mask_impact.measure.next_token import greedy, picking, saved_settings
from mask_impact.measure.step import MeasuredLayer, ModelInputs, Step
from mask_impact.models.loading import LoadedModel, measured_parts, method_of
from mask_impact.models.tokens import decode, token_texts
from mask_impact.results.knockout_table import KnockoutTable
from mask_impact.results.strongest import STRONGEST, strongest_tokens
from mask_impact.results.table import ResultTable, StepDistances, UnitLabels, left_out
from mask_impact.runs.on_disk.finished_steps import Column, FinishedStep, FinishedSteps
from mask_impact.runs.planning import NamedRun, PlannedRun
from mask_impact.runs.record import SCHEMA_VERSION, now, plan_record

if TYPE_CHECKING:
    import pandas as pd

PER_CELL = ("baseline_norm", "noise_floor_l2", "noise_floor_cosine", "max_l2", "max_cosine")


class Run:
    """Collects measured layers, in the order they come, into a table and a record.

    `parts` are the layers asked for, `inputs` the model's inputs, `method` how it is measured. If result files are to
    be written (the plan has a name), finished steps are kept in files, and the run begins behind those that exist.
    """

    def __init__(self, plan: PlannedRun, loaded: LoadedModel):
        self.plan, self.loaded = plan, loaded
        self.parts = measured_parts(plan.settings, loaded)
        _, self.skipped = loaded.sites[plan.settings.part]
        self.method = method_of(plan.settings)
        self.finished_steps = FinishedSteps(plan.folder, plan.name) if isinstance(plan, NamedRun) else None
        parts: Sequence[FinishedStep] = () if self.finished_steps is None else self.finished_steps
        self.inputs = ModelInputs(
            plan.prompt.token_ids,
            plan.steps,
            continuation_ids=plan.continuation_ids,
            stop_ids=loaded.stop_ids,
            context_length=loaded.model_info.context_length,
            masked=plan.prompt.masked,
            sets=None if plan.prompt.units(plan.prompt.token_ids) is None else self._key_sets,
            pairs=None if plan.settings.pairs is None else self._choose_pairs,
            further=partial(plan.prompt.further, device=loaded.model.device),
            done=Column(parts, lambda step: step.fingerprint),
            start_over=self._start_over,
            pick=picking(loaded.model.generation_config, plan.prompt.token_ids, loaded.model.device)
            if plan.generates
            else greedy,
            site=plan.prompt.site,
            at=plan.prompt.at,
        )
        self._pairs: list[Pair] = []
        self.knockout: tuple[KnockoutTable | None, dict[str, Any]] | None = None
        self.steps = [step.record for step in parts]
        self.distances = Column(parts, lambda step: step.distances)
        self._closed: list[MeasuredLayer] = []
        self._open: list[MeasuredLayer] = []
        self._texts: list[str] = []
        self._started, self._clock = now(), time.monotonic()
        if parts:
            self._started, self._clock = parts[-1].started, self._clock - parts[-1].seconds

    @property
    def last(self) -> Step:
        """The last step that is measured whole."""
        return self._closed[0].step

    @property
    def heatmap_rows(self) -> list[tuple[str, int]]:
        """The (variant, layer) pairs of that step, variant-major."""
        return [(name, layer.layer) for name, layer, _ in self._rows()]

    def _rows(self) -> list[tuple[str, MeasuredLayer, int]]:
        """Each variant with each layer that has it, variant-major, and its place in that layer."""
        names = dict.fromkeys(name for layer in self._closed for name in layer.variants)
        return [
            (name, layer, layer.variants.index(name))
            for name in names
            for layer in self._closed
            if name in layer.variants
        ]

    def _key_sets(self, token_ids: list[int]) -> KeySets:
        """What is hidden in turn in a sequence of these tokens."""
        return KeySets.of(unit.positions for unit in self.plan.prompt.units(token_ids) or ())

    def _choose_pairs(self, token_ids: list[int], layers: list[LayerDistances]) -> list[Pair]:
        """Which units of the present step are paired: all spans, or the strongest by Full's L2 summed over layers."""
        units, asked = self.plan.prompt.units(token_ids) or [], self.plan.settings.pairs
        if isinstance(asked, int):
            strength = np.sum([layer.l2[layer.variants.index("Full")] for layer in layers], axis=0)
            numbers = strongest(units, strength, asked, left_out(self.plan.prompt.columns(1)))
        else:
            numbers = [number for number, unit in enumerate(units) if unit.kind == "spans"]
        self._pairs = pairs_among(units, numbers)
        return self._pairs

    def _units(self) -> list[Unit] | None:
        """What the last step hid, pairs last; None if it hid each position alone."""
        units = self.plan.prompt.units(self.last.token_ids)
        return None if units is None else [*units, *pair_units(units, self._pairs)]

    def _start_over(self) -> None:
        console.warn(
            f"{self.plan.name}: the model's answers differ in their last bits from those of the steps that are "
            "there; the run starts over"
        )
        if self.finished_steps is not None:
            self.finished_steps.clear_steps()
        self.steps = []
        self._started, self._clock = now(), time.monotonic()

    def add(self, measured: MeasuredLayer) -> None:
        """Add a measured layer; a step's last layer closes the step."""
        self._open.append(measured)
        if len(self._open) == len(self.parts):
            self._close_step()

    def _close_step(self) -> None:
        self._closed, self._open = self._open, []
        distances = self._step_distances(self._units())
        self.steps.append(self._step_record(distances))
        if self.finished_steps is None or len(self.steps) == self.plan.steps or ends(self.last, self.inputs):
            self.distances.more.append(distances)
        else:
            self._keep(distances)

    def _step_distances(self, units: list[Unit] | None) -> StepDistances:
        """The last step's distances, as the table takes them."""

        def stacked(kind: str) -> np.ndarray:
            return np.stack([getattr(layer, kind)[row] for _, layer, row in self._rows()])

        labels = (
            None
            if units is None
            else UnitLabels([one.label for one in units], [one.kind for one in units], [one.where for one in units])
        )
        return StepDistances(
            self.last.index,
            stacked("l2"),
            stacked("cosine"),
            self.last.sets.first if units is None else np.array([one.positions[0] for one in units]),
            labels,
            None if self.inputs.pairs is None else stacked("interaction"),
        )

    def _keep(self, distances: StepDistances) -> None:
        """Keep a step that is not the last one, in a file. Raises StopRequested if Ctrl-C was pressed meanwhile."""
        seen = len(self.last.token_ids)
        assert self.finished_steps is not None and self.last.fingerprint is not None, (
            "a run with a name, and with further steps"
        )
        self.finished_steps.append(
            FinishedStep(
                distances,
                self.last.fingerprint,
                self.steps[-1],
                self.heatmap_rows,
                self.texts[:seen],
                self.plan.prompt.columns(seen),
                self.seconds,
                self._started,
            )
        )
        if interrupts.stop_requested():
            raise StopRequested(
                f"stopped after {len(self.steps)} of {self.plan.steps} steps; the same command goes on from there"
            )

    @property
    def seconds(self) -> float:
        """Measuring time so far, with that of steps that were resumed from files."""
        return round(time.monotonic() - self._clock, 3)

    def _step_record(self, distances: StepDistances) -> dict[str, Any]:
        """The step in the run record: per variant a number for each measured layer, null where it has no such head."""
        step, rows = self.last, self._rows()
        values = {kind: [getattr(layer, kind)[row] for _, layer, row in rows] for kind in PER_CELL[:3]}
        rest = ~distances.alone(left_out(self.plan.prompt.columns(1)))
        values |= {"max_l2": largest(distances.l2[:, rest]), "max_cosine": largest(distances.cosine[:, rest])}
        return {
            "step": step.index,
            "positions": len(step.token_ids),
            "top": [self._token(token, probability) for token, probability in step.top],
            "next": None if step.next_id is None else self._token(step.next_id, step.next_probability),
            **{kind: self._by_variant(values[kind]) for kind in PER_CELL},
        }

    def _token(self, token: int, probability: float | None) -> dict[str, Any]:
        """The record of a likely next token, its text as it reads after the last token."""
        text = token_texts(self.loaded.tokenizer, [self.last.token_ids[-1], token])[-1]
        return {"id": token, "text": text, "probability": probability}

    def _by_variant(self, values: list[float]) -> dict[str, list[float | None]]:
        table: dict[str, list[float | None]] = {}
        place = {part.index: number for number, part in enumerate(self.parts)}
        for (name, layer), value in zip(self.heatmap_rows, values):
            table.setdefault(name, [None] * len(self.parts))[place[layer]] = value
        return table

    @property
    def all_ids(self) -> list[int]:
        """The ids of the prompt and of the tokens generated or given."""
        return [*self.last.token_ids, *([] if self.last.next_id is None else [self.last.next_id])]

    @property
    def generated_text(self) -> str | None:
        """The text that the model generated, or the given continuation; None if nothing is predicted."""
        if not self.plan.prompt.site.generates:
            return None
        whole, prompt = (decode(self.loaded.tokenizer, ids) for ids in (self.all_ids, self.plan.prompt.token_ids))
        if whole.startswith(prompt):
            return whole[len(prompt) :]
        return decode(self.loaded.tokenizer, self.all_ids[len(self.plan.prompt.token_ids) :])

    def table(self) -> ResultTable:
        """The long table of the steps measured so far."""
        seen = len(self.last.token_ids)
        return ResultTable(self.texts[:seen], self.heatmap_rows, self.distances, self.plan.prompt.columns(seen))

    def to_dataframe(self) -> pd.DataFrame:
        """The long table as a DataFrame, the run record in `attrs["run"]`; the record's warnings become Python's."""
        return self._with_record(self.table().to_dataframe())

    def knockouts_to_dataframe(self) -> pd.DataFrame:
        """Likewise the table of knock-outs. Raises RequestError where none were asked for, RunError where none are."""
        if self.knockout is None:
            raise RequestError(
                "there are no knock-outs to return; leave knockout and part out, or ask for a cut by name"
            )
        if self.knockout[0] is None:
            raise RunError(*self.knockouts_left_out())
        return self._with_record(self.knockout[0].to_dataframe())

    def _with_record(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the run record, whose warnings are told."""
        frame.attrs["run"] = self.record()
        for line in frame.attrs["run"]["warnings"]:
            warnings.warn(line, stacklevel=5)  # at the caller of the front door's function, past its decorator
        return frame

    @property
    def texts(self) -> list[str]:
        """What each of `all_ids` adds to the text; made once for each step, as it decodes every token three times."""
        if len(self._texts) != len(self.all_ids):
            self._texts = self.plan.prompt.texts(token_texts(self.loaded.tokenizer, self.all_ids))
        return self._texts

    @property
    def undefined(self) -> int:
        """How many distances are undefined because masking leaves no key at all."""
        return sum(int(np.isnan(step.l2).sum()) for step in self.distances)

    def stopped_by(self) -> str | None:
        """Why the run took no further step; None if nothing is predicted."""
        if not self.plan.prompt.site.generates:
            return None
        if len(self.steps) < self.plan.steps:
            return "end token"
        if len(self.steps) < self.plan.steps_asked and context_full(self.last, self.inputs):
            return "context length"
        given = self.plan.continuation_ids
        return "continuation" if given and len(self.steps) == len(given) else "num_tokens"

    def record(self) -> dict[str, Any]:
        """What produced the table, in JSON types: the content of {name}_run.json, and `df.attrs["run"]`."""
        planned = plan_record(self.plan, self.loaded)
        return json_value(
            {
                "schema_version": SCHEMA_VERSION,
                "status": "complete",
                **planned,
                "warnings": [*planned["warnings"], *self.knockouts_left_out()],
                "dtypes": self._dtypes(),
                "tokens": [{"id": token, "text": text} for token, text in zip(self.all_ids, self.texts)],
                "prompt_length": len(self.plan.prompt.token_ids),
                "generated_text": self.generated_text,
                "strongest": self._strongest(),
                "stopped_by": self.stopped_by(),
                "generation": saved_settings(self.loaded.model.generation_config) if self.plan.generates else None,
                "variants": list(dict.fromkeys(name for name, _ in self.heatmap_rows)),
                "layers": [part.index for part in self.parts],
                "skipped_layers": [{"layer": layer, "reason": why} for layer, why in self.skipped.items()],
                "steps": self.steps,
                "started": self._started,
                "seconds": self.seconds,
                "rows": len(self.table()),
                **self.plan.prompt.record(),
                **self._each_record(),
                **({"knockout": self.knockout[1]} if self.knockout else {}),
                **({"rows_halved": self.method.rows.halvings} if self.method.rows.halvings else {}),
            }
        )

    def knockouts_left_out(self) -> list[str]:
        """A line where knock-outs were left out, with the reason."""
        reason = self.knockout and self.knockout[1].get("left_out")
        return [f"knock-outs are left out: {reason}"] if reason else []

    def _strongest(self) -> list[dict[str, Any]]:
        """The strongest of each kind of unit at step 0."""
        table = self.table()
        each = (strongest_tokens(table, STRONGEST, unit=kind) for kind in table.steps[0].kinds)
        return [one.record() for of_kind in each for one in of_kind]

    def _each_record(self) -> dict[str, Any]:
        """Full's L2 distances at each measured cell, if kept: (layer, measured, position), float32 in base64."""
        each = [layer.each for layer in self._closed if layer.each is not None]
        if not each:
            return {}
        kept = np.stack(each).astype("<f4")
        packed = base64.b64encode(kept.tobytes()).decode("ascii")
        return {"each_measured": {"variant": "Full", "distance": "l2_distance", "shape": kept.shape, "float32": packed}}

    def _dtypes(self) -> dict[str, str]:
        own = self.loaded.model.dtype
        names = {"model": own, "measure": self.method.rows_dtype(own)}
        return {
            **{key: str(dtype).removeprefix("torch.") for key, dtype in names.items()},
            "results": str(self.distances[0].l2.dtype),
        }


def largest(distances: np.ndarray) -> list[float]:
    """The largest distance of each heatmap row, from (heatmap row, position); NaN if all are undefined."""
    filled = np.where(np.isnan(distances), -1, distances).max(1, initial=-1)
    return [float("nan") if value < 0 else value for value in filled]
