"""The guide and the example files say what the program does."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from mask_impact import __main__, batch, command_line
from mask_impact.batch import STRUCTURE
from mask_impact.guide import guide_table, with_table
from mask_impact.settings import COMMAND_FLAGS, Settings, options
from mask_impact.vision_settings import VisionSettings

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "BATCH_MODE_GUIDE.md").read_text(encoding="utf-8")
SCRIPTS = {"mask_impact_analysis.py": Settings, "mask_impact_vl.py": VisionSettings}
PROSE = GUIDE.replace(guide_table(), "")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with the files that the guide's examples name."""
    for name in ("prompt.txt", "prompts_config.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "question.txt").write_text("Who?\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guides_table_is_the_sources():
    assert with_table(GUIDE) == GUIDE and guide_table() in GUIDE
    changed = GUIDE.replace("| `--prompt TEXT` |", "| `--prompts TEXT` |")
    assert changed != GUIDE and with_table(changed) == GUIDE


def test_every_flag_and_key_is_in_the_table():
    for name, row in options(VisionSettings).items():
        flag_alone = row.scope == "flag" and row.group == "results"
        assert re.search(rf"`{row.flag}[ `]", guide_table()) and (flag_alone or f"`{name}`" in guide_table())
        assert row.off_flag in guide_table() and (not row.python or f"Python `{row.python}`" in guide_table())
    for flag in COMMAND_FLAGS:
        assert f"`{flag}`" in guide_table()


def test_every_flag_of_the_parser_is_in_the_guide():
    parser = command_line._parser("x", VisionSettings, "", "")
    flags = {flag for action in parser._actions for flag in action.option_strings} - {"--help", "-h"}
    assert len(flags) == len(options(VisionSettings)) + len(COMMAND_FLAGS) + 1  # --no-chat
    assert all(re.search(rf"`{flag}[ `]", GUIDE) for flag in flags)


@pytest.mark.parametrize("key", STRUCTURE)
def test_keys_that_are_no_settings_are_in_the_prose(key):
    assert re.search(rf"`{key}\b", PROSE)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_yaml_example_is_read(text, folder):
    (folder / "example.yaml").write_text(text, encoding="utf-8")
    assert batch.read("example.yaml")


@pytest.mark.parametrize("line", [pytest.param(line, id=str(n)) for n, line in enumerate(COMMANDS)])
def test_every_command_is_understood(line, folder):
    command = line.split("| ")[-1]
    python, script, *words = shlex.split(command.replace("--prompt-file -", "--prompt-file question.txt"))
    assert python == "python"
    if script == "-m":
        assert words[0] == "mask_impact" and __main__.read(words[1:])
    else:
        assert command_line.read(words, script, SCRIPTS[script])


def test_every_command_and_flag_of_the_look_up_is_in_the_guide():
    [section] = re.findall(r"^## Looking at results in the shell\n(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
    words = set(re.findall(r"--[a-z]+|\*\*`[a-z]+`\*\*", section))
    assert {f"**`{name}`**" for name in ("show", "compare", "report", "export")} <= words
    for name, results in {"show": ["a"], "compare": ["a", "b"], "report": ["a"], "export": ["a", "--to", "csv"]}.items():
        flags = vars(__main__.read([name, *results]))
        named = {"--json" if flag == "as_json" else f"--{flag}" for flag in flags}
        assert named - {"--command", "--result", "--a", "--b", "--given"} <= words


def test_the_guide_has_examples_of_each_kind():
    assert len(COMMANDS) >= 10 and len(blocks("yaml")) >= 3 and len(blocks("python")) >= 2


def test_every_python_example_uses_names_that_exist():
    calls = [node for block in blocks("python") for node in ast.walk(ast.parse(block))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_masking_experiment"]
    assert calls
    for call in calls:
        Settings.from_python(prompt=ast.literal_eval(call.args[0]),
                             **{word.arg: ast.literal_eval(word.value) for word in call.keywords})


def test_every_command_of_the_help_is_understood():
    lines = [line.strip() for line in command_line.EXAMPLES.format(program="x.py").splitlines() if "x.py" in line]
    assert len(lines) == 4
    for line in lines:
        assert command_line.read(shlex.split(line)[2:])


def test_the_example_batch_is_read_as_it_says():
    settings = batch.read("prompts_config.yaml")
    common = {"model": "Qwen/Qwen3-0.6B"}
    assert settings == [
        Settings(name="capital", prompt="The capital of France is", num_tokens=3, **common),
        Settings(name="repeated_name", prompt="Mary and John went to the park. John gave a flower to", **common),
        Settings(name="chat", prompt="What is the capital of Italy? Answer in one word.", chat=True,
                 system="You are a geography teacher.", num_tokens=2, **common),
        Settings(name="given_answer", prompt="The capital of Spain is", continuation=" Lisbon.", num_tokens=2,
                 **common),
    ]
    assert not any(entry.warnings for entry in settings) and "formats" not in settings[0].given


def test_the_example_batch_shows_every_key():
    text = (ROOT / "prompts_config.yaml").read_text(encoding="utf-8")
    keys = {name for name, row in options(Settings).items() if row.scope != "flag"} | set(STRUCTURE)
    shown = {key for key in keys if re.search(rf"^[ #-]*{key}:", text, re.MULTILINE)}
    assert keys - shown == {"prompt_file"} and "prompt_file" in text  # not beside a prompt, so in a sentence


def test_its_comments_are_true(folder):
    """Every commented key, put in, is read; and the entry that is switched off runs when switched on."""
    text = Path("prompts_config.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^( *)# (\w+:)", r"\1\2", text, flags=re.MULTILINE).replace("enabled: false", "enabled: true")
    (folder / "all.yaml").write_text(text, encoding="utf-8")
    entries = batch.read("all.yaml")
    assert len(entries) == 5 and entries[0].revision == "main" and entries[0].layers == (0, 1, 2, 3, 10)
    assert entries[4].layers == tuple(range(14)) and entries[4].variants == ("heads",)


def test_the_example_prompt():
    assert command_line.read([])[0].prompt == "The capital of France is"
