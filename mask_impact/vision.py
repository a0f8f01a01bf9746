"""Qwen3-VL: a prompt with pictures in it.

A picture becomes one token for each cell of its merged grid, row by row: `merge_size` patches high and as many wide.
In the decoder those tokens stand in the prompt like any other, and are masked like any other; only what they are made of,
how they are named and where they lie on the picture is told here. Token ids, patch and merge sizes are the model's own.

The inputs are made by one path whatever is installed: the image processor that needs no torchvision, and the tokenizer
with its chat template, each `<|image_pad|>` of it repeated once for each token of its picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mask_impact import pictures
from mask_impact.candidates import Candidate, loaded_name, naming, read_candidate, read_file, refuse_quantised, refuse_strange_weights
from mask_impact.checkpoints import Checkpoint, find_checkpoint
from mask_impact.encoder import CellInputs
from mask_impact.encoder_check import encoder_parts
from mask_impact.errors import RequestError, RunError, first_line, gathering
from mask_impact.load_check import refuse_class
from mask_impact.measure import Method, ModelInputs
from mask_impact.parts import LayerParts
from mask_impact.pictures import Picture
from mask_impact.prompt_inputs import PromptInputs
from mask_impact.rows import CONTROLS
from mask_impact.tokens import chat_ids
from mask_impact.values import cell_numbers
from mask_impact.vision_settings import VisionSettings

KINDS = ("qwen3_vl", "qwen3_vl_moe")
ANOTHER_MODEL = "choose a Qwen3-VL model, such as Qwen/Qwen3-VL-2B-Instruct"
MOST_KEPT = 2**20  # numbers that the run file keeps of every measured cell: 5.6 MB of it, of up to 209 cells in 24 blocks
STEEPEST = 200  # the longer side over the shorter, past which the image processor refuses a picture
PLAIN = dict(size={"shortest_edge": 65_536, "longest_edge": 16_777_216}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


@dataclass(frozen=True)
class SeenPicture:
    """A picture as the model sees it: resized to (height, width), a merged grid of (rows, columns) tokens.

    `limits` are the image processor's fewest and most pixels.
    """

    picture: Picture
    resized: tuple[int, int]
    grid: tuple[int, int]
    limits: dict[str, int]

    @property
    def tokens(self) -> int:
        """How many tokens the picture has."""
        return self.grid[0] * self.grid[1]

    def load(self) -> Image.Image:
        """The picture in RGB. Raises RunError if the file is not what it was when it was looked at."""
        try:
            return pictures.load(self.picture.path, self.picture.sha256)
        except RequestError as error:
            raise RunError(str(error)) from None

    def record(self) -> dict[str, Any]:
        """What the run file has of the picture: `uri` is what the model saw, scaled down for the viewer where it is large."""
        height, width = self.resized
        seen = self.load().resize((width, height), Image.Resampling.BICUBIC)
        return {"path": self.picture.path, "width": self.picture.width, "height": self.picture.height,
                "resized": list(self.resized), "grid": list(self.grid), "uri": pictures.data_uri(seen)}


@dataclass(frozen=True)
class VisionInputs(PromptInputs):
    """A prompt with pictures, or with none."""

    images: tuple[SeenPicture, ...]
    mask_mode: str
    image_token: int
    processor: Qwen2VLImageProcessorPil

    @cached_property
    def places(self) -> np.ndarray:
        """(position, 3): image, row and column of each token of the prompt, -1 in each for text."""
        places = np.full((len(self.token_ids), 3), -1)
        cells = [(number, *divmod(cell, image.grid[1])) for number, image in enumerate(self.images) for cell in range(image.tokens)]
        places[np.array(self.token_ids) == self.image_token] = np.array(cells).reshape(-1, 3)
        return places

    def padded(self, length: int) -> np.ndarray:
        """`places` of the first `length` positions; what is generated is text."""
        more = np.full((max(0, length - len(self.places)), 3), -1)
        return np.concatenate([self.places, more])[:length]

    def masked(self, length: int) -> np.ndarray:
        vision = self.padded(length)[:, 0] >= 0
        return np.flatnonzero({"text": ~vision, "vision": vision, "both": np.ones(length, bool)}[self.mask_mode])

    def further(self, token_ids: list[int], device: torch.device) -> dict[str, Any]:
        """What a call that begins at the prompt's start takes besides its tokens: patches (patch, channel * height * width), grids
        (picture, 3) in patches, and which tokens are a picture's (1, position). Raises RunError as `pixels` does."""
        if not self.images:
            return {}
        made = [self.pixels(image) for image in self.images]
        kinds = (self.padded(len(token_ids))[:, 0] >= 0).astype(int)
        return {"pixel_values": torch.cat([one["pixel_values"] for one in made]).to(device),
                "image_grid_thw": torch.cat([one["image_grid_thw"] for one in made]).to(device),
                "mm_token_type_ids": torch.from_numpy(kinds)[None].to(device)}

    def pixels(self, image: SeenPicture) -> dict[str, torch.Tensor]:
        """The picture's patches as the encoder takes them. Raises RunError as SeenPicture.load does, and for another grid."""
        made = self.processor(images=[image.load()], size=image.limits, return_tensors="pt")
        merge, found = self.processor.merge_size, made["image_grid_thw"].tolist()
        if found != [[1, image.grid[0] * merge, image.grid[1] * merge]]:
            raise RunError(f"{image.picture.path}: the image processor makes a grid of {found[0][1]} x {found[0][2]} patches of it, "
                           f"where {image.grid[0] * merge} x {image.grid[1] * merge} were counted on")
        return made

    def texts(self, texts: list[str]) -> list[str]:
        places = self.padded(len(texts))
        return [text if image < 0 else f"img{image}[{row},{col}]" for text, (image, row, col) in zip(texts, places.tolist())]

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
        return "; ".join(f"img{number}: {image.tokens:,}, {image.grid[0]} rows x {image.grid[1]} columns"
                         for number, image in enumerate(self.images))

    def described(self) -> str:
        chosen = {"text": "text tokens masked, --mask-mode both masks the picture too", "vision": "vision tokens masked",
                  "both": "text and vision tokens masked"}[self.mask_mode]
        return super().described() + (f" ({self.shapes}; {chosen})" if self.images else "")


