//! `LlamaForCausalLM` of transformers, and what the families that descend from it share.

use super::{
    Entry, Fields, Spec,
    transform::Transform::{self, AsIs, Transpose},
};
use crate::{
    config::{Activation, Init, ModelConfig, Norm, NormPosition, Position, RopeLayout, RopeScaling},
    error::Result,
};
use serde_json::{Value, json};

/// The base of the others, which say where they differ.
pub(super) const SPEC: Spec = Spec {
    name: "llama",
    prefix: "model.",
    always_biased: false,
    to_json,
    from_json,
    is_ignored,
    entries: |config| entries(config, &PLAIN),
    name_in_files: |name| name,
};

/// The gates by transformers' names of their non-linearity.
const ACTIVATIONS: [(&str, Activation); 3] =
    [("silu", Activation::Swiglu), ("gelu_pytorch_tanh", Activation::Geglu), ("gelu_new", Activation::Geglu)];

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "LlamaForCausalLM");
    json["attention_bias"] = config.bias.into();
    json["mlp_bias"] = config.bias.into();
    json["pretraining_tp"] = 1.into();
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let bias = fields.flag_or("attention_bias", false)?;
    if bias != fields.flag_or("mlp_bias", false)? {
        return Err(fields.failed("`attention_bias` and `mlp_bias` differ, which kiln cannot express".into()));
    }
    Ok(ModelConfig { bias, ..base_config(fields)? })
}

/// The part of `config.json` that all descendants share.
pub(super) fn base_json(config: &ModelConfig, architecture: &str) -> Value {
    let activation = ACTIVATIONS.iter().find(|(_, ours)| *ours == config.activation).map(|(name, _)| *name);
    let mut rope = json!({ "rope_theta": config.rope_theta, "rope_type": "default" });
    match config.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear => {
            rope["rope_type"] = "linear".into();
            rope["factor"] = config.rope_factor.into();
        }
        RopeScaling::Llama3 => {
            rope["rope_type"] = "llama3".into();
            rope["factor"] = config.rope_factor.into();
            rope["original_max_position_embeddings"] = config.rope_original_context.into();
            rope["low_freq_factor"] = config.rope_low_freq_factor.into();
            rope["high_freq_factor"] = config.rope_high_freq_factor.into();
        }
    }
    json!({
        "architectures": [architecture],
        "hidden_act": activation,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads(),
        "head_dim": config.head_size(),
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,
        "rope_theta": config.rope_theta,
        "attention_dropout": config.dropout,
        "initializer_range": config.init_std,
    })
}

/// Reads what [`base_json`] writes.
pub(super) fn base_config(fields: &Fields) -> Result<ModelConfig> {
    let key = if fields.get("hidden_act").is_some() { "hidden_act" } else { "hidden_activation" };
    let activation = fields.text(key)?;
    let known = ACTIVATIONS.iter().find(|(name, _)| *name == activation);
    let n_embd = fields.integer("hidden_size")?;
    let n_head = fields.integer("num_attention_heads")?;
    let head_dim = fields.integer_or("head_dim", n_embd / n_head.max(1))?;
    fields.only("partial_rotary_factor", 1.0)?;
    let rotary = rotary(fields)?;
    Ok(ModelConfig {
        vocab_size: fields.integer("vocab_size")?,
        block_size: fields.integer("max_position_embeddings")?,
        n_layer: fields.integer("num_hidden_layers")?,
        n_head,
        n_kv_head: fields.integer_or("num_key_value_heads", n_head)?,
        n_embd,
        head_dim: if head_dim.checked_mul(n_head) == Some(n_embd) { 0 } else { head_dim },
        n_inner: fields.integer("intermediate_size")?,
        position: Position::Rotary,
        rope_layout: RopeLayout::Half,
        norm: Norm::Rmsnorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
        activation: known
            .map(|(_, ours)| *ours)
            .ok_or_else(|| fields.failed(format!("`{key}` is `{activation}`, which kiln does not have")))?,
        bias: false,
        tie_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        dropout: fields.number_or("attention_dropout", 0.0)?,
        init: Init::Llama,
        init_std: fields.number_or("initializer_range", 0.02)?,
        ..rotary
    })
}

/// Wavelengths; refuses those that are not computed, and heads that rotate in part.
fn rotary(fields: &Fields) -> Result<ModelConfig> {
    let plain_theta = fields.number_or("rope_theta", 10_000.0)?;
    let mut config = ModelConfig { rope_theta: plain_theta, ..ModelConfig::default() };
    // The second is the older name; transformers 5 writes the first, and always.
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = fields.get(key) else { continue };
        let known = "rotary positions of `rope_type` `default`, `linear` or `llama3`";
        let whole = rope.get("partial_rotary_factor").is_none_or(|share| share.as_f64() == Some(1.0));
        if !rope.is_object() || !whole {
            return Err(fields.unsupported(key, rope, known));
        }
        if let Some(theta) = rope.get("rope_theta").and_then(Value::as_f64) {
            config.rope_theta = theta;
        }
        // Plain parameters may come without a type; scaling without one is of the oldest kind.
        let oldest = if rope.get("factor").is_some() { "linear" } else { "default" };
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        match kind.map_or(Some(oldest), Value::as_str) {
            Some("default") => {}
            Some("linear") => {
                config.rope_scaling = RopeScaling::Linear;
                config.rope_factor = fields.number_in(key, "factor")?;
            }
            Some("llama3") => {
                config.rope_scaling = RopeScaling::Llama3;
                config.rope_factor = fields.number_in(key, "factor")?;
                config.rope_original_context = fields.integer_in(key, "original_max_position_embeddings")?;
                config.rope_low_freq_factor = fields.number_in(key, "low_freq_factor")?;
                config.rope_high_freq_factor = fields.number_in(key, "high_freq_factor")?;
            }
            _ => return Err(fields.unsupported(key, rope, known)),
        }
    }
    Ok(config)
}

