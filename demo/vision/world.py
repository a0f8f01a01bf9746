"""The small world that the demo vision model looks at, and questions about it with the answer known.

A picture shows two to four things on a plain pale ground, no two alike in shape or in colour, and each can be asked for
in two ways:

    What color is the circle? -> `red`           What shape is blue? -> `square`

    >>> from demo.vision.world import fresh_pictures
    >>> picture = fresh_pictures(seed=1, count=1)[0]
    >>> picture.image.save("picture.png")
    >>> [(question.text, question.answer, question.asked.cells) for question in picture.questions]

    python -m demo.vision.world                  # writes testimg.png, a picture of this world, at the repository's root

A picture is 96x96 pixels, which the model sees as 6x6 cells of 16 pixels, one vision token each. Every thing lies
within one cell, anywhere in it. All draws come from the seed given, never from a global state.
"""

import math
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PATCH_SIZE, MERGE_SIZE = 8, 2  # Pixels of the encoder's patch, and patches on the side of a vision token's cell.
CELL = PATCH_SIZE * MERGE_SIZE
SIDE_CELLS = 6
SIDE = SIDE_CELLS * CELL
FINE = 4  # Things are drawn this much larger and reduced, so that their edges are smooth.

COUNTS = (2, 3, 4)
SIZES = (11.0, 14.0)  # Pixels; the thing's whole width and height.
MARGIN = 0.5  # Pixels between a thing and the border of its cell, so that no edge pixel falls into the next cell.
GROUND_LEVELS = (215, 250)  # Of red, green and blue, each by itself.
COLORS = {
    "red": (220, 30, 35),
    "orange": (250, 135, 15),
    "yellow": (245, 215, 25),
    "green": (35, 150, 55),
    "blue": (30, 80, 215),
    "purple": (125, 45, 165),
    "pink": (250, 125, 185),
    "black": (20, 20, 20),
}
COLOR_SHIFT = 12  # Largest change of each level of a thing's colour.


def star_points() -> list[tuple[float, float]]:
    """Five points at radius 1 and five between them, the first upwards."""
    turns = [(index * math.pi / 5, 1.0 if index % 2 == 0 else 0.4) for index in range(10)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in turns]


THIRD = 1 / 3
# In units of half the thing's size, from its centre, y downwards; the circle has none.
CORNERS: dict[str, list[tuple[float, float]]] = {
    "circle": [],
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -0.9), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.75, 0), (0, 1), (-0.75, 0)],
    "cross": [
        (-THIRD, -1),
        (THIRD, -1),
        (THIRD, -THIRD),
        (1, -THIRD),
        (1, THIRD),
        (THIRD, THIRD),
        (THIRD, 1),
        (-THIRD, 1),
        (-THIRD, THIRD),
        (-1, THIRD),
        (-1, -THIRD),
        (-THIRD, -THIRD),
    ],
    "star": star_points(),
}
SHAPES = tuple(CORNERS)

ROOT_PICTURE = Path(__file__).resolve().parents[2] / "testimg.png"
ROOT_PICTURE_SEED = 697


@dataclass(frozen=True)
class Thing:
    """A shape of one colour; `paint` is its colour in levels, `centre` (x, y) and `size` are in pixels."""

    shape: str
    color: str
    paint: tuple[int, int, int]
    centre: tuple[float, float]
    size: float

    @cached_property
    def coverage(self) -> Image.Image:
        """How much of each pixel of the picture it covers: a grey picture, 0 to 255."""
        fine = Image.new("L", (SIDE * FINE, SIDE * FINE), 0)
        draw, half = ImageDraw.Draw(fine), self.size * FINE / 2
        x, y = (part * FINE for part in self.centre)
        if self.shape == "circle":
            draw.ellipse((x - half, y - half, x + half, y + half), fill=255)
        else:
            draw.polygon([(x + half * right, y + half * down) for right, down in CORNERS[self.shape]], fill=255)
        return fine.reduce(FINE)

    @property
    def cells(self) -> tuple[tuple[int, int], ...]:
        """The cells (row, column) of the merged grid in which it has a pixel, in the order of the vision tokens."""
        covered = np.asarray(self.coverage).reshape(SIDE_CELLS, CELL, SIDE_CELLS, CELL).any(axis=(1, 3))
        return tuple((int(row), int(column)) for row, column in np.argwhere(covered))


@dataclass(frozen=True)
class Question:
    """`answer` is one word; `asked` is the thing that holds it."""

    text: str
    answer: str
    asked: Thing


@dataclass(frozen=True)
class Picture:
    """Things on a plain ground, no two of one shape or one colour."""

    ground: tuple[int, int, int]
    things: tuple[Thing, ...]

    @property
    def image(self) -> Image.Image:
        image = Image.new("RGB", (SIDE, SIDE), self.ground)
        for thing in self.things:
            image.paste(thing.paint, mask=thing.coverage)
        return image

    @property
    def questions(self) -> list[Question]:
        """Two about each thing: of what colour its shape is, then of what shape its colour is."""
        return [
            question
            for thing in self.things
            for question in (
                Question(f"What color is the {thing.shape}?", thing.color, thing),
                Question(f"What shape is {thing.color}?", thing.shape, thing),
            )
        ]


def fresh_pictures(seed: int, count: int, things: tuple[int, ...] = COUNTS) -> list[Picture]:
    """`count` pictures, each of a number of things drawn from `things`; the training draws share nothing with them."""
    rng = random.Random(f"fresh pictures {seed}")
    return [make_picture(rng, rng.choice(things)) for _ in range(count)]


def make_picture(rng: random.Random, count: int) -> Picture:
    """A picture of `count` things, each in a cell of its own."""
    ground = tuple(rng.randint(*GROUND_LEVELS) for _ in range(3))
    cells = rng.sample(range(SIDE_CELLS**2), count)
    kinds = zip(rng.sample(SHAPES, count), rng.sample(list(COLORS), count))
    return Picture(ground, tuple(make_thing(rng, *kind, divmod(cell, SIDE_CELLS)) for kind, cell in zip(kinds, cells)))


def make_thing(rng: random.Random, shape: str, color: str, cell: tuple[int, int]) -> Thing:
    """The thing somewhere within the cell (row, column), in a size and a tone of its own."""
    size = rng.uniform(*SIZES)
    near, far = size / 2 + MARGIN, CELL - size / 2 - MARGIN
    y, x = (CELL * place + rng.uniform(near, far) for place in cell)
    paint = tuple(min(255, max(0, level + rng.randint(-COLOR_SHIFT, COLOR_SHIFT))) for level in COLORS[color])
    return Thing(shape, color, paint, (x, y), size)


def root_picture() -> Picture:
    """The picture in testimg.png: four things, a red circle and a blue square among them."""
    return fresh_pictures(ROOT_PICTURE_SEED, 1, (4,))[0]


if __name__ == "__main__":
    root_picture().image.save(ROOT_PICTURE)
