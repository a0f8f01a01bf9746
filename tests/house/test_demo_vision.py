"""The demo vision model against known truth: its world is as it says, and the model answers rightly about it.

The pictures are drawn from seeds that neither trained nor chose the model.
"""

import dataclasses
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import truth, truth_knockouts
from demo import vocabulary
from demo.vision import evaluate, rows, tokenizer, world

SEED = 7000
FOLDER_BYTES = 6_000_000


@pytest.fixture(scope="module")
def demo():
    return evaluate.load()


@pytest.mark.parametrize("kind", ["color", "shape"])
@pytest.mark.parametrize("things", world.COUNTS)
def test_answers_rightly(demo, things, kind):
    """At least 98% of fresh pictures to the last token, end token included."""
    right, total = evaluate.count_exact(demo, world.fresh_pictures(SEED, 60, (things,)), kind)
    assert total == 60 * things
    assert right >= 0.98 * total


def test_the_answer_is_read_in_the_picture(demo):
    """Kept from the cells of the thing asked about, the last row says something else; from another thing's, not."""
    found = evaluate.count_flips(demo, world.fresh_pictures(SEED, 110))
    assert found["asked"][1] == found["another"][1] == 100
    assert found["asked"][0] >= 90
    assert found["another"][0] <= 5


def test_the_top_token_of_all_is_a_patch_of_the_thing_asked_about():
    """By Full L2 summed over layers, the first position included;
    `python benchmarks/truth.py --vl` takes 100 pictures."""
    found = truth.picture_counts(truth.vision_demo(), 20, SEED)
    assert found["pictures"] == 20 and found["Full"] >= 19


def test_knockouts_name_the_cell_of_the_thing_asked_about():
    """And without it another answer follows; `python benchmarks/truth.py --knockouts --vl` takes 100 pictures."""
    found = truth_knockouts.picture_counts(truth.vision_demo(), truth.picture_questions(12, SEED), 10)
    assert found["prompts"] == found["beside"] == found["named"] == 10 and found["changed"] >= 9


def test_a_wrong_cell_would_be_seen(monkeypatch):
    """The same count with the next cell of the row in the thing's place: the test above could fail."""
    cells = world.Thing.cells.fget
    monkeypatch.setattr(
        world.Thing, "cells", property(lambda thing: tuple((row, (col + 1) % 6) for row, col in cells(thing)))
    )
    assert truth.picture_counts(truth.vision_demo(), 10, SEED)["Full"] <= 2


def test_a_mask_that_blocks_nothing_changes_nothing(demo):
    picture = world.fresh_pictures(SEED, 1)[0]
    inputs = evaluate.question_inputs(demo, picture, picture.questions[0])
    usual, masked = demo.model(**inputs).logits, evaluate.masked_logits(demo, inputs, [])
    assert (usual - masked).abs().max() < 1e-4
    blocked = evaluate.masked_logits(demo, inputs, evaluate.cell_positions(inputs, picture.things[0]))
    assert torch.equal(masked[0, :-1], blocked[0, :-1])
    assert (masked[0, -1] - blocked[0, -1]).abs().max() > 1


@pytest.mark.parametrize("question, answer", [("What color is the circle?", "red"), ("What shape is blue?", "square")])
def test_generates_the_answer_about_the_picture_at_the_root(demo, question, answer):
    row = rows.Row(Image.open(world.ROOT_PICTURE), [(tokenizer.chat_text(demo.tokenizer, question), False)])
    inputs, _ = rows.encode([row], demo.tokenizer, demo.processor)
    ids = demo.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert demo.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :]) == answer + tokenizer.END


def test_the_picture_at_the_root_is_of_this_world():
    with Image.open(world.ROOT_PICTURE) as image:
        assert np.array_equal(np.asarray(image), np.asarray(world.root_picture().image))
    kinds = {(thing.color, thing.shape) for thing in world.root_picture().things}
    assert len(kinds) == 4 and kinds > {("red", "circle"), ("blue", "square")}


def test_the_demo_is_small():
    files = [path for path in evaluate.MODEL_FOLDER.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"config.json", "generation_config.json", "preprocessor_config.json"}
    assert sum(path.stat().st_size for path in files) < FOLDER_BYTES


