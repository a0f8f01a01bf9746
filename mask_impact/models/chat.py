"""Puts messages into a model's chat template: a prompt with its system message, or a whole conversation."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from transformers import PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError
from mask_impact.cuts.segments import Turns, first_visible
from mask_impact.settings.readers import Message
from mask_impact.settings.text_settings import Settings

PROBE_WORD = "qxz{number}message"  # one for each message, that no chat template has itself

Part = dict[str, str]
Form = Callable[[str], str | list[Part]]
Turn = dict[str, Any]  # a message, its content in the form that the template takes


class LeftOut(Exception):
    """The template renders a chat without its last message."""


class LostTurns(Exception):
    """What the template makes of a chat does not show where its turns begin."""


@dataclass(frozen=True)
class Chat:
    """Messages for a template, the parts `before` in front of the first user's message."""

    tokenizer: PreTrainedTokenizerBase
    messages: Sequence[Message]
    thinking: bool
    before: Sequence[Part] = ()

    @property
    def ids(self) -> list[int]:
        """The token ids. Raises LeftOut, and what the template raises."""
        return self.render(self.turns, return_dict=True)["input_ids"]

    @property
    def dropped(self) -> list[int]:
        """The numbers of messages whose text the template leaves out, from 0."""
        _, kept = self.forms
        return [number for number, whether in enumerate(kept) if not whether]

    @property
    def can_continue(self) -> bool:
        """Whether the template can go on in the last message, so that it is not ended and answered by another."""
        with suppress(Exception):
            return bool(self.continued(self.turns, tokenize=False))
        return False

    @property
    def turns(self) -> list[Turn]:
        """The messages as the template takes them."""
        return self.formed([one["content"] for one in self.messages], self.forms[0])

    @cached_property
    def forms(self) -> tuple[tuple[Form, Form], list[bool]]:
        """How the template takes the texts of system messages and of others: as strings or, if it refuses or drops
        them, as lists of parts. Also whether each message comes through.

        A probe word in place of each text shows that. Raises LeftOut if the template drops the last message (not asked
        of a chat with parts `before`), else what the template raises.
        """
        words = [PROBE_WORD.format(number=number) for number in range(len(self.messages))]
        taken: list[tuple[tuple[Form, Form], list[bool]]] = []
        errors: list[Exception] = []
        either: tuple[Form, Form] = (str, content_parts)
        for forms in product(either, either):
            try:
                text = self.render(self.formed(words, forms), tokenize=False)
            except Exception as error:
                errors.append(error)
                continue
            kept = [word in text for word in words]
            if self.before or kept[-1]:
                taken.append((forms, kept))
        if taken:
            return max(taken, key=lambda one: sum(one[1]))  # the first of those that keep the most messages
        raise errors[0] if errors else LeftOut

    @property
    def found_turns(self) -> Turns:
        """The turns, each with the template's tokens that open it, the one that waits for its text among them.

        Raises LostTurns if they cannot be found, and what the template raises.
        """
        text = self.render(self.turns, tokenize=False)
        starts = self.turn_starts(text)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if encoded["input_ids"] != self.ids:
            raise LostTurns
        places = [
            start if (seen := first_visible(text, start, end)) is None else seen
            for start, end in encoded["offset_mapping"]
        ]
        return Turns(tuple(self.turn_labels), tuple(max(0, bisect_right(starts, place) - 1) for place in places))

    @property
    def turn_labels(self) -> list[str]:
        """A label for each turn that the template renders: `user 1`, and the assistant's that is to come."""
        roles = [one["role"] for one in self.messages]
        labels = [f"{role} {roles[: number + 1].count(role)}" for number, role in enumerate(roles)]
        kept = [label for label, whether in zip(labels, self.forms[1]) if whether]
        return [*kept, *([f"assistant {roles.count('assistant') + 1}"] if self.waits else [])]

    @property
    def waits(self) -> bool:
        """Whether the rendered chat opens a turn that has no text yet."""
        return self.messages[-1]["role"] != "assistant" or not self.can_continue

    def turn_starts(self, text: str) -> list[int]:
        """Where each turn begins in the rendered text. Raises LostTurns if that cannot be told.

        Probe words in place of the messages' texts show what the template puts around them.
        """
        forms, kept = self.forms
        words = [PROBE_WORD.format(number=number) for number in range(len(kept))]
        numbers = [number for number, whether in enumerate(kept) if whether]
        probed = self.render(self.formed(words, forms), tokenize=False)
        around = re.split("|".join(words[number] for number in numbers), probed)
        if "".join(f"{words[number]}{piece}" for number, piece in zip(numbers, around[1:])) != probed[len(around[0]) :]:
            raise LostTurns
        if not text.startswith(around[0]):
            raise LostTurns
        place, starts = len(around[0]), [0]
        for number, gap in zip(numbers, around[1:]):
            place = self.end_of(number, gap, text, place)
            closing = self.closing(words, number)
            starts.append(place + len(closing if gap.startswith(closing) else ""))
            place += len(gap)
        return starts if self.waits else starts[:-1]

    def end_of(self, number: int, gap: str, text: str, start: int) -> int:
        """Where a message's text ends that begins at `start`, as it is, or changed by the template, before `gap`.

        Raises LostTurns if it is not found.
        """
        content = self.messages[number]["content"]
        if text.startswith(content + gap, start):
            return start + len(content)
        end = text.find(gap, start) if gap else len(text)
        if end < 0:
            raise LostTurns
        return end

    def closing(self, words: Sequence[str], number: int) -> str:
        """What the template puts behind the text of a message that is the last; nothing where it refuses that."""
        with suppress(Exception):
            turns = self.formed(words, self.forms[0])[: number + 1]
            return self.rendered(turns, tokenize=False).rpartition(words[number])[2]
        return ""

    def formed(self, texts: Sequence[str], forms: tuple[Form, Form]) -> list[Turn]:
        """The messages with these texts, in these forms."""
        roles = [one["role"] for one in self.messages]
        turns = [{"role": role, "content": forms[role != "system"](text)} for role, text in zip(roles, texts)]
        if self.before:
            first = roles.index("user")
            turns[first]["content"] = content_parts(texts[first], self.before)
        return turns

    def render(self, turns: Sequence[Turn], **options: Any) -> Any:
        """The template's text, or token ids: a chat that waits for its answer; one whose last message is the
        assistant's goes on in it, where the template can."""
        if self.messages[-1]["role"] == "assistant":
            with suppress(Exception):
                return self.continued(turns, **options)
        return self.rendered(turns, add_generation_prompt=True, **options)

    def continued(self, turns: Sequence[Turn], **options: Any) -> Any:
        """The same, of a chat that goes on in its last message."""
        return self.rendered(turns, continue_final_message=True, **options)

    def rendered(self, turns: Sequence[Turn], **options: Any) -> Any:
        """What the template makes of these turns."""
        return self.tokenizer.apply_chat_template(list(turns), enable_thinking=self.thinking, **options)


