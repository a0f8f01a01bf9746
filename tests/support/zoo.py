"""Tiny random models of every architecture that the tests name, built from their configurations, three layers each.

    build("gemma2", torch.float64)          a model in eval mode, with the attention implementation it takes by itself
    save("llama", folder)                   the same with a byte-level tokenizer, as a folder to load from
    with true_float64(): ...                modelling code that computes in float32 computes in float64

Weights are wide (normal, 0.2) so that attention is far from uniform, and every norm and bias is random so that it
matters. Windows and chunks hold 8 tokens.
"""

from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 320
WINDOW = 8
SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"

SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
HEAD = dict(SHAPE, head_dim=16)
MULTI_HEAD = {name: value for name, value in SHAPE.items() if name != "num_key_value_heads"}
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48)
GPT = dict(
    vocab_size=VOCABULARY,
    n_embd=64,
    n_layer=3,
    n_head=4,
    n_positions=256,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
MIXED = dict(sliding_window=WINDOW, layer_types=[SLIDING, SLIDING, FULL])
LATENT = dict(
    SHAPE,
    num_key_value_heads=4,
    q_lora_rank=24,
    kv_lora_rank=20,
    qk_rope_head_dim=8,
    qk_nope_head_dim=16,
    v_head_dim=12,
    moe_intermediate_size=48,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=1,
    first_k_dense_replace=1,
)
GEMMA4 = dict(
    HEAD,
    **MIXED,
    global_head_dim=24,
    vocab_size_per_layer_input=VOCABULARY,
    hidden_size_per_layer_input=12,
    attention_bias=True,
)
DELTA = dict(
    HEAD,
    layer_types=[LINEAR, FULL, LINEAR],
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    attention_bias=True,
)
# The decoder of an encoder-decoder model, deeper than its encoder.
OF_TWO = dict(
    vocab_size=VOCABULARY,
    d_model=64,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=96,
    decoder_ffn_dim=96,
    is_encoder_decoder=False,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)
M_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0, "mrope_section": [3, 3, 2]}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 15e4,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 8,
}

