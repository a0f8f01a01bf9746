"""--dry-run: what would run, every fault at once, no weights and nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transformers
import vision_zoo
import zoo
from repository import ROOT

import mask_impact_vl
from mask_impact.models import info, loading
from mask_impact.models.vision import qwen3_vl
from mask_impact.runs import costs, dry_run, planning
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

PICTURE = (ROOT / "testimg.png").as_posix()
BATCH = """\
model: demo
defaults: {num_tokens: 2}
prompts:
  - {name: france, prompt: "The capital of France is"}
  - {name: spain, prompt: "The capital of Spain is", layers: 0-1, variants: [full]}
  - {name: later, prompt: "x", enabled: false}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("night.yaml").write_text(BATCH, encoding="utf-8")


@pytest.fixture
def no_weights(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(loading, "load", refuse)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)


def files() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*"))


def test_every_enabled_entry_has_its_line_and_nothing_is_written(command, no_weights):
    code, out, err = command("--config", "night.yaml", "--dry-run")
    assert (code, err, files()) == (0, [], ["night.yaml"])
    assert out[0].startswith("france: 5 tokens, 2 steps, 3 layers, at most 198 rows (csv 10 KB, json 10 KB); knock-out")
    assert out[1].startswith("spain: 5 tokens, 2 steps, 2 layers, at most 22 rows (csv 1 KB, json 1 KB); knock-outs at")
    assert out[2].startswith("dry run: 2 prompts, 2 to measure, about 1 s: ") and len(out) == 3
    assert "GFLOP/s" in out[2] and "without loading" in out[2] and out[2].endswith("; nothing was written")


UNITS = """\
model: demo
prompts:
  - {name: named, prompt: "Anna put the key", units: [words], spans: {it: the key, who: Anna}, pairs: spans}
  - {name: many, prompt: "Anna put the key in the red box. Ben put the coin in the blue bag. He ran.", pairs: 4}
"""


def test_units_have_a_line_each(command, no_weights):
    Path("night.yaml").write_text(UNITS, encoding="utf-8")
    code, out, _ = command("--config", "night.yaml", "--dry-run")
    assert code == 0 and "at most 126 rows" in out[0]  # 4 words, 2 spans, 1 pair; 3 layers, 6 kinds of them
    assert out[1:8] == [
        "  spans     'it': 2-3",
        "  spans     'who': 0",
        "  pairs     'it + who': 0,2-3",
        "  words     'Anna': 0",
        "  words     ' put': 1",
        "  words     ' the': 2",
        "  words     ' key': 3",
    ]
    assert out[9] == "  tokens    'Anna': 0" and out[29:31] == [
        "  ... and 3 more",
        "  pairs     of the 4 units that move the layers most",
    ]
    assert command("--config", "night.yaml", "--dry-run", "--quiet")[1] == []


def test_the_line_is_that_of_the_run(command):
    _, planned, _ = command("--config", "night.yaml", "--dry-run")
    _, run, _ = command("--config", "night.yaml")
    for line in planned[:2]:
        assert any(one.startswith(line.rpartition(", about")[0]) for one in run)


def test_what_is_there_already_is_said_and_not_counted(command):
    command("--config", "night.yaml")
    before = {name: Path(name).read_bytes() for name in files() if Path(name).is_file()}
    code, out, _ = command("--config", "night.yaml", "--dry-run", "--report")
    assert code == 0 and all(line.endswith("KB); there already, and report is made from it") for line in out[:2])
    assert out[2] == "dry run: 2 prompts, 0 to measure; nothing was written"
    assert all(line.endswith("KB); there already") for line in command("--config", "night.yaml", "--dry-run")[1][:2])
    assert before == {name: Path(name).read_bytes() for name in files() if Path(name).is_file()}
    assert "2 to measure" in command("--config", "night.yaml", "--dry-run", "--overwrite")[1][2]


FAULTY = """\
model: demo
prompts:
  - {prompt: "The capital of France is", layers: 7}
  - {prompt: "The capital of Spain is",
     num_tokens: 0}
  - prompt: "The"
    lyers: 1
  - prompt: "The"
    chat: true
    layers: 9
  - {prompt_file: gone.txt}
"""


