"""What an analysis of a question about a picture costs, on the shape of Qwen3-VL-2B with random weights.

    python benchmarks/cost.py --vl               # all layers: 8.5 GB of weights
    python benchmarks/cost.py --vl --depth 14    # half of the text layers and of the encoder blocks: 6.6 GB at the peak

The plain forward pass takes the same prompt with its picture, through the vision encoder. The analysis masks words and
patches, and begins with the picture's file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import line, random_model, ratio
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.models.vision import picture_tokens, pictures, qwen3_vl

DEPTH, VISION_DEPTH = 28, 24
TEXT = dict(
    vocab_size=151_936,
    hidden_size=2048,
    intermediate_size=6144,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=262_144,
    eos_token_id=None,
    rope_parameters={
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
)
VISION = dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_heads=16,
    in_channels=3,
    patch_size=16,
    spatial_merge_size=2,
    temporal_patch_size=2,
    out_hidden_size=2048,
    num_position_embeddings=2304,
)
WORDS = dict(vision_start_token_id=151_652, vision_end_token_id=151_653, image_token_id=151_655, video_token_id=151_656)
SIZE, PICTURE_TOKENS, QUESTION_TOKENS = (640, 480), 300, 20
LIMIT = 1.7
METHODS = {"whole analysis": Method(), "attention and heads only": Method(variants=("attn", "heads"))}


def build(depth: int) -> Qwen3VLForConditionalGeneration:
    """Qwen3-VL-2B's shape, or with fewer text layers and encoder blocks in the same proportion."""
    blocks = VISION_DEPTH * depth // DEPTH
    vision_config = VISION | {
        "depth": blocks,
        "deepstack_visual_indexes": [blocks * part // VISION_DEPTH for part in (5, 11, 17)],
    }
    config = Qwen3VLConfig(
        text_config=TEXT | {"num_hidden_layers": depth}, vision_config=vision_config, tie_word_embeddings=True, **WORDS
    )
    return random_model(Qwen3VLForConditionalGeneration, config)


def question(folder: str) -> picture_tokens.VisionInputs:
    """A random picture and random words about it."""
    draw, path = np.random.default_rng(0), str(Path(folder, "picture.png"))
    Image.fromarray(draw.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)).save(path)
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, **qwen3_vl.DEFAULT_PROCESSOR
    )
    image = picture_tokens.seen(pictures.examine(path), processor, 1024)
    assert image.tokens == PICTURE_TOKENS
    start, end, patch = (WORDS[f"{name}_token_id"] for name in ("vision_start", "vision_end", "image"))
    ids = [start, *[patch] * image.tokens, end, *draw.integers(0, start, QUESTION_TOKENS).tolist()]
    return picture_tokens.VisionInputs(ids, (image,), "both", patch, processor)


def table(pairs: int, depth: int = DEPTH) -> None:
    """Print the table's rows."""
    model = build(depth)
    parts, _ = measurable_parts(model)
    with tempfile.TemporaryDirectory() as folder:
        asked = question(folder)
        further = asked.further(asked.token_ids, torch.device("cpu"))
        fed = ModelInputs(
            asked.token_ids, 1, masked=asked.masked, further=lambda ids: asked.further(ids, torch.device("cpu"))
        )

        def plain() -> None:
            with torch.inference_mode():
                model(torch.tensor([asked.token_ids]), use_cache=True, logits_to_keep=1, **further)

        shape = (
            f"Qwen3-VL-2B's shape, {depth} of {DEPTH} text layers, {len(model.model.visual.blocks)} of "
            f"{VISION_DEPTH} encoder blocks"
        )
        for what, method in METHODS.items():
            passes, each = ratio(lambda: list(measured_layers(model, parts, fed, method)) and None, plain, pairs)
            goal = f"at most {LIMIT}" if what == "whole analysis" else "-"
            line(
                f"{shape}; {PICTURE_TOKENS} picture and {QUESTION_TOKENS} question tokens, mask mode both: {what} "
                f"(a plain pass with the picture takes {each:.2f} s)",
                f"{passes:.2f} passes",
                goal,
            )
