"""A prompt with pictures, as the model takes it.

A picture becomes one token for each cell of its merged grid, row by row; a cell is `merge_size` patches high and wide.
In the decoder these tokens stand in the prompt like any other, and are masked like any other. This file has what is
special about them: what they are made of, how they are named, where they lie on the picture. Token ids and sizes are
the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from transformers import PreTrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mask_impact.base.errors import RequestError, RunError
from mask_impact.cuts.segments import Cell
from mask_impact.models.inputs import PromptInputs
from mask_impact.models.vision import pictures
from mask_impact.models.vision.pictures import Picture

STEEPEST = 200  # the longer side over the shorter; beyond it the image processor refuses a picture


@dataclass(frozen=True)
class SeenPicture:
    """A picture as the model sees it.

    resized: (height, width) in pixels. grid: (rows, columns) of the merged grid, in cells. limits: the fewest and the
    most pixels that the image processor may resize it to, by the processor's names.
    """

    picture: Picture
    resized: tuple[int, int]
    grid: tuple[int, int]
    limits: dict[str, int]

    @property
    def tokens(self) -> int:
        """How many tokens the picture has: one for each cell."""
        return self.grid[0] * self.grid[1]

    def load(self) -> Image.Image:
        """The picture in RGB. Raises RunError if the file has changed since it was first read."""
        try:
            return pictures.load(self.picture.path, self.picture.sha256)
        except RequestError as error:
            raise RunError(str(error)) from None

    def record(self) -> dict[str, Any]:
        """What the run file keeps of the picture; `uri` is what the model saw, scaled down for the viewer if large."""
        height, width = self.resized
        seen = self.load().resize((width, height), Image.Resampling.BICUBIC)
        return {
            "path": self.picture.path,
            "width": self.picture.width,
            "height": self.picture.height,
            "resized": list(self.resized),
            "grid": list(self.grid),
            "uri": pictures.data_uri(seen),
        }


def seen(picture: Picture, processor: Qwen2VLImageProcessorPil, most: int) -> SeenPicture:
    """How the model will see a picture in at most `most` tokens: in the image processor's own size, or smaller.

    Raises RequestError for a picture that is too small, too long for its width, or takes more tokens in any size.
    """
    patch, factor = processor.patch_size, processor.patch_size * processor.merge_size
    short, long = sorted((picture.width, picture.height))
    size = f"{picture.path}: the picture has {picture.width} x {picture.height} pixels"
    if short < patch:
        raise RequestError(f"{size}, and a single patch of this model {patch} x {patch}; give a larger picture")
    if long > STEEPEST * short:
        raise RequestError(f"{size}, one side more than {STEEPEST} times the other; crop it")
    fewest, own_most = processor.size["shortest_edge"], processor.size["longest_edge"]
    lowered = min(own_most, most * factor**2)
    for limits in ((fewest, own_most), (min(fewest, lowered), lowered), (factor**2, lowered)):
        height, width = smart_resize(picture.height, picture.width, factor, *limits)
        rows, columns = height // factor, width // factor
        if rows * columns <= most:
            return SeenPicture(
                picture, (height, width), (rows, columns), dict(zip(("shortest_edge", "longest_edge"), limits))
            )
    raise RequestError(
        f"{size}, which gives at least {rows * columns} tokens; allow so many with --max-image-tokens, or crop it"
    )


@dataclass(frozen=True)
class VisionInputs(PromptInputs):
    """A prompt with pictures, or with none."""

    images: tuple[SeenPicture, ...]
    mask_mode: str
    image_token: int
    processor: Qwen2VLImageProcessorPil

    @cached_property
    def places(self) -> np.ndarray:
        """(position, 3): picture, row and column of each token of the prompt; for text all three are -1."""
        places = np.full((len(self.token_ids), 3), -1)
        cells = [
            (number, *divmod(cell, image.grid[1]))
            for number, image in enumerate(self.images)
            for cell in range(image.tokens)
        ]
        places[np.array(self.token_ids) == self.image_token] = np.array(cells).reshape(-1, 3)
        return places

    def padded(self, length: int) -> np.ndarray:
        """`places` of the first `length` positions; what is generated is text."""
        more = np.full((max(0, length - len(self.places)), 3), -1)
        return np.concatenate([self.places, more])[:length]

    def cells(self, length: int) -> dict[int, Cell]:
        places = enumerate(self.padded(length).tolist())
        return {position: (image, row, column) for position, (image, row, column) in places if image >= 0}

    def masked(self, length: int) -> np.ndarray:
        vision = self.padded(length)[:, 0] >= 0
        return np.flatnonzero({"text": ~vision, "vision": vision, "both": np.ones(length, bool)}[self.mask_mode])

    def further(self, token_ids: list[int], device: torch.device) -> dict[str, Any]:
        """The pictures, for a call that begins at the prompt's start; nothing if there are none.

        pixel_values: (patch, channel * height * width). image_grid_thw: (picture, 3), in patches. mm_token_type_ids:
        (1, position), 1 at a picture's tokens. Raises RunError as `pixels` does.
        """
        if not self.images:
            return {}
        made = [self.pixels(image) for image in self.images]
        kinds = (self.padded(len(token_ids))[:, 0] >= 0).astype(int)
        return {
            "pixel_values": torch.cat([one["pixel_values"] for one in made]).to(device),
            "image_grid_thw": torch.cat([one["image_grid_thw"] for one in made]).to(device),
            "mm_token_type_ids": torch.from_numpy(kinds)[None].to(device),
        }

    def pixels(self, image: SeenPicture) -> dict[str, torch.Tensor]:
        """The picture's patches and grid, as the encoder takes them.

        Raises RunError if the file has changed, or if the image processor makes another grid than expected.
        """
        made = self.processor(images=[image.load()], size=image.limits, return_tensors="pt")
        merge, found = self.processor.merge_size, made["image_grid_thw"].tolist()
        if found != [[1, image.grid[0] * merge, image.grid[1] * merge]]:
            raise RunError(
                f"{image.picture.path}: the image processor makes a grid of {found[0][1]} x {found[0][2]} patches of "
                f"it, where {image.grid[0] * merge} x {image.grid[1] * merge} were counted on"
            )
        return made.data

    @contextmanager
    def encoded_once(self, model: PreTrainedModel) -> Iterator[None]:
        """Of the same pictures as the last time, the model gets the features that it made then, to the last bit."""
        kept: list[Any] = []
        encode: Any = model.base_model.get_image_features

        def features(pixels: torch.Tensor, grid: torch.Tensor, **options: Any) -> Any:
            if not kept or not (torch.equal(kept[0], pixels) and torch.equal(kept[1], grid)):
                kept[:] = pixels, grid, encode(pixels, grid, **options)
            return kept[2]

        own = vars(model.base_model)
        own["get_image_features"] = features
        try:
            yield
        finally:
            del own["get_image_features"]

    def texts(self, texts: list[str]) -> list[str]:
        places = self.padded(len(texts))
        return [
            text if image < 0 else f"img{image}[{row},{col}]" for text, (image, row, col) in zip(texts, places.tolist())
        ]

    def columns(self, length: int) -> dict[str, pa.Array]:
        places = self.padded(length)
        kinds = pa.array(np.where(places[:, 0] < 0, "text", "vision").tolist(), pa.string())
        numbers = zip(("image_index", "patch_row", "patch_col"), places.T)
        return {"token_type": kinds} | {name: pa.array(column, pa.int64(), mask=column < 0) for name, column in numbers}

    def facts(self) -> dict[str, Any]:
        return {"image_sha256": [image.picture.sha256 for image in self.images]}

    def record(self) -> dict[str, Any]:
        return {"part": "decoder", "images": [image.record() for image in self.images]}

    def notes(self) -> list[str]:
        return [image.picture.note for image in self.images if image.picture.note]

    @property
    def shapes(self) -> str:
        """The pictures' grids, in words."""
        return "; ".join(
            f"img{number}: {image.tokens:,}, {image.grid[0]} rows x {image.grid[1]} columns"
            for number, image in enumerate(self.images)
        )

    def described(self) -> str:
        chosen = {
            "text": "text tokens masked, --mask-mode both masks the picture too",
            "vision": "vision tokens masked",
            "both": "text and vision tokens masked",
        }[self.mask_mode]
        return super().described() + (f" ({self.shapes}; {chosen})" if self.images else "")
