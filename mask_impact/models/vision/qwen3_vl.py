"""A Qwen3-VL before its weights are loaded, and its inputs for a prompt with pictures.

The inputs are made in the same way whatever is installed: by the image processor that needs no torchvision, and the
tokenizer with its chat template, in which each `<|image_pad|>` is repeated once for each token of its picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar

from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mask_impact.base.errors import RequestError, collect_faults, first_line
from mask_impact.cuts.segments import Turns
from mask_impact.models.chat import Part, chat_ids, chat_turns
from mask_impact.models.checkpoint_files import Checkpoint
from mask_impact.models.checkpoints import find_checkpoint
from mask_impact.models.compiled import unwrap_compiled
from mask_impact.models.files import read_file
from mask_impact.models.info import ModelInfo, loaded_name, read_info
from mask_impact.models.inputs import with_units
from mask_impact.models.refusals import loaded_pair, naming_model, refuse_quantised, refuse_unmeasurable_weights
from mask_impact.models.vision import pictures
from mask_impact.models.vision.cells import encoder_inputs
from mask_impact.models.vision.picture_tokens import SeenPicture, VisionInputs, seen
from mask_impact.settings.text_settings import is_ids
from mask_impact.settings.vision_settings import VisionSettings
from mask_impact.sites.decoder import DECODER, refuse_class
from mask_impact.sites.site import Site
from mask_impact.sites.vision_encoder import VISION_ENCODER

KINDS = ("qwen3_vl", "qwen3_vl_moe")
ANOTHER_MODEL = "choose a Qwen3-VL model, such as Qwen/Qwen3-VL-2B-Instruct"
DEFAULT_PROCESSOR: dict[str, Any] = dict(
    size={"shortest_edge": 65_536, "longest_edge": 16_777_216}, image_mean=[0.5] * 3, image_std=[0.5] * 3
)


@dataclass(frozen=True)
class VisionModelInfo(ModelInfo):
    """What is known of a Qwen3-VL without its weights."""

    AUTO_CLASS: ClassVar[Any] = AutoModelForImageTextToText
    SITES: ClassVar[Mapping[str, Site]] = {"decoder": DECODER, "encoder": VISION_ENCODER}

    processor: Qwen2VLImageProcessorPil = field(kw_only=True)

    def prompt_inputs(self, settings: VisionSettings) -> VisionInputs:  # type: ignore[override]  # see the class
        """The prompt with its pictures, or the pictures' cells where the encoder is measured.

        Raises RequestError for pictures that cannot be read or have a size the model cannot take, a cell that is
        missing, and a prompt that does not go with the pictures.
        """
        faults: list[str] = []
        images: list[SeenPicture] = []
        for path in settings.image:
            with collect_faults(faults):
                images.append(seen(pictures.examine(path), self.processor, settings.max_image_tokens))
        if faults:
            raise RequestError(*faults)
        if settings.part == "encoder":
            blocks = len(settings.layers or range(self.layers(settings)))
            cells = encoder_inputs(settings, self.config, images, self.processor, blocks)
            return with_units(cells, settings, self.tokenizer)
        counts = [image.tokens for image in images]
        question = ids = self.question_ids(settings)
        ids = self.with_image_tokens(ids, counts) if is_ids(settings.prompt) else self.expanded(ids, counts)
        inputs = VisionInputs(ids, tuple(images), settings.mask_mode, self.config.image_token_id, self.processor)
        turns = self.turns(settings)
        turns = None if turns is None else turns.repeated(self.repeats(question, counts))
        return with_units(inputs, settings, self.tokenizer, turns)

    def measured_config(self, settings: VisionSettings) -> PreTrainedConfig:  # type: ignore[override]  # see the class
        """The configuration of the part that is measured."""
        return self.config.vision_config if settings.part == "encoder" else super().measured_config(settings)

    def question_ids(self, settings: VisionSettings) -> list[int]:  # type: ignore[override]  # see the class
        """The prompt's token ids, with one image token for each picture, in front of the question."""
        if not settings.image or is_ids(settings.prompt):
            return super().question_ids(settings)
        if settings.chat:
            return chat_ids(self.tokenizer, settings, picture_parts(settings))
        config = self.config
        picture = [config.vision_start_token_id, config.image_token_id, config.vision_end_token_id]
        return picture * len(settings.image) + self.tokenizer(settings.prompt)["input_ids"]

    def turns(self, settings: VisionSettings) -> Turns | None:  # type: ignore[override]  # see the class
        return chat_turns(self.tokenizer, settings, picture_parts(settings)) if "messages" in settings.units else None

    def with_image_tokens(self, ids: Sequence[int], counts: Sequence[int]) -> list[int]:
        """Given ids with all image tokens: unchanged, or expanded if they have one image token for each picture.

        Raises RequestError for other runs of image tokens, as the model takes each run for one picture.
        """
        image, counts = self.config.image_token_id, list(counts)
        runs = [len(list(run)) for token, run in groupby(ids) if token == image]
        if runs not in (counts, [1] * len(counts)):
            found, has = (", ".join(map(str, numbers)) for numbers in (runs, counts))
            raise RequestError(
                f"the prompt's ids hold {self.word(image)} in runs of: {found or 'none'}; give one for each picture, "
                f"or as many in a row as it has tokens: {has or 'there is no picture'}"
            )
        return self.expanded(ids, [1] * sum(counts) if runs == counts else counts)

    def expanded(self, ids: Sequence[int], counts: Sequence[int]) -> list[int]:
        """The ids with each image token repeated as often as its picture has tokens. Raises RequestError if the text
        itself has image or video tokens."""
        image, video = self.config.image_token_id, self.config.video_token_id
        if video in ids:
            raise RequestError(
                f"the prompt holds {self.word(video)}, but video is not supported; give single frames as pictures"
            )
        found = list(ids).count(image)
        if found > len(counts):
            raise RequestError(
                f"the prompt's text holds the word {self.word(image)}; "
                "leave it out, pictures are placed in front of the text"
            )
        if found < len(counts):
            raise RequestError(
                f"the model's chat template has places for {found} of {len(counts)} pictures; "
                "leave chat off (--no-chat)"
            )
        return [token for token, times in zip(ids, self.repeats(ids, counts)) for _ in range(times)]

    def repeats(self, ids: Sequence[int], counts: Sequence[int]) -> list[int]:
        """How often each token stands in the model's input: a picture's as often as the picture has tokens."""
        left = iter(counts)
        return [next(left) if token == self.config.image_token_id else 1 for token in ids]

    def word(self, token: int) -> str:
        """A token as the vocabulary has it."""
        return repr(self.tokenizer.convert_ids_to_tokens(token))


