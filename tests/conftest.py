"""What all tests share: one thread for the tiny models, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def plain_state():
    """Every test starts from the same random state and leaves gradients off."""
    torch.manual_seed(0)
    with torch.no_grad():
        yield
