"""A model as it is asked for, before and after its weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from mask_impact.checkpoints import Checkpoint, find_checkpoint, with_weights
from mask_impact.errors import RequestError
from mask_impact.load_check import measurable_parts, refuse_class
from mask_impact.measure import Method
from mask_impact.parts import LayerParts
from mask_impact.settings import Settings
from mask_impact.tokens import end_ids

TORCH_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
TOO_LONG = 10**9  # tokenizers and configurations write "no limit" as numbers past this


@dataclass(frozen=True)
class Candidate:
    """All that is known of a model without its weights."""

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    identity: dict[str, str]
    checkpoint: Checkpoint | None = None

    @property
    def layers(self) -> int:
        """How many decoder layers the model has."""
        return self.config.get_text_config().num_hidden_layers

    @property
    def context_length(self) -> int | None:
        """The most positions the model was built for, or None where its configuration sets no limit."""
        length = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return length if length and length < TOO_LONG else None


@dataclass(frozen=True)
class Subject:
    """A loaded model, checked: the layers that can be measured, and the others by index with the reason why not."""

    candidate: Candidate
    model: PreTrainedModel
    parts: list[LayerParts]
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.candidate.tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """The token ids that end generation when predicted."""
        generation = self.model.generation_config
        return end_ids(self.tokenizer, None if generation is None else generation.eos_token_id)


def examine(settings: Settings) -> Candidate:
    """Everything that the configuration, the tokenizer and the weights' headers tell. Raises RequestError, by name."""
    device = find_device(settings.device)
    checkpoint = find_checkpoint(settings.model, settings.revision, settings.trust_remote_code)
    code = settings.trust_remote_code
    with few_words():
        config = readable(checkpoint, "configuration", AutoConfig.from_pretrained, trust_remote_code=code)
        refuse_config(checkpoint.name, config, code)
        tokenizer = readable(checkpoint, "tokenizer", AutoTokenizer.from_pretrained, trust_remote_code=code)
    return Candidate(config, tokenizer, device, checkpoint.identity(), checkpoint)


def find_device(name: str) -> torch.device:
    """The device of a setting; `auto` is CUDA, then Apple's MPS, then the CPU. Raises RequestError if it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise RequestError(f"--device {name} is absent: {found} CUDA devices found; choose another, or cpu, or install torch for CUDA")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("--device mps is absent: it needs an Apple GPU; choose cpu")
    return device


@contextmanager
def few_words() -> Iterator[None]:
    """Keep transformers' progress bars and warnings out of the terminal while loading; faults are raised all the same."""
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


def readable(checkpoint: Checkpoint, what: str, read: Any, **options: Any) -> Any:
    """What `read` makes of the checkpoint's folder; RequestError, one line, whatever it raises."""
    try:
        return read(checkpoint.folder, local_files_only=True, **options)
    except Exception as error:  # configurations and tokenizers are files of others, and fail in every way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        code = "; --trust-remote-code runs the code it brings along" if "trust_remote_code" in str(error) else ""
        raise RequestError(f"--model {checkpoint.name!r}: its {what} cannot be loaded ({reason}){code}") from None


def refuse_config(name: str, config: PreTrainedConfig, code: bool) -> None:
    """Raise RequestError, by name, for models that are no decoder-only language models or cannot be measured."""
    known = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None) if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None
    if config.is_encoder_decoder:
        raise RequestError(f"--model {name!r} ({config.model_type}) is an encoder-decoder model; a decoder-only one can be measured")
    if known is None and not (code and hasattr(config, "auto_map")):
        raise RequestError(f"--model {name!r} ({config.model_type}) is no text-only causal language model; choose one such as Qwen/Qwen3-0.6B")
    built = (config.architectures or [""])[0]
    if built.endswith(("MaskedLM", "Classification", "QuestionAnswering")):
        raise RequestError(f"--model {name!r} is a {built}: an encoder, not a decoder that predicts the next token; choose a causal one")
    if known is not None:
        refuse_class(known, config)
    method = quantisation(config)
    if method is not None and method not in dequantisers():
        raise RequestError(f"--model {name!r} has {method} weights, which transformers does not dequantise; choose the unquantised model")


def quantisation(config: PreTrainedConfig) -> str | None:
    """The method a checkpoint's weights are quantised with, or None."""
    given = getattr(config, "quantization_config", None)
    given = given if isinstance(given, dict) or given is None else given.to_dict()
    return None if not given else str(given.get("quant_method"))


def dequantisers() -> dict[str, Any]:
    """Configurations that make transformers dequantise on loading, by method; what this version of transformers has."""
    names = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
    return {method: getattr(transformers, name) for method, name in names.items() if hasattr(transformers, name)}


def load(candidate: Candidate, settings: Settings) -> Subject:
    """Load the weights, move them to the device and check them. Raises RequestError for weights that do not fit the model."""
    checkpoint = with_weights(candidate.checkpoint)
    options: dict[str, Any] = {"dtype": wanted_dtype(settings, candidate.device), "trust_remote_code": settings.trust_remote_code}
    method = quantisation(candidate.config)
    if method is not None:
        options["quantization_config"] = dequantisers()[method](dequantize=True)
    with few_words():
        model, info = readable(
            checkpoint, "weights", AutoModelForCausalLM.from_pretrained,
            output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True, **options)
    refuse_misfits(checkpoint.name, info)
    return prepare(candidate, model.to(candidate.device), settings)


def wanted_dtype(settings: Settings, device: torch.device) -> torch.dtype | str:
    """The dtype to load in: `auto` is float32 on the CPU and the checkpoint's elsewhere."""
    if settings.dtype != "auto":
        return TORCH_DTYPES[settings.dtype]
    return torch.float32 if device.type == "cpu" else "auto"


def refuse_misfits(name: str, info: dict) -> None:
    """Raise RequestError for missing, unexpected or misfitting weights: transformers fills them with random numbers and goes on."""
    for kind, what in (("missing_keys", "misses"), ("mismatched_keys", "misfits the model in"), ("unexpected_keys", "has unknown")):
        if found := sorted(str(key if isinstance(key, str) else key[0]) for key in info.get(kind, ())):
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise RequestError(f"--model {name!r}: the checkpoint {what} weights: {found[0]}{more}; it would run on random numbers, fetch it again")


def prepare(candidate: Candidate, model: PreTrainedModel, settings: Settings) -> Subject:
    """Check a loaded model and find its parts. Experts run by themselves in float64, for which grouped kernels do not exist."""
    model.eval()
    if model.dtype == torch.float64 and getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("eager")
    parts, skipped = measurable_parts(model, method_of(settings))
    return Subject(candidate, model, parts, skipped)


def measured_parts(settings: Settings, subject: Subject) -> list[LayerParts]:
    """The parts of the layers that these settings ask for."""
    return [part for part in subject.parts if settings.layers is None or part.index in settings.layers]


def method_of(settings: Settings) -> Method:
    """How these settings measure."""
    return Method(settings.method, settings.variants, torch.float32 if settings.measure_dtype == "float32" else None)


def loaded_candidate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Candidate:
    """The candidate of a model that the caller has loaded."""
    commit = getattr(model.config, "_commit_hash", None)
    identity = {"revision": commit} if commit else {"loaded_from": str(model.config.name_or_path or "memory")}
    return Candidate(model.config, tokenizer, model.device, identity)
