"""Pictures measured from Python: paths and lists of them, every fault at once, loaded models left as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import vision_zoo
import zoo
from asking import QUESTION
from PIL import Image
from running import files_in

from mask_impact_vl import run_vl_masking_experiment

pytestmark = pytest.mark.usefixtures("two_pictures")  # each in a current folder with two pictures


def asked_in_python(image, **settings):
    """The table, of a loaded model."""
    own = dict(
        model=vision_zoo.build("qwen3_vl"),
        tokenizer=vision_zoo.tokenizer(),
        image_processor=vision_zoo.processor(),
        layers=[0],
        variants=["attn"],
        mask_mode="both",
    )
    return run_vl_masking_experiment(QUESTION, image, **(own | settings))


def test_a_picture_is_a_path_or_a_list_of_them(two_pictures):
    table = asked_in_python("cat.png")
    for image in (Path("cat.png"), ["cat.png"], [Path("cat.png")], ("cat.png",), two_pictures / "cat.png"):
        assert asked_in_python(image).equals(table)
    assert asked_in_python(None, mask_mode="text").token_type.eq("text").all()
    assert asked_in_python(["cat.png", Path("dog.png")]).image_index.max() == 1
    assert files_in(two_pictures) == ["cat.png", "dog.png"]


@pytest.mark.parametrize(
    "image",
    [7, 1.5, True, {"a": 1}, [None], [["cat.png"]], "", [""], b"cat.png", Image.new("RGB", (40, 24)), np.zeros((3, 3))],
    ids=lambda image: type(image).__name__,
)
def test_what_is_no_path_is_refused(image):
    with pytest.raises(ValueError, match="^image: ") as caught:
        asked_in_python(image)
    assert len(str(caught.value).splitlines()) == 1


def test_all_faults_of_a_wrong_request_are_named(vl):
    with pytest.raises(ValueError) as caught:
        run_vl_masking_experiment("", "cat.png", "patches", vl, max_image_tokens=0)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "prompt",
        "mask_mode",
        "max_image_tokens",
    ]
    with pytest.raises(ValueError, match="none.png: there is no such file"):
        run_vl_masking_experiment(QUESTION, "none.png", model_name=vl)
    with pytest.raises(ValueError, match="^mask_mode vision needs a picture; add image, or mask the text$"):
        run_vl_masking_experiment(QUESTION, mask_mode="vision", model_name=vl)
    with pytest.raises(ValueError, match="model and tokenizer go together"):
        asked_in_python("cat.png", tokenizer=None)
    with pytest.raises(ValueError, match="is no Qwen3-VL"):
        asked_in_python("cat.png", model=zoo.build("llama"))


def test_a_named_model_gives_the_table_of_the_loaded_one(vl):
    found = run_vl_masking_experiment(QUESTION, "cat.png", "both", vl, layers=[0], variants=["attn"], device="cpu")
    assert found.equals(asked_in_python("cat.png"))


def test_a_loaded_model_is_left_as_it_was():
    model = vision_zoo.build("qwen3_vl").train()
    model.model.visual.eval()
    model.model.rope_deltas = torch.tensor([[5]])
    training = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    attention = {
        name: config._attn_implementation
        for name, config in (
            ("whole", model.config),
            ("text", model.config.text_config),
            ("vision", model.config.vision_config),
        )
    }
    for image in ("cat.png", "missing.png"):
        try:
            asked_in_python(image, model=model)
        except ValueError:
            assert image == "missing.png"
        assert [module.training for module in model.modules()] == training and model.model.rope_deltas.tolist() == [[5]]
        assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
        assert attention == {
            name: config._attn_implementation
            for name, config in (
                ("whole", model.config),
                ("text", model.config.text_config),
                ("vision", model.config.vision_config),
            )
        }
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
