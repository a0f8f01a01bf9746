"""Models that are refused before their weights are loaded, each by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from mask_impact.base.errors import RequestError
from mask_impact.models import adapters
from mask_impact.models.devices import TORCH_DTYPES
from mask_impact.sites.decoder import refuse_class

ANOTHER_MODEL = "choose a causal language model, such as Qwen/Qwen3-0.6B"


def refuse_config(name: str, config: PreTrainedConfig, code: bool) -> None:
    """Raise RequestError, by name, for a model that is not a decoder-only language model or cannot be measured."""
    known: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if config.is_encoder_decoder:
        raise RequestError(
            f"--model {name!r} ({config.model_type}) is an encoder-decoder model, which is not measured; "
            f"{ANOTHER_MODEL}"
        )
    if is_encoder(config):
        raise RequestError(
            f"--model {name!r} ({config.model_type}) is an encoder, which predicts no next token; {ANOTHER_MODEL}"
        )
    if config.model_type.startswith("qwen3_vl"):
        raise RequestError(
            f"--model {name!r} ({config.model_type}) is a vision-language model; run it with mask_impact_vl.py"
        )
    if known is None and not (code and hasattr(config, "auto_map")):
        raise RequestError(
            f"--model {name!r} ({config.model_type}) is no causal language model of text alone; {ANOTHER_MODEL}"
        )
    if known is not None:
        with naming_model(name):
            refuse_class(known, config)
    refuse_quantised(name, config)


def refuse_quantised(name: str, config: PreTrainedConfig) -> None:
    """Raise RequestError, by name, for weights that transformers cannot dequantise."""
    method = quantisation(config)
    if method is not None and method not in dequantisers():
        raise RequestError(
            f"--model {name!r} has {method} weights, which transformers does not dequantise; "
            "choose the unquantised model"
        )


def is_encoder(config: PreTrainedConfig) -> bool:
    """Whether the model sees tokens on both sides: a masked language model that is not configured as a decoder."""
    built = (config.architectures or [""])[0]
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and getattr(config, "is_decoder", None) is False
    return masked or built.endswith(("MaskedLM", "Classification", "QuestionAnswering"))


@contextmanager
def naming_model(name: str) -> Iterator[None]:
    """Put the model's name in front of the faults of a check inside, and a remedy behind them."""
    try:
        yield
    except RequestError as error:
        raise RequestError(*(f"--model {name!r}: {fault}; {ANOTHER_MODEL}" for fault in error.faults)) from None


def refuse_empty(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise RequestError for a tokenizer without words, as transformers makes it from a folder that has none."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):
        raise RequestError(
            f"--model {name!r}: its folder has no tokenizer; add the files it came with "
            "(tokenizer.json, tokenizer_config.json)"
        )


def quantisation(config: PreTrainedConfig) -> str | None:
    """The method a checkpoint's weights are quantised with, or None."""
    given = getattr(config, "quantization_config", None)
    given = given if isinstance(given, dict) or given is None else given.to_dict()
    return None if not given else str(given.get("quant_method"))


def dequantisers() -> dict[str, Any]:
    """Configurations that make transformers dequantise on loading, by method, as far as this version has them."""
    names = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
    return {method: getattr(transformers, name) for method, name in names.items() if hasattr(transformers, name)}


def loaded_pair(model: Any, tokenizer: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The two as they are. Raises RequestError for what is no loaded model and tokenizer:
    one of the two, their names, or each in the other's place."""
    if model is None or tokenizer is None:
        raise RequestError("model and tokenizer go together; give both, or neither and a model_name")
    adapters.refuse_wrapped(model)
    for name, value, kind in (("model", model, PreTrainedModel), ("tokenizer", tokenizer, PreTrainedTokenizerBase)):
        if not isinstance(value, kind):
            raise RequestError(
                f"{name}: expected a loaded {name} of transformers, found a {type(value).__name__}; "
                "a model's name is given as model_name"
            )
    return model, tokenizer


def refuse_loaded(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model of another kind, without a head, or with unusable weights."""
    name = type(model).__name__
    if model.config.is_encoder_decoder or is_encoder(model.config):
        raise RequestError(f"{name} is no decoder-only model; load a causal language model with AutoModelForCausalLM")
    if model.get_output_embeddings() is None:
        raise RequestError(f"{name} predicts no next token; load the model with AutoModelForCausalLM")
    refuse_unmeasurable_weights(model)


def refuse_unmeasurable_weights(model: PreTrainedModel) -> None:
    """Raise RequestError, by name, for a loaded model with quantised weights, or with some that are not in memory."""
    name = type(model).__name__
    absent = [weight for weight, values in model.named_parameters() if values.is_meta]
    if absent:
        raise RequestError(
            f"{name} has weights that are not in memory ({absent[0]} lies on 'meta': never loaded, or offloaded); "
            "load it whole on one device, with from_pretrained(...) without device_map and .to(device)"
        )
    strange = {str(weight.dtype) for weight in model.parameters()} - {str(dtype) for dtype in TORCH_DTYPES.values()}
    if strange:
        raise RequestError(
            f"{name} has weights in {', '.join(sorted(strange))}; "
            f"load it unquantised, in one of {', '.join(TORCH_DTYPES)}"
        )
