"""The guide and the example files say what the program does."""

import ast
import importlib
import inspect
import io
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from repository import ROOT

import mask_impact
import mask_impact_analysis
import mask_impact_vl
from mask_impact import __main__
from mask_impact.base import console
from mask_impact.runs.run import Run
from mask_impact.settings import batch_file, command_line
from mask_impact.settings.batch_file import STRUCTURE
from mask_impact.settings.guide import guide_table, with_table
from mask_impact.settings.option import options
from mask_impact.settings.text_settings import COMMAND_FLAGS, Settings
from mask_impact.settings.vision_settings import MASK_MODES, VisionSettings
from mask_impact_analysis import run_masking_experiment

GUIDE = (ROOT / "BATCH_MODE_GUIDE.md").read_text(encoding="utf-8")
SCRIPTS = {"mask_impact_analysis.py": Settings, "mask_impact_vl.py": VisionSettings}
EXAMPLE_BATCHES = [("prompts_config.yaml", Settings), ("prompts_config_vl.yaml", VisionSettings)]
PROSE = GUIDE.replace(guide_table(), "")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with the files that the guide's examples name."""
    for name in ("prompt.txt", *(file for file, _ in EXAMPLE_BATCHES)):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "question.txt").write_text("Who?\n", encoding="utf-8")
    [capitals] = [block for block in blocks("yaml") if "name: italy," in block]
    (tmp_path / "capitals.yaml").write_text(capitals, encoding="utf-8")
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
    assert batch_file.read("example.yaml", kind=VisionSettings if "image:" in text else Settings)


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
    for name, results in {
        "show": ["a"],
        "compare": ["a", "b"],
        "report": ["a"],
        "export": ["a", "--to", "csv"],
    }.items():
        flags = vars(__main__.read([name, *results]))
        named = {"--json" if flag == "as_json" else f"--{flag}" for flag in flags}
        assert named - {"--command", "--result", "--a", "--b", "--given"} <= words


