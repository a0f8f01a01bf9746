"""What all tests share: one thread for the tiny models, and no network."""

import os

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
def command(capsys):
    """Run a front door in this process: (exit code, lines on standard output, lines on standard error)."""
    def run(*words, door=mask_impact_analysis):
        capsys.readouterr()
        code = console.exit_code(lambda: door.main([str(word) for word in words]))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run
