//! `LlamaForCausalLM` of transformers.

use super::{
    Entry, Fields,
    Transform::{self, AsIs, Transpose},
};
use crate::{
    config::{Activation, Init, ModelConfig, Norm, NormPosition, Position, RopeLayout},
    error::Result,
};
use serde_json::{Value, json};

/// The gates by transformers' names of their non-linearity.
const ACTIVATIONS: [(&str, Activation); 3] =
    [("silu", Activation::Swiglu), ("gelu_pytorch_tanh", Activation::Geglu), ("gelu_new", Activation::Geglu)];

pub(super) fn expresses(config: &ModelConfig) -> bool {
    config.position == Position::Rotary
        && config.norm == Norm::Rmsnorm
        && config.norm_position == NormPosition::Pre
        && config.activation.is_gated()
}

pub(super) fn to_json(config: &ModelConfig) -> Value {
    let activation = ACTIVATIONS.iter().find(|(_, ours)| *ours == config.activation).map(|(name, _)| *name);
    json!({
        "architectures": ["LlamaForCausalLM"],
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
        "rope_parameters": { "rope_theta": config.rope_theta, "rope_type": "default" },
        "rope_theta": config.rope_theta,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "attention_dropout": config.dropout,
        "initializer_range": config.init_std,
        "pretraining_tp": 1,
    })
}

pub(super) fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let activation = fields.text("hidden_act")?;
    let known = ACTIVATIONS.iter().find(|(name, _)| *name == activation);
    let n_embd = fields.integer("hidden_size")?;
    let n_head = fields.integer("num_attention_heads")?;
    let head_size = fields.integer_or("head_dim", n_embd / n_head.max(1))?;
    if head_size.checked_mul(n_head) != Some(n_embd) {
        return Err(fields.failed(format!("`head_dim` is {head_size}, but kiln needs `hidden_size` / heads")));
    }
    // The second is the older name; transformers 5 writes the first, and always.
    for key in ["rope_parameters", "rope_scaling"] {
        check_rope(fields, key)?;
    }
    fields.only("partial_rotary_factor", 1.0)?;
    let bias = fields.flag_or("attention_bias", false)?;
    if bias != fields.flag_or("mlp_bias", false)? {
        return Err(fields.failed("`attention_bias` and `mlp_bias` differ, which kiln cannot express".into()));
    }
    let rope = fields.get("rope_parameters").or_else(|| fields.get("rope_scaling"));
    let theta = rope.and_then(|rope| rope.get("rope_theta")).and_then(Value::as_f64);
    Ok(ModelConfig {
        vocab_size: fields.integer("vocab_size")?,
        block_size: fields.integer("max_position_embeddings")?,
        n_layer: fields.integer("num_hidden_layers")?,
        n_head,
        n_kv_head: fields.integer_or("num_key_value_heads", n_head)?,
        n_embd,
        n_inner: fields.integer("intermediate_size")?,
        position: Position::Rotary,
        rope_layout: RopeLayout::Half,
        rope_theta: theta.map_or_else(|| fields.number_or("rope_theta", 10_000.0), Ok)?,
        norm: Norm::Rmsnorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
        activation: known.map(|(_, ours)| *ours).ok_or_else(|| {
            fields.failed(format!("`hidden_act` is `{activation}`, which kiln does not have"))
        })?,
        bias,
        tie_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        dropout: fields.number_or("attention_dropout", 0.0)?,
        init: Init::Llama,
        init_std: fields.number_or("initializer_range", 0.02)?,
    })
}

/// Refuses wavelengths other than plain ones, and heads that rotate in part.
fn check_rope(fields: &Fields, key: &str) -> Result<()> {
    let Some(rope) = fields.get(key) else { return Ok(()) };
    let kind = rope.get("rope_type").or_else(|| rope.get("type"));
    // Plain parameters may come without a type; scaling without one is of the oldest kind, linear.
    let plain = kind.map_or(rope.get("factor").is_none(), |kind| kind == "default");
    let whole = rope.get("partial_rotary_factor").is_none_or(|share| share.as_f64() == Some(1.0));
    if rope.is_object() && plain && whole {
        return Ok(());
    }
    Err(fields.unsupported(key, rope, "plain rotary positions (`rope_type` = `default`)"))
}

/// Wavelengths that old checkpoints carry along.
pub(super) fn is_buffer(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

pub(super) fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner, head_size) = (config.n_embd, config.inner_size(), config.head_size());
    let (queries, keys) = (config.n_head * head_size, config.kv_heads() * head_size);
    let rotary = match config.rope_layout {
        RopeLayout::Half => Transpose,
        RopeLayout::Interleaved => Transform::TransposeRotary { head_size },
    };
    let mut entries = vec![Entry::whole("embedding", "model.embed_tokens.weight", width, AsIs)];
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("model.layers.{layer}"));
        let norm = |ours_part: &str, their_part: &str| {
            Entry::whole(
                format!("{ours}.{ours_part}.weight"),
                format!("{theirs}.{their_part}.weight"),
                width,
                AsIs,
            )
        };
        entries.push(norm("attention_norm", "input_layernorm"));
        entries.push(norm("mlp_norm", "post_attention_layernorm"));
        // One of our layers, side by side what they keep apart.
        let kinds: &[&str] = if config.bias { &["weight", "bias"] } else { &["weight"] };
        for kind in kinds {
            let mut linear = |our_part: &str, parts: &[(&str, usize, Transform)]| {
                let parts = parts
                    .iter()
                    .map(|(part, width, transform)| (format!("{theirs}.{part}.{kind}"), *width, *transform));
                entries.push(Entry::split(format!("{ours}.{our_part}.{kind}"), parts.collect()));
            };
            linear(
                "attention.qkv",
                &[
                    ("self_attn.q_proj", queries, rotary),
                    ("self_attn.k_proj", keys, rotary),
                    ("self_attn.v_proj", keys, Transpose),
                ],
            );
            linear("attention.output", &[("self_attn.o_proj", width, Transpose)]);
            linear("mlp.up", &[("mlp.gate_proj", inner, Transpose), ("mlp.up_proj", inner, Transpose)]);
            linear("mlp.down", &[("mlp.down_proj", width, Transpose)]);
        }
    }
    entries.push(Entry::whole("norm.weight", "model.norm.weight", width, AsIs));
    if !config.tie_embeddings {
        entries.push(Entry::whole("head.weight", "lm_head.weight", config.vocab_size, Transpose));
    }
    entries
}
