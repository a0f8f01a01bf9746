"""A model before its weights are loaded: configuration, tokenizer, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.cuts.segments import Turns
from mask_impact.models import adapters
from mask_impact.models.chat import chat_turns
from mask_impact.models.checkpoint_files import Checkpoint
from mask_impact.models.checkpoints import find_checkpoint
from mask_impact.models.compiled import unwrap_compiled
from mask_impact.models.files import quiet_transformers, read_file, saved_generation
from mask_impact.models.inputs import PromptInputs, with_units
from mask_impact.models.refusals import loaded_pair, refuse_config, refuse_empty, refuse_loaded
from mask_impact.models.tokens import prompt_ids
from mask_impact.settings.option import defaults
from mask_impact.settings.text_settings import Settings
from mask_impact.sites.decoder import DECODER
from mask_impact.sites.parts import layer_count
from mask_impact.sites.site import Site

TOO_LONG = 10**9  # tokenizers and configurations write "no limit" as numbers past this
SOFTMAX_KINDS = ("attention", "full_attention", "sliding_attention", "chunked_attention")


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without its weights. `checkpoint` is None for a model that the caller has loaded.

    `AUTO_CLASS` loads the weights; `SITES` are the parts of the model that can be measured, by their names in settings.
    """

    AUTO_CLASS: ClassVar[Any] = AutoModelForCausalLM
    SITES: ClassVar[Mapping[str, Site]] = {"decoder": DECODER}

    name: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    checkpoint: Checkpoint | None = None

    def measured_config(self, settings: Settings) -> PreTrainedConfig:
        """The configuration of the layers that these settings measure."""
        return self.config.get_text_config()

    def layers(self, settings: Settings) -> int:
        """How many layers the measured part has."""
        return layer_count(self.measured_config(settings))

    def layers_without_softmax(self, settings: Settings) -> dict[int, str]:
        """Layers without softmax attention by the configuration, with the reason; loading may show more of them."""
        config = self.measured_config(settings)
        kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
        return {
            layer: f"no softmax attention ({kind})" for layer, kind in enumerate(kinds) if kind not in SOFTMAX_KINDS
        }

    @property
    def context_length(self) -> int | None:
        """The most positions the model was built for, rotary scaling included; None if the configuration has none."""
        config = self.config.get_text_config()
        length = getattr(config, "max_position_embeddings", None)
        return (
            min(scaled_length(length, rope) for rope in rope_kinds(config))
            if length and 0 < length < TOO_LONG
            else None
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines about the model that the user may not expect."""
        return adapters.notes(self.checkpoint.name, self.checkpoint.folder) if self.checkpoint else ()

    @property
    def generation(self) -> GenerationConfig | None:
        """The generation settings that are saved with the checkpoint."""
        with quiet_transformers():
            return saved_generation(self.checkpoint) if self.checkpoint else None

    def prompt_inputs(self, settings: Settings) -> PromptInputs:
        """The model's inputs for this prompt. Raises RequestError with its faults."""
        inputs, turns = PromptInputs(self.question_ids(settings)), self.turns(settings)
        return with_units(inputs, settings, self.tokenizer, turns)

    def question_ids(self, settings: Settings) -> list[int]:
        """The prompt's token ids, before pictures' tokens are put in. Raises RequestError as `prompt_inputs` does."""
        return prompt_ids(self.tokenizer, settings)

    def turns(self, settings: Settings) -> Turns | None:
        """The turns of the prompt's chat, where they are asked for. Raises RequestError if they cannot be found."""
        return chat_turns(self.tokenizer, settings) if "messages" in settings.units else None

    @property
    def identity(self) -> dict[str, str]:
        """What tells the model from any other, as far as is known."""
        if self.checkpoint is not None:
            return self.checkpoint.identity
        commit = getattr(self.config, "_commit_hash", None)
        return {"revision": commit} if commit else {"loaded_from": self.name}


def rope_kinds(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary parameters of each kind of layer; a single empty one if the model's positions are learned."""
    given = (getattr(config, "rope_parameters", None) or {}) if hasattr(type(config), "rope_parameters") else {}
    return [kind for kind in given.values() if isinstance(kind, dict)] or [given]


def scaled_length(length: int, rope: dict[str, Any]) -> int:
    """The most positions with these rotary parameters, if the configuration says `length`. For types of rope that are
    not named here the configuration has the extended number already."""
    factor = rope.get("factor") if rope.get("rope_type") in ("linear", "dynamic", "yarn") else None
    return max(length, int((rope.get("original_max_position_embeddings") or length) * factor)) if factor else length


def examine(settings: Settings, checkpoint: Checkpoint | None = None) -> ModelInfo:
    """A text model, from its configuration and tokenizer. Raises RequestError, by name, with all faults."""
    return read_info(settings, checkpoint, refuse_config)


def read_info(settings: Settings, checkpoint: Checkpoint | None, refuse: Callable[..., None]) -> ModelInfo:
    """A model from its configuration and tokenizer; `refuse` raises RequestError for the configuration of another kind
    of model. Raises RequestError, by name, with all faults."""
    code = settings.trust_remote_code
    checkpoint = checkpoint or find_checkpoint(settings.model, settings.revision, code, settings.DEMO)
    faults: list[str] = []
    with quiet_transformers():
        with collect_faults(faults):
            config = read_file(checkpoint, "configuration", AutoConfig.from_pretrained, trust_remote_code=code)
            refuse(checkpoint.name, config, code)
        with collect_faults(faults):
            tokenizer = read_file(checkpoint, "tokenizer", AutoTokenizer.from_pretrained, trust_remote_code=code)
            refuse_empty(checkpoint.name, tokenizer)
        with collect_faults(faults):
            saved_generation(checkpoint)
    if faults:
        raise RequestError(*settings.file_faults, *dict.fromkeys(faults))
    return ModelInfo(checkpoint.name, config, tokenizer, checkpoint)


def from_loaded(
    model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, settings: Settings
) -> ModelInfo:
    """The ModelInfo of a model that the caller has loaded. Raises RequestError for a model that cannot be measured, for
    only one of model and tokenizer, and for settings that would load another model."""
    model, tokenizer = loaded_pair(unwrap_compiled(model), tokenizer)
    return ModelInfo(loaded_name(model, settings, refuse_loaded), model.config, tokenizer)


def loaded_name(model: PreTrainedModel, settings: Settings, refuse: Callable[[PreTrainedModel], None]) -> str:
    """The name of a model that the caller has loaded. Raises RequestError, with all faults, if `refuse` does, and for
    settings that would load another model."""
    name = str(model.config.name_or_path or "memory")
    usual = defaults(type(settings))
    faults = [
        f"{setting}: a loaded model is measured as it is; leave {setting} out"
        for setting in ("revision", "device", "dtype", "trust_remote_code")
        if getattr(settings, setting) != usual[setting]
    ]
    if settings.model not in (usual["model"], name):
        faults.append("model_name: give either a name or a loaded model and tokenizer")
    with collect_faults(faults):
        refuse(model)
    if faults:
        raise RequestError(*faults)
    return name
