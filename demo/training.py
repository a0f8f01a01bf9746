"""What the demo models' trainings share: optimizers, the course of their rates, what is saved, and the figures."""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig

WARM_UP_STEPS = 60
DECAY_SHARE = 0.4  # Of the steps, at the end: the rates go to 0 in a straight line.


def make_optimizers(model, layers: list[torch.nn.Module], rates: tuple[float, float]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices in `layers`, at the first rate; AdamW for everything else, at the second."""
    matrices = [weight for layer in layers for weight in layer.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [torch.optim.Muon(matrices, lr=rates[0]), torch.optim.AdamW(others, lr=rates[1])]


def set_rates(optimizers: list[torch.optim.Optimizer], rates: tuple[float, float], factor: float) -> None:
    for optimizer, rate in zip(optimizers, rates):
        optimizer.param_groups[0]["lr"] = rate * factor


def rate_factor(step: int, steps: int) -> float:
    """In (0, 1]: up in `WARM_UP_STEPS`, constant, down over the last `DECAY_SHARE` of the steps."""
    return min((step + 1) / WARM_UP_STEPS, 1, (steps - step) / (DECAY_SHARE * steps))


def save(folder: Path, model, tokenizer) -> None:
    """Weights in float32, configuration, tokenizer, chat template and the tokens that end a text."""
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def as_json(figures: dict) -> str:
    """One line for each key."""
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in figures.items()) + "\n}"


def report(folder: Path, figures: dict) -> None:
    """Print the figures, and write them beside the model's folder."""
    print(as_json(figures))
    (folder.parent / "evaluation.json").write_text(as_json(figures) + "\n", encoding="utf-8", newline="\n")
