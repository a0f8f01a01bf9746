"""The demo vision model's tokenizer: a token for each word of its world, and Qwen3-VL's tokens for pictures."""

from tokenizers import Tokenizer
from transformers import Qwen2Tokenizer

from demo import vocabulary
from demo.vision import world

END = "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
OTHER_SPECIAL_TOKENS = ["<|im_start|>", VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO]
SPECIAL_TOKENS = ["<|endoftext|>", END, *OTHER_SPECIAL_TOKENS]

# As Qwen3-VL's: contents are a text, or a list of pictures and texts. No system message is put in.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""


def learn_vocabulary() -> Tokenizer:
    return vocabulary.learn(world_words(), SPECIAL_TOKENS)


def world_words() -> list[str]:
    """Each word of the world as it stands in a text: behind a space, or without one at the start."""
    kinds = [*world.SHAPES, *world.COLORS]
    inside = [*kinds, *"color shape is the".split()]
    return [*(f" {word}" for word in inside), *kinds, *"What system user assistant".split()]


def as_qwen2(learner: Tokenizer, longest: int) -> Qwen2Tokenizer:
    """The learnt vocabulary in the class that transformers loads it into; `longest` is the model's context length."""
    return vocabulary.as_qwen2(learner, longest, OTHER_SPECIAL_TOKENS, CHAT_TEMPLATE)


def world_texts(tokenizer) -> list[str]:
    """A few hundred chats with their answers; every word of the world among them."""
    questions = [question for picture in world.fresh_pictures(0, 100) for question in picture.questions]
    return [chat_text(tokenizer, question.text) + question.answer + END for question in questions]


def chat_text(tokenizer, question: str, picture: bool = True) -> str:
    """The user's message, a picture before it or none, up to where the assistant's answer starts."""
    content = [{"type": "image"}] * picture + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
