"""Adapters of peft: beside a model's weights they belong to what the model is; alone they are no model."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
import zoo
from fake_hub import SHA, Hub
from from_python import run_masking_experiment
from running import record_of

from mask_impact.base.errors import RequestError
from mask_impact.models import adapters, checkpoint_files, checkpoints
from mask_impact.models import hub as hub_files
from mask_impact.models.info import examine
from mask_impact.models.loading import load
from mask_impact.settings.text_settings import Settings

pytestmark = pytest.mark.usefixtures("here")
ABSENT = "not loaded: peft is not installed"


def save_adapter(folder):
    """A low-rank adapter of a model's q_proj and v_proj, beside that model's weights."""
    peft = pytest.importorskip("peft")
    low_rank = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=4, init_lora_weights=False)
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(folder), low_rank)
    model.save_pretrained(folder)
    return model


def write_adapter(folder, base="me/base"):
    """The files of an adapter, without meaning."""
    Path(folder, "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}), encoding="utf-8"
    )
    Path(folder, "adapter_model.safetensors").write_bytes(
        Path(folder, "model.safetensors").read_bytes() if Path(folder, "model.safetensors").exists() else b""
    )


@pytest.fixture
def folder(models, tmp_path):
    return Path(shutil.copytree(models / "llama", tmp_path / "model"))


@pytest.fixture
def absent(monkeypatch):
    """A context in which it is as if peft were not installed."""

    @contextmanager
    def without():
        with monkeypatch.context() as patch:
            for module in ("integrations.peft", "models.auto.auto_factory", "utils.peft_utils"):
                patch.setattr(f"transformers.{module}.is_peft_available", lambda: False)
            patch.setattr(adapters, "peft_version", lambda: None)
            yield

    return without


def test_an_adapter_beside_the_weights_is_measured_and_a_result_without_it_is_not_its_own(command, folder, absent):
    adapted = save_adapter(folder)
    words = ("--model", folder, "--prompt", "The cat", "--variants", "full,heads")
    with absent():
        code, _, err = command(*words)
    assert code == 0 and [line for line in err if "is ignored, as peft is not installed; install peft" in line] == err
    code, _, err = command(*words)
    assert (
        code == 0
        and [line for line in err if "the adapter beside its weights (adapter_config.json) is measured with it" in line]
        == err
    )
    without, loaded = record_of("the_cat"), record_of("the_cat_2")
    assert without["model_identity"]["adapter"] == ABSENT
    assert loaded["model_identity"]["adapter"] == f"loaded by peft {importlib.metadata.version('peft')}"
    merged = run_masking_experiment(
        "The cat", model=adapted.merge_and_unload(), tokenizer=zoo.tokenizer(), variants=("full", "heads")
    )
    norms = [record["steps"][0]["baseline_norm"]["Full"] for record in (loaded, merged.attrs["run"], without)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3) and norms[0] != pytest.approx(norms[2], rel=1e-2)


def test_the_adapter_is_loaded_as_transformers_loads_it(folder):
    save_adapter(folder)
    settings = Settings.from_python(prompt="P", model_name=str(folder), dtype="bfloat16")
    ours = load(examine(settings), settings).model.state_dict()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    assert ours.keys() == theirs.keys() and any("lora_" in name for name in ours)
    assert all(ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_that_miss_beside_an_adapter_are_refused(command, folder):
    save_adapter(folder)
    shutil.copy(folder / "adapter_model.safetensors", folder / "kept")
    tensor = zoo.missing_weight("llama", folder)
    shutil.move(folder / "kept", folder / "adapter_model.safetensors")
    code, _, err = command("--model", folder, "--prompt", "P")
    assert code == 2 and any(
        "lacks weights of its model, which would be random numbers: " + tensor in line for line in err
    )


IDENTIFYING = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "special_tokens_map.json",
    "vocab.txt",
    "x.spm",
    "vocab.bpe",
    "bpe.codes",
    "tokenizer.model.v3",
    "modeling_x.py",
    "processor_config.json",
    "additional_chat_templates/tool.jinja",
    "dict.txt",
]
FOREIGN = [
    "a_results.json",
    "a_run.json",
    "a_report.html",
    "b_summary.csv",
    "a_results.csv",
    "a_results.parquet",
    ".partial/a/run.json",
    ".notes.json",
    "README.md",
    "training_args.bin",
    "optimizer.pt",
]


@pytest.mark.parametrize("name", [*IDENTIFYING, *FOREIGN])
def test_what_transformers_may_read_belongs_to_the_identity_and_nothing_else(name, folder):
    before = checkpoint_files.folder_hash(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}", encoding="utf-8")
    first = checkpoint_files.folder_hash(folder)
    (folder / name).write_text("[]", encoding="utf-8")
    assert len({before, first, checkpoint_files.folder_hash(folder)}) == (3 if name in IDENTIFYING else 1)


def test_an_adapter_without_its_weights_is_refused_where_it_would_be_loaded(command, folder, monkeypatch):
    write_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    monkeypatch.setattr(adapters, "peft_version", lambda: "1.0")
    code, _, err = command("--model", folder, "--prompt", "P")
    assert (code, len(err)) == (2, 1) and "its folder has no adapter_model.safetensors; fetch the model again" in err[0]
    monkeypatch.setattr(adapters, "peft_version", lambda: None)
    assert command("--model", folder, "--prompt", "P", "--layers", 0)[0] == 0


# An adapter alone

ALONE = (
    "is an adapter of 'me/base' (adapter_config.json), no model; merge it into its base with peft's "
    "merge_and_unload(), and save that"
)


@pytest.mark.parametrize("left", [(), ("config.json",)], ids=["adapter alone", "with the configuration"])
def test_an_adapters_own_folder_is_refused_as_such(left, command, folder):
    write_adapter(folder)
    for name in {"config.json", "model.safetensors"} - set(left):
        (folder / name).unlink()
    assert command("--model", folder, "--prompt", "P") == (2, [], [f"error: --model '{folder}' {ALONE}"])


def test_an_adapter_of_the_hub_is_refused_as_such(command, tmp_path, monkeypatch):
    repository = tmp_path / "adapter"
    repository.mkdir()
    (tmp_path / "store").mkdir()
    write_adapter(repository)
    hub = Hub(repository, tmp_path / "store")
    monkeypatch.setattr(hub_files.HfApi, "model_info", lambda *words, **options: hub.info(*words, **options))
    for module in (hub_files, checkpoints):
        monkeypatch.setattr(module, "snapshot_download", hub.snapshot)
    assert command("--model", "me/mine", "--prompt", "P") == (2, [], [f"error: --model 'me/mine' {ALONE}"])
    assert hub.fetched == ["adapter_config.json"]


def test_the_adapter_of_a_model_of_the_hub_is_fetched_with_it_and_identified(command, folder, tmp_path, monkeypatch):
    save_adapter(folder)
    (tmp_path / "store").mkdir()
    hub = Hub(folder, tmp_path / "store")
    monkeypatch.setattr(hub_files.HfApi, "model_info", lambda *words, **options: hub.info(*words, **options))
    for module in (hub_files, checkpoints):
        monkeypatch.setattr(module, "snapshot_download", hub.snapshot)
    assert command("--model", "me/mine", "--prompt", "P", "--layers", 0)[0] == 0
    assert record_of("p")["model_identity"] == {
        "revision": SHA,
        "adapter": f"loaded by peft {importlib.metadata.version('peft')}",
    }


def test_a_model_that_peft_wraps_is_refused_as_such(folder):
    adapted = save_adapter(folder)
    with pytest.raises(
        RequestError,
        match=r"model: a PeftModel is an adapter around LlamaForCausalLM; "
        r"merge it into its base with peft's merge_and_unload\(\), and give that",
    ):
        run_masking_experiment("P", model=adapted, tokenizer=zoo.tokenizer())
    with pytest.raises(RequestError, match="model: a LoraModel is an adapter around LlamaForCausalLM; merge it"):
        run_masking_experiment("P", model=adapted.base_model, tokenizer=zoo.tokenizer())


def test_an_adapter_that_names_no_base_is_refused_all_the_same(command, folder):
    write_adapter(folder)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("[", encoding="utf-8")
    code, _, err = command("--model", folder, "--prompt", "P")
    assert (code, len(err)) == (2, 1) and "is an adapter of a base model that it does not name" in err[0]