def content_parts(text: str, before: Sequence[Part] = ()) -> list[Part]:
    """A message's content as a list of parts."""
    return [*before, {"type": "text", "text": text}]


def chat_of(tokenizer: PreTrainedTokenizerBase, settings: Settings, before: Sequence[Part] = ()) -> Chat:
    """The chat that the settings ask for: their messages, or system message and prompt."""
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    messages = settings.messages or (*system, {"role": "user", "content": str(settings.prompt)})
    return Chat(tokenizer, messages, settings.thinking, before)


def chat_ids(tokenizer: PreTrainedTokenizerBase, settings: Settings, before: Sequence[Part] = ()) -> list[int]:
    """The token ids of a chat, the parts `before` in front of the first user's message.

    Raises RequestError if the model has no chat template, and if the template refuses the chat or leaves its end out.
    """
    given = settings.messages is not None
    if not tokenizer.chat_template:
        raise RequestError(
            "messages need a chat template, and the model has none; give their text as the prompt"
            if given
            else "chat is on, but the model has no chat template; leave chat off: --no-chat (in YAML chat: false)"
        )
    chat = chat_of(tokenizer, settings, before)
    if before and not any(one["role"] == "user" for one in chat.messages):
        raise RequestError("pictures stand in front of the user's first message, and there is none; add one")
    remedy = "change them" if given else "change it, or leave chat off (--no-chat)"
    try:
        return chat.ids
    except LeftOut:
        what = "the last of the messages" if given else "the prompt"
        raise RequestError(f"the model's chat template leaves {what} out; {remedy}") from None
    except Exception as error:  # a template is a program of the model's own and may raise anything
        what = "these messages" if given else "this prompt"
        raise RequestError(f"the model's chat template refuses {what} ({str(error)[:150]!r}); {remedy}") from None


def chat_turns(tokenizer: PreTrainedTokenizerBase, settings: Settings, before: Sequence[Part] = ()) -> Turns:
    """The turns of a chat that `chat_ids` takes. Raises RequestError if its template does not show where they begin."""
    try:
        return chat_of(tokenizer, settings, before).found_turns
    except Exception:  # a template is a program of the model's own and may raise anything
        raise RequestError(
            "units messages: the turns cannot be found in what the model's chat template makes of them; "
            "take sentences or lines, or name spans"
        ) from None
