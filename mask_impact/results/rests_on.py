"""What a run's answer rests on and where it is read, by the knock-outs in its run record.

    knockout = knockout_of(table.attrs["run"])
    in_brief(largest_units(knockout, "rests_on")[0])    # "'iffel' -4.35"

A run record may be anybody's file: what is not as a run writes it is passed over. The texts are a model's, and whoever
prints them makes them safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN, SMALLEST_SHOWN = 3, 0.005  # units in a list, and nats that are not 0.00 in a line
LARGEST_CHANGE = 1e9  # nats; no answer has as many
LONGEST_TEXT = 40  # characters of a unit in a line
HEADS = {"rests_on": "rests on", "against": "against it", "read_at": "the final position reads it at"}
FIELDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "position": int,
    "positions": str,
    "unit": str,
    "logprob_change": (int, float),
}


def knockout_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run record says of its knock-outs; empty if there are none."""
    found = run.get("knockout")
    return found if isinstance(found, Mapping) else {}


def largest_units(knockout: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The units of a list of HEADS as the run file has them, the largest change first; without those that no run
    writes."""
    found = knockout.get(name)
    units = found[:SHOWN] if isinstance(found, list) else []
    return [{field: unit[field] for field in FIELDS} for unit in units if is_whole(unit)]


def is_whole(unit: Any) -> bool:
    """Whether this is a unit with its change as a run file has it: every field of its type, the change a number."""
    return (
        isinstance(unit, Mapping)
        and all(isinstance(unit.get(field), kind) for field, kind in FIELDS.items())
        and not isinstance(unit["logprob_change"], bool)
        and abs(unit["logprob_change"]) <= LARGEST_CHANGE  # not NaN either
    )


def in_a_line(knockout: Mapping[str, Any], name: str) -> str:
    """A list of HEADS as `'iffel' -4.35, ' city' -1.31`; empty if no change is large enough to show.

    A text that another unit of the lists has too is followed by its positions.
    """
    places = {(unit["text"], unit["positions"]) for each in HEADS for unit in largest_units(knockout, each)}
    texts = [text for text, _ in places]
    return ", ".join(
        in_brief(unit, located=texts.count(unit["text"]) > 1)
        for unit in largest_units(knockout, name)
        if abs(unit["logprob_change"]) >= SMALLEST_SHOWN
    )


def in_brief(unit: Mapping[str, Any], longest: int = LONGEST_TEXT, located: bool = False) -> str:
    """A unit and its change, as `largest_units` has it, in a line; `located` with its positions."""
    text = unit["text"]
    shown = repr(text if len(text) <= longest else f"{text[:longest]}...")
    where = f" at {unit['positions'][:longest]}" if located else ""
    return f"{shown}{where} {unit['logprob_change']:+.2f}"


def conclusion(knockout: Mapping[str, Any], answer: str, probability: str) -> Iterator[str]:
    """The line that says what the answer rests on, and where it is read; none if no change is large enough.

    What speaks against the answer is in it where that is more than anything that speaks for it.
    """
    for_it, against = (largest_units(knockout, name)[:1] for name in ("rests_on", "against"))
    opposed = sum(unit["logprob_change"] for unit in for_it + against) > 0
    lists = {head: in_a_line(knockout, name) for name, head in HEADS.items() if name != "against" or opposed}
    if parts := [f"{head}: {units}" for head, units in lists.items() if units]:
        yield f"{answer!r} ({probability}){'' if lists[HEADS['rests_on']] else ':'} {'; '.join(parts)}"
