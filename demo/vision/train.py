"""Train the demo vision model, repeatably from a seed, on two cores.

    python -m demo.vision.train                              # writes demo/vision/model and demo/vision/evaluation.json
    python -m demo.vision.train --seed 3 --output FOLDER     # another model, elsewhere, with its figures beside it

A tiny Qwen3-VL learns the world of `world.py`, in some minutes on a free machine. Seeds are tried in turn from `--seed`
on. The first whose model is right, and reads its answers in the picture (`evaluate.py`), on pictures of one seed is
written, with its figures on pictures of another. One seed gives one model, to the bit, on one machine with one version
of torch and as many threads.
"""

import argparse
import random
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from demo import training, vocabulary
from demo.vision import evaluate, rows, world
from demo.vision.tokenizer import IMAGE, VIDEO, VISION_END, VISION_START, as_qwen2, learn_vocabulary, world_texts

STEPS = 1200
BATCH_ROWS = 16
RATES = (5e-3, 2e-3)  # Of Muon, and of AdamW.

LONGEST = 4096  # Tokens.
PIXELS = {"shortest_edge": 4 * world.CELL**2, "longest_edge": 1024 * world.CELL**2}  # 4 to 1,024 vision tokens.
LEVELS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # As Qwen3-VL's: -1 to 1.

THREADS = 2
SEEDS_TRIED = 3
CHOICE_SEED = 2000  # Of the pictures that choose; the reported ones are evaluate.REPORT_SEED's.
EXACT_NEEDED, FLIPS_NEEDED = 0.98, 0.9


def main() -> None:
    """Train seed after seed until one holds, and save it with its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first seed to try (%(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=evaluate.MODEL_FOLDER, help="folder for the model")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)

    learner = learn_vocabulary()
    tokenizer, processor = as_qwen2(learner, LONGEST), make_processor()
    for seed in range(arguments.seed, arguments.seed + SEEDS_TRIED):
        started = time.perf_counter()
        demo = evaluate.Demo(train(seed, tokenizer, processor, arguments.steps), tokenizer, processor)
        minutes = (time.perf_counter() - started) / 60
        if holds(evaluate.measure(demo, CHOICE_SEED)):
            training.save(arguments.output, demo.model, tokenizer)
            processor.save_pretrained(arguments.output)
            vocabulary.check_reload(arguments.output, learner, world_texts(tokenizer))
            figures = evaluate.measure(evaluate.load(arguments.output), evaluate.REPORT_SEED)
            made = {"training": {"seed": seed, "minutes": round(minutes, 1)}}
            return training.report(arguments.output, made | figures)
    raise SystemExit(f"none of {SEEDS_TRIED} seeds held, nothing was written; go on with --seed {seed + 1}")


def train(seed: int, tokenizer, processor, steps: int) -> Qwen3VLForConditionalGeneration:
    """The model of a seed after so many steps of BATCH_ROWS rows each."""
    rng = random.Random(f"training {seed}")
    model = build_model(seed, tokenizer).train()
    layers = [model.model.language_model.layers, *encoder_layers(model.model.visual)]
    optimizers, recent = training.make_optimizers(model, layers, RATES), []
    for step in range(steps):
        training.set_rates(optimizers, RATES, training.rate_factor(step, steps))
        loss, right = train_step(model, optimizers, *rows.make_batch(rng, BATCH_ROWS, tokenizer, processor))
        recent = [*recent[-19:], right]
        if step % 50 == 0 or step == steps - 1:
            share = sum(recent) / len(recent)
            print(f"seed {seed}, step {step}: loss {loss:.4f}, {share:.0%} of the answers", flush=True)
    return model.eval()


def encoder_layers(visual) -> list[torch.nn.Module]:
    """The parts of the vision encoder between its embeddings and the language model."""
    return [visual.blocks, visual.merger, visual.deepstack_merger_list]


def train_step(model, optimizers, inputs: dict, answers: torch.Tensor, narrow: torch.Tensor) -> tuple[float, float]:
    """One step; the loss before it, and the share of the answers whose every token was the likeliest."""
    masked = rows.with_mask(model, inputs, rows.hidden_keys(inputs, answers, narrow))
    logits = model(**masked, use_cache=False).logits[:, :-1][answers[:, 1:]]
    targets = inputs["input_ids"][:, 1:][answers[:, 1:]]
    loss = cross_entropy(logits, targets)
    model.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    right = logits.argmax(-1).eq(targets).view(-1, 2).all(-1)  # An answer is a word and the end token.
    return loss.item(), right.float().mean().item()


def build_model(seed: int, tokenizer) -> Qwen3VLForConditionalGeneration:
    """The untrained model: an encoder of 2 blocks, and 3 layers with 4 query heads over 2 key heads."""
    torch.manual_seed(seed)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "initializer_range": 0.05,
        "max_position_embeddings": tokenizer.model_max_length,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_heads": 2,
        "patch_size": world.PATCH_SIZE,
        "spatial_merge_size": world.MERGE_SIZE,
        "temporal_patch_size": 2,
        "out_hidden_size": text["hidden_size"],
        "num_position_embeddings": (world.SIDE // world.PATCH_SIZE) ** 2,
        "deepstack_visual_indexes": [0],
        "initializer_range": 0.05,
    }
    tokens = {"image": IMAGE, "video": VIDEO, "vision_start": VISION_START, "vision_end": VISION_END}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    return Qwen3VLForConditionalGeneration(config)


def make_processor() -> Qwen2VLImageProcessorPil:
    """Pictures of this world pass as they are; so do others of up to 512x512 pixels, if 16 divides their sides."""
    sizes = {"patch_size": world.PATCH_SIZE, "merge_size": world.MERGE_SIZE, "temporal_patch_size": 2}
    return Qwen2VLImageProcessorPil(size=PIXELS, **sizes, **LEVELS)


def holds(figures: dict) -> bool:
    """Whether all kinds of questions are answered, and the answers flip, as often as is asked for."""
    print(training.as_json(figures), flush=True)
    exact = all(right >= EXACT_NEEDED * count for right, count in figures["exact"].values())
    flipped, count = figures["flips"]["asked"]
    return exact and flipped >= FLIPS_NEEDED * count > 0


if __name__ == "__main__":
    main()