/// Wavelengths that old checkpoints carry along.
fn is_ignored(_: &ModelConfig, name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// What descendants call their parts, within a layer.
pub(super) struct Names {
    pub mlp_norm: &'static str,
    /// Norms of what attention and MLP give.
    pub output_norms: [&'static str; 2],
    pub router: &'static str,
    pub experts: &'static str,
    /// Gate, up and down projection of an expert.
    pub expert_parts: [&'static str; 3],
}

pub(super) const PLAIN: Names = Names {
    mlp_norm: "post_attention_layernorm",
    output_norms: ["", ""],
    router: "mlp.gate",
    experts: "mlp.experts",
    expert_parts: ["gate_proj", "up_proj", "down_proj"],
};

pub(super) fn entries(config: &ModelConfig, names: &Names) -> Vec<Entry> {
    let (width, inner, head_size) = (config.n_embd, config.inner_size(), config.head_size());
    let (queries, keys) = (config.n_head * head_size, config.kv_heads() * head_size);
    let rotary = match config.rope_layout {
        RopeLayout::Half => Transpose,
        RopeLayout::Interleaved => Transform::TransposeRotary { head_size },
    };
    let mut entries = vec![Entry::whole("embedding", "model.embed_tokens.weight", width, AsIs)];
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("model.layers.{layer}"));
        let mut norm = |our_part: &str, their_part: &str, width: usize| {
            let their_name = format!("{theirs}.{their_part}.weight");
            entries.push(Entry::whole(format!("{ours}.{our_part}.weight"), their_name, width, AsIs));
        };
        norm("attention_norm", "input_layernorm", width);
        norm("mlp_norm", names.mlp_norm, width);
        if config.norm_position == NormPosition::Both {
            let [attention, mlp] = names.output_norms;
            norm("attention_output_norm", attention, width);
            norm("mlp_output_norm", mlp, width);
        }
        if config.qk_norm {
            norm("attention.query_norm", "self_attn.q_norm", head_size);
            norm("attention.key_norm", "self_attn.k_norm", head_size);
        }
        // One of our layers, side by side what they keep apart.
        let mut linear = |our_part: &str, bias: bool, parts: &[(&str, usize, Transform)]| {
            let kinds: &[&str] = if bias { &["weight", "bias"] } else { &["weight"] };
            for kind in kinds {
                let parts = parts
                    .iter()
                    .map(|(part, width, transform)| (format!("{theirs}.{part}.{kind}"), *width, *transform));
                entries.push(Entry::split(format!("{ours}.{our_part}.{kind}"), parts.collect()));
            }
        };
        linear(
            "attention.qkv",
            config.bias || config.qkv_bias,
            &[
                ("self_attn.q_proj", queries, rotary),
                ("self_attn.k_proj", keys, rotary),
                ("self_attn.v_proj", keys, Transpose),
            ],
        );
        linear("attention.output", config.bias, &[("self_attn.o_proj", width, Transpose)]);
        if !config.has_experts() {
            let up = [("mlp.gate_proj", inner, Transpose), ("mlp.up_proj", inner, Transpose)];
            linear("mlp.up", config.bias, &up);
            linear("mlp.down", config.bias, &[("mlp.down_proj", width, Transpose)]);
            continue;
        }
        linear("mlp.router", false, &[(names.router, config.n_experts, Transpose)]);
        let shared = config.shared_expert_inner;
        if shared > 0 {
            let up = [
                ("mlp.shared_expert.gate_proj", shared, Transpose),
                ("mlp.shared_expert.up_proj", shared, Transpose),
            ];
            linear("mlp.shared.up", false, &up);
            linear("mlp.shared.down", false, &[("mlp.shared_expert.down_proj", width, Transpose)]);
            linear("mlp.shared_gate", false, &[("mlp.shared_expert_gate", 1, Transpose)]);
        }
        let [gate, up, down] = names.expert_parts;
        let stack = |parts: &[(&str, usize)]| {
            let of_expert = |expert: usize| {
                let name = |part| format!("{theirs}.{}.{expert}.{part}.weight", names.experts);
                parts.iter().map(|(part, width)| (name(part), *width, Transpose)).collect()
            };
            (0..config.n_experts).map(of_expert).collect()
        };
        entries.push(Entry::stack(format!("{ours}.mlp.up"), stack(&[(gate, inner), (up, inner)])));
        entries.push(Entry::stack(format!("{ours}.mlp.down"), stack(&[(down, width)])));
    }
    entries.push(Entry::whole("norm.weight", "model.norm.weight", width, AsIs));
    if !config.tie_embeddings {
        entries.push(Entry::whole("head.weight", "lm_head.weight", config.vocab_size, Transpose));
    }
    entries
}