# name: (prefix of the configuration's class, the model's class, the configuration's fields)
CONFIGURATIONS = {
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", dict(HEAD, attention_bias=True)),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", SHAPE),
    "llama": ("Llama", "LlamaForCausalLM", dict(SHAPE, attention_bias=True, mlp_bias=True)),
    "llama4": (
        "Llama4Text",
        "Llama4ForCausalLM",
        dict(
            HEAD,
            intermediate_size_mlp=96,
            num_local_experts=4,
            moe_layers=[1],
            no_rope_layers=[1, 1, 0],
            attention_chunk_size=WINDOW,
            floor_scale=16,
            attention_bias=True,
        ),
    ),
    "mistral": ("Mistral", "MistralForCausalLM", dict(HEAD, sliding_window=WINDOW)),
    "mixtral": ("Mixtral", "MixtralForCausalLM", dict(HEAD, num_local_experts=4, num_experts_per_tok=2)),
    "gemma": ("Gemma", "GemmaForCausalLM", dict(HEAD, attention_bias=True)),
    "gemma2": (
        "Gemma2",
        "Gemma2ForCausalLM",
        dict(
            HEAD,
            sliding_window=WINDOW,
            layer_types=[SLIDING, FULL, SLIDING],
            query_pre_attn_scalar=16,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
            attention_bias=True,
        ),
    ),
    "gemma3": ("Gemma3Text", "Gemma3ForCausalLM", dict(HEAD, **MIXED, query_pre_attn_scalar=16, attention_bias=True)),
    "gemma4": ("Gemma4Text", "Gemma4ForCausalLM", GEMMA4),
    "gemma4_scaled": ("Gemma4Text", "Gemma4ForCausalLM", GEMMA4),
    "gemma4_shared": (
        "Gemma4Text",
        "Gemma4ForCausalLM",
        dict(GEMMA4, num_hidden_layers=4, layer_types=[SLIDING, FULL, SLIDING, FULL], num_kv_shared_layers=2),
    ),
    "phi": ("Phi", "PhiForCausalLM", dict(SHAPE, qk_layernorm=True)),
    "phi3": ("Phi3", "Phi3ForCausalLM", SHAPE),
    "olmo2": ("Olmo2", "Olmo2ForCausalLM", dict(SHAPE, attention_bias=True)),
    "olmo3": ("Olmo3", "Olmo3ForCausalLM", dict(SHAPE, **MIXED, attention_bias=True)),
    "qwen2_moe": ("Qwen2Moe", "Qwen2MoeForCausalLM", dict(SHAPE, **EXPERTS, shared_expert_intermediate_size=48)),
    "qwen3_moe": ("Qwen3Moe", "Qwen3MoeForCausalLM", dict(HEAD, **EXPERTS, attention_bias=True)),
    "gpt_oss": (
        "GptOss",
        "GptOssForCausalLM",
        dict(
            HEAD,
            sliding_window=WINDOW,
            layer_types=[SLIDING, FULL, SLIDING],
            num_local_experts=4,
            num_experts_per_tok=2,
            rope_parameters=YARN,
        ),
    ),
    "gpt2": ("GPT2", "GPT2LMHeadModel", GPT),
    "gpt2_inverse": ("GPT2", "GPT2LMHeadModel", dict(GPT, scale_attn_by_inverse_layer_idx=True)),
    "gpt_neox": ("GPTNeoX", "GPTNeoXForCausalLM", MULTI_HEAD),
    "gpt_neox_sequential": ("GPTNeoX", "GPTNeoXForCausalLM", dict(MULTI_HEAD, use_parallel_residual=False)),
    "opt": ("OPT", "OPTForCausalLM", dict(MULTI_HEAD, ffn_dim=96)),
    "opt_postnorm": ("OPT", "OPTForCausalLM", dict(MULTI_HEAD, ffn_dim=96, do_layer_norm_before=False)),
    "deepseek_v3": ("DeepseekV3", "DeepseekV3ForCausalLM", dict(LATENT, attention_bias=True)),
    "granite": (
        "Granite",
        "GraniteForCausalLM",
        dict(
            SHAPE,
            embedding_multiplier=3.0,
            logits_scaling=2.0,
            residual_multiplier=0.4,
            attention_multiplier=0.3,
            attention_bias=True,
        ),
    ),
    "cohere2": ("Cohere2", "Cohere2ForCausalLM", dict(SHAPE, **MIXED, attention_bias=True)),
    "starcoder2": ("Starcoder2", "Starcoder2ForCausalLM", dict(SHAPE, sliding_window=WINDOW)),
    "stablelm": ("StableLm", "StableLmForCausalLM", dict(SHAPE, use_qkv_bias=True, qk_layernorm=True)),
    "stablelm_parallel": ("StableLm", "StableLmForCausalLM", dict(SHAPE, use_parallel_residual=True)),
    "nemotron": ("Nemotron", "NemotronForCausalLM", dict(HEAD, attention_bias=True, mlp_bias=True)),
    "glm4": ("Glm4", "Glm4ForCausalLM", HEAD),
    "smollm3": ("SmolLM3", "SmolLM3ForCausalLM", dict(SHAPE, no_rope_layers=[1, 1, 0], attention_bias=True)),
    "exaone4": ("Exaone4", "Exaone4ForCausalLM", dict(SHAPE, **MIXED)),
    "ernie4_5": ("Ernie4_5", "Ernie4_5ForCausalLM", dict(HEAD, use_bias=True)),
    "bitnet": ("BitNet", "BitNetForCausalLM", dict(SHAPE, attention_bias=True)),
    "qwen3_next": ("Qwen3Next", "Qwen3NextForCausalLM", dict(DELTA, **EXPERTS, shared_expert_intermediate_size=48)),
    "qwen3_5": ("Qwen3_5Text", "Qwen3_5ForCausalLM", dict(DELTA, rope_parameters=M_ROPE)),
    "lfm2": ("Lfm2", "Lfm2ForCausalLM", dict(SHAPE, layer_types=["conv", FULL, "conv"], block_multiple_of=16)),
    "jamba": (
        "Jamba",
        "JambaForCausalLM",
        dict(SHAPE, attn_layer_period=3, attn_layer_offset=1, num_experts=4, mamba_d_state=8),
    ),
    "nemotron_h": (
        "NemotronH",
        "NemotronHForCausalLM",
        dict(
            HEAD,
            layers_block_type=["mamba", "attention", "mlp"],
            mamba_num_heads=4,
            mamba_head_dim=16,
            n_groups=2,
            ssm_state_size=16,
            chunk_size=8,
            pad_token_id=0,
        ),
    ),
    "recurrent_gemma": (
        "RecurrentGemma",
        "RecurrentGemmaForCausalLM",
        dict(
            HEAD,
            lru_width=64,
            attention_window_size=WINDOW,
            block_types=["recurrent", "attention"],
            num_hidden_layers=4,
        ),
    ),
    "modernbert_decoder": (
        "ModernBertDecoder",
        "ModernBertDecoderForCausalLM",
        dict(
            MULTI_HEAD,
            local_attention=2 * WINDOW,
            layer_types=[SLIDING, SLIDING, FULL],
            **dict.fromkeys(["bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id"], 0),
        ),
    ),
    "bart_decoder": ("Bart", "BartForCausalLM", OF_TWO),
    "whisper_decoder": ("Whisper", "WhisperForCausalLM", dict(OF_TWO, max_target_positions=256)),
    "gptj": ("GPTJ", "GPTJForCausalLM", dict(GPT, rotary_dim=8)),
    "bloom": (
        "Bloom",
        "BloomForCausalLM",
        dict(vocab_size=VOCABULARY, hidden_size=64, n_layer=3, n_head=4, bos_token_id=None, eos_token_id=None),
    ),
    "falcon": ("Falcon", "FalconForCausalLM", {k: v for k, v in MULTI_HEAD.items() if k != "intermediate_size"}),
    "mpt": ("Mpt", "MptForCausalLM", dict(vocab_size=VOCABULARY, d_model=64, n_layers=3, n_heads=4, max_seq_len=256)),
    "diffllama": ("DiffLlama", "DiffLlamaForCausalLM", SHAPE),
    "deepseek_v32": (
        "DeepseekV32",
        "DeepseekV32ForCausalLM",
        dict(LATENT, index_topk=4, index_head_dim=16, index_n_heads=2),
    ),
    "mamba": (
        "Mamba",
        "MambaForCausalLM",
        dict(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, state_size=8, eos_token_id=None),
    ),
    "bert": ("Bert", "BertForMaskedLM", MULTI_HEAD),
}
HYBRIDS = ("qwen3_next", "qwen3_5", "lfm2", "jamba", "nemotron_h", "recurrent_gemma")
REFUSED = ("gptj", "bloom", "falcon", "mpt", "diffllama", "deepseek_v32", "mamba", "bert")
EXTRAS = (
    "gpt_neox_sequential",
    "gemma4_scaled",
    "gemma4_shared",
    "opt_postnorm",
    "gpt2_inverse",
    "stablelm_parallel",
    "modernbert_decoder",
    "bart_decoder",
    "whisper_decoder",
)
ARCHITECTURES = tuple(name for name in CONFIGURATIONS if name not in HYBRIDS + REFUSED + EXTRAS)