def picture_parts(settings: VisionSettings) -> list[Part]:
    """The parts of a chat's message that stand for the pictures."""
    return [{"type": "image"}] * len(settings.image)


def examine(settings: VisionSettings, checkpoint: Checkpoint | None = None) -> VisionModelInfo:
    """A Qwen3-VL, from all its files but the weights. Raises RequestError, by name, with all faults."""
    checkpoint = checkpoint or find_checkpoint(
        settings.model, settings.revision, settings.trust_remote_code, settings.DEMO
    )
    model_info = read_info(settings, checkpoint, refuse_config)
    if model_info.tokenizer.chat_template is None:
        model_info.tokenizer.chat_template = processors_template(checkpoint)
    processor = read_file(
        checkpoint, "image processor (preprocessor_config.json)", Qwen2VLImageProcessorPil.from_pretrained
    )
    refuse_misfit(checkpoint.name, model_info.config, processor)
    return VisionModelInfo(**vars(model_info), processor=processor)


def processors_template(checkpoint: Checkpoint) -> str | None:
    """The chat template in the processor's own file (chat_template.json), or None."""
    file = checkpoint.folder / "chat_template.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))["chat_template"] if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"--model {checkpoint.name!r}: its {file.name} cannot be read ({first_line(error)}); fetch the model again"
        ) from None


def refuse_config(name: str, config: PreTrainedConfig, code: bool = False) -> None:
    """Raise RequestError, by name, for a model that is not a Qwen3-VL."""
    if config.model_type not in KINDS:
        alone = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = "a model of text alone: run it with mask_impact_analysis.py, or" if alone else "no Qwen3-VL;"
        raise RequestError(f"--model {name!r} ({config.model_type}) is {kind} {ANOTHER_MODEL}")
    with naming_model(name):
        known: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
        refuse_class(known, config)
    refuse_quantised(name, config)


def refuse_misfit(name: str, config: PreTrainedConfig, processor: Qwen2VLImageProcessorPil) -> None:
    """Raise RequestError, by name, if the image processor cuts pictures into other sizes than the model takes."""
    refuse_sizes(name, processor)
    vision = config.vision_config
    model = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    cut = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    if cut != model:
        raise RequestError(
            f"--model {name!r}: its image processor has patch, merge and temporal sizes {cut}, its configuration "
            f"{model}: they do not belong together; fetch the model again"
        )


def refuse_sizes(name: str, processor: Qwen2VLImageProcessorPil) -> None:
    """Raise RequestError, by name, if the image processor lacks the fewest and the most pixels of a picture."""
    fewest, most = (processor.size.get(edge) for edge in ("shortest_edge", "longest_edge"))
    if not (isinstance(fewest, int) and isinstance(most, int) and 0 < fewest <= most):
        raise RequestError(
            f"{name!r}: its image processor (preprocessor_config.json) has shortest_edge {fewest} and longest_edge "
            f"{most} as size; expected the fewest and the most pixels of a picture"
        )


def from_loaded(
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    image_processor: Any,
    settings: VisionSettings,
) -> VisionModelInfo:
    """The ModelInfo of a Qwen3-VL that the caller has loaded; `image_processor` is any image processor for it, or None
    for Qwen3-VL's own. Raises RequestError for a model of another kind, and for settings that would load another
    model."""
    model, tokenizer = loaded_pair(unwrap_compiled(model), tokenizer)
    name = loaded_name(model, settings, refuse_loaded)
    vision = model.config.vision_config
    own = {key: getattr(image_processor, key, plain) for key, plain in DEFAULT_PROCESSOR.items()}
    processor = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        **own | {"size": dict(own["size"])},
    )
    refuse_sizes(name, processor)
    return VisionModelInfo(name, model.config, tokenizer, processor=processor)


def refuse_loaded(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model that is not a Qwen3-VL, or has unusable weights."""
    if model.config.model_type not in KINDS or model.get_output_embeddings() is None:
        raise RequestError(
            f"{type(model).__name__} is no Qwen3-VL that answers; load one with AutoModelForImageTextToText"
        )
    refuse_unmeasurable_weights(model)
