"""How the repository is laid out: which way imports flow, what starts fast, which words and files there must be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from repository import ROOT

from mask_impact.models.vision.picture_tokens import VisionInputs
from mask_impact.results.table import COLUMNS
from mask_impact.runs.run import PER_CELL
from mask_impact.settings import batch_file
from mask_impact.settings.option import options
from mask_impact.settings.text_settings import VARIANTS, Settings
from mask_impact.settings.vision_settings import MASK_MODES, VisionSettings

PACKAGE = ROOT / "mask_impact"
NOT_OURS = {"__pycache__", "output", "node_modules"}
FOLDERS = ("base", "settings", "results", "sites", "cuts", "measure", "models", "runs", "lookup")
MOST_FILES = 15
FAST = (
    "settings.text_settings",
    "settings.vision_settings",
    "settings.batch_file",
    "settings.command_line",
    "settings.readers",
    "settings.prompt_files",
    "runs.result_names",
    "runs.early_check",
    "base.errors",
    "base.formats",
    "base.console",
    "base.terminal",
    "__main__",
)
HEAVY = ("torch", "transformers", "pyarrow", "pandas", "numpy")
FRONT_DOOR_LINES = 140
# What a prompt with pictures adds to the table.
VISION_COLUMNS = tuple(VisionInputs([], (), "text", 0, None).columns(0))
# A home or scratch folder of some machine; one-letter names (the x of a test's own home folder) stand for any.
MACHINE_PATH = re.compile(r"(?<![\w.~-])(?:/(?:work|tmp|home|root|Users)|[A-Z]:\\+Users\\?)[/\\][\w.][\w.-]")


def repository_files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file of ours: no virtual environment, cache or result, and of hidden folders .ci alone."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name == ".ci" or not (path.name.startswith(".") or path.name in NOT_OURS or is_environment(path)):
            yield from repository_files(path)


def is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()


MODULES = [path for path in PACKAGE.rglob("*.py") if not NOT_OURS & set(path.parts)]
SOURCES = [path for path in repository_files() if path.suffix == ".py"]
FRONT_DOORS = [path for path in ROOT.glob("*.py") if not path.name.startswith("test_")]


def imported(source: str) -> set[str]:
    """Dotted names of all that a source imports, inside functions too: for `from a import b`, a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_of_ours(path: Path) -> set[str]:
    """The package's modules that a file imports, dotted; of a name that is no module the one that it stands in."""
    names = [name for name in imported(path.read_text(encoding="utf-8")) if name.split(".")[0] == "mask_impact"]
    return {name if is_module(name) else name.rpartition(".")[0] for name in names} - {"mask_impact"}


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or a folder of the package."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder(module: str) -> str:
    """The folder that a dotted module lies in, or that it is; empty for the package's own files."""
    parts = module.split(".")[1:]
    return parts[0] if parts and (PACKAGE / parts[0]).is_dir() else ""


def top_level(path: Path) -> set[str]:
    """The packages that a file imports from."""
    return {name.split(".")[0] for name in imported(path.read_text(encoding="utf-8"))}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_sources_are_found():
    found = {place(path) for path in SOURCES}
    assert {
        "mask_impact/settings/text_settings.py",
        "mask_impact_analysis.py",
        "tests/house/test_layout.py",
        "demo/text/world.py",
    } <= found
    assert {".ci/run", ".gitignore"} <= {place(path) for path in repository_files()}
    assert "mask_impact_analysis.py" in {path.name for path in FRONT_DOORS}


def test_imports_are_seen_wherever_they_stand():
    source = "import a.b\ndef f():\n    from c import d\n    import e as g\n"
    assert imported(source) == {"a.b", "c", "c.d", "e"}


def test_modules_do_not_import_each_other():
    graph = {dotted(path): modules_of_ours(path) for path in MODULES}
    assert graph["mask_impact.measure.loop"] >= {"mask_impact.measure.renormalize", "mask_impact.measure.rerun"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(reversed(error.args[1]))}")


def test_folders_stand_in_one_line():
    """Each imports only from itself and from those before it."""
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - NOT_OURS == set(FOLDERS)
    place = {name: number for number, name in enumerate(FOLDERS)}
    upward = [
        f"{dotted(path)} imports {name}"
        for path in MODULES
        for name in sorted(modules_of_ours(path))
        if folder(dotted(path)) and place.get(folder(name), 0) > place[folder(dotted(path))]
    ]
    assert upward == []


def test_a_folder_says_what_it_knows_and_holds_a_dozen_files():
    for path in [one for one in PACKAGE.rglob("*") if one.is_dir() and one.name not in NOT_OURS]:
        told = ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8")))
        assert "never knows" in told or "knows nothing" in told or "knows what the rest" in told, path
        assert len(list(path.glob("*.py"))) <= MOST_FILES, path


def test_the_tests_mirror_the_package_and_share_through_their_support_alone():
    found = {path.name for path in (ROOT / "tests").iterdir()} - NOT_OURS
    assert found == {*FOLDERS, "viewer", "front_doors", "house", "support", "conftest.py"}
    for path in (ROOT / "tests").glob("*/*.py"):
        assert path.stem.startswith("test_") != (path.parent.name == "support"), path
        assert not any(name.startswith("test_") for name in top_level(path)), path
        assert path.parent.name == "support" or len(list(path.parent.glob("*.py"))) <= MOST_FILES, path


