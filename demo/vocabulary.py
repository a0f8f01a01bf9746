"""Tokenizers of the demo models: byte-level BPE with one token for each word of a world.

transformers builds a `Qwen2Tokenizer` for the model types used here whatever the folder's files say, so a vocabulary is
learnt behind that class's own pre-tokenizer, and `check_reload` holds a saved folder against what was learnt.
"""

import json

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, Qwen2Tokenizer

LARGEST = 2000  # Never reached: merging ends when each word is one token, at about 750.


def learn(words: list[str], special_tokens: list[str]) -> Tokenizer:
    """Learn the merges from the words of a world; the same words always give the same merges."""
    learner, qwen = Tokenizer(BPE()), Qwen2Tokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer, learner.decoder = qwen.normalizer, qwen.pre_tokenizer, qwen.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST,
        special_tokens=special_tokens,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(words, trainer)
    return learner


def as_qwen2(learner: Tokenizer, longest: int, special_tokens: list[str], template: str) -> Qwen2Tokenizer:
    """The learnt vocabulary in the class that transformers loads it into; `longest` is the model's context length.

    A text ends with `<|im_end|>`, and `<|endoftext|>` pads; `special_tokens` are the other ones.
    """
    model = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special_tokens,
        model_max_length=longest,
    )
    tokenizer.chat_template = template
    return tokenizer


def check_reload(folder, learner: Tokenizer, texts: list[str]) -> None:
    """RuntimeError unless `AutoTokenizer` reads from `folder` the ids that `learner` gives, on each of the texts."""
    reloaded = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        if reloaded(text)["input_ids"] != learner.encode(text).ids:
            raise RuntimeError(f"{folder} tokenises {text!r} otherwise than it was learnt")
