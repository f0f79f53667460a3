"""Odd configurations of the families and what transformers computes with them.

    pip install torch==2.9.1 transformers==5.23.0 safetensors
    python tests/reports/configurations/generate.py

Writes `recorded.json` beside this file: for each case its `config.json`, the names and shapes of its tensors,
one batch and the logits of transformers. Weights are not stored: `weights` here and in
`tests/reports/families.rs` make the same numbers from a tensor's name. Cases that Kiln refuses have `refused`,
a part of its message, instead of logits; `transformers` says how transformers fails where it does.
Nothing is random.
"""
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ABSENT = object()
OUTPUT = {"bert": "cls.predictions.decoder.weight", "modernbert": "decoder.weight"}
EMBEDDING = {
    "gpt2": "transformer.wte.weight",
    "bert": "bert.embeddings.word_embeddings.weight",
    "modernbert": "model.embeddings.tok_embeddings.weight",
    "t5": "shared.weight",
}
KINDS = {"bert": "AutoModelForMaskedLM", "modernbert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}

DECODER = dict(
    vocab_size=23,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32,
    rms_norm_eps=1e-6,
    hidden_act="silu",
    tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
EXPERTS = DECODER | dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, norm_topk_prob=False)
BASES = {
    "gpt2": dict(
        vocab_size=23,
        n_positions=16,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_inner=None,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        tie_word_embeddings=True,
    ),
    "llama": DECODER | dict(attention_bias=False, mlp_bias=False, head_dim=4),
    "mistral": DECODER | dict(sliding_window=None, head_dim=None),
    "qwen2": DECODER | dict(use_sliding_window=False, sliding_window=3, max_window_layers=2),
    "qwen3": DECODER | dict(head_dim=6, attention_bias=False, use_sliding_window=False),
    "gemma2": {k: v for k, v in DECODER.items() if k != "hidden_act"}
    | dict(
        hidden_activation="gelu_pytorch_tanh",
        head_dim=4,
        query_pre_attn_scalar=7,
        sliding_window=3,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        tie_word_embeddings=True,
    ),
    "mixtral": DECODER | dict(num_local_experts=3, num_experts_per_tok=2, sliding_window=None),
    "qwen2_moe": EXPERTS | dict(shared_expert_intermediate_size=10, qkv_bias=True),
    "qwen3_moe": EXPERTS | dict(head_dim=6),
    "bert": dict(
        vocab_size=23,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        hidden_act="gelu",
        max_position_embeddings=16,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        tie_word_embeddings=True,
    ),
    "modernbert": dict(
        vocab_size=23,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=32,
        norm_eps=1e-5,
        local_attention=4,
        global_attn_every_n_layers=3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    ),
    "t5": dict(
        vocab_size=23,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=2,
        num_decoder_layers=1,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=10,
        layer_norm_epsilon=1e-6,
        feed_forward_proj="relu",
        decoder_start_token_id=0,
        pad_token_id=0,
    ),
}
CASES = []


def case(family, name, *, absent=(), tensors=None, refused=None, reference=None, **changes):
    """A case: keys left `absent` or changed; `tensors` changes the file's (`None` drops one, a name copies
    that one, a list adds one of that shape, and `bare` takes a prefix off all); `reference` changes keys
    for transformers alone."""
    config = {"model_type": family} | BASES[family] | changes
    config = {key: value for key, value in config.items() if key not in absent}
    CASES.append(
        dict(name=f"{family}: {name}", family=family, config=config, tensors=tensors or {}, refused=refused,
             reference=reference or {})
    )


def cases():
    gpt2, llama = "gpt2", "llama"
    case(gpt2, "all keys")
    case(gpt2, "only sizes", absent=["n_inner", "activation_function", "layer_norm_epsilon", "tie_word_embeddings"], n_ctx=16)
    case(gpt2, "the default context", absent=["n_positions"])
    case(gpt2, "the default heads", absent=["n_head"], n_embd=24, n_layer=1)
    case(gpt2, "the default layers", absent=["n_layer"])
    case(gpt2, "names of other families", absent=["n_embd", "n_head", "n_layer", "n_positions"], hidden_size=8,
         num_attention_heads=4, num_hidden_layers=1, max_position_embeddings=16)
    case(gpt2, "both names of a size", hidden_size=8, n_embd=12)
    case(gpt2, "a narrow MLP", n_inner=12)
    for name in ["relu", "gelu", "gelu_pytorch_tanh", "gelu_python", "gelu_fast", "gelu_accurate", "gelu_python_tanh"]:
        case(gpt2, f"activation {name}", activation_function=name)
    case(gpt2, "activation silu", activation_function="silu", refused="`activation_function` is `silu`")
    case(gpt2, "a wide epsilon", layer_norm_epsilon=0.01)
    case(gpt2, "an epsilon of null", layer_norm_epsilon=None, refused="`layer_norm_epsilon` is `null`")
    case(gpt2, "upcast attention", reorder_and_upcast_attn=True)
    case(gpt2, "scaled by layer", scale_attn_by_inverse_layer_idx=True, refused="`scale_attn_by_inverse_layer_idx`")
    case(gpt2, "without model_type", absent=["model_type"], architectures=["GPT2LMHeadModel"])
    case(gpt2, "names without prefix", tensors={"bare": "transformer."})

    case(llama, "all keys")
    case(llama, "only sizes", absent=["num_key_value_heads", "rms_norm_eps", "hidden_act", "tie_word_embeddings",
         "rope_parameters", "attention_bias", "mlp_bias", "head_dim", "max_position_embeddings"])
    case(llama, "null where there may be", num_key_value_heads=None, head_dim=None, rope_parameters=None)
    case(llama, "an epsilon of null", rms_norm_eps=None, refused="`rms_norm_eps` is `null`")
    case(llama, "the default epsilon with a wide one beside it", absent=["rms_norm_eps"], layer_norm_eps=0.5, norm_eps=0.5)
    case(llama, "wide heads", head_dim=6)
    case(llama, "biases", attention_bias=True, mlp_bias=True)
    case(llama, "biases of attention alone", attention_bias=True, refused="`attention_bias` and `mlp_bias`")
    case(llama, "theta beside", absent=["rope_parameters"], rope_theta=77.0)
    case(llama, "theta beside and inside", rope_theta=77.0)
    case(llama, "theta beside an object without", rope_theta=77.0, rope_parameters={"rope_type": "default"})
    case(llama, "a theta of null", rope_parameters={"rope_type": "default", "rope_theta": None}, refused="`rope_theta`")
    linear = {"type": "linear", "factor": 3.0}
    case(llama, "linear as of old", absent=["rope_parameters"], rope_theta=50.0, rope_scaling=linear)
    case(llama, "linear as of new", rope_parameters={"rope_type": "linear", "factor": 3, "rope_theta": 50.0})
    case(llama, "old scaling hides new parameters", rope_scaling=linear,
         rope_parameters={"rope_type": "default", "rope_theta": 50.0})
    case(llama, "an empty rope_scaling hides nothing", rope_scaling={}, rope_parameters={"rope_theta": 50.0})
    case(llama, "a factor without a type", rope_scaling={"factor": 3.0}, absent=["rope_parameters"])
    case(llama, "two types", rope_scaling={"type": "linear", "rope_type": "default", "factor": 3.0})
    case(llama, "linear without a factor", rope_scaling={"type": "linear"}, refused="`factor`")
    llama3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    case(llama, "llama3", rope_scaling=llama3 | {"original_max_position_embeddings": 16}, rope_theta=50.0, head_dim=8)
    case(llama, "llama3 without its context", rope_scaling=llama3, rope_theta=50.0, head_dim=8)
    case(llama, "llama3 without its factors", rope_scaling={"rope_type": "llama3", "factor": 4.0}, refused="`low_freq_factor`")
    case(llama, "yarn", rope_scaling={"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16}, refused="`rope_scaling`")
    case(llama, "dynamic", rope_scaling={"type": "dynamic", "factor": 2.0}, refused="`rope_scaling`")
    case(llama, "part of a head, which it does not read", partial_rotary_factor=0.5)
    case(llama, "part of a head, linear", partial_rotary_factor=0.5, rope_scaling=linear, refused="`partial_rotary_factor`")
    case(llama, "a window, which it does not read", sliding_window=2, use_sliding_window=True)
    case(llama, "the other name of its activation, which it does not read", hidden_activation="gelu")
    for name in ["gelu", "gelu_new", "gelu_pytorch_tanh", "swish"]:
        case(llama, f"activation {name}", hidden_act=name)
    case(llama, "activation relu", hidden_act="relu", refused="`hidden_act` is `relu`")
    case(llama, "without model_type", absent=["model_type"], architectures=["LlamaForCausalLM"])
    case(llama, "layers that differ", per_layer_config={"0": {"intermediate_size": 20}}, refused="`per_layer_config`")

    case("mistral", "all keys")
    case("mistral", "the default heads, window and theta", absent=["num_key_value_heads", "sliding_window", "rope_parameters",
         "rms_norm_eps", "hidden_act", "head_dim", "tie_word_embeddings"], num_attention_heads=8, hidden_size=16)
    # Null was allowed of old, and meant this.
    case("mistral", "heads of null", num_key_value_heads=None, reference={"num_key_value_heads": 2})
    case("mistral", "a window", sliding_window=3)
    case("mistral", "a window that is not in use, which it does not read", sliding_window=3, use_sliding_window=False)
    case("mistral", "biases, which it does not read", attention_bias=True)
    case("mistral", "a window in one layer", sliding_window=3, head_dim=4, layer_types=["sliding_attention", "full_attention"])
    case("mistral", "a window of nothing", sliding_window=0, refused="`sliding_window`")

    case("qwen2", "all keys")
    case("qwen2", "only sizes", absent=["num_key_value_heads", "use_sliding_window", "sliding_window", "max_window_layers",
         "rope_parameters", "rms_norm_eps", "hidden_act", "tie_word_embeddings"], num_attention_heads=32, hidden_size=64, num_hidden_layers=1)
    case("qwen2", "windows from the default layer on", absent=["max_window_layers"], use_sliding_window=True)
    case("qwen2", "windows from a layer on", max_window_layers=1, use_sliding_window=True)
    case("qwen2", "windows in all layers", max_window_layers=0, use_sliding_window=True)
    case("qwen2", "windows by layer", use_sliding_window=True, layer_types=["sliding_attention", "full_attention"])
    case("qwen2", "windows by layer that are not in use", layer_types=["sliding_attention", "full_attention"], refused="`layer_types`")
    case("qwen2", "windows of null", sliding_window=None, use_sliding_window=True, max_window_layers=0)
    case("qwen2", "windows that no rule gives", max_window_layers=2, use_sliding_window=True, num_hidden_layers=5, refused="`max_window_layers`")
    case("qwen2", "wide heads", head_dim=6)
    case("qwen2", "biases, which it does not read", attention_bias=False, qkv_bias=False)

    case("qwen3", "all keys")
    case("qwen3", "the default heads", absent=["head_dim", "rms_norm_eps", "attention_bias", "use_sliding_window"])
    case("qwen3", "heads of null", num_key_value_heads=None)
    case("qwen3", "windows from a layer on", max_window_layers=1, use_sliding_window=True, sliding_window=3)
    case("qwen3", "windows of the default length", max_window_layers=0, use_sliding_window=True)
    case("qwen3", "biases", attention_bias=True, refused="`attention_bias`")

    case("gemma2", "all keys")
    case("gemma2", "the default caps", absent=["attn_logit_softcapping", "final_logit_softcapping"])
    case("gemma2", "no caps", attn_logit_softcapping=None, final_logit_softcapping=None)
    case("gemma2", "the default scale and window", absent=["query_pre_attn_scalar", "sliding_window"])
    case("gemma2", "the default heads", absent=["num_attention_heads", "num_key_value_heads", "head_dim"], num_hidden_layers=1)
    case("gemma2", "the default activation", absent=["hidden_activation", "tie_word_embeddings", "rms_norm_eps"], hidden_act="gelu")
    case("gemma2", "exact activation", hidden_activation="gelu")
    case("gemma2", "windows in all layers", layer_types=["sliding_attention", "sliding_attention"])
    case("gemma2", "windows in no layer", layer_types=["full_attention", "full_attention"])
    case("gemma2", "windows in the other layers", layer_types=["full_attention", "sliding_attention"])
    case("gemma2", "windows that no rule gives", num_hidden_layers=5, refused="`layer_types`",
         layer_types=["sliding_attention", "sliding_attention", "full_attention", "full_attention", "sliding_attention"])
    case("gemma2", "a window of null", sliding_window=None, refused="`sliding_window`")
    case("gemma2", "both ways", use_bidirectional_attention=True, refused="`use_bidirectional_attention`")
    case("gemma2", "a scale that is no whole number", query_pre_attn_scalar=7.5, refused="`query_pre_attn_scalar`")

    case("mixtral", "all keys")
    case("mixtral", "the default epsilon, theta and experts", absent=["rms_norm_eps", "rope_parameters", "num_local_experts",
         "num_experts_per_tok", "sliding_window", "hidden_act"], num_hidden_layers=1)
    case("mixtral", "the default heads", absent=["num_key_value_heads"], num_attention_heads=8, hidden_size=16, num_hidden_layers=1)
    case("mixtral", "the other name of experts", absent=["num_local_experts"], num_experts=2)
    case("mixtral", "both names of experts", num_experts=2)
    case("mixtral", "a window", sliding_window=3)
    case("mixtral", "a part of weights, which it does not read", norm_topk_prob=False)

    case("qwen2_moe", "all keys")
    case("qwen2_moe", "the default experts", absent=["num_experts", "num_experts_per_tok", "norm_topk_prob", "qkv_bias"], num_hidden_layers=1)
    case("qwen2_moe", "the default heads", absent=["num_key_value_heads"], num_attention_heads=16, hidden_size=32, num_hidden_layers=1)
    case("qwen2_moe", "weights that add up", norm_topk_prob=True)
    case("qwen2_moe", "no biases", qkv_bias=False)
    case("qwen2_moe", "windows in every second layer", use_sliding_window=True, sliding_window=3, num_hidden_layers=3)
    case("qwen2_moe", "windows in the first layer", use_sliding_window=True, sliding_window=3, num_hidden_layers=3, max_window_layers=1, refused="`max_window_layers`")
    case("qwen2_moe", "windows in the first of two layers", use_sliding_window=True, sliding_window=3, max_window_layers=1)
    case("qwen2_moe", "layers without experts", mlp_only_layers=[0], refused="`mlp_only_layers`")
    case("qwen2_moe", "layers without experts that there are not", mlp_only_layers=[7])
    case("qwen2_moe", "every second layer", decoder_sparse_step=2, refused="`decoder_sparse_step`")
    case("qwen2_moe", "lists of null", mlp_only_layers=None, layer_types=None)

    case("qwen3_moe", "all keys")
    case("qwen3_moe", "heads as wide as they come", absent=["head_dim"])
    case("qwen3_moe", "the default key heads", absent=["num_key_value_heads"], num_attention_heads=4)
    case("qwen3_moe", "the default experts of a token", absent=["num_experts_per_tok"], num_experts=9, num_hidden_layers=1)
    case("qwen3_moe", "the other name of experts", absent=["num_experts"], num_local_experts=3)
    case("qwen3_moe", "both names of experts", num_local_experts=3)
    case("qwen3_moe", "windows", use_sliding_window=True, sliding_window=3)
    case("qwen3_moe", "no experts", mlp_only_layers=[0, 1])
    case("qwen3_moe", "key heads of null", num_key_value_heads=None, reference={"num_key_value_heads": 2})

    case("bert", "all keys")
    case("bert", "only sizes", absent=["hidden_act", "type_vocab_size", "layer_norm_eps", "tie_word_embeddings", "max_position_embeddings"])
    case("bert", "the default layers and heads", absent=["num_hidden_layers", "num_attention_heads"], hidden_size=12)
    case("bert", "activation relu", hidden_act="relu")
    case("bert", "activation gelu_new", hidden_act="gelu_new")
    case("bert", "positions of a kind that it does not read", position_embedding_type="relative_key")
    case("bert", "a decoder", is_decoder=True, refused="`is_decoder`")
    case("bert", "an output of its own", tie_word_embeddings=False)
    case("bert", "a bias under its second name", tensors={"cls.predictions.bias": None, "cls.predictions.decoder.bias": [23]})
    case("bert", "a bias that differs from its second name", tensors={"cls.predictions.decoder.bias": [23]})

    case("modernbert", "all keys")
    case("modernbert", "only sizes", absent=["local_attention", "global_attn_every_n_layers", "norm_eps"])
    case("modernbert", "the half of its window", absent=["local_attention"], sliding_window=1)
    case("modernbert", "a window of itself", local_attention=1)
    case("modernbert", "global layers by list", layer_types=["sliding_attention", "full_attention"] * 2)
    case("modernbert", "only local layers but one", layer_types=["sliding_attention"] * 3 + ["full_attention"])
    case("modernbert", "thetas as of old", global_rope_theta=50.0, local_rope_theta=20.0)
    case("modernbert", "thetas as of new", rope_parameters={"full_attention": {"rope_theta": 50.0},
         "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}})
    case("modernbert", "thetas of both kinds", global_rope_theta=50.0, local_rope_theta=20.0,
         rope_parameters={"full_attention": {"rope_type": "default"}})
    case("modernbert", "a theta that it does not read", rope_theta=50.0)
    case("modernbert", "parameters of one kind", rope_parameters={"rope_type": "default", "rope_theta": 50.0}, refused="`rope_parameters`")
    case("modernbert", "scaled", rope_scaling={"type": "linear", "factor": 2.0}, refused="`rope_scaling`")
    case("modernbert", "an output of its own", tie_word_embeddings=False)
    case("modernbert", "biases", mlp_bias=True, refused="`mlp_bias`")

    t5 = "t5"
    case(t5, "all keys")
    case(t5, "only sizes", absent=["d_kv", "num_heads", "num_decoder_layers", "relative_attention_num_buckets",
         "relative_attention_max_distance", "layer_norm_epsilon", "feed_forward_proj", "d_ff"], num_layers=1)
    case(t5, "the default layers", absent=["num_layers", "num_decoder_layers"])
    case(t5, "names of other families", absent=["d_model", "num_heads", "num_layers", "d_kv"], hidden_size=8,
         num_attention_heads=4, num_hidden_layers=2, head_dim=6)
    case(t5, "layers of the decoder by the default of the encoder", absent=["num_layers", "num_decoder_layers"], num_hidden_layers=1)
    case(t5, "layers of null", num_decoder_layers=None)
    for name in ["gelu", "gated-gelu", "gated-silu", "gelu_new", "gated-gelu_new", "gelu_pytorch_tanh"]:
        case(t5, f"activation {name}", feed_forward_proj=name)
    case(t5, "activation gated-relu", feed_forward_proj="gated-relu", refused="`feed_forward_proj`")
    case(t5, "activation silu", feed_forward_proj="silu", refused="`feed_forward_proj`")
    case(t5, "an activation beside", feed_forward_proj="gated-gelu", dense_act_fn="silu")
    case(t5, "no gate beside", feed_forward_proj="gated-gelu", is_gated_act=False)
    gated = dict(feed_forward_proj="gated-gelu", dense_act_fn="gelu_new", is_gated_act=True)
    own = {"lm_head.weight": [23, 8]}
    case(t5, "1.1 as saved today", **gated, tie_word_embeddings=True, scale_decoder_outputs=False)
    case(t5, "1.1 as saved today, with an output of its own", **gated, tie_word_embeddings=True, scale_decoder_outputs=False, tensors=own)
    case(t5, "1.1 as saved once", **gated, tie_word_embeddings=False, tensors=own)
    case(t5, "1.1 as saved once, without an output", **gated, tie_word_embeddings=False)
    case(t5, "scaled by a key", tie_word_embeddings=False, scale_decoder_outputs=True)
    case(t5, "scaled by a key, with an output of its own", tie_word_embeddings=False, scale_decoder_outputs=True, tensors=own)
    case(t5, "1.0 with an output of its own", tensors=own)
    case(t5, "1.0 with the embedding twice", tensors={"lm_head.weight": "shared.weight"})
    case(t5, "ties of null", tie_word_embeddings=None)
    case(t5, "scales of null", scale_decoder_outputs=None)
    case(t5, "embeddings thrice", tensors={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"})
    case(t5, "the encoder's embedding alone", tensors={"encoder.embed_tokens.weight": [23, 8], "shared.weight": None})
    case(t5, "the decoder's embedding alone", tensors={"decoder.embed_tokens.weight": [23, 8], "shared.weight": None})
    case(t5, "the output alone", tensors=own | {"shared.weight": None})
    case(t5, "the encoder's embedding and an output", tensors=own | {"encoder.embed_tokens.weight": [23, 8], "shared.weight": None})
    case(t5, "an embedding of the encoder's own", tensors={"encoder.embed_tokens.weight": [23, 8]}, refused="`encoder.embed_tokens.weight`")

    for family in ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "mixtral", "qwen2_moe", "qwen3_moe", "bert", "modernbert"]:
        output, embedding = OUTPUT.get(family, "lm_head.weight"), EMBEDDING.get(family, "model.embed_tokens.weight")
        size = [23, 8]
        bias = {"cls.predictions.decoder.bias": None} if family == "bert" else {}
        case(family, "tied, with an output of its own", tie_word_embeddings=True, tensors={output: size})
        case(family, "tied, with the embedding twice", tie_word_embeddings=True, tensors={output: embedding})
        case(family, "tied, with the output alone", tie_word_embeddings=True, tensors={output: size, embedding: None})
        # transformers would draw the output at random.
        case(family, "untied, without an output", tie_word_embeddings=False, reference={"tie_word_embeddings": True},
             tensors={output: None} | bias)


def weights(name, shape):
    """Numbers in ±1/2, or around 1 for vectors of weights: a hash of the name and the place."""
    with np.errstate(over="ignore"):
        start = np.uint32(2166136261)
        for byte in name.encode():
            start = (start ^ np.uint32(byte)) * np.uint32(16777619)
        x = start + np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(2654435761)
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    values = (x >> np.uint32(8)).astype(np.float64) / 2**24 - 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + values / 2
    return values.astype(np.float32).reshape(shape)


def model_class(case):
    architecture = case["config"].get("architectures", [None])[0]
    return getattr(transformers, architecture or KINDS.get(case["family"], "AutoModelForCausalLM"))


def shapes(case, folder):
    """Names and shapes as transformers saves them, changed as the case says."""
    kind = model_class(case)
    if "model_type" in case["config"]:
        config = AutoConfig.from_pretrained(folder)
        model = kind.from_config(config)
    else:
        config = kind.config_class.from_pretrained(folder)
        model = kind(config)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        stored = {}
        for file in sorted(Path(saved).glob("*.safetensors")):
            stored |= {name: list(tensor.shape) for name, tensor in load_file(file).items()}
    return stored


def changed(stored, changes):
    changes = dict(changes)
    prefix = changes.pop("bare", None)
    copies = {}
    for name, change in changes.items():
        if change is None:
            stored.pop(name, None)
        elif isinstance(change, str):
            stored[name], copies[name] = stored[change], change
        else:
            stored[name] = change
    if prefix:
        stored = {name.removeprefix(prefix): shape for name, shape in stored.items()}
    return stored, copies


def batch(case, config):
    time, vocab = 10, config.vocab_size
    ids = [[(7 * place + 5 * row + 3 + place * place) % vocab for place in range(time)] for row in range(2)]
    inputs = dict(input_ids=ids, attention_mask=[[1] * time, [1] * (time - 3) + [0] * 3])
    if case["family"] == "t5":
        inputs["decoder_input_ids"] = [[0] + [(3 * place + 4 * row + 1) % vocab for place in range(5)] for row in range(2)]
    return inputs


def record(case):
    entry = {key: case[key] for key in ["name", "config"]}
    if case["refused"]:
        entry["refused"] = case["refused"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.json").write_text(json.dumps(case["config"] | case["reference"]))
        try:
            stored, copies = changed(shapes(case, folder), case["tensors"])
            entry |= dict(tensors=stored, copies=copies)
            tensors = {name: weights(copies.get(name, name), shape) for name, shape in stored.items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            model = model_class(case).from_pretrained(folder, attn_implementation="eager", experts_implementation="eager").eval()
            inputs = batch(case, model.config)
            entry |= inputs
            with torch.no_grad():
                logits = model(**{key: torch.tensor(value) for key, value in inputs.items()}).logits
            assert logits.isfinite().all()
            if not case["refused"]:
                entry["logits"] = [float(f"{value:.6g}") for value in logits.flatten().tolist()]
        except Exception as error:
            if not case["refused"]:
                entry["unexpected"] = True
            entry["transformers"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return entry


if __name__ == "__main__":
    cases()
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)
    lines, unexpected = [], 0
    for one in CASES:
        entry = record(one)
        unexpected += entry.pop("unexpected", False)
        lines.append(json.dumps(entry, separators=(",", ":")))
        print(one["name"], "refused" if one["refused"] else "", entry.get("transformers", ""), flush=True)
    assert not unexpected, f"transformers fails for {unexpected} cases that are not refused"
    target = Path(__file__).with_name("recorded.json")
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(CASES), "cases,", target.stat().st_size, "bytes")
