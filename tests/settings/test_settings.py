"""The table of settings: a non-default value of every field through flag, YAML and Python, and what is refused."""

import json
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.settings import batch_file, command_line
from mask_impact.settings.option import RECORDED, Option, defaults, option, options
from mask_impact.settings.readers import switch, whole_number
from mask_impact.settings.text_settings import Settings

CHAT = {"chat": True}  # what system and thinking need beside them
CUTS = {"knockout": "final,heads"}  # and the settings of cuts

FOLLOWS = {"prompt_file": ["prompt"], "messages": ["chat"]}  # what else is set where a setting is
SPANS = {"b": "x y", "a": "@3"}
TALK = [{"role": "user", "content": "Hi"}]

# field: (flag and its text, YAML, Python, stored value, what must be set beside it)
EVERY_FIELD = {
    "prompt": (["--prompt", "One"], '"One"', "One", "One", {}),
    "prompt_file": (["--prompt-file", "in.txt"], "in.txt", Path("in.txt"), "in.txt", {}),
    "messages": (["--messages", "talk.json"], "[{role: user, content: Hi}]", TALK, tuple(TALK), {}),
    "num_tokens": (["--num-tokens", "7"], "7", 7, 7, {}),
    "continuation": (["--continuation", " Paris"], '" Paris"', " Paris", " Paris", {}),
    "chat": (["--chat"], "true", True, True, {}),
    "system": (["--system", "Be brief."], "Be brief.", "Be brief.", "Be brief.", CHAT),
    "thinking": (["--thinking"], "true", True, True, CHAT),
    "layers": (["--layers", "10, 0-3,2"], "[10, 0, 1, 2, 3, 2]", range(4), (0, 1, 2, 3, 10), {}),
    "variants": (["--variants", "heads,full"], "[heads, full]", ("heads", "full"), ("full", "heads"), {}),
    "units": (["--units", "words,tokens,words"], "[words, tokens]", ("words", "tokens"), ("words", "tokens"), {}),
    "spans": (["--span", "b=x y", "--span", "a=@3"], '{b: x y, a: "@3"}', SPANS, ("b=x y", "a=@3"), {}),
    "pairs": (["--pairs", "8"], "8", 8, 8, {}),
    "knockout": (["--knockout", "heads,all"], "[heads, all]", ("heads", "all"), ("all", "heads"), {}),
    "window": (["--window", "9"], "9", 9, 9, CUTS),
    "knockout_steps": (["--knockout-steps", "all"], "all", "all", "all", CUTS),
    "head_cells": (["--head-cells", "8"], "8", 8, 8, CUTS),
    "name": (["--output", "Zürich 2"], "Zürich 2", "Zürich 2", "Zürich 2", {}),
    "output_dir": (["--output-dir", "results/a b"], "results/a b", Path("results/a b"), str(Path("results/a b")), {}),
    "model": (["--model", "demo"], "demo", "demo", "demo", {}),
    "revision": (["--revision", "v2"], "v2", "v2", "v2", {}),
    "device": (["--device", "cuda:1"], "cuda:1", "cuda:1", "cuda:1", {}),
    "dtype": (["--dtype", "bfloat16"], "bfloat16", "bfloat16", "bfloat16", {}),
    "measure_dtype": (["--measure-dtype", "model"], "model", "model", "model", {}),
    "method": (["--method", "rerun"], "rerun", "rerun", "rerun", {}),
    "max_memory": (["--max-memory", "1.5GB"], "1.5GB", "1500MB", 1_500_000_000, {}),
    "formats": (["--formats", "parquet,csv"], "[parquet, csv]", ["parquet", "csv"], ("csv", "parquet"), {}),
    "report": (["--report"], "true", True, True, {}),
    "overwrite": (["--overwrite"], None, True, True, {}),
    "quiet": (["--quiet"], None, True, True, {}),
    "dry_run": (["--dry-run"], None, True, True, {}),
    "trust_remote_code": (["--trust-remote-code"], None, True, True, {}),
}
TABLE = options(Settings)
FIELDS = pytest.mark.parametrize("name", EVERY_FIELD)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with a prompt file in it."""
    (tmp_path / "in.txt").write_text("From a file\n", encoding="utf-8")
    (tmp_path / "talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(call, *arguments, **keywords) -> list[str]:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **keywords)
    return list(caught.value.faults)


def test_every_field_is_tried_with_a_value_that_is_not_its_default():
    assert list(EVERY_FIELD) == list(TABLE)
    for name, (*_, stored, _beside) in EVERY_FIELD.items():
        assert defaults(Settings).get(name) != stored


def beside(name: str) -> dict[str, object]:
    own_prompt = {} if name in ("prompt", "prompt_file", "messages") else {"prompt": "P"}
    return own_prompt | EVERY_FIELD[name][4]


@FIELDS
def test_a_flag_arrives(name):
    words, _, _, stored, _ = EVERY_FIELD[name]
    prompt = [] if "prompt" not in beside(name) else ["--prompt", "P"]
    more = {"chat": ["--chat"], "knockout": ["--knockout", "final,heads"]}
    needed = [word for key in beside(name) for word in more.get(key, ())]
    [settings] = command_line.read([*prompt, *needed, *words])
    assert getattr(settings, name) == stored
    assert settings.given == {name, *beside(name)}
    assert all(
        getattr(settings, other) == default
        for other, default in defaults(Settings).items()
        if other not in {*settings.given, *FOLLOWS.get(name, ())}
    )


def test_what_is_no_yaml_key():
    assert (
        [name for name, (_, yaml, *_) in EVERY_FIELD.items() if yaml is None]
        == [name for name, row in TABLE.items() if row.scope == "flag"]
        == ["overwrite", "quiet", "dry_run", "trust_remote_code"]
    )


@pytest.mark.parametrize("name", [name for name, (_, yaml, *_) in EVERY_FIELD.items() if yaml is not None])
def test_a_yaml_key_arrives(name, folder):
    _, yaml, _, stored, _ = EVERY_FIELD[name]
    entry = {key: "true" if value is True else value for key, value in beside(name).items()}
    top = {name: yaml} if TABLE[name].scope == "run" else {}
    entry |= {} if top else {name: yaml}
    lines = [
        *(f"{key}: {value}" for key, value in top.items()),
        "prompts:",
        "-",
        *(f"  {key}: {value}" for key, value in entry.items()),
    ]
    (folder / "batch.yaml").write_text("\n".join(lines), encoding="utf-8")
    [settings] = batch_file.read("batch.yaml")
    assert getattr(settings, name) == stored
    assert settings.given == {name, *beside(name)}


@FIELDS
def test_a_python_argument_arrives_under_both_its_names(name):
    _, _, value, stored, _ = EVERY_FIELD[name]
    stored = (0, 1, 2, 3) if name == "layers" else stored
    if TABLE[name].group == "results":
        assert faults_of(Settings.from_python, prompt="P", **{name: value}) == [
            f"{name}: from Python the table is returned and nothing is written or printed; leave it out"
        ]
        return
    for word in filter(None, (name, TABLE[name].python)):
        settings = Settings.from_python(**beside(name), **{word: value})
        assert getattr(settings, name) == stored
        assert settings.given == {name, *beside(name)}


@FIELDS
def test_the_record_holds_every_field_as_json_has_it(name):
    _, _, _, stored, _ = EVERY_FIELD[name]
    settings = Settings(**{"prompt": "P", **beside(name), name: stored})
    record = settings.to_record()
    set_here = {name, *beside(name), "knockout"}  # that are made by default
    assert list(record) == [field for field, row in TABLE.items() if row.unrecorded is RECORDED or field in set_here]
    assert json.loads(json.dumps(record)) == record
    assert record[name] == (list(stored) if isinstance(stored, tuple) else stored)
    assert (name in settings.changing_numbers()) == (
        name not in ("prompt_file", "name", "output_dir", "formats", "report", "overwrite", "quiet", "dry_run")
    )


def test_reading_a_stored_value_again_changes_nothing():
    for name, (_, _, value, stored, _) in EVERY_FIELD.items():
        assert TABLE[name].read(stored) == stored
        if name != "layers":
            assert TABLE[name].read(value) == stored


def test_settings_are_frozen_and_checked_again_when_replaced():
    settings = Settings(prompt="P", num_tokens=3)
    with pytest.raises(FrozenInstanceError):
        settings.num_tokens = 4
    assert replace(settings, num_tokens=4).num_tokens == 4
    assert faults_of(replace, settings, num_tokens=0) == [
        "num_tokens: expected a whole number from 1 to 1000000, found 0"
    ]


def test_construction_lists_all_faults_with_the_place_in_front():
    faults = faults_of(Settings, prompt="", device="gpu", thinking=True, place="a.yaml:3")
    assert len(faults) == 3 and all(fault.startswith("a.yaml:3: ") for fault in faults)


@pytest.mark.parametrize(
    "layers, stored",
    [("3", (3,)), (0, (0,)), ([5, 1, 5], (1, 5)), ("0 - 2, 2", (0, 1, 2)), (None, None), ({2, 1}, (1, 2))],
)
def test_layers_are_sorted_and_once_each(layers, stored):
    assert Settings(prompt="P", layers=layers).layers == stored


@pytest.mark.parametrize(
    "layers",
    [
        "",
        "3-0",
        "-1",
        "1-",
        "a",
        "1;2",
        "1,,2",
        "1.5",
        "٣",
        "0-10000",
        pytest.param("9" * 5000, id="long"),
        [],
        [-1],
        [True],
        ["1"],
        [1.0],
        -1,
        True,
        2.5,
        {},
        [[1]],
        10**30,
    ],
)
def test_layers_that_are_no_layers(layers):
    [fault] = faults_of(Settings, prompt="P", layers=layers)
    assert fault.startswith("layers: ") and len(fault) < 200


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_devices(device):
    assert Settings(prompt="P", device=device).device == device


@pytest.mark.parametrize(
    "device", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:01", "cuda:0\n", "cuda:a", 0, None, "tpu"]
)
def test_devices_that_are_none(device):
    [fault] = faults_of(Settings, prompt="P", device=device)
    assert fault.startswith("device: expected auto, cpu, cuda, cuda:N or mps, found ")


@pytest.mark.parametrize(
    "number", [0, -1, True, "3", 2.0, 2.5, None, float("nan"), 10**6 + 1, [1], pytest.param(16**5000, id="huge")]
)
def test_numbers_of_tokens_that_are_none(number):
    [fault] = faults_of(Settings, prompt="P", num_tokens=number)
    assert fault.startswith("num_tokens: expected a whole number from 1 to 1000000, found ") and len(fault) < 200


@pytest.mark.parametrize(
    "name, value",
    [
        ("variants", "ful"),
        ("variants", ""),
        ("variants", []),
        ("variants", ["full", 1]),
        ("variants", "full,,heads"),
        ("formats", "CSV"),
        ("formats", "csv,xlsx"),
        ("formats", {}),
    ],
)
def test_lists_name_the_valid_words(name, value):
    [fault] = faults_of(Settings, **{"prompt": "P", name: value})
    valid = {"variants": "full, attn, heads", "formats": "csv, json, parquet"}[name]
    assert fault.startswith(f"{name}: expected one") and valid in fault


def test_a_near_miss_names_the_nearest():
    assert faults_of(Settings, prompt="P", method="rerunn") == [
        "method: expected one of renormalize, rerun, found 'rerunn', did you mean 'rerun'?"
    ]


@pytest.mark.parametrize("value", ["true", 1, 0, None, "no"])
def test_switches_are_true_or_false(value):
    [fault] = faults_of(Settings, prompt="P", quiet=value)
    assert fault.startswith("quiet: expected true or false, found ")


@pytest.mark.parametrize("name", ["prompt", "system", "continuation", "model"])
def test_text_is_text_and_utf_8(name):
    for value in (5, b"x", True, ["x"], "\udc80"):
        [fault] = faults_of(Settings, **{"prompt": "P", "chat": True, name: value})
        assert fault.startswith(f"{name}: expected ") and fault.isprintable()


@pytest.mark.parametrize("name", ["prompt", "continuation", "model", "output_dir", "revision"])
def test_text_that_must_not_be_empty(name):
    [fault] = faults_of(Settings, **{"prompt": "P", name: ""})
    assert "empty" in fault


def test_an_empty_system_message_is_a_system_message():
    assert Settings(prompt="P", chat=True, system="").system == ""
    assert faults_of(Settings, prompt="P", system="")[0].startswith("system needs chat")


def test_a_leading_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("USERPROFILE", "/home/x")
    assert Settings(prompt="P", output_dir="~/out").output_dir == "/home/x/out"


def test_what_only_chat_can_use_is_refused_without_it():
    assert len(faults_of(Settings, prompt="P", system="S", thinking=True)) == 2
    assert Settings(prompt="P", chat=True, system="S", thinking=True).chat


def test_most_steps_is_open_only_for_a_continuation_without_a_given_number():
    assert Settings.from_python(prompt="P").most_steps == 1
    assert Settings.from_python(prompt="P", continuation="c").most_steps is None
    assert Settings.from_python(prompt="P", continuation="c", num_tokens=1).most_steps == 1
    assert Settings.from_python(prompt="P", continuation="c").to_record()["num_tokens"] is None


def test_python_names_its_mistakes():
    faults = faults_of(Settings.from_python, prompt="P", num_token=3, model_nam="x", num_output_tokens=0)
    assert faults[0].startswith(
        "unknown setting 'num_token', did you mean 'num_output_tokens'? valid: prompt, prompt_file, messages, "
        "num_output_tokens, "
    )
    assert "did you mean 'model_name'?" in faults[1]
    assert faults[2].startswith("num_output_tokens: expected a whole number")
    assert isinstance(RequestError("x"), ValueError)


def test_python_needs_one_prompt_and_one_name_for_a_setting():
    assert "give the text" in faults_of(Settings.from_python)[0]
    assert "give the text" in faults_of(Settings.from_python, prompt="P", prompt_file="in.txt")[0]
    assert "two names" in faults_of(Settings.from_python, prompt="P", num_tokens=1, num_output_tokens=2)[0]


def test_python_reads_a_prompt_file_and_takes_none_for_the_default():
    settings = Settings.from_python(prompt_file="in.txt", num_output_tokens=None, device=None)
    assert settings.prompt == "From a file" and settings.device == "auto" and settings.given == {"prompt_file"}


def test_faults_are_one_line_each():
    error = RequestError("a\nb\r\nc\u2028d", "e")
    assert error.faults == (r"a\nb\nc\nd", "e") and str(error) == r"a\nb\nc\nd" + "\ne"


@dataclass(frozen=True, kw_only=True)
class MoreSettings(Settings):
    """What a second front door would add: another default and one more row."""

    chat: bool = option("--chat", switch, "chat", True, off_flag="--no-chat", scope="prompt", group="prompt")
    patience: int = option("--patience", whole_number, "patience", 5, metavar="N", scope="prompt", group="measure")


def test_a_subclass_extends_the_table(folder):
    assert isinstance(options(MoreSettings)["patience"], Option)
    [settings] = command_line.read(["--prompt", "P", "--patience", "9", "--thinking"], kind=MoreSettings)
    assert (settings.patience, settings.chat) == (9, True) and settings.to_record()["patience"] == 9
    text = "patience: 8\nprompts: [{prompt: a}, {prompt: b, patience: 7, chat: false}]"
    (folder / "b.yaml").write_text(text, encoding="utf-8")
    entries = command_line.read(["--config", "b.yaml"], kind=MoreSettings)
    assert [(entry.patience, entry.chat) for entry in entries] == [(8, True), (7, False)]
