"""What measuring one cell in the vision encoder costs, on the shape of Qwen3-VL-2B's encoder with random weights.

    python benchmarks/cost.py --encoder              # 1.6 GB of weights; some minutes on two cores

The plain pass is one of the encoder alone, on the same picture of 300 tokens.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import cost_vl
from benchmarks.timing import line, random_model, ratio
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.site import MeasuredAt
from mask_impact.sites.vision_encoder import VISION_ENCODER, vision_encoder

CELL, LIMIT = 150, 2
METHODS = {"whole analysis": Method(), "attention and heads only": Method(variants=("attn", "heads"))}
SMALL_TEXT = dict(
    vocab_size=1024,
    hidden_size=2048,
    intermediate_size=1024,
    num_hidden_layers=1,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
)


def build() -> Qwen3VLForConditionalGeneration:
    """Qwen3-VL-2B's encoder, with a decoder that is there for the name alone."""
    vision_config = cost_vl.VISION | {"depth": cost_vl.VISION_DEPTH, "deepstack_visual_indexes": [5, 11, 17]}
    text_config = SMALL_TEXT | {"rope_parameters": cost_vl.TEXT["rope_parameters"]}
    config = Qwen3VLConfig(
        text_config=text_config, vision_config=vision_config, tie_word_embeddings=True, **cost_vl.WORDS
    )
    return random_model(Qwen3VLForConditionalGeneration, config)


def table(pairs: int) -> None:
    """Print the table's rows."""
    model = build()
    encoder, (parts, _) = vision_encoder(model), measurable_parts(model, site=VISION_ENCODER)
    with tempfile.TemporaryDirectory() as folder:
        asked = cost_vl.question(folder)
        ids = [asked.image_token] * cost_vl.PICTURE_TOKENS
        pictures = asked.further(asked.token_ids, torch.device("cpu"))
    at = MeasuredAt((CELL,), encoder.config.spatial_merge_size**2)
    fed = ModelInputs(ids, 1, further=lambda _: pictures, site=VISION_ENCODER, at=at)

    def plain() -> None:
        with torch.inference_mode():
            encoder(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"])

    def analyse(method: Method) -> None:
        for _ in measured_layers(model, parts, fed, method):
            pass

    for what, method in METHODS.items():
        passes, each = ratio(lambda: analyse(method), plain, pairs)
        line(
            f"Qwen3-VL-2B's encoder, {cost_vl.PICTURE_TOKENS} tokens, one measured cell: {what} (a plain pass of "
            f"the encoder takes {each:.2f} s)",
            f"{passes:.2f} passes",
            f"at most {LIMIT}",
        )
