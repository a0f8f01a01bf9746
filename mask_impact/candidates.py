"""A model as it is asked for, before its weights are loaded: configuration, tokenizer, device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from mask_impact import adapters
from mask_impact.checkpoints import Checkpoint, find_checkpoint
from mask_impact.compiled import as_written
from mask_impact.errors import RequestError, as_run_error, first_line, gathering, out_of_memory
from mask_impact.load_check import refuse_class
from mask_impact.measure import Method
from mask_impact.parts import LayerParts, layer_count
from mask_impact.prompt_inputs import PromptInputs
from mask_impact.settings import Settings, defaults
from mask_impact.tokens import prompt_ids

TORCH_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
TOO_LONG = 10**9  # tokenizers and configurations write "no limit" as numbers past this
SOFTMAX_KINDS = ("attention", "full_attention", "sliding_attention", "chunked_attention")
ANOTHER_MODEL = "choose a causal language model, such as Qwen/Qwen3-0.6B"


@dataclass(frozen=True)
class Candidate:
    """All that is known of a model without its weights. `checkpoint` is None for a model that the caller has loaded.

    `AUTO_CLASS` loads the weights.
    """

    AUTO_CLASS: ClassVar[type] = AutoModelForCausalLM

    name: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    checkpoint: Checkpoint | None = None

    def measured_config(self, settings: Settings) -> PreTrainedConfig:
        """The configuration of the layers that these settings measure."""
        return self.config.get_text_config()

    def encoder_parts(self, model: PreTrainedModel, method: Method) -> list[LayerParts]:
        """The blocks of the model's encoder that can be measured, checked; none where none is. Raises RequestError, RunError."""
        return []

    def layers(self, settings: Settings) -> int:
        """How many layers there are, of which these settings measure some."""
        return layer_count(self.measured_config(settings))

    def other_layers(self, settings: Settings) -> dict[int, str]:
        """The layers whose kind, as the configuration names it, is no softmax attention; what it does not name comes out later."""
        config = self.measured_config(settings)
        kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
        return {layer: f"no softmax attention ({kind})" for layer, kind in enumerate(kinds) if kind not in SOFTMAX_KINDS}

    @property
    def context_length(self) -> int | None:
        """The most positions the model was built for, rotary scaling included, or None where its configuration sets no limit."""
        config = self.config.get_text_config()
        length = getattr(config, "max_position_embeddings", None)
        return min(scaled_length(length, rope) for rope in rope_kinds(config)) if length and 0 < length < TOO_LONG else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on what the user may not expect of the model."""
        return adapters.notes(self.checkpoint.name, self.checkpoint.folder) if self.checkpoint else ()

    def prompt_inputs(self, settings: Settings) -> PromptInputs:
        """What the model is fed for this prompt. Raises RequestError with its faults."""
        return PromptInputs(self.question_ids(settings))

    def question_ids(self, settings: Settings) -> list[int]:
        """The prompt's token ids, before pictures take their places in it. Raises RequestError as `prompt_inputs` does."""
        return prompt_ids(self.tokenizer, settings)

    @property
    def identity(self) -> dict[str, str]:
        """What tells the model from any other, as far as that can be known."""
        if self.checkpoint is not None:
            return self.checkpoint.identity
        commit = getattr(self.config, "_commit_hash", None)
        return {"revision": commit} if commit else {"loaded_from": self.name}


