"""The demo model's tokenizer: byte-level BPE with one token for each word of the world.

transformers builds a `Qwen2Tokenizer` for this model type whatever the folder's files say, so the vocabulary is
learnt behind that class's own pre-tokenizer, and `check_reload` holds a saved folder against what was learnt.
"""

import json

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, Qwen2Tokenizer

from demo.text import world

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", world.END, "<think>", "</think>"]
LARGEST_VOCABULARY = 2000  # Never reached: merging ends when each word is one token, at about 750.

# As Qwen3's: where thinking is switched off, the answer comes after an empty thought.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}"""


def learn_vocabulary() -> Tokenizer:
    """Learn the merges from the words of the world; the same words always give the same merges."""
    learner, qwen = Tokenizer(BPE()), Qwen2Tokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer, learner.decoder = qwen.normalizer, qwen.pre_tokenizer, qwen.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(world_words(), trainer)
    return learner


def world_words() -> list[str]:
    """Each word of the world as it stands in a text: behind a space, or without one at the start."""
    inside = [*world.PEOPLE, *world.OBJECTS, *world.COLOURS, *world.CONTAINERS]
    inside += "put the in is The Copy Where What".split()
    starting = [*world.PEOPLE, *"The What system user assistant".split(), "Copy the list:", "\n\n"]
    facts = [fact.text + fact.answer.removesuffix(world.END) for fact in world.facts()]
    return [*(f" {word}" for word in inside), *starting, *world.SYSTEM_MESSAGES, *facts]


def as_qwen2(learner: Tokenizer, longest: int) -> Qwen2Tokenizer:
    """The learnt vocabulary in the class that transformers loads it into; `longest` is the model's context length."""
    model = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token=world.END,
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=longest,
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def check_reload(folder, learner: Tokenizer) -> None:
    """RuntimeError unless `AutoTokenizer` reads from `folder` the ids that `learner` gives, on texts of every kind."""
    reloaded = AutoTokenizer.from_pretrained(folder)
    for text in world_texts(reloaded):
        if reloaded(text)["input_ids"] != learner.encode(text).ids:
            raise RuntimeError(f"{folder} tokenises {text!r} otherwise than it was learnt")


def world_texts(tokenizer) -> list[str]:
    """Some hundred texts, with their answers, of each kind that the world has; every word of it among them."""
    plain = [*world.facts(), *world.fresh_copies(0, 300)]
    questions = [prompt.text + prompt.answer for prompt in world.fresh_prompts(0, 300, world.STATEMENT_COUNTS)]
    chats = [
        tokenizer.apply_chat_template(list(chat.messages), tokenize=False, add_generation_prompt=True) + chat.answer
        for chat in [*world.fresh_chats(0, 300), *world.fact_chats(0)]
    ]
    return [*(task.text + task.answer for task in plain), *questions, *chats]