def test_every_fault_is_told_at_once_with_its_line(command, no_weights):
    Path("night.yaml").write_text(FAULTY, encoding="utf-8")
    code, out, err = command("--config", "night.yaml", "--dry-run", "--nonsense")
    assert (code, out, files()) == (2, [], ["night.yaml"])
    assert err[0].startswith("error: unknown flag '--nonsense'")
    assert [line.split(": ")[1:3] for line in err[1:]] == [
        ["night.yaml:5", "num_tokens"],
        ["night.yaml:7", err[2].split(": ")[2]],
        ["night.yaml:11", "prompt_file"],
        ["night.yaml:3", "layers"],
        ["night.yaml:8", "layers"],
    ]
    assert "unknown key 'lyers'" in err[2]


def test_without_it_the_file_is_answered_first(command):
    Path("night.yaml").write_text(FAULTY, encoding="utf-8")
    err = command("--config", "night.yaml")[2]
    assert [line.split(":")[2] for line in err] == ["5", "7", "11"]


@pytest.mark.parametrize(
    "words, fault", [(["--model", "./nowhere"], "nowhere"), (["--output-dir", "night.yaml"], "--output-dir")]
)
def test_a_model_or_folder_that_is_not_there_does_not_hide_the_files_faults(command, words, fault):
    Path("night.yaml").write_text(FAULTY, encoding="utf-8")
    code, _, err = command("--config", "night.yaml", "--dry-run", *words)
    assert code == 2 and len(err) == 4 and fault in err[-1]


def test_a_model_of_another_kind_does_not_hide_the_files_faults(command, tmp_path):
    zoo.save("bert", tmp_path / "bert")
    Path("night.yaml").write_text(FAULTY, encoding="utf-8")
    code, _, err = command("--config", "night.yaml", "--dry-run", "--model", tmp_path / "bert")
    assert code == 2 and len(err) == 4 and "encoder" in err[-1]


def test_a_value_that_cannot_be_read_for_all_entries_is_told_alone(command):
    Path("night.yaml").write_text(BATCH.replace("num_tokens: 2", "num_tokens: two"), encoding="utf-8")
    code, _, err = command("--config", "night.yaml", "--dry-run")
    assert code == 2 and len(err) == 1 and "night.yaml:2: num_tokens" in err[0]


def test_one_prompt_of_the_command_line_too_and_quiet_says_nothing(command, no_weights):
    words = ["--model", "demo", "--prompt", "The capital of France is", "--dry-run"]
    code, out, _ = command(*words)
    assert code == 0 and out[0].startswith("the_capital_of_france_is: 5 tokens") and "1 prompt, 1 to measure" in out[1]
    assert command(*words, "--quiet") == (0, [], []) and files() == ["night.yaml"]


def test_pictures_are_counted(command, no_weights):
    words = ["--model", "demo", "--image", PICTURE, "--prompt", "What color is the circle?", "--mask-mode", "vision"]
    code, out, _ = command(*words, "--dry-run", door=mask_impact_vl)
    assert code == 0 and "(img0: 36, 6 rows x 6 columns; " in out[0] and "at most " in out[0]


def test_a_yaml_key_it_is_not(command):
    Path("night.yaml").write_text("dry_run: true\n" + BATCH, encoding="utf-8")
    code, _, err = command("--config", "night.yaml")
    assert code == 2 and "give it on the command line as --dry-run" in err[0]


def planned(folder, kind=Settings, examine=info.examine, **settings):
    asked = kind(prompt="The cat", model=str(folder), given=frozenset(settings), **settings)
    model_info = examine(asked)
    return planning.plan_all([asked], model_info)[0], model_info


@pytest.mark.parametrize("name", ["llama", "qwen3_next", "gpt2", "mixtral", "gemma4"])
def test_rows_are_those_of_the_loaded_model(name, tmp_path):
    zoo.save(name, tmp_path / name)
    plan, model_info = planned(tmp_path / name, num_tokens=3)
    rows = planning.rows_to_come(plan, loading.load(model_info, plan.settings))
    assert f"at most {rows:,} rows" in dry_run.plan_size(plan, model_info)
    assert costs.layer_sizes(model_info.config.get_text_config()).token > 0


