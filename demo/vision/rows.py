"""Rows of the demo vision model: a picture and a chat about it, as the model takes them.

A row is made of pieces of text, each an answer or not, and so is each of its tokens. What `Qwen3VLProcessor` would do
is done here, since it cannot be built without torchvision: the picture is one `<|image_pad|>` in the text, and one for
each cell of its merged grid in the row.
"""

import random
from dataclasses import dataclass
from itertools import chain

import torch
from PIL import Image

from demo.vision import world
from demo.vision.tokenizer import END, IMAGE, chat_text

QUESTIONS_IN_ROW = 3
Piece = tuple[str, bool]


@dataclass(frozen=True)
class Row:
    image: Image.Image
    pieces: list[Piece]


def make_batch(rng: random.Random, size: int, tokenizer, processor) -> tuple[dict, torch.Tensor]:
    """Rows of training as `encode` gives them: pictures of two to four things, up to three of them asked about."""
    return encode([make_row(rng, tokenizer) for _ in range(size)], tokenizer, processor)


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