def test_the_package_imports_nothing_that_is_built_on_it():
    above = {path.stem for path in ROOT.glob("*.py")} | {"tests", "benchmarks", "demo"}
    assert "mask_impact_analysis" in above
    assert {place(path): found for path in MODULES if (found := top_level(path) & above)} == {}
    assert all("mask_impact" in top_level(path) for path in FRONT_DOORS)


def test_only_the_demo_tests_and_benchmarks_import_the_demo():
    users = {place(path) for path in SOURCES if "demo" in top_level(path)}
    assert any(path.startswith("demo/") for path in users)
    assert [path for path in sorted(users) if not path.startswith(("demo/", "tests/", "benchmarks/"))] == []


@pytest.mark.parametrize("module", [*(f"mask_impact.{name}" for name in FAST), *(path.stem for path in FRONT_DOORS)])
def test_what_must_answer_fast_imports_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


@pytest.mark.parametrize("path", FRONT_DOORS, ids=place)
def test_a_front_door_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FRONT_DOOR_LINES


def words_of_results() -> list[str]:
    """Columns, variants as asked for and as written, methods, and the run file's numbers for each cell."""
    [methods] = options(Settings)["method"].read.args
    assert {"renormalize", "rerun"} <= set(methods)
    return [*COLUMNS, *VISION_COLUMNS, *VARIANTS, "Full", "Attn", "Head_0", *methods, *PER_CELL, *MASK_MODES]


@pytest.mark.parametrize("word", words_of_results())
def test_the_glossary_has_every_word_of_the_results(word):
    glossary = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    assert f"`{word}`" in glossary or f"**{word}**" in glossary


def test_the_glossarys_columns_are_the_tables():
    glossary = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", glossary, re.MULTILINE)) == (*COLUMNS, *VISION_COLUMNS)


@pytest.mark.parametrize("word", ["vision token", "merged cell", "merged grid", "DeepStack", "mask mode", "M-RoPE"])
def test_the_glossary_tells_of_pictures(word):
    assert f"**{word}**" in (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")


def text_of(path: Path) -> str:
    """A file's text; none for a file that is not text."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return ""


def test_machine_paths_are_recognised():
    parts = [("", "tmp", "out"), ("", "home", "ann", "x.csv"), ("", "root", ".cache"), ("", "Users", "ann")]
    for path in map("/".join, parts):
        assert MACHINE_PATH.search(f'open("{path}")')
    assert MACHINE_PATH.search("\\".join(("C:", "Users", "ann")))
    for harmless in ("demo/tmp/out", "example.org/home/page", "../some/where", "~/home/me", "\\".join(("C:", "x"))):
        assert not MACHINE_PATH.search(harmless)


def test_no_file_names_a_path_of_a_machine():
    found = {place(path): match[0] for path in repository_files() if (match := MACHINE_PATH.search(text_of(path)))}
    assert found == {}


def test_requirements_are_pinned_and_are_what_is_imported():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([\w-]+)==[\d.]+ +# .+", line) for line in lines if not line.startswith("#")]
    assert all(pins)
    ours = {path.stem for path in SOURCES} | {path.name for path in ROOT.iterdir() if path.is_dir()}
    others = set().union(*map(top_level, SOURCES)) - set(sys.stdlib_module_names) - ours
    asked_by_a_flag = {"pytest-xdist", "hatchling", "ruff", "mypy", "types-PyYAML", "types-tqdm", "pandas-stubs"}
    assert others == {{"pyyaml": "yaml", "pillow": "PIL"}.get(pin[1], pin[1]) for pin in pins} - asked_by_a_flag


def test_the_package_asks_for_what_requirements_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = [line for line in lines if not line.startswith("#")]
    assert sorted(map(package_name, asked)) == sorted(map(package_name, pinned))


def package_name(requirement: str) -> str:
    """A package's name, without the versions that are asked for."""
    return re.match(r"[\w-]+", requirement)[0]


DEMO_COMMANDS = re.findall(
    r"^\t\$\(RUN\) (\S+\.py) --config (\S+) --overwrite$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
)


def test_make_demo_runs_a_batch_of_each_front_door_on_its_demo_model(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert [script for script, _ in DEMO_COMMANDS] == ["mask_impact_analysis.py", "mask_impact_vl.py"]
    names = []
    for (_, config), kind in zip(DEMO_COMMANDS, (Settings, VisionSettings)):
        entries = batch_file.read(config, kind=kind)
        assert len(entries) >= 3 and all(entry.name for entry in entries)
        assert {(entry.model, entry.output_dir, entry.report) for entry in entries} == {("demo", "output/demo", True)}
        names += [entry.name for entry in entries]
    assert len(set(names)) == len(names)  # one folder for both


def test_the_vision_demo_asks_of_a_picture_in_every_mask_mode():
    _, config = DEMO_COMMANDS[1]
    entries = batch_file.read(str(ROOT / config), kind=VisionSettings)
    assert {entry.mask_mode for entry in entries} == set(MASK_MODES)
    assert all(len(entry.image) == 1 and Path(entry.image[0]).samefile(ROOT / "testimg.png") for entry in entries)
