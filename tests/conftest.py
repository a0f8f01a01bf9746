"""What all tests share: one thread for the tiny models, and no network."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

import mask_impact_analysis
from mask_impact import console

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def plain_state():
    """Every test starts from the same random state and leaves gradients off."""
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def two_pictures(tmp_path, monkeypatch):
    """A current folder with two pictures, of 3 x 5 and 7 x 2 cells, and an environment that leaks nothing out of the test."""
    import vision_zoo

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "critical")
    vision_zoo.picture(Path("cat.png"), 40, 24)
    vision_zoo.picture(Path("dog.png"), 16, 56, seed=1)
    return folder


@pytest.fixture
def command(capsys):
    """Run a front door in this process: (exit code, lines on standard output, lines on standard error)."""
    def run(*words, door=mask_impact_analysis):
        capsys.readouterr()
        code = console.exit_code(lambda: door.main([str(word) for word in words]))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run
