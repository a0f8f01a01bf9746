"""Measure the demo vision model: how often it is right, and where it reads its answers.

    python -m demo.vision.evaluate                     # the model that the repository carries, in under a minute

Exact: the model's greedy continuation is the whole true answer, with its end token, to the token.

Flips: the final position is kept from the cells of the thing asked about, in all layers, by a mask given to the model;
all other queries still see them. A model that reads the answer in the picture then says something else. Kept from the
cells of another thing instead, it should go on saying the same.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration

from demo import training
from demo.vision import world
from demo.vision.rows import Row, encode, turn, with_mask
from demo.vision.tokenizer import chat_text

MODEL_FOLDER = Path(__file__).parent / "model"
REPORT_SEED = 1000  # Reported figures are on these pictures; other ones choose between models.
PICTURES = 100  # For each number of things; each is asked about in both ways.
FLIPS_COUNTED = 100
ROWS_AT_ONCE = 50


class Demo(NamedTuple):
    model: Qwen3VLForConditionalGeneration
    tokenizer: AutoTokenizer
    processor: Qwen2VLImageProcessorPil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="a folder that train.py wrote")
    parser.add_argument("--seed", type=int, default=REPORT_SEED, help="seed of the pictures (%(default)s)")
    arguments = parser.parse_args()
    print(training.as_json(measure(load(arguments.model), arguments.seed)))


def load(folder: Path = MODEL_FOLDER) -> Demo:
    """The model in float32, its tokenizer and its image processor, from one folder."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return Demo(model, AutoTokenizer.from_pretrained(folder), Qwen2VLImageProcessorPil.from_pretrained(folder))


def measure(demo: Demo, seed: int) -> dict:
    """All figures on pictures drawn from `seed`, each as a pair `[so many, of so many]`."""
    exact = {}
    for count in world.COUNTS:
        pictures = world.fresh_pictures(seed, PICTURES, (count,))
        exact |= {f"{kind}_of_{count}": count_exact(demo, pictures, kind) for kind in ("color", "shape")}
    return {"picture_seed": seed, "exact": exact, "flips": count_flips(demo, world.fresh_pictures(seed, PICTURES))}


def questions_about(picture: world.Picture, kind: str) -> list[world.Question]:
    """Those that ask for a color, or for a shape."""
    return picture.questions[{"color": 0, "shape": 1}[kind] :: 2]


@torch.inference_mode()
def count_exact(demo: Demo, pictures: list[world.Picture], kind: str) -> list[int]:
    asked = [(picture, question) for picture in pictures for question in questions_about(picture, kind)]
    batches = [asked[start : start + ROWS_AT_ONCE] for start in range(0, len(asked), ROWS_AT_ONCE)]
    return [sum(int(are_exact(demo, batch).sum()) for batch in batches), len(asked)]


def are_exact(demo: Demo, asked: list[tuple[world.Picture, world.Question]]) -> torch.Tensor:
    """Per question: greedy decoding gives its answer exactly when each token is the likeliest after those before it."""
    rows = [Row(picture.image, turn(demo.tokenizer, 0, question)) for picture, question in asked]
    inputs, answers = encode(rows, demo.tokenizer, demo.processor)
    likeliest = demo.model(**inputs).logits[:, :-1].argmax(-1)
    return (likeliest.eq(inputs["input_ids"][:, 1:]) | ~answers[:, 1:]).all(-1)


@torch.inference_mode()
def count_flips(demo: Demo, pictures: list[world.Picture]) -> dict[str, list[int]]:
    """Flips among the first `FLIPS_COUNTED` rightly answered ones of `pictures`, each asked one question."""
    found = {"asked": [], "another": []}
    for index, picture in enumerate(pictures):
        question = picture.questions[index % 2]  # About the first thing; the second one is another.
        inputs = question_inputs(demo, picture, question)
        right = demo.tokenizer(question.answer)["input_ids"][0]
        if next_token(demo, inputs) == right and len(found["asked"]) < FLIPS_COUNTED:
            for name, thing in zip(found, picture.things):
                found[name].append(next_token(demo, inputs, cell_positions(inputs, thing)) != right)
    return {name: [sum(flipped), len(flipped)] for name, flipped in found.items()}


def question_inputs(demo: Demo, picture: world.Picture, question: world.Question) -> dict:
    """The model's inputs up to where the answer starts."""
    row = Row(picture.image, [(chat_text(demo.tokenizer, question.text), False)])
    return encode([row], demo.tokenizer, demo.processor)[0]


def cell_positions(inputs: dict, thing: world.Thing) -> list[int]:
    """Positions, in the first row, of the vision tokens of the cells in which the thing has a pixel."""
    first = int(inputs["mm_token_type_ids"][0].argmax())
    return [first + row * world.SIDE_CELLS + column for row, column in thing.cells]


def next_token(demo: Demo, inputs: dict, blocked: Sequence[int] = ()) -> int:
    """The likeliest next token of the one row, when the final position cannot see the positions `blocked`."""
    return int(masked_logits(demo, inputs, blocked)[0, -1].argmax())


def masked_logits(demo: Demo, inputs: dict, blocked: Sequence[int]) -> torch.Tensor:
    """Logits when the last query of the one row is kept from `blocked`, in all layers."""
    length = inputs["input_ids"].shape[1]
    hidden = torch.zeros(1, length, length, dtype=torch.bool)
    hidden[0, -1, list(blocked)] = True
    return demo.model(**with_mask(demo.model, inputs, hidden)).logits


if __name__ == "__main__":
    main()
