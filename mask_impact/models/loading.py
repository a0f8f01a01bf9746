"""Loads a model's weights, and checks that the model can be measured."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mask_impact.base.errors import RequestError, as_run_error
from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.rows.budget import RowBudget
from mask_impact.measure.step import Method
from mask_impact.models import adapters
from mask_impact.models.checkpoint_files import Checkpoint
from mask_impact.models.checkpoints import with_weights
from mask_impact.models.compiled import uncompiled, unwrap_compiled
from mask_impact.models.devices import TORCH_DTYPES, find_device
from mask_impact.models.files import quiet_transformers, read_file
from mask_impact.models.info import ModelInfo
from mask_impact.models.refusals import dequantisers, naming_model, quantisation
from mask_impact.models.tokens import end_ids
from mask_impact.settings.text_settings import Settings
from mask_impact.sites.parts import LayerParts

OLD_CONSTANTS = ("attn.masked_bias",)  # in old GPT-2 checkpoints; no model needs them
# Where transformers looks for an adapter: nowhere, as it would then report the adapter's misfits and not the base's.
NO_ADAPTER = {"subfolder": "none"}
# Why weights are refused: transformers would fill missing ones with random numbers, leave out the others, and go on.
MISFITS = {
    "missing_keys": "lacks weights of its model, which would be random numbers",
    "mismatched_keys": "has weights of another shape than its configuration says",
    "unexpected_keys": "has weights that its model has no place for",
}


COMPILED = "the model is compiled; its modules were measured uncompiled"
LOADING = threading.Lock()  # transformers sets torch's default dtype while it loads a model
_locks: WeakKeyDictionary[PreTrainedModel, threading.RLock] = WeakKeyDictionary()


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model, checked.

    `parts` are the layers that can be measured, `skipped` the others by index with the reason, `encoder` the blocks of
    its encoder if that was asked for, `notes` lines for the user.
    """

    model_info: ModelInfo
    model: PreTrainedModel
    sites: Mapping[str, tuple[list[LayerParts], dict[int, str]]]
    notes: tuple[str, ...] = ()

    def parts(self, site: str = "decoder") -> list[LayerParts]:
        """The layers of a site that can be measured."""
        return self.sites[site][0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model was saved or given with."""
        return self.model_info.tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """The token ids that end generation when predicted."""
        generation = self.model.generation_config
        return end_ids(self.tokenizer, None if generation is None else generation.eos_token_id)


def load(model_info: ModelInfo, settings: Settings, wanted: Collection[str] = ("decoder",)) -> LoadedModel:
    """Load the weights, move them to the device and check the parts (decoder, encoder) that are wanted.

    Raises RequestError for weights that do not fit the model, RunError if memory runs out or a check of the model
    fails.
    """
    assert model_info.checkpoint, "a model that the caller has loaded is not loaded again"
    checkpoint, device = with_weights(model_info.checkpoint, settings.quiet), find_device(settings)
    dtype, method = wanted_dtype(settings, device), quantisation(model_info.config)
    options = {} if method is None else {"quantization_config": dequantisers()[method](dequantize=True)}
    with quiet_transformers():
        model, info = read_file(
            checkpoint,
            "weights",
            model_info.AUTO_CLASS.from_pretrained,
            dtype=dtype,
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            adapter_kwargs=NO_ADAPTER,
            **options,
        )
        refuse_misfits(checkpoint.name, info)
        add_adapter(checkpoint, model)
        try:
            if method is not None:  # dequantised weights may have another dtype than the others
                model = model.to(model_info.config.dtype if dtype == "auto" else dtype)
            return prepare(model_info, model.to(device), settings, wanted)
        except RequestError:
            raise
        except Exception as error:
            raise as_run_error(error) from error


def add_adapter(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    """Load the adapter beside the weights if peft is installed. Raises RequestError if it does not fit the model."""
    if adapters.is_loaded(checkpoint.folder):
        load = lambda folder, **_: model.load_adapter(str(folder), ignore_mismatched_sizes=True)
        refuse_misfits(checkpoint.name, read_file(checkpoint, "adapter", load).to_dict())


def wanted_dtype(settings: Settings, device: torch.device) -> torch.dtype | str:
    """The dtype to load in: `auto` is float32 on the CPU and the checkpoint's elsewhere."""
    if settings.dtype != "auto":
        return TORCH_DTYPES[settings.dtype]
    return torch.float32 if device.type == "cpu" else "auto"


def refuse_misfits(name: str, info: dict[str, Any]) -> None:
    """Raise RequestError, a line for each kind of misfit, for weights that are not exactly the model's."""
    faults = []
    for kind, what in MISFITS.items():
        keys = (key if isinstance(key, str) else key[0] for key in info.get(kind) or ())
        if found := sorted(key for key in keys if not key.endswith(OLD_CONSTANTS)):
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            faults.append(f"--model {name!r} {what}: {found[0]}{more}; fetch it again, or take another checkpoint")
    if faults:
        raise RequestError(*faults)


def prepare(model_info: ModelInfo, model: PreTrainedModel, settings: Settings, wanted: Collection[str]) -> LoadedModel:
    """Check a loaded model in the parts (decoder, encoder) that are wanted, and find its layers.

    In float64 experts run one by one, as there are no grouped kernels for it; the rows of pairs are in float64.
    """
    model.eval()
    if (model.dtype == torch.float64 or settings.pairs is not None) and has_experts(model):
        model.set_experts_implementation("eager")
    method = method_of(settings)
    with naming_model(model_info.name) if model_info.checkpoint else nullcontext():
        sites = {
            name: measurable_parts(model, method, site) for name, site in model_info.SITES.items() if name in wanted
        }
    return LoadedModel(model_info, model, sites)


def has_experts(model: PreTrainedModel) -> bool:
    """Whether the model has experts whose implementation can be chosen."""
    return getattr(model, "_can_set_experts_implementation", lambda: False)()


def measured_parts(settings: Settings, loaded: LoadedModel) -> list[LayerParts]:
    """The layers that these settings ask for."""
    return [part for part in loaded.parts(settings.part) if settings.layers is None or part.index in settings.layers]


def method_of(settings: Settings) -> Method:
    """The method of measurement that these settings ask for."""
    dtype = torch.float32 if settings.measure_dtype == "float32" else None
    return Method(settings.method, settings.variants, dtype, rows=RowBudget.of_memory(settings.max_memory))


@contextmanager
def ready(model_info: ModelInfo, settings: Settings, model: PreTrainedModel | None = None) -> Iterator[LoadedModel]:
    """The model of `model_info`, loaded and checked. A `model` that the caller has loaded is as before on leaving, and
    no other thread measures it meanwhile."""
    if model is None:
        with LOADING:
            loaded = load(model_info, settings, {settings.part})
        yield loaded
        return
    given, model = model, unwrap_compiled(model)
    with model_lock(model), uncompiled(model) as compiled:
        training = [module for module in model.modules() if module.training]
        experts: Any = model.config._experts_implementation if has_experts(model) else None
        try:
            loaded = prepare(model_info, model, settings, {settings.part})
            yield replace(loaded, notes=(COMPILED,)) if compiled or given is not model else loaded
        finally:
            for module in training:
                module.training = True
            if has_experts(model) and model.config._experts_implementation != experts:
                model.set_experts_implementation(experts)


def model_lock(model: PreTrainedModel) -> AbstractContextManager[Any]:
    """The lock of a loaded model, as measuring changes the model for a while."""
    with LOADING:
        return _locks.setdefault(model, threading.RLock())
