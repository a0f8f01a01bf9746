"""Keeps the finished steps of unfinished runs, in OUTPUT/.partial/NAME/.

`run.json` is there from the start and says what is being run, as a finished run's file does; `step_0000.safetensors`
and so on hold the finished steps, except the last one, after which the result itself is written. A killed run goes on
at its next step, and the result's files are made from these, one step in memory at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mask_impact.base.errors import RunError, first_line
from mask_impact.base.json_text import json_bytes, json_value
from mask_impact.base.whole_files import make_folder, write_whole
from mask_impact.measure.step import PassFingerprint
from mask_impact.results.paths import unfinished_folder
from mask_impact.results.table import ResultTable, StepDistances, UnitLabels

METADATA = "part"  # the key of the metadata in a finished step's file
ARRAYS = ("l2", "cosine", "positions", "interaction")  # of a step's distances, each a tensor in its file
Item = TypeVar("Item")


@dataclass(frozen=True)
class FinishedStep:
    """One finished step: its distances, what a later step needs of it, and the table's axes so far.

    `record` is the step in the run file, `texts` and `extra_columns` are the table's tokens and extra columns so far,
    `seconds` the run's measuring time so far, `started` when the run began.
    """

    distances: StepDistances
    fingerprint: PassFingerprint
    record: dict[str, Any]
    heatmap_rows: list[tuple[str, int]]
    texts: list[str]
    extra_columns: dict[str, pa.Array]
    seconds: float
    started: str

    def save(self, path: Path) -> None:
        """Write the step; what `read` gives back is the same, bit for bit. Raises OSError."""
        distances, own_answers = self.distances, self.fingerprint.own_answers
        arrays = {name: getattr(distances, name) for name in ARRAYS}
        tensors = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items() if array is not None}
        tensors |= {f"{module}.{layer}": answer.cpu().contiguous() for (module, layer), answer in own_answers.items()}
        metadata = {
            "step": distances.step,
            "next_id": self.fingerprint.next_id,
            "digest": self.fingerprint.digest,
            "record": self.record,
            "cells": self.heatmap_rows,
            "texts": self.texts,
            "seconds": self.seconds,
            "started": self.started,
            "places": {name: [str(column.type), column.to_pylist()] for name, column in self.extra_columns.items()},
            "checksum": checksum(tensors),
            **({} if distances.units is None else {"units": asdict(distances.units)}),
        }
        try:
            save_file(tensors, path, {METADATA: json.dumps(json_value(metadata))})
        except SafetensorError as error:
            raise OSError(first_line(error)) from error

    @classmethod
    def read(cls, path: Path) -> FinishedStep:
        """The step in a file. Raises OSError, SafetensorError, ValueError or LookupError for any other file."""
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()[METADATA])
            names = list(file.keys())
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in names}
        if metadata["checksum"] != checksum(tensors):
            raise ValueError(f"{path}: its bytes are not those that were written")
        arrays = {name: tensors.pop(name).numpy() for name in ARRAYS if name in tensors}
        units = UnitLabels(**metadata["units"]) if "units" in metadata else None
        own_answers = {
            (module, int(layer)): answer for name, answer in tensors.items() for module, layer in [name.split(".")]
        }
        return cls(
            StepDistances(metadata["step"], **arrays, units=units),
            PassFingerprint(metadata["next_id"], metadata["digest"], own_answers),
            metadata["record"],
            [(variant, layer) for variant, layer in metadata["cells"]],
            metadata["texts"],
            {name: pa.array(values, pa.type_for_alias(kind)) for name, (kind, values) in metadata["places"].items()},
            metadata["seconds"],
            metadata["started"],
        )


def checksum(tensors: dict[str, Tensor]) -> str:
    """A digest of the tensors' bytes: after a power cut, parts of a file just written may be zeros."""
    digest = blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FinishedSteps(Sequence[FinishedStep]):
    """The finished steps of one run, read from their files; a missing or broken file ends the sequence.

    The two that were read last are kept in memory.
    """

    def __init__(self, folder: Path, name: str):
        self.folder = unfinished_folder(folder, name).parent
        self.record_file = unfinished_folder(folder, name)
        self._read = lru_cache(maxsize=2)(FinishedStep.read)

    def begin(self, record: dict[str, Any]) -> None:
        """Write the record of what is being run, before its first step. Raises RunError, one line, if that fails."""
        make_folder(self.folder)
        write_whole({self.record_file: lambda path: path.write_bytes(json_bytes(record))})

    def append(self, step: FinishedStep) -> None:
        """Keep one more step. Raises RunError, one line, if it cannot be written."""
        number = len(self)
        write_whole({self._path(number): step.save}, to_disk=False)
        self._length = number + 1

    def finish(self) -> None:
        """Delete the record, as the result is written; the steps stay for a process that may be reading them now."""
        self.record_file.unlink(missing_ok=True)

    def clear_steps(self) -> None:
        """Delete every step. Raises RunError if one cannot be removed, as on Windows while another program reads it."""
        self._length = 0
        self._read.cache_clear()
        for path in self.folder.glob("step_*"):
            with suppress(OSError):
                path.unlink()
        if left := next(self.folder.glob("step_*"), None):
            raise RunError(f"{left} could not be removed; close the program that has it open, or remove it")

    def clear(self) -> None:
        """Delete the run's folder. Raises RunError as `clear_steps` does."""
        self.clear_steps()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"step_{number:04}.safetensors"

    @cached_property
    def _length(self) -> int:
        number = 0
        while self._path(number).exists() and _is_finished_step(self._path(number), number):
            number += 1
        return number

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> FinishedStep:  # type: ignore[override]  # nobody takes a slice of it
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return self._read(self._path(number % len(self)))


class Column(Sequence[Item]):
    """`of` of each finished step, followed by what is only in memory (`more`)."""

    def __init__(self, steps: Sequence[FinishedStep], of: Callable[[FinishedStep], Item]):
        self.steps, self.of = steps, of
        self.more: list[Item] = []

    def __len__(self) -> int:
        return len(self.steps) + len(self.more)

    def __getitem__(self, number: int) -> Item:  # type: ignore[override]  # nobody takes a slice of it
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return self.of(self.steps[number]) if number < len(self.steps) else self.more[number - len(self.steps)]


def _is_finished_step(path: Path, number: int) -> bool:
    try:
        return FinishedStep.read(path).distances.step == number
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError):
        return False


def unfinished_table(folder: Path, name: str) -> tuple[ResultTable, dict[str, Any]] | None:
    """The finished steps of an unfinished run, and its record; None if there are no steps.

    Raises OSError or ValueError where its record cannot be read.
    """
    steps = FinishedSteps(folder, name)
    if not len(steps):
        return None
    record, last = json.loads(steps.record_file.read_bytes()), steps[-1]
    layers = list(dict.fromkeys(layer for _, layer in last.heatmap_rows))
    record |= {
        "steps": [step.record for step in steps],
        "layers": layers,
        "variants": list(dict.fromkeys(name for name, _ in last.heatmap_rows)),
        "rows": sum(step.distances.l2.size for step in steps),
        "generated_text": "".join(step.record["next"]["text"] for step in steps),
    }
    return ResultTable(
        last.texts, last.heatmap_rows, Column(steps, lambda step: step.distances), last.extra_columns
    ), record
