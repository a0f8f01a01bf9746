"""The demo text model's tokenizer: a token for each word of its world, and texts to check a saved one with."""

from tokenizers import Tokenizer
from transformers import Qwen2Tokenizer

from demo import vocabulary
from demo.text import world

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", world.END, "<think>", "</think>"]

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
    return vocabulary.learn(world_words(), SPECIAL_TOKENS)


def world_words() -> list[str]:
    """Each word of the world as it stands in a text: behind a space, or without one at the start."""
    inside = [*world.PEOPLE, *world.OBJECTS, *world.COLOURS, *world.CONTAINERS]
    inside += "put the in is The Copy Where What".split()
    starting = [*world.PEOPLE, *"The What system user assistant".split(), "Copy the list:", "\n\n"]
    facts = [fact.text + fact.answer.removesuffix(world.END) for fact in world.facts()]
    return [*(f" {word}" for word in inside), *starting, *world.SYSTEM_MESSAGES, *facts]


def as_qwen2(learner: Tokenizer, longest: int) -> Qwen2Tokenizer:
    """The learnt vocabulary in the class that transformers loads it into; `longest` is the model's context length."""
    tokenizer = vocabulary.as_qwen2(learner, longest, ["<|im_start|>"], CHAT_TEMPLATE)
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def world_texts(tokenizer) -> list[str]:
    """Some hundred texts, with their answers, of each kind that the world has; every word of it among them."""
    plain = [*world.facts(), *world.fresh_copies(0, 300)]
    questions = [prompt.text + prompt.answer for prompt in world.fresh_prompts(0, 300, world.STATEMENT_COUNTS)]
    chats = [
        tokenizer.apply_chat_template(list(chat.messages), tokenize=False, add_generation_prompt=True) + chat.answer
        for chat in [*world.fresh_chats(0, 300), *world.fact_chats(0)]
    ]
    return [*(task.text + task.answer for task in plain), *questions, *chats]
