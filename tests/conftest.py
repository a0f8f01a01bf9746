"""What all tests share: one thread for the tiny models, no network, and Ctrl-C as in a terminal."""

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from repository import ROOT

import mask_impact_analysis
from mask_impact.base import console

pytest_plugins = ["asking", "browser", "from_python", "looking", "viewing"]  # fixtures of more than one file
pytest.register_assert_rewrite("bad_inputs", "hard_tables", "measuring")
torch.set_num_threads(1)
# A suite started in the background inherits that Ctrl-C is ignored, and hands it on.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def plain_state():
    """Every test starts from the same random state and leaves gradients off."""
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of saved models; they are not to be changed."""
    import vision_zoo
    import zoo

    folder = tmp_path_factory.mktemp("models")
    for name in ("llama", "qwen3_next", "bert", "mamba", "gptj"):
        zoo.save(name, folder / name)
    vision_zoo.save("qwen3_vl", folder / "vl")
    return folder


@pytest.fixture
def llama(models):
    return str(models / "llama")


@pytest.fixture
def vl(models):
    return str(models / "vl")


def empty_folder(tmp_path, monkeypatch):
    """Make an empty folder the current one, in an environment that leaks nothing out of the test."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "critical")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    return empty_folder(tmp_path, monkeypatch)


@pytest.fixture
def two_pictures(tmp_path, monkeypatch):
    """A current folder with two pictures, of 3 x 5 and 7 x 2 cells."""
    import vision_zoo

    folder = empty_folder(tmp_path, monkeypatch)
    vision_zoo.picture(Path("cat.png"), 40, 24)
    vision_zoo.picture(Path("dog.png"), 16, 56, seed=1)
    return folder


@pytest.fixture
def loads(monkeypatch):
    """The folders that weights are loaded from, in order."""
    loaded = []
    for kind in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):

        def watched(folder, load=kind.from_pretrained, **options):
            loaded.append(str(folder))
            return load(folder, **options)

        monkeypatch.setattr(kind, "from_pretrained", watched)
    return loaded


@pytest.fixture
def command(capsys):
    """Run a front door in this process: (exit code, lines on standard output, lines on standard error)."""

    def run(*words, door=mask_impact_analysis):
        capsys.readouterr()
        code = console.exit_code(lambda: door.main([str(word) for word in words]))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


@pytest.fixture
def cut_off(command, monkeypatch):
    """Run a command until so many steps are kept, and no further."""
    from cutting import Killed

    from mask_impact.runs import run as runs

    def run(steps, *words, **options):
        keep = runs.Run._keep

        def kept(self, distances):
            keep(self, distances)
            if len(self.steps) == steps:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(runs.Run, "_keep", kept)
            with pytest.raises(Killed):
                command(*words, **options)

    return run


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Results of the demo models; not to be changed."""
    import mask_impact_vl

    folder = tmp_path_factory.mktemp("results")
    where = ["--output-dir", str(folder), "--quiet", "--formats", "csv,json,parquet", "--knockout", "none"]
    text = ["--model", "demo", "--num-tokens", "2", *where, "--prompt"]
    for words in (
        ["The capital of France is", "--output", "france", "--report"],
        ["The capital of Italy is", "--output", "italy"],
        ["The", "--output", "one"],
        ["The capital of France is", "--output", "rerun", "--method", "rerun"],
        ["The capital of France is", "--output", "double", "--dtype", "float64"],
    ):
        assert mask_impact_analysis.main([*text, *words]) == 0
    picture = [
        "--image",
        str(ROOT / "testimg.png"),
        "--mask-mode",
        "vision",
        "--prompt",
        "What color is the circle?",
    ]
    assert mask_impact_vl.main(["--model", "demo", *picture, "--output", "circle", *where]) == 0
    return folder
