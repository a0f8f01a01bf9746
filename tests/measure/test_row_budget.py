"""How many rows go through a layer at once: bounded by a setting, and halved when a GPU's memory runs out."""

import json
from pathlib import Path

import pytest
import torch
import zoo
from measuring import relative_error

from mask_impact.measure import loop
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.noise_floor import CONTROLS
from mask_impact.measure.rows.budget import ALIVE, CHUNK_BYTES, SMALLEST, RowBudget
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.settings import readers

IDS = zoo.tokens(60).tolist()


class Full:
    """A module's forward on a GPU that has room for so many rows."""

    def __init__(self, forward, most):
        self.forward, self.most, self.seen = forward, most, []

    def __call__(self, hidden):
        self.seen.append(hidden.numel() // hidden.shape[-1])
        if self.seen[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.forward(hidden)


def tiny():
    return zoo.build("llama")


def measured(model, method, most=None, monkeypatch=None):
    """The distances of three steps, the first layer's MLP with room for so many rows."""
    parts, _ = measurable_parts(model)
    inputs = ModelInputs(IDS, 3)
    if most is None:
        return list(measured_layers(model, parts, inputs, method)), None
    [branch] = parts[0].branches
    full = Full(branch.forward, most)
    monkeypatch.setattr(branch, "forward", full)
    layers = list(measured_layers(model, parts, inputs, method))
    monkeypatch.undo()
    return layers, full


def same(one, other):
    return max(relative_error(a.l2, b.l2) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("variants", [("full", "attn", "heads"), ("full",)])
def test_rows_are_halved_until_they_fit(joins, variants, monkeypatch):
    model = tiny()
    whole, _ = measured(model, Method(variants=variants))
    monkeypatch.setattr("mask_impact.measure.rows.budget.SMALLEST", 1)
    width = measurable_parts(model)[0][0].width
    method = Method(variants=variants, join_rows=joins, rows=RowBudget(80 * width * 4))
    halved, full = measured(model, method, 62, monkeypatch)  # the prompt itself has room
    assert method.rows.halvings == 1 and method.rows.chunk_bytes == 40 * width * 4
    assert max(full.seen) > 62 and len([rows for rows in full.seen if 30 < rows <= 62]) > 3
    assert same(whole, halved) < 1e-5
    assert [layer.step.next_id for layer in whole] == [layer.step.next_id for layer in halved]


def test_no_rows_join_once_memory_ran_out(monkeypatch):
    """Every layer's branch is full: the first that finds out halves, and the others do not try."""
    model = tiny()
    parts, _ = measurable_parts(model)
    whole, _ = measured(model, Method())
    for part in parts:
        monkeypatch.setattr(part.branches[0], "forward", Full(part.branches[0].forward, 62))
    monkeypatch.setattr("mask_impact.measure.rows.budget.SMALLEST", 1)
    few = Method(rows=RowBudget(100 * parts[0].width * 4))
    halved = list(measured_layers(model, parts, ModelInputs(IDS, 3), few))
    assert few.rows.halvings == 1 and same(whole, halved) < 1e-5


def test_where_it_is_not_the_rows_the_error_stays(monkeypatch):
    model = tiny()
    with pytest.raises(torch.OutOfMemoryError):
        measured(
            model, Method(join_rows=False), 61, monkeypatch
        )  # 30 MiB of such small rows are far more than there are
    assert SMALLEST < CHUNK_BYTES


def test_a_budget_ends():
    budget, error = RowBudget(), torch.OutOfMemoryError("full")
    for _ in range(4):
        budget.halve(error)
    assert (budget.chunk_bytes, budget.halvings) == (CHUNK_BYTES // 16, 4) and budget.chunk_bytes >= SMALLEST
    with pytest.raises(torch.OutOfMemoryError):
        budget.halve(error)
    assert budget.halvings == 4


def test_a_budget_of_memory():
    [part, *_] = measurable_parts(tiny())[0]
    assert RowBudget.of_memory(None) == RowBudget()
    assert RowBudget.of_memory(ALIVE * 20 * part.width * 4).rows(part, torch.float32) == 20
    assert RowBudget.of_memory(1).rows(part, torch.float64) == CONTROLS


@pytest.mark.parametrize(
    "text, number",
    [
        ("500MB", 500_000_000),
        ("2GB", 2 * 10**9),
        (" 1.5 gb ", 1_500_000_000),
        ("1TB", 10**12),
        ("1000kb", 10**6),
        (10**6, 10**6),
        ("2000000b", 2 * 10**6),
    ],
)
def test_sizes(text, number):
    assert readers.memory(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "5", 5, 0, -1, 1.5e9, True, None, "MB", "1 MiB", "2G", "1e9", "-2GB", "999KB", "1" * 30 + "GB", [1]],
)
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="expected a size from 1MB on, such as 500MB or 2GB, found "):
        readers.memory(text)


def test_the_setting_bounds_the_rows_and_is_part_of_what_makes_runs_the_same(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chunks, rows = [], RowBudget.rows
    monkeypatch.setattr(RowBudget, "rows", lambda self, *words: chunks.append(self.chunk_bytes) or rows(self, *words))
    words = ["--model", "demo", "--prompt", "The capital of France is", "--output", "x"]
    assert command(*words, "--max-memory", "2MB")[0] == 0 and set(chunks[-3:]) == {2_000_000 // ALIVE}
    assert json.loads(Path("output/x_run.json").read_text(encoding="utf-8"))["settings"]["max_memory"] == 2_000_000
    code, _, err = command(*words)
    assert code == 2 and "other settings (max_memory)" in err[0]
    code, _, err = command(*words, "--max-memory", "lots")
    assert code == 2 and err == ["error: --max-memory: expected a size from 1MB on, such as 500MB or 2GB, found 'lots'"]


@pytest.mark.parametrize("at_once", [0, 2**22])
@pytest.mark.parametrize("name", ["llama", "gpt_oss", "gemma2"])
def test_keys_and_values_of_another_dtype_are_converted_one_group_at_a_time_if_there_are_many(
    name, at_once, monkeypatch
):
    from mask_impact.measure.closed_form import heads
    from mask_impact.sites import query

    monkeypatch.setattr(query, "AT_ONCE", at_once)
    monkeypatch.setattr(heads, "AT_ONCE", at_once)
    model, largest = zoo.build(name).to(torch.bfloat16), []
    plain = torch.Tensor.to
    parts, _ = measurable_parts(model)

    def noted(self, *words, **options):
        answer = plain(self, *words, **options)
        if self.dtype == torch.bfloat16 and answer.dtype == torch.float32:
            largest.append(self.shape)
        return answer

    calls = []
    final = query.query_view
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mask_impact.measure.loop.query_view", lambda call, *words: calls.append(call) or final(call, *words)
        )
        patch.setattr(torch.Tensor, "to", noted)
        list(measured_layers(model, parts, ModelInputs(IDS, 1)))
    assert calls and bool(at_once) == any(
        shape in {call.key[0].shape for call in calls} and shape[0] > 1 for shape in largest
    )


def test_a_run_without_a_method_has_a_budget_of_its_own(monkeypatch):
    """What one run halves stays halved for no other."""
    model = zoo.build("llama")
    parts, _ = measurable_parts(model)
    seen = []
    measure_layer = loop.measure_layer
    noted = lambda layer, at, step, method: seen.append(method.rows) or measure_layer(layer, at, step, method)
    monkeypatch.setattr(loop, "measure_layer", noted)
    for _ in range(2):
        list(measured_layers(model, parts, ModelInputs(zoo.tokens(5).tolist(), 1)))
    assert len(seen) == 6 and seen[0] is seen[2] is not seen[3]
