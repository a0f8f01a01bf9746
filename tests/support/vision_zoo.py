"""Tiny random Qwen3-VL models, dense and with experts, their tokenizer and image processor, and pictures to show them.

    model = build("qwen3_vl")
    save("qwen3_vl", folder)                a folder to load from
    picture(folder / "p.png", 64, 48)       a random picture of that width and height

Patches are 4 pixels and merged by two: a picture has one token for each 8 x 8 pixels.
"""

from pathlib import Path

import numpy as np
import torch
import zoo
from PIL import Image
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

CELL = 8  # pixels of a token's side
SPECIAL = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = dict(
    zoo.HEAD,
    rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [3, 3, 2], "mrope_interleaved": True},
)
VISION = dict(
    depth=2,
    hidden_size=32,
    intermediate_size=48,
    num_heads=2,
    in_channels=3,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    out_hidden_size=64,
    num_position_embeddings=64,
    deepstack_visual_indexes=[0, 1],
)
KINDS = {
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration, TEXT),
    "qwen3_vl_moe": (Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, dict(TEXT, **zoo.EXPERTS)),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """The zoo's tokenizer with a chat template, and Qwen's words for chats and pictures."""
    made = zoo.tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<|im_end|>", *SPECIAL]})
    made.chat_template = TEMPLATE
    return made


def processor() -> Qwen2VLImageProcessorPil:
    """Pictures of 4 to 64 tokens."""
    sizes = {"shortest_edge": 4 * CELL**2, "longest_edge": 64 * CELL**2}
    return Qwen2VLImageProcessorPil(
        size=sizes, patch_size=4, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def build(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.nn.Module:
    """The tiny model in eval mode; the same seed gives the same weights."""
    config, kind, text = KINDS[name]
    word = tokenizer().convert_tokens_to_ids
    made = config(
        text_config=text,
        vision_config=VISION,
        tie_word_embeddings=False,
        image_token_id=word("<|image_pad|>"),
        video_token_id=word("<|video_pad|>"),
        vision_start_token_id=word("<|vision_start|>"),
        vision_end_token_id=word("<|vision_end|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind._from_config(made, dtype=torch.float32).eval()
    zoo.randomize(model, seed)
    return model.to(dtype).requires_grad_(False)


def text_twin(model: torch.nn.Module) -> Qwen3ForCausalLM:
    """A Qwen3 made of a dense model's text weights."""
    own = {key: value for key, value in TEXT.items() if key != "rope_parameters"}
    twin = Qwen3ForCausalLM._from_config(
        Qwen3Config(**own, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    ).eval()
    weights = {
        key.replace("model.language_model.", "model."): value
        for key, value in model.state_dict().items()
        if ".visual." not in key
    }
    twin.load_state_dict(weights)
    return twin.requires_grad_(False)


def save(name: str, folder: Path) -> torch.nn.Module:
    """The model, its tokenizer and its image processor in `folder`, as `from_pretrained` reads them."""
    model = build(name)
    for part in (model, tokenizer(), processor()):
        part.save_pretrained(folder)
    return model


def picture(path: Path, width: int, height: int, seed: int = 0) -> str:
    """A random picture in a file; returns its path."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)
