"""The units that settings ask for, at each step of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import comb

from mask_impact.cuts.pairs import Pair, pairs_among
from mask_impact.cuts.segments import STARTS, TokenizedText, Turns, image_units, segment_units, turn_units
from mask_impact.cuts.units import Unit


@dataclass(frozen=True)
class UnitsAsked:
    """Kinds of units, in the order of the results, and the prompt's named spans, which stay what they are.

    `read` gives the tokens seen at a step with their text. `turns` are a chat's, where messages are asked for.
    """

    kinds: Sequence[str]
    spans: Sequence[Unit]
    read: Callable[[list[int]], TokenizedText]
    turns: Turns | None = None
    _last: dict[tuple[int, ...], list[Unit]] = field(default_factory=dict, init=False, compare=False, repr=False)

    def units(self, token_ids: list[int], masked: Sequence[int]) -> list[Unit]:
        """The units of a step that has seen these tokens, of which the masked positions may be hidden."""
        key = tuple(token_ids)
        if key not in self._last:  # a run asks several times at each step
            made = self.made(self.read(token_ids), masked)
            self._last.clear()
            self._last[key] = made
        return self._last[key]

    def made(self, text: TokenizedText, masked: Sequence[int]) -> list[Unit]:
        """The units in this text."""
        return [unit for kind in self.kinds for unit in self.of_kind(kind, text, masked)]

    def of_kind(self, kind: str, text: TokenizedText, masked: Sequence[int]) -> Sequence[Unit]:
        """The units of one kind."""
        if kind == "spans":
            return self.spans
        if kind == "images":
            return image_units(text, masked)
        if kind == "messages":
            assert self.turns is not None, "a chat is asked for with messages"
            return turn_units(self.turns, masked)
        if kind in STARTS:
            return segment_units(text, kind, masked)
        return [Unit(text.shown[position], kind, (position,)) for position in masked]

    def most_new(self) -> int:
        """The most units that one more token adds."""
        return sum(kind not in ("images", "spans") for kind in self.kinds)


def most_pairs(units: Sequence[Unit], asked: int | str | None, count: int) -> int:
    """The most pairs at a step with `count` units: of the `asked` strongest, or of all spans, which are among the
    prompt's `units`; none if `asked` is None."""
    if asked is None:
        return 0
    if isinstance(asked, int):
        return comb(min(asked, count), 2)
    return len(span_pairs(units))


def span_pairs(units: Sequence[Unit]) -> list[Pair]:
    """Every two spans that share no position."""
    return pairs_among(units, [number for number, unit in enumerate(units) if unit.kind == "spans"])
