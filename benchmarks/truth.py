"""Does the strongest token hold the answer? The demo model on fresh prompts whose answer stands in one place.

    python benchmarks/truth.py                  # 100 prompts, about a minute

Of prompts that the model answers rightly: how often the colour word is the top token when the colour is predicted, and
the container word when the container is, by L2 summed over layers (and over heads), the first position left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.text import world  # noqa: E402
from mask_impact import candidates, models  # noqa: E402
from mask_impact.measure import ModelInputs, measured_layers  # noqa: E402
from mask_impact.settings import Settings  # noqa: E402

SEED, PROMPTS = 4000, 100


def demo() -> models.Subject:
    """The demo model, loaded as the command loads it."""
    settings = Settings(prompt="-", model="demo", device="cpu")
    return models.load(candidates.examine(settings), settings)


def top_positions(subject: models.Subject, ids: list[int]) -> tuple[dict[str, int], int]:
    """The strongest position by each kind of variant, and the token that the model predicts."""
    totals = {kind: np.zeros(len(ids)) for kind in ("Full", "Attn", "Heads")}
    for layer in measured_layers(subject.model, subject.parts, ModelInputs(ids, 1)):
        totals["Full"] += layer.l2[0]
        totals["Attn"] += layer.l2[1]
        totals["Heads"] += layer.l2[2:].sum(0)
    return {kind: 1 + int(np.argmax(total[1:])) for kind, total in totals.items()}, layer.step.next_id


def answered(subject: models.Subject, word: str, count: int, seed: int) -> Iterator[tuple[list[int], int]]:
    """`count` prompts that the model answers rightly, as token ids and the position of the answer's word."""
    tokenizer, found = subject.tokenizer, 0
    for prompt in world.fresh_prompts(seed, 3 * count):
        text, answer, span = prompt.questions[word]
        ids = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            predicted = int(subject.model(torch.tensor([ids])).logits[0, -1].argmax())
        if predicted == tokenizer(answer)["input_ids"][0] and found < count:
            found += 1
            yield ids, world.token_position(tokenizer, text, span)


def counts(subject: models.Subject, word: str, count: int = PROMPTS, seed: int = SEED) -> Counter:
    """How often the top token holds the answer, by kind of variant; "prompts" is how many were looked at."""
    hits: Counter = Counter()
    for ids, position in answered(subject, word, count, seed):
        top, _ = top_positions(subject, ids)
        hits.update(kind for kind, found in top.items() if found == position)
        hits["prompts"] += 1
    return hits


def main() -> None:
    """Print the table: of how many prompts, and by kind of variant how often the top token holds the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    subject = demo()
    print("| answer | prompts | Full | Attn | Heads |\n|---|---|---|---|---|")
    for word in ("colour", "container"):
        found = counts(subject, word, options.prompts, options.seed)
        print(f"| {word} | {found['prompts']} | {found['Full']} | {found['Attn']} | {found['Heads']} |", flush=True)


if __name__ == "__main__":
    main()