@dataclass(frozen=True)
class EncoderInputs(VisionInputs):
    """Pictures without a prompt: every token is a cell, in the order of reading, picture after picture.

    `measured` are those that the encoder is measured at, `passes` about what that costs, in plain passes of the encoder; `keep`
    says whether the run file has the distances at each of them.
    """

    predicts: ClassVar[bool] = False
    layer: ClassVar[str] = "block"

    measured: tuple[int, ...]
    passes: float
    keep: bool

    @property
    def rows_each(self) -> int:
        return self.processor.merge_size**2

    @property
    def measured_places(self) -> int:
        return len(self.measured)

    def fed(self, inputs: ModelInputs) -> CellInputs:
        return CellInputs(**vars(inputs), measured=self.measured, size=self.rows_each, keep=self.keep)

    def record(self) -> dict[str, Any]:
        return super().record() | {"part": "encoder", "measured_position": self.measured[0] if self.one else None}

    @property
    def one(self) -> bool:
        """Whether one cell is measured, and not all: of a picture of one cell the two are the same."""
        return len(self.measured) == 1

    def notes(self) -> list[str]:
        if self.one or self.keep:
            return super().notes()
        why = f"without the variant full, or more than {MOST_KEPT:,} numbers"
        return [*super().notes(), f"{self.shapes}: the measured cells are not kept apart ({why}): the result is their mean alone"]

    def described(self) -> str:
        cells = self.texts([""] * len(self.token_ids))
        where = cells[self.measured[0]] if self.one else f"every cell in turn, {len(self.measured):,} of them"
        passes = f"{self.passes:.1f}" if self.passes < 10 else f"{self.passes:,.0f}"
        return f"{len(cells):,} cells ({self.shapes}; the encoder measured at {where}, about the cost of {passes} plain passes of it)"


