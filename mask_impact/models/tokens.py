"""Turns token ids into readable text, and prompts into token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

from transformers import PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError
from mask_impact.settings.text_settings import Settings, is_ids

REPLACEMENT = "\ufffd"
PROBE_WORDS = "qxzsystem", "qxzprompt"  # words that no chat template has itself

Part = dict[str, str]
Form = Callable[[str], str | list[Part]]


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """What each token adds to the decoded text; joined, the list gives the text.

    A token that is not whole UTF-8 by itself, or has no text, shows its vocabulary piece, never a replacement
    character; if the vocabulary has none, `<id>`.
    """
    texts: list[str] = []
    anchor: list[int] = []
    for token in ids:
        alone = decode(tokenizer, [token])
        text = added_text(tokenizer, anchor, token, alone)
        if REPLACEMENT in alone or not (text or has_text(tokenizer, token)):
            texts.append(str(tokenizer.convert_ids_to_tokens(token) or f"<{token}>"))
            continue
        texts.append(text)
        anchor = [token]
    return texts


def has_text(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether the token can add text; it is decoded twice in a row, as a decoder may drop a first space."""
    return decode(tokenizer, [token, token]) != ""


def added_text(tokenizer: PreTrainedTokenizerBase, anchor: list[int], token: int, alone: str) -> str:
    """The token's text after the last whole token: a decoder may drop the space of the first word it sees."""
    before, both = decode(tokenizer, anchor), decode(tokenizer, [*anchor, token])
    return both[len(before) :] if both.startswith(before) else alone


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of these tokens, special ones included, without transformers' clean-up."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, settings: Settings) -> list[int]:
    """The prompt's token ids, in the model's chat template if `chat` is set; a prompt of ids is returned as it is.

    Raises RequestError if there are no tokens.
    """
    if is_ids(settings.prompt):
        return list(settings.prompt)
    ids = chat_ids(tokenizer, settings) if settings.chat else tokenizer(settings.prompt)["input_ids"]
    if not ids:
        raise RequestError("the prompt has no tokens in this model's vocabulary; give another")
    return list(ids)


def chat_ids(tokenizer: PreTrainedTokenizerBase, settings: Settings, before: Sequence[Part] = ()) -> list[int]:
    """The ids of a chat that waits for its answer: the prompt, behind the parts `before` it, as the user's message."""
    if not tokenizer.chat_template:
        raise RequestError(
            "chat is on, but the model has no chat template; leave chat off: --no-chat (in YAML chat: false)"
        )
    try:
        forms = accepted_forms(tokenizer, settings, before)
        texts = settings.system or "", str(settings.prompt)
        return render_chat(tokenizer, settings, forms, *texts, return_dict=True)["input_ids"]
    except RequestError:
        raise
    except Exception as error:  # a template is a program of the model's own and may raise anything
        raise RequestError(
            f"the model's chat template refuses this prompt ({str(error)[:150]!r}); "
            "change it, or leave chat off (--no-chat)"
        ) from None


def accepted_forms(tokenizer: PreTrainedTokenizerBase, settings: Settings, before: Sequence[Part]) -> tuple[Form, Form]:
    """How the template takes the texts of system and user: as strings or, if it refuses or drops them, as lists of
    parts.

    Two probe words show which text comes through. With parts `before` it the user's text is always a part. Raises
    RequestError if the template drops every prompt without other parts, else what the template raises.
    """
    taken: list[tuple[bool, tuple[Form, Form]]] = []
    errors: list[Exception] = []
    either: tuple[Form, ...] = (str, content_parts)
    users: tuple[Form, ...] = (partial(content_parts, before=before),) if before else either
    for forms in product(either, users):
        try:
            text = render_chat(tokenizer, settings, forms, *PROBE_WORDS, tokenize=False)
        except Exception as error:
            errors.append(error)
            continue
        if before or PROBE_WORDS[1] in text:
            taken.append((settings.system is None or PROBE_WORDS[0] in text, forms))
    if taken:
        return max(taken, key=lambda one: one[0])[1]  # the first that keeps the system message, else the first
    raise (
        errors[0]
        if errors
        else RequestError("the model's chat template leaves the prompt out; change it, or leave chat off (--no-chat)")
    )


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    forms: tuple[Form, Form],
    system: str,
    prompt: str,
    **options: Any,
) -> Any:
    """A chat that waits for its answer, as the template renders it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": forms[1](prompt)}]
    if settings.system is not None:
        messages.insert(0, {"role": "system", "content": forms[0](system)})
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, enable_thinking=settings.thinking, **options
    )


def content_parts(text: str, before: Sequence[Part] = ()) -> list[Part]:
    """A message's content as a list of parts."""
    return [*before, {"type": "text", "text": text}]


def continuation_ids(tokenizer: PreTrainedTokenizerBase, continuation: str | tuple[int, ...]) -> list[int]:
    """The ids of a given continuation; text is tokenised without special tokens. Raises RequestError if empty."""
    if is_ids(continuation):
        return list(continuation)
    ids = tokenizer(continuation, add_special_tokens=False)["input_ids"]
    if not ids:
        raise RequestError("the continuation has no tokens in this model's vocabulary; give another")
    return list(ids)


def end_ids(tokenizer: PreTrainedTokenizerBase, eos: int | list[int] | None) -> frozenset[int]:
    """The ids that end generation: the generation config's, and `<|im_end|>` where it is one token other than unk."""
    ends = set(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])
    turn_end = tokenizer.get_vocab().get("<|im_end|>")
    if turn_end is not None and turn_end != tokenizer.unk_token_id:
        ends.add(turn_end)
    return frozenset(ends)