def test_the_saved_tokenizer_is_the_learnt_one(demo):
    """`AutoTokenizer` gives the ids that the learnt vocabulary gives, and each word of the world is one token."""
    learner = tokenizer.learn_vocabulary()
    texts = tokenizer.world_texts(demo.tokenizer)
    assert texts[0].startswith("<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What ")
    assert texts[0].count("<|im_end|>\n<|im_start|>assistant\n") == 1
    vocabulary.check_reload(evaluate.MODEL_FOLDER, learner, texts)
    assert len(demo.tokenizer) == learner.get_vocab_size() == demo.model.config.text_config.vocab_size
    for word in (*world.SHAPES, *world.COLORS):
        assert [len(demo.tokenizer(text)["input_ids"]) for text in (word, f" {word}")] == [1, 1]


def test_the_configurations_ids_are_the_tokenizers(demo):
    named = {"image": "<|image_pad|>", "video": "<|video_pad|>"} | {
        f"vision_{edge}": f"<|vision_{edge}|>" for edge in ("start", "end")
    }
    ids = {name: getattr(demo.model.config, f"{name}_token_id") for name in named}
    assert ids == {name: demo.tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}


@pytest.mark.parametrize(
    "size, grid",
    [((96, 96), (12, 12)), ((32, 32), (4, 4)), ((160, 64), (8, 20)), ((512, 512), (64, 64)), ((2048, 1024), (44, 90))],
)
def test_pictures_of_many_sizes_are_taken(demo, size, grid):
    """Up to 512x512 pixels as they are, larger ones reduced to at most 1,024 vision tokens; width first in `size`."""
    row = rows.Row(Image.new("RGB", size, "red"), [(tokenizer.chat_text(demo.tokenizer, "What shape is red?"), False)])
    inputs, _ = rows.encode([row], demo.tokenizer, demo.processor)
    assert inputs["image_grid_thw"].tolist() == [[1, *grid]]
    assert inputs["mm_token_type_ids"].sum() == grid[0] * grid[1] / 4 <= 1024
    assert demo.model(**inputs, logits_to_keep=1).logits.isfinite().all()


