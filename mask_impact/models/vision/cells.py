"""Pictures for the vision encoder alone: which cells it is measured at, and about what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import PreTrainedConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mask_impact.base.errors import RequestError
from mask_impact.cuts.spans import is_block
from mask_impact.measure.noise_floor import CONTROLS
from mask_impact.models.vision.picture_tokens import SeenPicture, VisionInputs
from mask_impact.settings.readers import cell_numbers, quoted
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact.sites.site import MeasuredAt, Site
from mask_impact.sites.vision_encoder import VISION_ENCODER

# The most distances that the run file keeps for the measured cells one by one: 5.6 MB, for 209 cells in 24 blocks.
MOST_KEPT = 2**20
UNIT_KINDS_OF_CELLS = ("tokens", "images", "spans")


@dataclass(frozen=True)
class EncoderInputs(VisionInputs):
    """Pictures without a prompt: every token is a cell, picture after picture, row by row.

    measured: the cells at which the encoder is measured. passes: about what that costs, in plain passes of the encoder.
    keep: whether the run file keeps the distances at each measured cell.
    """

    site: ClassVar[Site] = VISION_ENCODER

    measured: tuple[int, ...]
    passes: float
    keep: bool

    @property
    def at(self) -> MeasuredAt:
        return MeasuredAt(self.measured, self.processor.merge_size**2, self.keep)

    def record(self) -> dict[str, Any]:
        return super().record() | {"part": "encoder", "measured_position": self.measured[0] if self.one else None}

    @property
    def one(self) -> bool:
        """Whether a single cell is measured; so it is with `all` where the picture has only one."""
        return len(self.measured) == 1

    def notes(self) -> list[str]:
        if self.one or self.keep:
            return super().notes()
        why = f"without the variant full, or more than {MOST_KEPT:,} numbers"
        return [
            *super().notes(),
            f"{self.shapes}: the measured cells are not kept apart ({why}): the result is their mean alone",
        ]

    def described(self) -> str:
        cells = self.texts([""] * len(self.token_ids))
        where = cells[self.measured[0]] if self.one else f"every cell in turn, {len(self.measured):,} of them"
        passes = f"{self.passes:.1f}" if self.passes < 10 else f"{self.passes:,.0f}"
        cost = f"about the cost of {passes} plain passes of it"
        return f"{len(cells):,} cells ({self.shapes}; the encoder measured at {where}, {cost})"


def encoder_inputs(
    settings: VisionSettings,
    config: PreTrainedConfig,
    images: Sequence[SeenPicture],
    processor: Qwen2VLImageProcessorPil,
    blocks: int,
) -> EncoderInputs:
    """The inputs for measuring `blocks` blocks of the encoder. Raises RequestError for a cell that is not there,
    and for units of text."""
    refuse_text(settings)
    measured = measured_cells(settings, images)
    ids = [config.image_token_id] * sum(image.tokens for image in images)
    passes = encoder_passes(config.vision_config, settings, images, measured)
    keep = "full" in settings.variants and len(measured) > 1 and len(measured) * len(ids) * blocks <= MOST_KEPT
    return EncoderInputs(ids, tuple(images), "vision", config.image_token_id, processor, measured, passes, keep)


def refuse_text(settings: VisionSettings) -> None:
    """Raise RequestError, a line each, for units and spans that an encoder's input does not have: it has no text."""
    faults = []
    if words := [kind for kind in settings.units if kind not in UNIT_KINDS_OF_CELLS]:
        valid = ", ".join(UNIT_KINDS_OF_CELLS)
        faults.append(f"units {', '.join(words)}: the encoder sees no text; take {valid}, or --part decoder")
    faults += [
        f"span {quoted(span)}: the encoder sees no text; name cells, such as NAME=img0[1-3,2-5]"
        for span in settings.spans or ()
        if not is_block(span)
    ]
    if faults:
        raise RequestError(*faults)


def measured_cells(settings: VisionSettings, images: Sequence[SeenPicture]) -> tuple[int, ...]:
    """The cells at which the encoder is measured, counted over all pictures.

    Raises RequestError for one that is not there.
    """
    assert settings.at is not None, "settings for the encoder name the measured cell"
    counts = [image.tokens for image in images]
    if settings.at == "all":
        return tuple(range(sum(counts)))
    image, row, column = cell_numbers(settings.at)
    if image >= len(images):
        found = "there is only picture 0" if len(images) == 1 else f"the pictures are 0 to {len(images) - 1}"
        raise RequestError(
            f"at: {settings.at} is a cell of picture {image}, but {found}; "
            "name one of them, or leave the picture out for 0"
        )
    rows, columns = images[image].grid
    if row >= rows or column >= columns:
        raise RequestError(
            f"at: {settings.at} lies outside the grid of {rows} rows x {columns} columns that "
            f"{images[image].picture.path} has; choose a row from 0 to {rows - 1} and a column from 0 to {columns - 1}"
        )
    return (sum(counts[:image]) + row * columns + column,)


def encoder_passes(
    config: PreTrainedConfig, settings: VisionSettings, images: Sequence[SeenPicture], measured: Sequence[int]
) -> float:
    """About what measuring all blocks at these cells costs, in plain passes of the encoder; multiplications count."""
    width, inner, size = config.hidden_size, config.intermediate_size, config.spatial_merge_size**2
    sizes = [image.tokens for image in images]
    plain = sum(size * cells * (4 * width**2 + 2 * width * inner + 2 * width * size * cells) for cells in sizes)
    row = width**2 + 2 * width * inner * ("full" in settings.variants)
    beside = [cells for cells in sizes for _ in range(cells)]  # of each cell, how many its picture has
    if settings.method == "rerun":
        return 1 + sum(beside[cell] + 1 + CONTROLS for cell in measured)
    return 1 + sum(size * beside[cell] * row for cell in measured) / plain
