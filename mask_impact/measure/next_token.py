"""Which token follows: the likeliest one, after the generation settings that are saved with the model.

    pick = picking(model.generation_config, prompt_ids, model.device)
    next_id = pick(token_ids, logits)

`generate(do_sample=False)` changes the logits by these settings before it takes the largest. The same is done here,
with transformers' own classes in its order, for the pick alone: what is measured, and every probability, is the model's
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from mask_impact.base.errors import RunError, first_line

Pick = Callable[[list[int], Tensor], int]

# Of a setting's value, the prompt's ids (1, position) and the end tokens (end,) or None; in the order of generate().
# Any: transformers' annotations are narrower (LongTensor, a device's name) than what it takes.
FOLLOWED: dict[str, Callable[[Any, Any, Any], LogitsProcessor]] = {
    "sequence_bias": lambda value, prompt, ends: SequenceBiasLogitsProcessor(value),
    "encoder_repetition_penalty": lambda value, prompt, ends: EncoderRepetitionPenaltyLogitsProcessor(value, prompt),
    "repetition_penalty": lambda value, prompt, ends: RepetitionPenaltyLogitsProcessor(value),
    "no_repeat_ngram_size": lambda value, prompt, ends: NoRepeatNGramLogitsProcessor(value),
    "encoder_no_repeat_ngram_size": lambda value, prompt, ends: EncoderNoRepeatNGramLogitsProcessor(value, prompt),
    "bad_words_ids": lambda value, prompt, ends: NoBadWordsLogitsProcessor(value, ends),
    "min_length": lambda value, prompt, ends: MinLengthLogitsProcessor(value, ends),
    "min_new_tokens": lambda value, prompt, ends: MinNewTokensLengthLogitsProcessor(prompt.shape[1], value, ends),
    "forced_bos_token_id": lambda value, prompt, ends: ForcedBOSTokenLogitsProcessor(value),
    "exponential_decay_length_penalty": lambda value, prompt, ends: ExponentialDecayLengthPenalty(
        value, ends, prompt.shape[1]
    ),
    "suppress_tokens": lambda value, prompt, ends: SuppressTokensLogitsProcessor(value, prompt.device),
    "begin_suppress_tokens": lambda value, prompt, ends: SuppressTokensAtBeginLogitsProcessor(
        value, prompt.shape[1], prompt.device
    ),
}
OF_END_TOKENS = ("min_length", "min_new_tokens", "exponential_decay_length_penalty")  # without one they change nothing
NOT_FOLLOWED = (
    "num_beams",
    "num_beam_groups",
    "constraints",
    "force_words_ids",
    "guidance_scale",
    "penalty_alpha",
    "dola_layers",
    "forced_eos_token_id",
    "stop_strings",
    "max_time",
    "token_healing",
    "watermarking_config",
)
NEUTRAL = {
    **dict.fromkeys(
        ("encoder_repetition_penalty", "repetition_penalty", "num_beams", "num_beam_groups", "guidance_scale"), 1
    ),
    **dict.fromkeys(
        ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens", "penalty_alpha"), 0
    ),
    "token_healing": False,
}


def greedy(token_ids: list[int], logits: Tensor) -> int:
    """The likeliest token by these logits (vocabulary,), whatever the tokens before it."""
    return int(logits.argmax())


def picking(config: GenerationConfig | None, prompt_ids: list[int], device: torch.device) -> Pick:
    """What picks the next token, given all tokens before it and their logits (vocabulary,) on `device`.

    Raises RunError, then or when it is called, for a setting that transformers refuses.
    """
    followed = chosen(config, FOLLOWED)
    if config is None or not followed:
        return greedy
    prompt, ends = torch.tensor([prompt_ids], device=device), end_tokens(config, device)
    with refusing():
        processors = LogitsProcessorList(
            FOLLOWED[name](value, prompt, ends)
            for name, value in followed.items()
            if ends is not None or name not in OF_END_TOKENS
        )

    def pick(token_ids: list[int], logits: Tensor) -> int:
        with refusing():
            ids, scores = torch.tensor([token_ids], device=device), logits[None].to(device, torch.float32, copy=True)
            scores = processors(ids, scores)  # type: ignore[arg-type]  # any int64 serves, not LongTensor alone
        return greedy(token_ids, scores[0])

    return pick


def saved_settings(config: GenerationConfig | None) -> dict[str, dict[str, Any]]:
    """The saved settings that change a greedy text, followed or not, as a run record has them."""
    return {"followed": written(chosen(config, FOLLOWED)), "not_followed": written(chosen(config, NOT_FOLLOWED))}


def chosen(config: GenerationConfig | None, names: Iterable[str]) -> dict[str, Any]:
    """Those of these settings that change something; `min_new_tokens` takes the place of `min_length`, as in
    generate()."""
    values = {name: getattr(config, name, None) for name in names}
    if values.get("min_new_tokens") is not None:
        values.pop("min_length")
    return {name: value for name, value in values.items() if value not in (None, [], {}, NEUTRAL.get(name))}


def written(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in plain values, as a configuration file has them: biases of token sequences as pairs, objects as
    dictionaries."""
    pairs = {
        name: [[list(ids), bias] for ids, bias in value.items()]
        for name, value in settings.items()
        if isinstance(value, dict)
    }
    objects = {name: value.to_dict() for name, value in settings.items() if hasattr(value, "to_dict")}
    return settings | pairs | objects


def end_tokens(config: GenerationConfig, device: torch.device) -> Tensor | None:
    """The configuration's end tokens (end,), if it has any."""
    ends = config.eos_token_id
    return None if ends is None else torch.tensor(ends, device=device).reshape(-1)


@contextmanager
def refusing() -> Iterator[None]:
    """Say in one line what transformers does not accept of a setting."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise RunError(
            f"a saved generation setting cannot be followed ({first_line(error)}); "
            "mend the model's generation_config.json"
        ) from None