# State-space decays and steps keep their own initialisation: wide random ones overflow.
KEEP_INITIALISATION = ("A_log", "recurrent_param", "D", "dt_bias", "dt_proj.weight", "dt_proj.bias")


def configuration(name, **changed):
    """The tiny configuration of the architecture `name`, with these fields changed."""
    prefix, _, fields = CONFIGURATIONS[name]
    return getattr(transformers, f"{prefix}Config")(**deepcopy(fields | changed))


def build(name, dtype=torch.float32, seed=0, **changed):
    """The tiny model `name` in eval mode; the same `seed` gives the same weights, rounded to `dtype`."""
    model = _untrained(name, torch.float32, seed, changed)
    randomize(model, seed)
    adapt(name, model)
    if dtype != torch.float32:
        weights = model.state_dict()
        model = _untrained(name, dtype, seed, changed)
        model.load_state_dict(weights)
    if dtype == torch.float64 and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # grouped_mm has no double on a CPU
    return model.requires_grad_(False)


def _untrained(name, dtype, seed, changed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            getattr(transformers, CONFIGURATIONS[name][1])
            ._from_config(configuration(name, **changed), dtype=dtype)
            .eval()
        )


def tokens(length, seed=0):
    """A prompt of random token ids, shape (length,)."""
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(1000 + seed))