def rope_kinds(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary parameters of each kind of layer; one without any where positions are learned, whatever a stray key says."""
    given = (getattr(config, "rope_parameters", None) or {}) if hasattr(type(config), "rope_parameters") else {}
    return [kind for kind in given.values() if isinstance(kind, dict)] or [given]


def scaled_length(length: int, rope: dict[str, Any]) -> int:
    """The most positions with these rotary parameters, of a model whose configuration says `length`; the types of rope that are
    not named here have the extended number there."""
    factor = rope.get("factor") if rope.get("rope_type") in ("linear", "dynamic", "yarn") else None
    return max(length, int((rope.get("original_max_position_embeddings") or length) * factor)) if factor else length


def examine(settings: Settings, checkpoint: Checkpoint | None = None) -> Candidate:
    """A model of text, with everything that configuration and tokenizer tell. Raises RequestError, by name, with all faults."""
    return read_candidate(settings, checkpoint, refuse_config)


def read_candidate(settings: Settings, checkpoint: Checkpoint | None, refuse: Callable[..., None]) -> Candidate:
    """Everything that configuration and tokenizer tell; `refuse` raises RequestError for a configuration of another kind of
    model. Raises RequestError, by name, with all faults."""
    code = settings.trust_remote_code
    checkpoint = checkpoint or find_checkpoint(settings.model, settings.revision, code, settings.DEMO)
    faults: list[str] = []
    with few_words():
        with gathering(faults):
            config = read_file(checkpoint, "configuration", AutoConfig.from_pretrained, trust_remote_code=code)
            refuse(checkpoint.name, config, code)
        with gathering(faults):
            tokenizer = read_file(checkpoint, "tokenizer", AutoTokenizer.from_pretrained, trust_remote_code=code)
            refuse_empty(checkpoint.name, tokenizer)
    if faults:
        raise RequestError(*settings.file_faults, *dict.fromkeys(faults))
    return Candidate(checkpoint.name, config, tokenizer, checkpoint)


def find_device(settings: Settings) -> torch.device:
    """The device asked for; `auto` is CUDA, then Apple's MPS, then the CPU. Raises RequestError if it is absent."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise RequestError(f"--device {name} is absent: {found} CUDA devices found; choose another, or cpu, or install torch for CUDA")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("--device mps is absent: it needs an Apple GPU; choose cpu")
    if device.type == "mps" and settings.dtype == "float64":
        raise RequestError("--dtype float64 does not exist on --device mps; choose cpu, or another dtype")
    return device if device.type == "cpu" else torch.device(device.type, device.index or 0)


@contextmanager
def few_words() -> Iterator[None]:
    """Keep transformers' progress bars and warnings out of the terminal; faults are raised all the same."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def read_file(checkpoint: Checkpoint, what: str, read: Callable, **options: Any) -> Any:
    """What `read` makes of the checkpoint's folder. Raises RequestError, one line, whatever `read` raises, but for want of memory."""
    try:
        return read(checkpoint.folder, local_files_only=True, **options)
    except Exception as error:  # the files are others', and fail in every way
        if out_of_memory(error):
            raise as_run_error(error) from error
        remedy = "install what is missing" if isinstance(error, ImportError) else "fetch the model again"
        remedy = "a newer transformers may know it" if "does not recognize this architecture" in str(error) else remedy
        remedy = "--trust-remote-code runs the code it brings along" if "trust_remote_code" in str(error) else remedy
        raise RequestError(f"--model {checkpoint.name!r}: its {what} cannot be loaded ({first_line(error)}); {remedy}") from None


def refuse_config(name: str, config: PreTrainedConfig, code: bool) -> None:
    """Raise RequestError, by name, for models that are no decoder-only language models or cannot be measured."""
    known = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None
    if config.is_encoder_decoder:
        raise RequestError(f"--model {name!r} ({config.model_type}) is an encoder-decoder model, which is not measured; {ANOTHER_MODEL}")
    if is_encoder(config):
        raise RequestError(f"--model {name!r} ({config.model_type}) is an encoder, which predicts no next token; {ANOTHER_MODEL}")
    if config.model_type.startswith("qwen3_vl"):
        raise RequestError(f"--model {name!r} ({config.model_type}) is a vision-language model; run it with mask_impact_vl.py")
    if known is None and not (code and hasattr(config, "auto_map")):
        raise RequestError(f"--model {name!r} ({config.model_type}) is no causal language model of text alone; {ANOTHER_MODEL}")
    if known is not None:
        with naming(name):
            refuse_class(known, config)
    refuse_quantised(name, config)


def refuse_quantised(name: str, config: PreTrainedConfig) -> None:
    """Raise RequestError, by name, for weights that transformers cannot dequantise."""
    method = quantisation(config)
    if method is not None and method not in dequantisers():
        raise RequestError(f"--model {name!r} has {method} weights, which transformers does not dequantise; choose the unquantised model")


def is_encoder(config: PreTrainedConfig) -> bool:
    """Whether the model sees the tokens on both sides: one for masked words that was not configured as a decoder."""
    built = (config.architectures or [""])[0]
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and getattr(config, "is_decoder", None) is False
    return masked or built.endswith(("MaskedLM", "Classification", "QuestionAnswering"))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the model's name before what a check says of it, and what to do after it."""
    try:
        yield
    except RequestError as error:
        raise RequestError(*(f"--model {name!r}: {fault}; {ANOTHER_MODEL}" for fault in error.faults)) from None


def refuse_empty(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise RequestError for the tokenizer without words that transformers makes of a folder without one."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):
        raise RequestError(f"--model {name!r}: its folder has no tokenizer; add the files it came with (tokenizer.json, tokenizer_config.json)")


def quantisation(config: PreTrainedConfig) -> str | None:
    """The method a checkpoint's weights are quantised with, or None."""
    given = getattr(config, "quantization_config", None)
    given = given if isinstance(given, dict) or given is None else given.to_dict()
    return None if not given else str(given.get("quant_method"))


def dequantisers() -> dict[str, Any]:
    """Configurations that make transformers dequantise on loading, by method; what this version of transformers has."""
    names = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
    return {method: getattr(transformers, name) for method, name in names.items() if hasattr(transformers, name)}


def of_loaded(model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, settings: Settings) -> Candidate:
    """The candidate of a model that the caller has loaded. Raises RequestError for one that cannot be measured, for one of the
    two alone, and for settings that would load another."""
    model = as_written(model)
    refuse_unloaded(model, tokenizer)
    return Candidate(loaded_name(model, settings, refuse_loaded), model.config, tokenizer)


def refuse_unloaded(model: object, tokenizer: object) -> None:
    """Raise RequestError for what is no loaded model and tokenizer: one of the two, their names, or each in the other's place."""
    if model is None or tokenizer is None:
        raise RequestError("model and tokenizer go together; give both, or neither and a model_name")
    adapters.refuse_wrapped(model)
    for name, value, kind in (("model", model, PreTrainedModel), ("tokenizer", tokenizer, PreTrainedTokenizerBase)):
        if not isinstance(value, kind):
            raise RequestError(f"{name}: expected a loaded {name} of transformers, found a {type(value).__name__}; "
                               "a model's name is given as model_name")


def loaded_name(model: PreTrainedModel, settings: Settings, refuse: Callable[[PreTrainedModel], None]) -> str:
    """The name of a model that the caller has loaded. Raises RequestError, with all faults, for what `refuse` refuses and for
    settings that would load another."""
    name = str(model.config.name_or_path or "memory")
    usual = defaults(type(settings))
    faults = [f"{setting}: a loaded model is measured as it is; leave {setting} out"
              for setting in ("revision", "device", "dtype", "trust_remote_code") if getattr(settings, setting) != usual[setting]]
    if settings.model not in (usual["model"], name):
        faults.append("model_name: give either a name or a loaded model and tokenizer")
    with gathering(faults):
        refuse(model)
    if faults:
        raise RequestError(*faults)
    return name


def refuse_loaded(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model of another kind, without a language-model head, or with quantised weights."""
    name = type(model).__name__
    if model.config.is_encoder_decoder or is_encoder(model.config):
        raise RequestError(f"{name} is no decoder-only model; load a causal language model with AutoModelForCausalLM")
    if model.get_output_embeddings() is None:
        raise RequestError(f"{name} predicts no next token; load the model with AutoModelForCausalLM")
    refuse_strange_weights(model)


def refuse_strange_weights(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model with quantised weights, or without some of them in memory."""
    name = type(model).__name__
    absent = [weight for weight, values in model.named_parameters() if values.is_meta]
    if absent:
        raise RequestError(f"{name} has weights that are not in memory ({absent[0]} lies on 'meta': never loaded, or offloaded); "
                           "load it whole on one device, with from_pretrained(...) without device_map and .to(device)")
    strange = {str(weight.dtype) for weight in model.parameters()} - {str(dtype) for dtype in TORCH_DTYPES.values()}
    if strange:
        raise RequestError(f"{name} has weights in {', '.join(sorted(strange))}; load it unquantised, in one of {', '.join(TORCH_DTYPES)}")