@pytest.mark.parametrize(
    "words",
    [
        ["--prompt", "The"],
        ["--prompt", "The", "--variants", "full", "--layers", "0"],
        ["--prompt", "The capital of France is", "--num-tokens", "4"],
        ["--prompt", "The capital of France is " * 30],
        ["--prompt", "The capital of France is " * 20, "--num-tokens", "3", "--variants", "full"],
    ],
)
def test_the_sizes_foretold_are_within_a_factor_of_2(words, command):
    words = ["--model", "demo", *words, "--continuation", " a b c d e f", "--formats", "csv,json,parquet", "--output"]
    [dry, _] = command(*words, "y", "--dry-run")[1]
    code, out, _ = command(*words, "x")
    assert code == 0 and out[0].removeprefix("x") in dry
    told = dict(re.findall(r"(csv|json|parquet) ([\d.]+ [KM]B)", out[0]))
    for form, size in told.items():
        number, unit = size.split()
        found, rounding = Path(f"output/x_results.{form}").stat().st_size, 500 if unit == "KB" else 50_000
        told_bytes = float(number) * {"KB": 1e3, "MB": 1e6}[unit]
        assert found / 2 - rounding < told_bytes < 2 * found + rounding, form


def test_rows_are_those_of_the_loaded_vision_model(tmp_path):
    vision_zoo.save("qwen3_vl", tmp_path / "vl")
    plan, model_info = planned(tmp_path / "vl", VisionSettings, qwen3_vl.examine, chat=False)
    rows = planning.rows_to_come(plan, loading.load(model_info, plan.settings))
    assert f"at most {rows:,} rows" in dry_run.plan_size(plan, model_info)


def test_heads_that_differ_by_layer_leave_the_rows_and_the_time_open(tmp_path):
    zoo.save("llama", tmp_path / "llama")
    plan, model_info = planned(tmp_path / "llama")
    object.__setattr__(model_info.config, "num_attention_heads", [2, 4, 2])
    assert dry_run.plan_size(plan, model_info).endswith("rows unknown until the weights are loaded")
    assert costs.layer_sizes(model_info.config) is None
    assert "cannot be told without the weights" in dry_run.total_line([plan], [plan], {}, None)


def test_a_layer_has_the_weights_that_the_model_has(tmp_path):
    zoo.save("llama", tmp_path / "llama")
    plan, model_info = planned(tmp_path / "llama")
    layer = loading.load(model_info, plan.settings).parts()[0].layer
    sizes = costs.layer_sizes(model_info.config)
    matrices = {name: weight.numel() for name, weight in layer.named_parameters() if weight.dim() == 2}
    assert sizes.token == sum(matrices.values())
    assert sizes.row == sum(count for name, count in matrices.items() if "mlp" in name or "o_proj" in name)


def test_time_grows_with_steps_layers_and_the_literal_method(tmp_path):
    zoo.save("llama", tmp_path / "llama")
    sizes = costs.LayerSizes(1000, 600)

    def time_of(**settings):
        plan, model_info = planned(tmp_path / "llama", **settings)
        return costs.estimated_seconds(plan, dry_run.layers(plan, model_info), 3, sizes, 1e6)

    prompt = 6
    assert time_of() == pytest.approx((prompt * 3 * 1000 + prompt * 600 * 3) / 1e6 + 3 * costs.LAYER_SECONDS)
    assert time_of(layers="1") == pytest.approx((prompt * 3 * 1000 + prompt * 600) / 1e6 + costs.LAYER_SECONDS)
    assert time_of(num_tokens=2) == pytest.approx(
        ((prompt + 1) * 3 * 1000 + (prompt + prompt + 1) * 600 * 3) / 1e6 + 6 * costs.LAYER_SECONDS
    )
    assert time_of(method="rerun") == pytest.approx(
        (prompt * 3 * 1000 + prompt * prompt * 1000 * 3) / 1e6 + prompt * 3 * costs.LAYER_SECONDS
    )


@pytest.mark.parametrize("time_taken, shown", [(0.01, "1 s"), (89, "89 s"), (600, "10 min"), (36_000, "10.0 h")])
def test_durations(time_taken, shown):
    assert dry_run.duration(time_taken) == shown


def test_a_table_too_long_for_a_spreadsheet_is_planned_in_parquet(command, no_weights, monkeypatch):
    monkeypatch.setattr("mask_impact.base.formats.SPREADSHEET_ROWS", 10)
    out = command("--config", "night.yaml", "--dry-run")[1]
    assert "(parquet 26 KB)" in out[0] and "Parquet takes the place of CSV and JSON" in out[0]
    out = command("--config", "night.yaml", "--dry-run", "--formats", "csv")[1]
    assert "(csv 10 KB)" in out[0] and "Parquet" not in out[0]
