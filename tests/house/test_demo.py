"""The demo model against known truth: it answers rightly, reads the answer where it stands, and the table says so.

The prompts are drawn from seeds that neither trained nor chose the model.
"""

import pytest

from benchmarks import truth, truth_knockouts
from demo.text import evaluate, world

SEED = 7000


@pytest.fixture(scope="module")
def demo():
    return truth.demo()


KINDS = ["statements_1", "statements_2", "statements_3", "statements_4", "facts", "lists", "chats"]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_rightly(demo, kind, monkeypatch):
    """At least 99% of fresh prompts to the last token, end token included, and every fact."""
    monkeypatch.setattr(evaluate, "PROMPTS", 100)
    tasks = evaluate.exact_tasks(demo.tokenizer, SEED)[kind]
    right, total = evaluate.count_exact(demo.model, demo.tokenizer, tasks)
    assert total >= 30
    assert right >= (total if kind == "facts" else 0.99 * total)


@pytest.mark.parametrize("word", ["colour", "container"])
def test_the_top_token_holds_the_answer(demo, word):
    """In at least 95 of 100, by Full L2 summed over layers, the first position left out."""
    found = truth.counts(demo, word, seed=SEED)
    assert found["prompts"] == 100
    assert found["Full"] >= 95


def test_the_answer_is_read_there(demo):
    """Kept from the colour word in all layers, the last row gives another answer in at least 90 of 100."""
    evaluate.check_mask(demo.model, demo.tokenizer)
    flipped, total = evaluate.count_flips(demo.model, demo.tokenizer, world.fresh_prompts(SEED, 130), "colour")
    assert total == 100
    assert flipped >= 90


def test_a_wrong_place_would_be_seen(demo):
    """The same count with the next position in the answer's place: the test above could fail."""
    prompts = truth.answered(demo, "colour", 20, SEED)
    hits = sum(truth.top_positions(demo, ids)[0]["Full"] == position + 1 for ids, position in prompts)
    assert hits <= 2


def test_knockouts_name_the_token_that_holds_the_answer(demo):
    """And without it another answer follows; with the next position in its place nothing of the kind is found.
    `python benchmarks/truth.py --knockouts` takes 100 prompts."""
    prompts = list(truth.answered(demo, "colour", 10, SEED))
    found = truth_knockouts.prompt_counts(demo, prompts)
    assert found["prompts"] == found["beside"] == found["named"] == 10 and found["changed"] >= 9
    wrong = truth_knockouts.prompt_counts(demo, [(ids, position + 1) for ids, position in prompts])
    assert wrong["beside"] == wrong["changed"] == 0


def test_the_demo_is_small():
    files = [path for path in evaluate.MODEL_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
