"""Measuring from Python: the same table as the command's, models that are loaded already, and where a run stops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import zoo
from from_python import PROMPT, experiment, run_of
from transformers import AutoModelForCausalLM

from mask_impact import read_results
from mask_impact.base.errors import RequestError
from mask_impact_analysis import main, run_masking_experiment

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "llama"
    zoo.save("llama", place)
    return str(place)


def favour(model, token, length=0):
    """Make the model predict `token` once it has seen `length` tokens."""
    seen = {"count": 0}

    def count(_module, args, options):
        ids = options["input_ids"] if "input_ids" in options else args[0]
        seen["count"] = ids.shape[1] if ids.shape[1] > 1 else seen["count"] + 1

    def add(_module, _args, logits):
        logits[..., token] += 1e4 if seen["count"] >= length else -1e4

    model.register_forward_pre_hook(count, with_kwargs=True)
    model.lm_head.register_forward_hook(add)


def test_the_table_is_what_the_command_writes(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = run_masking_experiment(PROMPT, folder, num_output_tokens=2, layers="0-1", variants=("full", "heads"))
    assert not list(tmp_path.iterdir())
    words = [
        "--model",
        folder,
        "--prompt",
        PROMPT,
        "--num-tokens",
        "2",
        "--layers",
        "0-1",
        "--variants",
        "full,heads",
        "--knockout",
        "none",
        "--quiet",
    ]
    assert main([*words, "--output", "r", "--formats", "csv,json,parquet"]) == 0
    for form in ("csv", "json", "parquet"):
        written = read_results(f"output/r_results.{form}")
        assert table.equals(written) and list(table.dtypes) == list(written.dtypes)
    changing = {"name", "started", "seconds", "settings"}
    here, there = (
        {key: value for key, value in t.attrs["run"].items() if key not in changing} for t in (table, written)
    )
    assert here == there and here["rows"] == len(table) == 2 * 5 * (13 + 14)


def test_the_run_is_plain_json_and_pandas_can_store_it(folder, tmp_path):
    table = run_masking_experiment("x", folder, layers=[0])
    assert json.loads(json.dumps(table.attrs["run"], allow_nan=False)) == table.attrs["run"]
    table.to_parquet(tmp_path / "table.parquet")


def test_columns_and_order(model):
    table = experiment(model, num_output_tokens=2)
    assert list(table) == [
        "generation_step",
        "layer",
        "token_masked",
        "token_position",
        "variant",
        "l2_distance",
        "cosine_distance",
    ]
    expected = [
        (step, variant, layer, position)
        for step in (0, 1)
        for variant in ("Full", "Attn", *(f"Head_{h}" for h in range(4)))
        for layer in range(3)
        for position in range(13 + step)
    ]
    assert list(zip(table.generation_step, table.variant, table.layer, table.token_position)) == expected
    assert (
        table.l2_distance.dtype == np.float32
        and (table.l2_distance > 0).all()
        and table.cosine_distance.between(0, 2).all()
    )
    assert table.attrs["run"]["settings"]["model"] == "memory" and table.attrs["run"]["model_identity"] == {
        "loaded_from": "memory"
    }


def test_layers_and_variants_are_a_selection_of_the_whole(model):
    whole = experiment(model)
    part = experiment(model, layers=[0, 2], variants=["attn"])
    same = whole[whole.layer.isin([0, 2]) & (whole.variant == "Attn")].reset_index(drop=True)
    assert len(part) == 2 * 13 and part[["layer", "variant", "token_position"]].equals(
        same[["layer", "variant", "token_position"]]
    )
    assert np.allclose(part.l2_distance, same.l2_distance, rtol=1e-5)


def test_both_methods_give_one_table(model):
    fast, plain = (experiment(model, method=method, num_output_tokens=2) for method in ("renormalize", "rerun"))
    assert np.abs(fast.l2_distance - plain.l2_distance).max() < 1e-4 * plain.l2_distance.max()
    assert plain.attrs["run"]["settings"]["method"] == "rerun"


def state(model):
    """What must not be changed in a loaded model."""
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    configs = [module.config._attn_implementation for module in model.modules() if hasattr(module, "config")]
    modes = [module.training for module in model.modules()]
    weights = [(weight.dtype, weight.requires_grad, weight.double().sum().item()) for weight in model.parameters()]
    return hooks, configs, modes, weights, getattr(model.config, "_experts_implementation", None)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_loaded_model_is_left_as_it_was(attention):
    """GPT-2 in training mode drops a tenth of everything; the table is that of evaluation mode all the same."""
    model = zoo.build("gpt2")
    expected = experiment(model)
    model.set_attn_implementation(attention)
    model.train().requires_grad_(True)
    model.transformer.h[1].eval()
    before = state(model)
    rounding = 1e-5 * expected.l2_distance.max()  # eager and SDPA differ in the last bits; dropout by a tenth
    assert np.allclose(experiment(model).l2_distance, expected.l2_distance, rtol=1e-4, atol=rounding)
    assert state(model) == before and before[2].count(False) > 1 and model.training
    with pytest.raises(RequestError):
        experiment(model, layers=[7])
    with pytest.raises(RequestError):
        run_masking_experiment(PROMPT, model=model, tokenizer=zoo.tokenizer(), layers="x")
    assert state(model) == before


def test_a_model_that_fails_is_left_as_it_was(model):
    model.train()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    before = str(state(model))
    with pytest.raises(RuntimeError, match="not numbers|logits"):
        experiment(model)
    assert str(state(model)) == before


def test_experts_of_a_float64_model_are_left_as_they_were():
    model = zoo.build("qwen3_moe").double()
    before = state(model)
    assert before[-1] != "eager" and experiment(model).l2_distance.dtype == np.float64
    assert state(model) == before


def test_a_float64_model_is_measured_returned_and_stored_in_float64(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo.save("llama", "model")
    loaded = experiment(AutoModelForCausalLM.from_pretrained("model", dtype=torch.float64))
    named = run_masking_experiment(PROMPT, "model", dtype="float64", device="cpu")
    assert loaded.l2_distance.dtype == loaded.cosine_distance.dtype == np.float64 and loaded.equals(named)
    assert named.attrs["run"]["dtypes"] == {"model": "float64", "measure": "float64", "results": "float64"}
    assert (
        main(
            [
                "--model",
                "model",
                "--prompt",
                PROMPT,
                "--dtype",
                "float64",
                "--device",
                "cpu",
                "--output",
                "r",
                "--quiet",
            ]
        )
        == 0
    )
    assert read_results("output/r_results.csv").equals(named) and read_results("output/r_results.json").equals(named)
    assert (named.l2_distance != named.l2_distance.astype(np.float32)).any()


def test_gemma_2_whose_softmax_is_in_float32_runs_in_float64():
    table = experiment(zoo.build("gemma2", torch.float64))
    assert table.l2_distance.dtype == np.float64


def test_dtypes_of_model_and_measurement(folder):
    half = run_masking_experiment(PROMPT, folder, dtype="bfloat16").attrs["run"]["dtypes"]
    own = run_masking_experiment(PROMPT, folder, dtype="bfloat16", measure_dtype="model").attrs["run"]["dtypes"]
    assert (half, own) == (
        {"model": "bfloat16", "measure": "float32", "results": "float32"},
        {"model": "bfloat16", "measure": "bfloat16", "results": "float32"},
    )


# What the model sees, and where it stops


def test_a_continuation_has_one_step_for_each_token(model):
    tokenizer = zoo.tokenizer()
    ids = tokenizer(" is <|im_end|>the x")["input_ids"]
    run = run_of(model, continuation=" is <|im_end|>the x")
    assert [token["id"] for token in run["tokens"]][13:] == ids and len(run["steps"]) == len(ids) > 5
    assert run["stopped_by"] == "continuation" and run["generated_text"] == " is <|im_end|>the x"
    assert [step["next"]["id"] for step in run["steps"]] == ids and run["settings"]["num_tokens"] is None
    capped = run_of(model, continuation=" is <|im_end|>the x", num_output_tokens=2)
    assert len(capped["steps"]) == 2 and capped["stopped_by"] == "num_tokens" and capped["steps"] == run["steps"][:2]
    assert len(run_of(model, continuation=" is", num_output_tokens=99)["steps"]) == 4 - 1


def test_a_continuation_is_what_the_model_would_say_by_itself(model):
    own = experiment(model, num_output_tokens=3)
    said = [token["id"] for token in own.attrs["run"]["tokens"]][13:]
    text = zoo.tokenizer().decode(said)
    if zoo.tokenizer()(text)["input_ids"] != said:
        pytest.skip("what this model says is not whole UTF-8")
    assert experiment(model, continuation=text).equals(own)


@pytest.mark.parametrize("after, steps", [(13, 1), (15, 3)])
@pytest.mark.parametrize("end", ["generation config", "im_end"])
def test_an_end_token_stops_the_run(after, steps, end, model):
    token = 7 if end == "generation config" else zoo.tokenizer().convert_tokens_to_ids("<|im_end|>")
    if end == "generation config":
        model.generation_config.eos_token_id = [5, token]
    favour(model, token, after)
    run = run_of(model, num_output_tokens=6)
    assert len(run["steps"]) == steps and run["stopped_by"] == "end token" and run["tokens"][-1]["id"] == token
    assert run_of(model, num_output_tokens=1)["stopped_by"] == "num_tokens"


def test_end_tokens_are_those_of_the_folder_even_without_a_generation_config(folder, tmp_path):
    model = zoo.save("llama", tmp_path)
    (tmp_path / "generation_config.json").unlink()
    [first] = run_masking_experiment(PROMPT, str(tmp_path)).attrs["run"]["steps"]
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {"eos_token_id": first["next"]["id"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run_masking_experiment(PROMPT, str(tmp_path), num_output_tokens=4).attrs["run"]["stopped_by"] == "end token"
    assert model.config.eos_token_id is None


@pytest.mark.parametrize("length, steps", [(254, 3), (256, 1)])
def test_the_end_of_the_context_stops_the_run(length, steps, model):
    run = run_of(model, "x" * length, num_output_tokens=10, layers=[0], variants=["attn"])
    assert len(run["steps"]) == steps and run["stopped_by"] == "context length" and len(run["tokens"]) == 257
    given = run_of(model, "x" * length, continuation="y" * 10, layers=[0], variants=["attn"])
    assert len(given["steps"]) == steps and given["stopped_by"] == "context length"


def test_the_command_says_why_it_stopped(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model", folder, "--prompt", "x" * 255, "--layers", "0", "--variants", "attn", "--num-tokens", "10"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert ": 255 tokens, 2 steps, 1 layer, at most 511 rows" in out
    assert (
        "  stopped at the model's context length after 2 of 10 steps\n" in out and "(Attn L2 summed over layers" in out
    )


def test_a_chat_is_the_templates_tokens(model):
    tokenizer = zoo.tokenizer()
    tokenizer.chat_template = TEMPLATE
    run = run_of(model, "Hi", tokenizer=tokenizer, chat=True, system="Be brief")
    assert (
        "".join(token["text"] for token in run["tokens"][: run["prompt_length"]]) == "<system>Be brief<user>Hi<answer>"
    )
    assert run["settings"]["chat"] is True and run["settings"]["system"] == "Be brief"


def test_one_token_has_nothing_to_be_compared_with(model):
    table = experiment(model, "x", num_output_tokens=2)
    assert (
        table[table.generation_step == 0].l2_distance.isna().all()
        and table[table.generation_step == 1].l2_distance.notna().all()
    )
