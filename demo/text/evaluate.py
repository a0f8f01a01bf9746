"""Measure the demo text model: how often it is right, and where it reads its answers.

    python -m demo.text.evaluate                     # the model that the repository carries, in seconds

Exact: the model's greedy continuation is the whole true answer, with its end token, to the token.

Flips: the final position is kept from the word that holds the answer, in all layers, by a mask given to the model;
all other queries still see it. A model that reads the answer at the word itself then says something else. A model can
lawfully read elsewhere: one that gathers each statement in its full stop, and reads it there, goes on saying the same.
The words of fresh prompts may repeat, and one that another statement says too can be said by luck: flips are counted
over all prompts, and apart from these over those whose statements say the word once.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import training
from demo.text import world
from demo.text.rows import chat_text

MODEL_FOLDER = Path(__file__).parent / "model"
REPORT_SEED = 1000  # Reported figures are on these prompts; other ones choose between models.
PROMPTS = 300
COPIES = 100
FLIPS_COUNTED = 100
FLIPS_DRAWN = 200  # So that enough of them are answered rightly.
SAME_LOGITS = 1e-4  # Two attention kernels' rounding in float32, on logits of about 20; a wrong mask moves them by 1.


def main() -> None:
    """Print the figures of a saved model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL_FOLDER, help="a folder that train.py wrote")
    parser.add_argument("--seed", type=int, default=REPORT_SEED, help="seed of the prompts (%(default)s)")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    print(training.as_json(measure(model, tokenizer, arguments.seed)))


def measure(model, tokenizer, seed: int) -> dict:
    """All figures on prompts drawn from `seed`, each as a pair `[so many, of so many]`."""
    check_mask(model, tokenizer)
    prompts = world.fresh_prompts(seed, FLIPS_DRAWN)
    said_once = {word: [prompt for prompt in prompts if prompt.says_once(word)] for word in world.WORDS_ASKED}
    return {
        "prompt_seed": seed,
        "exact": {name: count_exact(model, tokenizer, tasks) for name, tasks in exact_tasks(tokenizer, seed).items()},
        "flips": {word: count_flips(model, tokenizer, prompts, word) for word in world.WORDS_ASKED},
        "flips_said_once": {word: count_flips(model, tokenizer, said_once[word], word) for word in world.WORDS_ASKED},
    }


def exact_tasks(tokenizer, seed: int) -> dict[str, list[world.Task]]:
    """Fresh tasks of every kind that the model knows, chats written out as text."""
    statements = {
        f"statements_{count}": [prompt.task for prompt in world.fresh_prompts(seed, PROMPTS, (count,))]
        for count in world.STATEMENT_COUNTS
    }
    chats = [*world.fresh_chats(seed, PROMPTS), *world.fact_chats(seed)]
    return statements | {
        "facts": world.facts(),
        "lists": world.fresh_copies(seed, COPIES),
        "chats": [world.Task(chat_text(tokenizer, chat.messages), chat.answer) for chat in chats],
        "chats_thinking": [world.Task(chat_text(tokenizer, chat.messages, True), chat.answer) for chat in chats],
    }


@torch.inference_mode()
def count_exact(model, tokenizer, tasks: list[world.Task]) -> list[int]:
    return [sum(is_exact(model, tokenizer, task) for task in tasks), len(tasks)]


def is_exact(model, tokenizer, task: world.Task) -> bool:
    """Greedy decoding gives the answer exactly when each of its tokens is the likeliest after those before it."""
    prompt, answer = encode(tokenizer, task.text), encode(tokenizer, task.answer)
    likeliest = model(torch.tensor([prompt + answer])).logits[0].argmax(-1)
    return likeliest[len(prompt) - 1 : -1].tolist() == answer


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.inference_mode()
def count_flips(model, tokenizer, prompts: list[world.Prompt], word: str) -> list[int]:
    """Flips among the first `FLIPS_COUNTED` of `prompts` that are answered rightly; `word` is one of WORDS_ASKED."""
    answers = (flips(model, tokenizer, *prompt.questions[word]) for prompt in prompts)
    counted = [flipped for flipped in answers if flipped is not None][:FLIPS_COUNTED]
    return [sum(counted), len(counted)]


def flips(model, tokenizer, text: str, answer: str, span: tuple[int, int]) -> bool | None:
    """Whether the answer changes when the last row cannot see the word at `span`; None if it was wrong without that."""
    ids, key = torch.tensor([encode(tokenizer, text)]), world.token_position(tokenizer, text, span)
    right = encode(tokenizer, answer)[0]
    if model(ids).logits[0, -1].argmax() != right:
        return None
    return bool(model(ids, attention_mask=causal_mask(ids.shape[1], key)).logits[0, -1].argmax() != right)


def causal_mask(length: int, blocked: int | None = None) -> torch.Tensor:
    """Additive causal mask `(1, 1, query, key)`; the last query is also kept from the key `blocked`."""
    lowest = torch.finfo(torch.float32).min
    mask = torch.full((length, length), lowest).triu(1)
    if blocked is not None:
        mask[-1, blocked] = lowest
    return mask[None, None]


@torch.inference_mode()
def check_mask(model, tokenizer) -> None:
    """RuntimeError unless the causal mask changes no logit, and a blocked key has the weight 0 in the last row of
    every head of every layer, and in no other row."""
    prompt = world.fresh_prompts(0, 1)[0]
    ids = torch.tensor([encode(tokenizer, prompt.text)])
    key = world.token_position(tokenizer, prompt.text, prompt.colour_span)
    unblocked, blocked = causal_mask(ids.shape[1]), causal_mask(ids.shape[1], key)
    if (model(ids).logits - model(ids, attention_mask=unblocked).logits).abs().max() > SAME_LOGITS:
        raise RuntimeError("a mask that blocks nothing changed the logits")
    for layer, weights in enumerate(attention_weights(model, ids, blocked)):
        if weights[0, :, -1, key].any() or not weights[0, :, key:-1, key].all():
            raise RuntimeError(f"the mask did not block the last row, and it alone, in layer {layer}")


def attention_weights(model, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Per layer the attention weights `(1, head, query, key)`, from the one implementation that returns them."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return model(ids, attention_mask=mask, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(usual)


if __name__ == "__main__":
    main()