@torch.no_grad()
def randomize(model, seed):
    """Draw all weights: embeddings and sinks of width 1, matrices of 0.2, norms and biases moved by 0.3."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith(KEEP_INITIALISATION):
            continue
        if weight in embeddings or name.endswith("sinks"):
            weight.copy_(noise)
        elif weight.dim() > 1:
            weight.copy_(0.2 * noise)
        else:
            weight.add_(0.3 * noise)


@torch.no_grad()
def adapt(name, model):
    """What a random draw does not give: a scaled layer, norms of Nemotron around 0 (it adds 1 to a weight), and queries
    of Gemma 4 and Nemotron-H short enough: with longer ones a head's softmax saturates."""
    for parameter, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name == "gemma4_scaled" and parameter.endswith("layer_scalar"):
            tensor.fill_(0.5)
        if name.startswith("gemma4") and parameter.endswith("q_norm.weight"):
            tensor.mul_(0.5)
        if name == "nemotron_h" and parameter.endswith("q_proj.weight"):
            tensor.mul_(0.25)
        if name == "nemotron" and parameter.endswith("norm.weight"):
            tensor.sub_(1)


class _Float32AsFloat64(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(_widen, args), **{name: _widen(value) for name, value in (kwargs or {}).items()})


def _widen(value):
    return torch.float64 if value is torch.float32 else value


@contextmanager
def true_float64():
    """Every `.float()`, `.to(torch.float32)` and `dtype=torch.float32` means float64 inside.

    Norms, softmax, rotary embeddings and routers of transformers compute in float32 whatever the model's dtype, which
    leaves distances of a float64 model wrong by 1e-6 of the largest; inside, by less than 1e-12. Buffers made in
    float32 (rotary frequencies) keep their rounding.
    """
    with _Float32AsFloat64():
        yield


def save(name, folder, dtype=torch.float32, seed=0, **changed):
    """The model `build(name, dtype, seed, **changed)` and its tokenizer in `folder`,
    as `from_pretrained` reads them."""
    model = build(name, dtype, seed, **changed)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def tokenizer():
    """A byte-level tokenizer: 256 bytes, some merges, `<|endoftext|>` and `<|im_end|>`; no more than VOCABULARY ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("o", "u"), ("Ġ", "s")]
    vocabulary = {piece: index for index, piece in enumerate(letters + ["".join(pair) for pair in merges])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|endoftext|>", "additional_special_tokens": ["<|im_end|>"]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def without_weights(name, folder):
    """A folder with configuration and tokenizer alone."""
    save(name, folder)
    _weights_file(folder).unlink()


def missing_weight(name, folder):
    """A folder that lacks one matrix of the second layer; returns its name."""
    return _change_weights(name, folder, lambda weights, tensor: weights.pop(tensor))


def misfitting_weight(name, folder):
    """A folder in which one matrix of the second layer has one row too many; returns its name."""

    def add_row(weights, tensor):
        weights[tensor] = torch.cat([weights[tensor], weights[tensor][:1]])

    return _change_weights(name, folder, add_row)


def unexpected_weight(name, folder):
    """A folder with one tensor that the model has no place for; returns its name."""
    extra = "model.layers.0.self_attn.unheard_of.weight"
    _change_weights(name, folder, lambda weights, tensor: weights.update({extra: torch.zeros(4, 4)}))
    return extra


def _weights_file(folder):
    return Path(folder) / "model.safetensors"


def _change_weights(name, folder, change):
    save(name, folder)
    weights = load_file(_weights_file(folder))
    tensor = [key for key, weight in sorted(weights.items()) if ".1." in key and weight.dim() == 2][-1]
    change(weights, tensor)
    save_file(weights, _weights_file(folder), metadata={"format": "pt"})
    return tensor


def wide_model():
    """Wide enough for a matrix product of one row and one of many to differ in their last bits."""
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=300,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()
