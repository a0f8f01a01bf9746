"""Warnings about the tokens of a prompt, where they are not what a user may expect."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mask_impact.models.chat import Chat, chat_of
from mask_impact.models.info import ModelInfo
from mask_impact.settings.text_settings import Settings, is_ids


def prompt_warnings(model_info: ModelInfo, settings: Settings, ids: Sequence[int]) -> list[str]:
    """A line for each surprise in the prompt's token ids, with the entry's place in the batch file if it has one."""
    tokenizer, lines = model_info.tokenizer, []
    if (last := appended_token(tokenizer, settings)) is not None:
        lines.append(
            f"the tokenizer puts {piece(tokenizer, last)} behind the prompt, where it is the final position; from "
            "Python token ids can be given without it"
        )
    if tokenizer.bos_token_id is not None and list(ids[:2]) == [tokenizer.bos_token_id] * 2:
        lines.append(
            f"the prompt begins with {piece(tokenizer, ids[0])} twice; the one that the tokenizer or the chat template "
            "puts there is enough: leave out the other"
        )
    if settings.chat and not is_ids(settings.prompt):
        lines += chat_warnings(settings, chat_of(tokenizer, settings))
    if isinstance(settings.prompt, str) and settings.prompt.isspace():
        lines.append("the prompt is white space alone; if text was meant, look at its quotes")
    return [settings.with_place(line) for line in lines]


def appended_token(tokenizer: PreTrainedTokenizerBase, settings: Settings) -> int | None:
    """The special token that the tokenizer appends to a prompt of text, if any; a chat ends as its template says."""
    if settings.chat or is_ids(settings.prompt):
        return None
    ids, bare = (tokenizer(settings.prompt, add_special_tokens=special)["input_ids"] for special in (True, False))
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return ids[-1] if list(ids[-len(bare) :]) != list(bare) and ids[-1] in special else None


def chat_warnings(settings: Settings, chat: Chat) -> list[str]:
    """A line for messages that the chat template drops, and for a last one that it cannot go on in."""
    lines = []
    if chat.dropped and settings.messages is None:
        lines.append(
            "system: the model's chat template has no place for a system message, and drops it; "
            "write it into the prompt"
        )
    elif chat.dropped:
        which = ", ".join(f"{number + 1} ({chat.messages[number]['role']})" for number in chat.dropped)
        lines.append(f"messages: the model's chat template drops message {which}; write its text into another")
    if chat.messages[-1]["role"] == "assistant" and not chat.can_continue:
        lines.append(
            "messages: the model's chat template cannot go on in the assistant's last message, and begins another one"
        )
    return lines


def piece(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as the vocabulary has it, quoted."""
    return repr(tokenizer.convert_ids_to_tokens(token))
