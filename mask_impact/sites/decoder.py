"""The decoder's self-attention as a site: its passes are steps of generation, measured at the last position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mask_impact.base.errors import RequestError
from mask_impact.sites.attention import attached
from mask_impact.sites.finding import watched_layers
from mask_impact.sites.layer_pass import LayerPass
from mask_impact.sites.parts import LayerParts, decoder_of
from mask_impact.sites.recording import recording
from mask_impact.sites.site import Sample

TOKENS = 8  # in the sample


class Decoder:
    """See Site."""

    layer, answer, generates = "layer", "logits", True

    def stack(self, model: PreTrainedModel) -> PreTrainedModel:
        return decoder_of(model)

    def look(self, model: PreTrainedModel) -> list[LayerPass | None]:
        refuse_class(type(model), model.config)
        ids = torch.tensor([sample_ids(model, 2)], device=model.device)
        return watched_layers(decoder_of(model), lambda: model(input_ids=ids, use_cache=False), causal=True)

    def passed(
        self, model: PreTrainedModel, parts: list[LayerParts], token_ids: list[int], further: dict[str, Any]
    ) -> Iterator[LayerPass]:
        with recording(parts, len(token_ids), whole=True) as recorded:
            model(
                input_ids=torch.tensor([token_ids], device=model.device), use_cache=False, logits_to_keep=1, **further
            )
        yield from (recorded.layers[part.index] for part in parts)

    def answers(self, model: PreTrainedModel, parts: list[LayerParts]) -> tuple[Tensor, Tensor, list[LayerPass]]:
        ids = torch.tensor([self.sample(model).token_ids], device=model.device)
        plain = model(input_ids=ids, use_cache=False).logits
        with attached(decoder_of(model)), recording(parts, TOKENS, whole=True) as recorded:
            watched = model(input_ids=ids, use_cache=False).logits
        return plain, watched, list(recorded.layers.values())

    def sample(self, model: PreTrainedModel) -> Sample:
        return Sample(sample_ids(model, TOKENS))


DECODER = Decoder()


def sample_ids(model: PreTrainedModel, count: int) -> list[int]:
    """`count` token ids, spread over the vocabulary; which ones does not matter."""
    size = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]  # the stub says: or a module
    return [size * (index + 1) // (count + 2) for index in range(count)]


def refuse_class(cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """Raise RequestError for a model whose layers are not counted, or have no softmax attention, or compute it outside
    transformers' attention interface."""
    if not hasattr(config.get_text_config(), "num_hidden_layers"):
        raise RequestError(f"{cls.__name__} has layers that its configuration does not count; it cannot be measured")
    if not hasattr(config.get_text_config(), "num_attention_heads"):
        raise RequestError(
            f"{cls.__name__} has no softmax attention (a state-space or recurrent model); it cannot be measured"
        )
    if not cls._can_set_attn_implementation():
        raise RequestError(
            f"{cls.__name__} computes attention outside transformers' attention interface; it cannot be measured"
        )
