"""Turns token ids into readable text, and prompts into token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from transformers import PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError
from mask_impact.cuts.segments import Cell, TokenizedText
from mask_impact.models.chat import chat_ids
from mask_impact.settings.text_settings import Settings, is_ids

REPLACEMENT = "\ufffd"
MOST_PARTS = 16  # tokens that are looked at together, where none is whole characters by itself


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """What each token adds to the decoded text; joined, the list gives the text.

    A token that is not whole UTF-8 by itself, or has no text, shows its vocabulary piece, never a replacement
    character; if the vocabulary has none, `<id>`.
    """
    texts: list[str] = []
    anchor: list[int] = []
    for token in ids:
        alone = decode(tokenizer, [token])
        text = added_text(tokenizer, anchor, [token], alone)
        if REPLACEMENT in alone or not (text or has_text(tokenizer, token)):
            texts.append(str(tokenizer.convert_ids_to_tokens(token) or f"<{token}>"))
            continue
        texts.append(text)
        anchor = [token]
    return texts


def has_text(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether the token can add text; it is decoded twice in a row, as a decoder may drop a first space."""
    return decode(tokenizer, [token, token]) != ""


def added_text(tokenizer: PreTrainedTokenizerBase, anchor: list[int], tokens: list[int], alone: str) -> str:
    """The tokens' text after the last whole ones: a decoder may drop the space of the first word it sees."""
    before, both = decode(tokenizer, anchor), decode(tokenizer, [*anchor, *tokens])
    return both[len(before) :] if both.startswith(before) else alone


def tokenized_text(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    shown: Callable[[list[str]], list[str]],
    cells: dict[int, Cell],
) -> TokenizedText:
    """The tokens with the text that they add up to, the pictures' `cells` among them, as results show them."""
    text, ranges = "", list[tuple[int, int]]()
    for tokens, added in whole_tokens(tokenizer, ids):
        ranges += [(len(text), len(text) + len(added))] * tokens
        text += added
    known = special_ids(tokenizer)
    special = frozenset(position for position, token in enumerate(ids) if token in known)
    return TokenizedText(text, ranges, shown(token_texts(tokenizer, ids)), special, cells)


def whole_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> Iterator[tuple[int, str]]:
    """How many tokens in a row are whole characters together, and the text that they add, over all tokens."""
    anchor: list[int] = []
    parts: list[int] = []
    for number, token in enumerate(ids):
        parts.append(token)
        alone = decode(tokenizer, parts)
        after = ids[number + 1 : number + 2]
        if REPLACEMENT in alone and after and len(parts) < MOST_PARTS and REPLACEMENT in decode(tokenizer, after):
            continue
        added = added_text(tokenizer, anchor, parts, alone)
        yield len(parts), added
        anchor, parts = (parts if added or has_text(tokenizer, token) else anchor), []


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that are no text, such as the start of a turn."""
    added = {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
    return added | set(tokenizer.all_special_ids)


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