@dataclass(frozen=True)
class VisionCandidate(Candidate):
    """All that is known of a Qwen3-VL without its weights."""

    AUTO_CLASS: ClassVar[type] = AutoModelForImageTextToText

    processor: Qwen2VLImageProcessorPil | None = None

    def prompt_inputs(self, settings: VisionSettings) -> VisionInputs:
        """The prompt with its pictures, or the pictures' cells where the encoder is measured.

        Raises RequestError for pictures that cannot be read or seen, a cell that is not there, and a prompt that does not go with them.
        """
        faults: list[str] = []
        images: list[SeenPicture] = []
        for path in settings.image:
            with gathering(faults):
                images.append(seen(pictures.examine(path), self.processor, settings.max_image_tokens))
        if faults:
            raise RequestError(*faults)
        if settings.part == "encoder":
            measured = measured_cells(settings, images)
            ids = [self.config.image_token_id] * sum(image.tokens for image in images)
            passes = encoder_passes(self.config.vision_config, settings, images, measured)
            blocks = len(settings.layers or range(self.layers(settings)))
            keep = "full" in settings.variants and len(measured) > 1 and len(measured) * len(ids) * blocks <= MOST_KEPT
            return EncoderInputs(ids, tuple(images), "vision", self.config.image_token_id, self.processor, measured, passes, keep)
        ids = self.expanded(self.question_ids(settings), [image.tokens for image in images])
        return VisionInputs(ids, tuple(images), settings.mask_mode, self.config.image_token_id, self.processor)

    def measured_config(self, settings: VisionSettings) -> PreTrainedConfig:
        return self.config.vision_config if settings.part == "encoder" else super().measured_config(settings)

    def encoder_parts(self, model: PreTrainedModel, method: Method) -> list[LayerParts]:
        return encoder_parts(model, method)

    def question_ids(self, settings: VisionSettings) -> list[int]:
        """The prompt's token ids, with one image token for each picture, in front of the question."""
        if not settings.image:
            return super().prompt_inputs(settings).token_ids
        if settings.chat:
            content = [{"type": "image"}] * len(settings.image) + [{"type": "text", "text": settings.prompt}]
            return chat_ids(self.tokenizer, settings, content)
        config = self.config
        picture = [config.vision_start_token_id, config.image_token_id, config.vision_end_token_id]
        return picture * len(settings.image) + self.tokenizer(settings.prompt)["input_ids"]

    def expanded(self, ids: Sequence[int], counts: Sequence[int]) -> list[int]:
        """The ids with each image token repeated as often as its picture has tokens. Raises RequestError where the text itself
        holds image or video tokens."""
        image, video = self.config.image_token_id, self.config.video_token_id
        if video in ids:
            raise RequestError(f"the prompt holds {self.word(video)}, but video is not supported; give single frames as pictures")
        found = list(ids).count(image)
        if found > len(counts):
            raise RequestError(f"the prompt's text holds the word {self.word(image)}; leave it out, pictures are placed in front of the text")
        if found < len(counts):
            raise RequestError(f"the model's chat template has places for {found} of {len(counts)} pictures; leave chat off (--no-chat)")
        left = iter(counts)
        return [token for one in ids for token in ([one] * next(left) if one == image else [one])]

    def word(self, token: int) -> str:
        """A token as the vocabulary has it."""
        return repr(self.tokenizer.convert_ids_to_tokens(token))


