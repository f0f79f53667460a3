//! `Gemma2ForCausalLM` of transformers (arXiv:2408.00118): norms on both sides of each layer, soft
//! caps, every second layer with a sliding window.

use super::{
    Fields, Spec,
    llama::{self, Defaults, Names, PLAIN, base_config, base_json},
    windows::{Origin, layer_types, listed, with_windows},
};
use crate::{
    config::{AttentionConfig, ModelConfig, NormPosition},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "gemma2",
    to_json,
    from_json,
    entries: |config| llama::entries(config, &NAMES),
    ..llama::SPEC
};

const NAMES: Names = Names {
    mlp_norm: "pre_feedforward_layernorm",
    output_norms: ["post_attention_layernorm", "post_feedforward_layernorm"],
    ..PLAIN
};

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "Gemma2ForCausalLM");
    json["hidden_activation"] = json["hidden_act"].clone();
    json["attention_bias"] = false.into();
    let scalar = 1.0 / config.score_scale().powi(2);
    // A whole number in all models there are.
    let whole = (scalar - scalar.round()).abs() < 1e-9 * scalar;
    json["query_pre_attn_scalar"] = if whole { json!(scalar.round() as u64) } else { json!(scalar) };
    json["attn_logit_softcapping"] = config.attention.softcap.into();
    json["final_logit_softcapping"] = config.logit_softcap.into();
    // Read where no layer has one too, and not null.
    json["sliding_window"] = config.attention.sliding_window.unwrap_or(WINDOW).into();
    json["layer_types"] = layer_types(config);
    json
}

/// Default length of the sliding window, in tokens.
const WINDOW: usize = 4096;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    ..llama::DEFAULTS
};

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    fields.only("attention_bias", false)?;
    fields.only("use_bidirectional_attention", false)?;
    let scalar = fields.integer_or("query_pre_attn_scalar", 256)?;
    let cap = |key, default| -> Result<Option<f64>> {
        Ok(fields.optional_number(key, Some(default))?.filter(|cap| *cap != 0.0))
    };
    let base = base_config(fields, &DEFAULTS)?;
    let config = ModelConfig {
        norm_position: NormPosition::Both,
        norm_offset: true,
        scale_embeddings: true,
        attention: AttentionConfig {
            scale: Some(1.0 / (scalar as f64).sqrt()),
            softcap: cap("attn_logit_softcapping", 50.0)?,
            ..base.attention
        },
        logit_softcap: cap("final_logit_softcapping", 30.0)?,
        ..base
    };
    let window = fields.optional_integer("sliding_window", Some(WINDOW))?;
    let is_sliding = listed(fields, config.n_layer)?;
    let value = fields.get("layer_types").unwrap_or(&Value::Null);
    let slide =
        |layer: usize| is_sliding.as_ref().map_or(layer.is_multiple_of(2), |is_sliding| is_sliding[layer]);
    with_windows(fields, config, window, &Origin { key: "layer_types", value }, slide)
}
