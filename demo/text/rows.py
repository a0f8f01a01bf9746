"""Training rows of the demo model's world, and what each position of a row may see.

A row is about sixty tokens with as many questions as its statements allow: the more answers a row asks for, the sooner
the model learns to look them up. It is made of pieces of text, each of one kind, and so is each token.

Narrow rows: left to itself the model may read an answer anywhere that knows of it, such as one or two tokens after
the word. In most rows, therefore, the query that predicts a colour sees of the statements their colours alone, in all
layers, and the one that predicts a container the containers alone. The words themselves are then where an answer is
always to be found. Other queries, and the other rows, see everything before them.
"""

import random

import torch

from demo.text import world

PADDING, CONTEXT, COLOUR_SAID, CONTAINER_SAID, ANSWER, COLOUR_ASKED, CONTAINER_ASKED = range(-1, 6)  # Kinds of pieces.
NARROW_ROWS = 0.8  # With none, a model was right in all prompts, and hiding the words flipped 0 of 100 of its answers.
TWO_COLOUR_ROWS = 0.3  # There a colour alone does not tell one statement from another.
THINKING_CHATS = 0.3  # Without the empty thought before the answer.
FACTS_IN_ROW = 6
COPIES_IN_ROW = 3
Piece = tuple[str, int]


def make_batch(rng: random.Random, size: int, most: int, tokenizer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids and their kinds, both `(row, position)`, and the attention mask (see `make_mask`).

    `most` is the largest number of statements in a row. Rows are padded on the right with the id 0.
    """
    rows = [encode_row(make_row(rng, most, tokenizer), tokenizer) for _ in range(size)]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    kinds = torch.tensor([kinds + [PADDING] * (longest - len(kinds)) for _, kinds in rows])
    narrow = torch.tensor([rng.random() < NARROW_ROWS for _ in rows])
    return ids, kinds, make_mask(kinds, narrow)


def make_row(rng: random.Random, most: int, tokenizer) -> list[Piece]:
    """A row of questions (65%), a chat (20%), facts (8%) or lists (7%)."""
    draw = rng.random()
    if draw < 0.65:
        return questions_row(rng, most)
    if draw < 0.85:
        return chat_row(rng, most, tokenizer)
    if draw < 0.93:
        return tasks_row(rng.sample(world.facts(), FACTS_IN_ROW))
    return tasks_row([world.make_copy(rng) for _ in range(COPIES_IN_ROW)])


def questions_row(rng: random.Random, most: int) -> list[Piece]:
    """One to `most` statements, the most likelier, and a question about each of them, in any order."""
    count = rng.choice((*range(1, most + 1), most, most))
    prompt = world.make_prompt(rng, count, draw_colours(rng))
    pieces = [piece for statement in prompt.statements for piece in statement_pieces(statement)]
    pieces[0] = (pieces[0][0].removeprefix(" "), CONTEXT)
    for statement in rng.sample(prompt.statements, count):
        pieces += [(f" {statement.question}", CONTEXT), *answer_pieces(statement)]
    return pieces


def draw_colours(rng: random.Random) -> list[str]:
    return rng.sample(world.COLOURS, 2) if rng.random() < TWO_COLOUR_ROWS else world.COLOURS


def statement_pieces(statement: world.Statement) -> list[Piece]:
    words = [(f" {statement.colour}", COLOUR_SAID), (f" {statement.container}", CONTAINER_SAID)]
    return [(f" {statement.opening}", CONTEXT), *words, (".", CONTEXT)]


def answer_pieces(statement: world.Statement) -> list[Piece]:
    words = [(f" {statement.colour}", COLOUR_ASKED), (f" {statement.container}", CONTAINER_ASKED)]
    return [*words, (f".{world.END}", ANSWER)]


def chat_row(rng: random.Random, most: int, tokenizer) -> list[Piece]:
    """A chat about one to `most` statements, in a quarter of the draws about a fact or a list."""
    draw = rng.random()
    if draw < 0.75:
        task = world.chat_about(rng, world.make_prompt(rng, rng.randint(1, most), draw_colours(rng)))
    elif draw < 0.9:
        task = world.chat_about_fact(rng, rng.choice(world.facts()))
    else:
        task = world.chat_about_list(rng, world.make_copy(rng))
    return [(chat_text(tokenizer, task.messages, rng.random() < THINKING_CHATS), CONTEXT), (task.answer, ANSWER)]


def chat_text(tokenizer, messages: tuple[dict, ...], thinking: bool = False) -> str:
    """The messages up to where the assistant's answer starts."""
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )


def tasks_row(tasks: list[world.Task]) -> list[Piece]:
    """Tasks one after the other."""
    pieces = []
    for task in tasks:
        pieces += [(f" {task.text}" if pieces else task.text, CONTEXT), (task.answer, ANSWER)]
    return pieces


def encode_row(pieces: list[Piece], tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the row and the kind of each token."""
    ids, kinds = [], []
    for text, kind in pieces:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        kinds += [kind] * len(piece)
    return ids, kinds


def make_mask(kinds: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
    """Additive attention mask `(row, 1, query, key)`: causal, with the questions of `narrow` rows seeing less."""
    length = kinds.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril() & ~hidden_keys(kinds, narrow)
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]


def hidden_keys(kinds: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
    """`(row, query, key)`: true where a narrow row's question asks for one kind of word and the key is not of it."""
    stated = within_statements(kinds)
    asked = kinds.roll(-1, dims=1)  # A query predicts the token after it.
    hidden = torch.zeros(*kinds.shape, kinds.shape[1], dtype=torch.bool)
    for ask, said in ((COLOUR_ASKED, COLOUR_SAID), (CONTAINER_ASKED, CONTAINER_SAID)):
        hidden |= (narrow[:, None] & (asked == ask))[:, :, None] & (stated & (kinds != said))[:, None, :]
    return hidden


def within_statements(kinds: torch.Tensor) -> torch.Tensor:
    """`(row, position)`: true up to the full stop after the last container that was said."""
    container_at_or_after = (kinds == CONTAINER_SAID).flip(1).cumsum(1).flip(1) > 0
    return container_at_or_after | (kinds == CONTAINER_SAID).roll(1, dims=1)