def test_every_benchmark_is_in_the_table_of_benchmarks():
    folder = ROOT / "benchmarks"
    commands = re.findall(
        r"^\| `python benchmarks/(\w+\.py)((?: --\w+)*)` \|",
        (folder / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    programs = {path.name for path in folder.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert {script for script, _ in commands} == programs
    for script, flags in commands:
        assert all(f'"{flag}"' in (folder / script).read_text(encoding="utf-8") for flag in flags.split())


def test_the_guide_has_examples_of_each_kind():
    assert len(COMMANDS) >= 10 and len(blocks("yaml")) >= 3 and len(blocks("python")) >= 2


@pytest.mark.parametrize(
    "function, kind", [(run_masking_experiment, Settings), (mask_impact_vl.run_vl_masking_experiment, VisionSettings)]
)
def test_every_python_example_uses_names_that_exist(function, kind):
    """What is given by a name, such as a loaded model, is a parameter of the function; the rest are settings."""
    parameters = inspect.signature(function).parameters
    calls = [
        node
        for block in blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function.__name__
    ]
    assert calls
    for call in calls:
        given = dict(zip(parameters, call.args)) | {word.arg: word.value for word in call.keywords}
        objects = {name for name, value in given.items() if isinstance(value, ast.Name)}
        assert objects <= set(parameters)
        kind.from_python(**{name: ast.literal_eval(value) for name, value in given.items() if name not in objects})


def test_the_python_example_with_pictures_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    [block] = [block for block in blocks("python") if "run_vl_masking_experiment(" in block]
    names: dict = {}
    exec(block, names)
    assert capsys.readouterr().out.splitlines()[1].startswith("img0[1,2] ")  # the red circle's cell
    assert set(names["table"].token_type) == {"vision"} and names["table"].attrs["run"]["generated_text"] == "square"


def test_the_guide_shows_the_four_ways_of_use():
    settings = [
        command_line.read(shlex.split(line)[2:], "x", VisionSettings)[0]
        for line in COMMANDS
        if "mask_impact_vl.py" in line and "--config" not in line
    ]
    ways = [(bool(entry.image), entry.mask_mode) for entry in settings]
    assert ways[:4] == [(False, "text"), *((True, mode) for mode in MASK_MODES)]
    assert any(len(entry.image) > 1 for entry in settings) and any(not entry.chat for entry in settings)


@pytest.mark.parametrize(
    "examples, kind", [(command_line.EXAMPLES, Settings), (mask_impact_vl.EXAMPLES, VisionSettings)]
)
def test_every_command_of_the_help_is_understood(examples, kind):
    lines = [line.strip() for line in examples.format(program="python x.py").splitlines() if "x.py" in line]
    assert len(lines) == 4
    for line in lines:
        assert command_line.read(shlex.split(line)[2:], "x.py", kind)


def test_the_example_batch_is_read_as_it_says():
    settings = batch_file.read("prompts_config.yaml")
    common = {"model": "Qwen/Qwen3-0.6B"}
    assert settings == [
        Settings(name="capital", prompt="The capital of France is", num_tokens=3, **common),
        Settings(name="repeated_name", prompt="Mary and John went to the park. John gave a flower to", **common),
        Settings(
            name="chat",
            prompt="What is the capital of Italy? Answer in one word.",
            chat=True,
            system="You are a geography teacher.",
            num_tokens=2,
            **common,
        ),
        Settings(
            name="given_answer", prompt="The capital of Spain is", continuation=" Lisbon.", num_tokens=2, **common
        ),
    ]
    assert not any(entry.warnings for entry in settings) and "formats" not in settings[0].given


def test_the_example_batch_with_pictures_is_read_as_it_says():
    settings = batch_file.read("prompts_config_vl.yaml", kind=VisionSettings)
    common = {"model": "Qwen/Qwen3-VL-2B-Instruct"}
    about = {"image": ["testimg.png"], "prompt": "What color is the circle?"} | common
    assert settings == [
        VisionSettings(
            name="text_only",
            prompt="What is the capital of Italy? Answer in one word.",
            system="You are a geography teacher.",
            **common,
        ),
        VisionSettings(name="words", **about),
        VisionSettings(name="patches", mask_mode="vision", **about),
        VisionSettings(
            name="words_and_patches", mask_mode="both", num_tokens=2, **about | {"prompt": "What shape is blue?"}
        ),
        VisionSettings(
            name="two_pictures",
            image=["testimg.png", "viewer/screenshot.png"],
            mask_mode="both",
            max_image_tokens=256,
            prompt="Which of the two pictures shows a star?",
            **common,
        ),
        VisionSettings(name="encoder", image=["testimg.png"], part="encoder", at="1,2", **common),
    ]
    assert all(entry.chat for entry in settings) and not any(entry.warnings for entry in settings)
    assert "formats" not in settings[0].given


def test_the_example_batch_with_pictures_runs(monkeypatch, tmp_path):
    """As it is, but for the model: the pictures it names are there, whatever the current folder,
    and every entry succeeds."""
    assert mask_impact_vl.main(["--config", str(ROOT / "prompts_config_vl.yaml"), "--model", "demo", "--quiet"]) == 0
    tables = {
        path.name.removesuffix("_results.csv"): mask_impact.read_results(path)
        for path in Path("output").glob("*_results.csv")
    }
    kinds = {name: set(table.token_type) for name, table in tables.items()}
    assert kinds == {
        "text_only": {"text"},
        "words": {"text"},
        "patches": {"vision"},
        "words_and_patches": {"text", "vision"},
        "two_pictures": {"text", "vision"},
        "encoder": {"vision"},
    }
    seen = tables["two_pictures"].dropna(subset="image_index").groupby("image_index").token_position.nunique()
    assert seen.index.tolist() == [0, 1] and seen.max() <= 256 < 1024


@pytest.mark.parametrize("file, kind", EXAMPLE_BATCHES)
def test_an_example_batch_shows_every_key(file, kind):
    text = (ROOT / file).read_text(encoding="utf-8")
    keys = {name for name, row in options(kind).items() if row.scope != "flag"} | set(STRUCTURE)
    shown = {key for key in keys if re.search(rf"^[ #-]*{key}:", text, re.MULTILINE)}
    in_a_sentence = {"prompt_file", "messages"}  # as they do not stand beside a prompt
    assert keys - shown == in_a_sentence and all(key in text for key in in_a_sentence)


def all_keys_of(file: str, kind: type) -> list:
    """The entries of an example batch with every commented key put in, and those that are switched off switched on."""
    text = Path(file).read_text(encoding="utf-8")
    text = re.sub(r"^( *)# (\w+:)", r"\1\2", text, flags=re.MULTILINE).replace("enabled: false", "enabled: true")
    Path("all.yaml").write_text(text, encoding="utf-8")
    return batch_file.read("all.yaml", kind=kind)


def test_its_comments_are_true():
    entries = all_keys_of("prompts_config.yaml", Settings)
    assert len(entries) == 5 and entries[0].revision == "main" and entries[0].layers == (0, 1, 2, 3, 10)
    assert entries[4].layers == tuple(range(14)) and entries[4].variants == ("heads",)


def test_the_comments_of_the_one_with_pictures_are_true():
    entries = all_keys_of("prompts_config_vl.yaml", VisionSettings)
    assert len(entries) == 7 and entries[0].revision == "main" and entries[0].layers == (0, 1, 2, 3, 10)
    assert (
        entries[6].continuation == "It is green." and entries[6].num_tokens == 3 and entries[6].variants == ("heads",)
    )
    text = Path("prompts_config_vl.yaml").read_text(encoding="utf-8")
    defaults = VisionSettings(prompt="x")
    for said in (
        "mask_mode: text ",
        f"max_image_tokens: {defaults.max_image_tokens} ",
        f"model: {defaults.model} ",
        "chat: true ",
    ):
        assert said in text
    assert defaults.mask_mode == "text" and defaults.chat


def test_the_example_prompt():
    assert command_line.read([])[0].prompt == "The capital of France is"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path):
    importlib.import_module(f"benchmarks.{path.stem}")


def transcripts(section: str) -> list[list[tuple[str, list[str]]]]:
    """The console blocks of a section of the guide:
    each a list of commands, with the lines that each prints among others."""
    text = GUIDE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [[(lines[0], lines[1:]) for lines in map(str.splitlines, block.split("$ ")[1:])] for block in found]


def said_by(line: str, command, capfd) -> list[str]:
    """What a command of a transcript prints, on both streams."""
    words = shlex.split(line)
    capfd.readouterr()
    if words[1] == "mask_impact_analysis.py":
        _, out, err = command(*words[2:])
        return [*capfd.readouterr().err.splitlines(), *out, *err]
    if words[1] == "mask_impact_vl.py":
        _, out, err = command(*words[2:], front_door=mask_impact_vl)
        return [*out, *err]
    assert words[:3] == ["python", "-m", "mask_impact"] and console.exit_code(lambda: __main__.main(words[3:])) == 0
    return capfd.readouterr().out.splitlines()


@pytest.mark.parametrize("section, breaks", [("Stopping and resuming", "interrupted"), ("Failures", "failing")])
def test_the_transcripts_of_the_guide_are_true(section, breaks, capfd, monkeypatch, folder):
    def command(*words):
        code = console.exit_code(lambda: mask_impact_analysis.main(words))
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    add = Run.add

    def broken(self, layer):
        if breaks == "interrupted" and (self.plan.choice.name, layer.step.index, layer.layer) == ("coin", 1, 0):
            os.kill(os.getpid(), signal.SIGINT)
        if breaks == "failing" and self.plan.choice.name == "france":
            raise MemoryError("Cannot allocate memory")
        add(self, layer)

    [yaml] = [block for block in blocks("yaml") if "name: coin" in block]
    Path("night.yaml").write_text(yaml, encoding="utf-8")
    [script] = transcripts(section)
    assert len(script) > 1
    for number, (line, expected) in enumerate(script):
        with monkeypatch.context() as patch:
            if number == 0:
                patch.setattr(Run, "add", broken)
            said = said_by(line, command, capfd)
        assert expected and [line for line in expected if line not in said] == []


@pytest.mark.parametrize("section, commands", [("Conversations", 2), ("Units: words, sentences, spans, pairs", 4)])
def test_the_conversation_and_the_units_of_the_guide_are_true(section, commands, capfd):
    def command(*words, front_door=mask_impact_analysis):
        assert console.exit_code(lambda: front_door.main(words)) == 0
        said = capfd.readouterr()
        return 0, said.out.splitlines(), said.err.splitlines()

    [talk] = blocks("json")
    Path("talk.json").write_text(talk, encoding="utf-8")
    shutil.copy(ROOT / "testimg.png", "testimg.png")
    [script] = transcripts(section)
    assert len(script) == commands
    for line, expected in script:
        said = [" ".join(one.split()) for one in said_by(line, command, capfd)]
        assert expected and [line for line in expected if " ".join(line.split()) not in said] == []


ON_DEMO = {
    "--model": "demo",
    "--device": "cpu",
    "--layers": "0-1",
}  # what the carried models are given in place of the guide's


@pytest.fixture
def results(folder, capsys):
    """The files that the guide's examples name, results among them."""
    for name, size in {
        "testimg.png": None,
        "before.jpg": (160, 160),
        "after.jpg": (160, 128),
        "chart.png": (320, 240),
    }.items():
        Image.open(ROOT / "testimg.png").convert("RGB").resize(size or (192, 192)).save(name)
    shutil.copytree(
        ROOT / "viewer", folder / "viewer", ignore=lambda *_: {"node_modules"}
    )  # the example batch names its picture
    rerun = ["--method", "rerun"]
    for name, country, further in [
        ("capital", "France", []),
        ("capital_rerun", "France", rerun),
        ("france", "France", []),
        ("italy", "Italy", []),
    ]:
        prompt = ["--model", "demo", "--prompt", f"The capital of {country} is", "--output", name]
        assert mask_impact_analysis.main([*prompt, *further]) == 0


@pytest.mark.parametrize("line", [pytest.param(line, id=str(n)) for n, line in enumerate(COMMANDS)])
def test_every_command_runs_on_the_demo_models(line, results, monkeypatch, capsys):
    given, _, command = line.rpartition("| ")
    _, script, *words = shlex.split(command)
    if given:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(shlex.split(given)[1].encode() + b"\n")))
    if script == "-m":
        code = console.exit_code(lambda: __main__.main(words[1:]))
    else:
        shutil.rmtree("output")
        for flag, value in ON_DEMO.items():
            if flag in words:
                words[words.index(flag) + 1] = value
        door = {"mask_impact_analysis.py": mask_impact_analysis, "mask_impact_vl.py": mask_impact_vl}[script]
        code = console.exit_code(lambda: door.main([*words, *([] if "--model" in words else ["--model", "demo"])]))
    assert code == 0, capsys.readouterr().err
    assert "--quiet" in words or capsys.readouterr().out


@pytest.mark.parametrize("block", [block for block in blocks("python") if "demo/vision" not in block])
def test_every_python_example_runs(block, results):
    exec(block, {})
