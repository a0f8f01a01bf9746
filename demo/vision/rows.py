"""Rows of the demo vision model: a picture and a chat about it, as the model takes them.

A row is made of pieces of text, each an answer or not, and so is each of its tokens. What `Qwen3VLProcessor` would do
is done here, since it cannot be built without torchvision: the picture is one `<|image_pad|>` in the text, and one for
each cell of its merged grid in the row.

Narrow rows: left to itself the model may read an answer anywhere that knows of it, such as at the word of the question
that has looked for the thing before. In most rows, therefore, nothing but the queries that predict an answer sees the
picture, in all layers; a vision token sees itself. The cells themselves are then where an answer is to be found.
"""

import random
from dataclasses import dataclass
from itertools import chain

import torch
from PIL import Image

from demo.vision import world
from demo.vision.tokenizer import END, IMAGE, chat_text

QUESTIONS_IN_ROW = 3
NARROW_ROWS = 0.8  # With none, a model was right in all pictures, and hiding the cells flipped 32 of 100 answers.
Piece = tuple[str, bool]


@dataclass(frozen=True)
class Row:
    image: Image.Image
    pieces: list[Piece]


def make_batch(rng: random.Random, size: int, tokenizer, processor) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """Rows of training as `encode` gives them, and which of them are narrow."""
    inputs, answers = encode([make_row(rng, tokenizer) for _ in range(size)], tokenizer, processor)
    return inputs, answers, torch.tensor([rng.random() < NARROW_ROWS for _ in range(size)])


def make_row(rng: random.Random, tokenizer) -> Row:
    """A picture, and for up to three of its things one of the two questions about it: no answer stands in the chat."""
    picture = world.make_picture(rng, rng.choice(world.COUNTS))
    pairs = list(zip(picture.questions[::2], picture.questions[1::2]))
    asked = [rng.choice(pair) for pair in rng.sample(pairs, min(len(pairs), QUESTIONS_IN_ROW))]
    return Row(picture.image, list(chain.from_iterable(turn(tokenizer, *numbered) for numbered in enumerate(asked))))


def turn(tokenizer, number: int, question: world.Question) -> list[Piece]:
    """The question, after the picture in the first turn, and its answer with the end token."""
    text = ("\n" if number else "") + chat_text(tokenizer, question.text, picture=number == 0)
    return [(text, False), (question.answer + END, True)]


def encode(rows: list[Row], tokenizer, processor) -> tuple[dict, torch.Tensor]:
    """The model's inputs, and which tokens are answers, `(row, position)`. Rows are padded on the right."""
    pictures = processor(images=[row.image for row in rows], return_tensors="pt")
    cells = (pictures["image_grid_thw"].prod(-1) // processor.merge_size**2).tolist()
    encoded = [encode_row(row, count, tokenizer) for row, count in zip(rows, cells)]
    longest = max(len(ids) for ids, _ in encoded)
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in encoded])
    answers = torch.tensor([flags + [False] * (longest - len(flags)) for _, flags in encoded])
    pads = (ids == tokenizer.convert_tokens_to_ids(IMAGE)).long()
    return {"input_ids": ids, "mm_token_type_ids": pads, **pictures}, answers


def encode_row(row: Row, cells: int, tokenizer) -> tuple[list[int], list[bool]]:
    """Ids of the row, `cells` for its picture, and whether each is of an answer."""
    ids, answers = [], []
    for text, is_answer in row.pieces:
        piece = tokenizer(text.replace(IMAGE, IMAGE * cells), add_special_tokens=False)["input_ids"]
        ids += piece
        answers += [is_answer] * len(piece)
    return ids, answers


def hidden_keys(inputs: dict, answers: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
    """`(row, query, key)`: true where a narrow row's query predicts no answer, and the key is another vision token."""
    picture = inputs["mm_token_type_ids"].bool()
    asks = answers.roll(-1, dims=1)  # A query predicts the token after it.
    others = ~torch.eye(picture.shape[1], dtype=torch.bool)
    return (narrow[:, None] & ~asks)[:, :, None] & picture[:, None, :] & others


def with_mask(model, inputs: dict, hidden: torch.Tensor) -> dict:
    """The inputs with an additive causal mask `(row, 1, query, key)` that hides the keys `hidden`, in all layers.

    The model works positions out beside a mask of two dimensions only, so they are given too.
    """
    seen = torch.ones(hidden.shape[1:], dtype=torch.bool).tril() & ~hidden
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
    kinds, grid = inputs["mm_token_type_ids"], inputs["image_grid_thw"]
    positions, _ = model.model.get_rope_index(inputs["input_ids"], kinds, image_grid_thw=grid)
    return inputs | {"position_ids": positions, "attention_mask": mask}
