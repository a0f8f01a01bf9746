"""Puts messages into a model's chat template: a prompt with its system message, or a whole conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from transformers import PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError
from mask_impact.settings.readers import Message
from mask_impact.settings.text_settings import Settings

PROBE_WORD = "qxz{number}message"  # one for each message, that no chat template has itself

Part = dict[str, str]
Form = Callable[[str], str | list[Part]]
Turn = dict[str, Any]  # a message, its content in the form that the template takes


class LeftOut(Exception):
    """The template renders a chat without its last message."""


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