def test_a_picture_of_the_world_is_not_resized(demo):
    """The first and the last pixel of the model's input are the picture's, on the scale from -1 to 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (world.SIDE, world.SIDE, 3), dtype=np.uint8)
    values = demo.processor(images=[Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]
    patches = values.reshape(-1, 3, 2, world.PATCH_SIZE, world.PATCH_SIZE)
    corners = [patches[0, :, 0, 0, 0], patches[-1, :, 1, -1, -1]]
    for corner, pixel in zip(corners, (pixels[0, 0], pixels[-1, -1])):
        assert np.allclose(corner.numpy(), pixel / 127.5 - 1, atol=1e-6)


def test_text_alone_is_taken(demo):
    prompt = tokenizer.chat_text(demo.tokenizer, "Hello, what color is it?", picture=False)
    inputs = demo.tokenizer(prompt, return_tensors="pt")
    assert demo.model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def test_contents_may_be_plain_text(demo):
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    text = demo.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"


def test_one_seed_gives_one_world():
    first, again, other = (world.fresh_pictures(seed, 20) for seed in (3, 3, 4))
    assert first == again and first != other
    assert [picture.image.tobytes() for picture in first] == [picture.image.tobytes() for picture in again]
    random.seed(0)
    assert world.fresh_pictures(3, 20) == first


def test_no_two_things_of_a_picture_are_alike():
    pictures = world.fresh_pictures(SEED, 200)
    assert {len(picture.things) for picture in pictures} == {2, 3, 4}
    for picture in pictures:
        for kind in ("shape", "color", "cells"):
            kinds = [getattr(thing, kind) for thing in picture.things]
            assert len(set(kinds)) == len(kinds)


def test_the_cells_are_where_the_thing_is():
    """Taken out of the picture, a thing changes pixels in each of its cells and in no other."""
    for picture in world.fresh_pictures(SEED, 100):
        for thing in picture.things:
            others = tuple(other for other in picture.things if other is not thing)
            without = dataclasses.replace(picture, things=others)
            changed = (np.asarray(picture.image) != np.asarray(without.image)).any(-1)
            found = {(y // world.CELL, x // world.CELL) for y, x in np.argwhere(changed).tolist()}
            assert set(thing.cells) == found and len(found) == 1


def test_a_thing_over_a_border_has_both_cells():
    thing = world.Thing("square", "red", (220, 30, 35), (2 * world.CELL, 3.5 * world.CELL), 12.0)
    assert thing.cells == ((3, 1), (3, 2))


def test_a_things_colour_is_that_of_its_pixels():
    for picture in world.fresh_pictures(SEED, 50):
        for thing in picture.things:
            pixel = picture.image.getpixel(tuple(int(part) for part in thing.centre))
            nearest = min(world.COLORS, key=lambda name: np.abs(np.subtract(world.COLORS[name], pixel)).sum())
            assert nearest == thing.color


def test_no_row_of_training_says_an_answer_before_it_is_asked(demo):
    rng = random.Random(0)
    for _ in range(50):
        row = rows.make_row(rng, demo.tokenizer)
        assert sum(is_answer for _, is_answer in row.pieces) in (2, 3)
        for index, (text, is_answer) in enumerate(row.pieces):
            if is_answer:
                said = "".join(earlier for earlier, _ in row.pieces[:index])
                assert text.removesuffix(tokenizer.END) not in re.findall(r"\w+", said)


def test_a_row_is_its_text(demo):
    """In pieces or in one, the text gives the same tokens; the picture's are one for each cell of the merged grid."""
    row = rows.make_row(random.Random(1), demo.tokenizer)
    whole = "".join(text for text, _ in row.pieces)
    inputs, answers = rows.encode([row], demo.tokenizer, demo.processor)
    ids = inputs["input_ids"][0]
    pad = demo.model.config.image_token_id
    assert (ids == pad).sum() == world.SIDE_CELLS**2
    kept = [token for index, token in enumerate(ids.tolist()) if token != pad or ids[index - 1] != pad]
    assert kept == demo.tokenizer(whole)["input_ids"]
    said = demo.tokenizer.decode(ids[answers[0]])
    assert said == "".join(text for text, is_answer in row.pieces if is_answer)


def test_a_narrow_row_sees_the_picture_where_it_predicts_an_answer_alone(demo):
    """Every other query of it sees of the picture at most itself; the other rows see everything before them."""
    batch = [rows.make_row(random.Random(seed), demo.tokenizer) for seed in (2, 3)]
    inputs, answers = rows.encode(batch, demo.tokenizer, demo.processor)
    hidden = rows.hidden_keys(inputs, answers, torch.tensor([True, False]))
    assert not hidden[1].any()
    picture = inputs["mm_token_type_ids"][0].bool()
    predicting = {index - 1 for index in answers[0].nonzero().flatten().tolist()}
    for query, row in enumerate(hidden[0]):
        assert not row[~picture].any()
        seen = set((picture & ~row).nonzero().flatten().tolist())
        allowed = {query} if picture[query] else set()
        assert seen == (set(picture.nonzero().flatten().tolist()) if query in predicting else allowed)


def test_a_hidden_key_gets_no_attention(demo):
    """In every layer and head, under the mask that training gives the model, and the keys not hidden get some."""
    inputs, answers = rows.encode([rows.make_row(random.Random(2), demo.tokenizer)], demo.tokenizer, demo.processor)
    hidden = rows.hidden_keys(inputs, answers, torch.tensor([True]))
    usual = demo.model.config._attn_implementation
    demo.model.set_attn_implementation("eager")
    try:
        weights = demo.model(**rows.with_mask(demo.model, inputs, hidden), output_attentions=True).attentions
    finally:
        demo.model.set_attn_implementation(usual)
    seen = torch.ones_like(hidden[0]).tril() & ~hidden[0]
    assert len(weights) == 3
    for layer in weights:
        assert not layer[0, :, ~seen].any()
        assert (layer[0, :, seen] > 0).float().mean() > 0.9  # The rest is too small for float32.