def seen(picture: Picture, processor: Qwen2VLImageProcessorPil, most: int) -> SeenPicture:
    """How the model will see a picture in at most `most` tokens: the processor's own size, lowered where that is too large.

    Raises RequestError for a picture that is too small, too long, or cannot be made so small.
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
            return SeenPicture(picture, (height, width), (rows, columns), dict(zip(("shortest_edge", "longest_edge"), limits)))
    raise RequestError(f"{size}, which gives at least {rows * columns} tokens; allow so many with --max-image-tokens, or crop it")


def measured_cells(settings: VisionSettings, images: Sequence[SeenPicture]) -> tuple[int, ...]:
    """The cells that the encoder is measured at, counted over all pictures. Raises RequestError for one that is not there."""
    counts = [image.tokens for image in images]
    if settings.at == "all":
        return tuple(range(sum(counts)))
    image, row, column = cell_numbers(settings.at)
    if image >= len(images):
        found = "there is only picture 0" if len(images) == 1 else f"the pictures are 0 to {len(images) - 1}"
        raise RequestError(f"at: {settings.at} is a cell of picture {image}, but {found}; name one of them, or leave the picture out for 0")
    rows, columns = images[image].grid
    if row >= rows or column >= columns:
        raise RequestError(f"at: {settings.at} lies outside the grid of {rows} rows x {columns} columns that {images[image].picture.path} has; "
                           f"choose a row from 0 to {rows - 1} and a column from 0 to {columns - 1}")
    return (sum(counts[:image]) + row * columns + column,)


def encoder_passes(config: PreTrainedConfig, settings: VisionSettings, images: Sequence[SeenPicture], measured: Sequence[int]) -> float:
    """About what measuring all blocks at these cells costs, in plain passes of the encoder: multiplications, counted."""
    width, inner, size = config.hidden_size, config.intermediate_size, config.spatial_merge_size**2
    sizes = [image.tokens for image in images]
    plain = sum(size * cells * (4 * width**2 + 2 * width * inner + 2 * width * size * cells) for cells in sizes)
    row = width**2 + 2 * width * inner * ("full" in settings.variants)
    beside = [cells for cells in sizes for _ in range(cells)]  # of each cell, how many its picture has
    if settings.method == "rerun":
        return 1 + sum(beside[cell] + 1 + CONTROLS for cell in measured)
    return 1 + sum(size * beside[cell] * row for cell in measured) / plain


def examine(settings: VisionSettings, checkpoint: Checkpoint | None = None) -> VisionCandidate:
    """A Qwen3-VL, with everything that its small files tell. Raises RequestError, by name, with all faults."""
    checkpoint = checkpoint or find_checkpoint(settings.model, settings.revision, settings.trust_remote_code, settings.DEMO)
    candidate = read_candidate(settings, checkpoint, refuse_config)
    if candidate.tokenizer.chat_template is None:
        candidate.tokenizer.chat_template = processors_template(checkpoint)
    processor = read_file(checkpoint, "image processor (preprocessor_config.json)", Qwen2VLImageProcessorPil.from_pretrained)
    refuse_misfit(checkpoint.name, candidate.config, processor)
    return VisionCandidate(candidate.name, candidate.config, candidate.tokenizer, candidate.checkpoint, processor)


def processors_template(checkpoint: Checkpoint) -> str | None:
    """The chat template that a processor keeps beside its tokenizer (chat_template.json), or None."""
    file = checkpoint.folder / "chat_template.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))["chat_template"] if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"--model {checkpoint.name!r}: its {file.name} cannot be read ({first_line(error)}); fetch the model again") from None


def refuse_config(name: str, config: PreTrainedConfig, code: bool = False) -> None:
    """Raise RequestError, by name, for what is no Qwen3-VL."""
    if config.model_type not in KINDS:
        alone = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = "a model of text alone: run it with mask_impact_analysis.py, or" if alone else "no Qwen3-VL;"
        raise RequestError(f"--model {name!r} ({config.model_type}) is {kind} {ANOTHER_MODEL}")
    with naming(name):
        refuse_class(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)], config)
    refuse_quantised(name, config)


def refuse_misfit(name: str, config: PreTrainedConfig, processor: Qwen2VLImageProcessorPil) -> None:
    """Raise RequestError, by name, if the image processor cuts pictures otherwise than the model takes them."""
    refuse_sizes(name, processor)
    vision = config.vision_config
    model = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    cut = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    if cut != model:
        raise RequestError(f"--model {name!r}: its image processor has patch, merge and temporal sizes {cut}, its configuration "
                           f"{model}: they do not belong together; fetch the model again")


def refuse_sizes(name: str, processor: Qwen2VLImageProcessorPil) -> None:
    """Raise RequestError, by name, if the image processor does not tell the fewest and the most pixels of a picture."""
    fewest, most = (processor.size.get(edge) for edge in ("shortest_edge", "longest_edge"))
    if not (isinstance(fewest, int) and isinstance(most, int) and 0 < fewest <= most):
        raise RequestError(f"{name!r}: its image processor (preprocessor_config.json) has shortest_edge {fewest} and longest_edge {most} "
                           "as size; expected the fewest and the most pixels of a picture")


def of_loaded(model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, image_processor: Any,
              settings: VisionSettings) -> VisionCandidate:
    """The candidate of a Qwen3-VL that the caller has loaded; `image_processor` is any image processor of it, or None for the
    one that Qwen3-VL has. Raises RequestError for a model of another kind, and for settings that would load another."""
    if model is None or tokenizer is None:
        raise RequestError("model and tokenizer go together; give both, or neither and a model_name")
    name = loaded_name(model, settings, refuse_loaded)
    vision = model.config.vision_config
    own = {key: getattr(image_processor, key, plain) for key, plain in PLAIN.items()}
    processor = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size, merge_size=vision.spatial_merge_size, temporal_patch_size=vision.temporal_patch_size,
        **own | {"size": dict(own["size"])})
    refuse_sizes(name, processor)
    return VisionCandidate(name, model.config, tokenizer, None, processor)


def refuse_loaded(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model that is no Qwen3-VL, or has quantised weights."""
    if model.config.model_type not in KINDS or model.get_output_embeddings() is None:
        raise RequestError(f"{type(model).__name__} is no Qwen3-VL that answers; load one with AutoModelForImageTextToText")
    refuse_strange_weights(model)
