"""Does the strongest token hold the answer? The demo model on fresh prompts whose answer stands in one place.

    python benchmarks/truth.py                  # 100 prompts, about a minute
    python benchmarks/truth.py --units          # 100 prompts in sentences, and two words hidden as one
    python benchmarks/truth.py --vl             # 100 pictures, likewise
    python benchmarks/truth.py --knockouts      # 100 prompts: what the answer rests on; with --vl, 100 pictures

Of prompts that the model answers rightly: how often the colour word is the top token when the colour is predicted, and
the container word when the container is, by L2 summed over layers (and over heads), the first position left out.

In sentences: how often the strongest statement is the one that holds the answer (the question, which is asked last, is
none), and how often the answer's colour and container hidden as one move more than each of them alone. Both are summed
over the two steps in which the model says the two words: in one step only one of them matters.

Of pictures, whatever the model answers: how often the top token of all, words and patches and the first position
included, is a patch of the thing asked about.

By knock-outs, of prompts and pictures that are answered rightly: benchmarks/truth_knockouts.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import truth_knockouts
from demo.text import world
from demo.vision import world as vision_world
from mask_impact.cuts.key_sets import KeySets
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import ModelInputs
from mask_impact.models import info, loading
from mask_impact.models.vision import qwen3_vl
from mask_impact.models.vision.picture_tokens import VisionInputs
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

SEED, PROMPTS = 4000, 100


def demo() -> loading.LoadedModel:
    """The demo model, loaded as the command loads it."""
    settings = Settings(prompt="-", model="demo", device="cpu")
    return loading.load(info.examine(settings), settings)


def vision_demo() -> loading.LoadedModel:
    """The demo vision model, likewise."""
    settings = VisionSettings(prompt="-", model="demo", device="cpu")
    return loading.load(qwen3_vl.examine(settings), settings)


def summed(
    loaded: loading.LoadedModel, inputs: ModelInputs, sets: int | None = None
) -> tuple[dict[str, np.ndarray], int]:
    """L2 summed over layers, by kind of variant (position,) or (set,), and the token that the model predicts."""
    totals = {kind: np.zeros(sets or len(inputs.token_ids)) for kind in ("Full", "Attn", "Heads")}
    for layer in measured_layers(loaded.model, loaded.parts(), inputs):
        totals["Full"] += layer.l2[0]
        totals["Attn"] += layer.l2[1]
        totals["Heads"] += layer.l2[2:].sum(0)
    return totals, layer.step.next_id


def top_positions(loaded: loading.LoadedModel, ids: list[int]) -> tuple[dict[str, int], int]:
    """The strongest position but the first by each kind of variant, and the token that the model predicts."""
    totals, predicted = summed(loaded, ModelInputs(ids, 1))
    return {kind: 1 + int(np.argmax(total[1:])) for kind, total in totals.items()}, predicted


def answered(loaded: loading.LoadedModel, word: str, count: int, seed: int) -> Iterator[tuple[list[int], int]]:
    """`count` prompts that the model answers rightly, as token ids and the position of the answer's word."""
    tokenizer, found = loaded.tokenizer, 0
    for prompt in world.fresh_prompts(seed, 3 * count):
        text, answer, span = prompt.questions[word]
        ids = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            predicted = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
        if predicted == tokenizer(answer)["input_ids"][0] and found < count:
            found += 1
            yield ids, world.token_position(tokenizer, text, span)


def counts(loaded: loading.LoadedModel, word: str, count: int = PROMPTS, seed: int = SEED) -> Counter:
    """How often the top token holds the answer, by kind of variant; "prompts" is how many were looked at."""
    hits: Counter = Counter()
    for ids, position in answered(loaded, word, count, seed):
        top, _ = top_positions(loaded, ids)
        hits.update(kind for kind, found in top.items() if found == position)
        hits["prompts"] += 1
    return hits


def unit_counts(loaded: loading.LoadedModel, count: int = PROMPTS, seed: int = SEED) -> Counter:
    """How often the strongest statement holds the answer, and the two words as one beat each alone, by kind of
    variant; "prompts" is how many were looked at."""
    hits: Counter = Counter()
    for ids, position in answered(loaded, "colour", count, seed):
        text = loaded.tokenizer.decode(ids)
        words = loaded.tokenizer.decode(ids[position : position + 2])
        asked = loaded.model_info.prompt_inputs(
            Settings(prompt=text, model="demo", units=("sentences", "tokens"), spans=(f"words={words}",))
        )
        units = asked.units(ids)
        assert units is not None and asked.token_ids == ids, "units are asked for, of the same tokens"
        place = {(unit.kind, unit.positions): number for number, unit in enumerate(units)}
        statements = [number for number, unit in enumerate(units) if unit.kind == "sentences"][:-1]
        fed = ModelInputs(ids, 2, sets=lambda _: KeySets.of(unit.positions for unit in units))
        totals, _ = summed(loaded, fed, len(units))
        alone = [place["tokens", (one,)] for one in (position, position + 1)]
        both = place["spans", (position, position + 1)]
        for kind, total in totals.items():
            strongest = max(statements, key=lambda number: total[number])
            hits["statement", kind] += position in units[strongest].positions
            hits["both", kind] += all(total[both] > total[one] for one in alone)
        hits["prompts"] += 1
    return hits


def picture_counts(loaded: loading.LoadedModel, count: int = PROMPTS, seed: int = SEED) -> Counter:
    """How often the top token of all is a patch of the thing asked about, by kind of variant;
    "right" counts right answers.

    Each picture is asked one question, about a thing's colour and about its shape in turns.
    """
    hits: Counter = Counter(pictures=count)
    for path, question in picture_questions(count, seed):
        asked = loaded.model_info.prompt_inputs(
            VisionSettings(prompt=question.text, image=path, mask_mode="both", model="demo")
        )
        assert isinstance(asked, VisionInputs), "the prompt has a picture"
        cells = {(0, *cell) for cell in question.asked.cells}
        fed = ModelInputs(
            asked.token_ids,
            1,
            masked=asked.masked,
            further=lambda ids, asked=asked: asked.further(ids, torch.device("cpu")),
        )
        totals, predicted = summed(loaded, fed)
        hits.update(kind for kind, total in totals.items() if tuple(asked.places[np.argmax(total)].tolist()) in cells)
        hits["right"] += predicted == loaded.tokenizer(question.answer)["input_ids"][0]
    return hits


def picture_questions(count: int, seed: int) -> Iterator[tuple[str, vision_world.Question]]:
    """`count` pictures in files, each with a question; about a thing's colour and about its shape in turns."""
    with tempfile.TemporaryDirectory() as folder:
        for index, picture in enumerate(vision_world.fresh_pictures(seed, count)):
            path = str(Path(folder, f"{index}.png"))
            picture.image.save(path)
            yield path, picture.questions[index % 2]


def knockout_table(vl: bool, count: int, seed: int) -> str:
    """What knock-outs name, of prompts or of pictures."""
    if vl:
        questions = picture_questions(2 * count, seed)
        found = {"thing": truth_knockouts.picture_counts(vision_demo(), questions, count)}
        return truth_knockouts.table(found, truth_knockouts.COLUMNS)
    loaded = demo()
    found = {
        word: truth_knockouts.prompt_counts(loaded, answered(loaded, word, count, seed)) for word in world.WORDS_ASKED
    }
    return truth_knockouts.table(found, [name for name in truth_knockouts.COLUMNS if name != "around"])


def main() -> None:
    """Print the table: of how many prompts or pictures,
    and by kind of variant how often the top token holds the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", action="store_true", help="sentences, and two words hidden as one")
    parser.add_argument("--vl", action="store_true", help="the demo vision model, on fresh pictures")
    parser.add_argument("--knockouts", action="store_true", help="what the answer rests on, by the cut `all`")
    parser.add_argument(
        "--prompts", type=int, default=PROMPTS, help="how many prompts or pictures (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    if options.knockouts:
        print(knockout_table(options.vl, options.prompts, options.seed))
        return
    if options.vl:
        found = picture_counts(vision_demo(), options.prompts, options.seed)
        print(
            "| pictures | answered rightly | Full | Attn | Heads |\n|---|---|---|---|---|\n"
            f"| {found['pictures']} | {found['right']} | {found['Full']} | {found['Attn']} | {found['Heads']} |"
        )
        return
    loaded = demo()
    if options.units:
        found = unit_counts(loaded, options.prompts, options.seed)
        print("| of the prompts | prompts | Full | Attn | Heads |\n|---|---|---|---|---|")
        for what in ("statement", "both"):
            shown = " | ".join(str(found[what, kind]) for kind in ("Full", "Attn", "Heads"))
            print(f"| {what} | {found['prompts']} | {shown} |", flush=True)
        return
    print("| answer | prompts | Full | Attn | Heads |\n|---|---|---|---|---|")
    for word in ("colour", "container"):
        found = counts(loaded, word, options.prompts, options.seed)
        print(f"| {word} | {found['prompts']} | {found['Full']} | {found['Attn']} | {found['Heads']} |", flush=True)


if __name__ == "__main__":
    main()
