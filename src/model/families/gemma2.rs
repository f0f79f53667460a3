//! `Gemma2ForCausalLM` of transformers (arXiv:2408.00118): norms on both sides of each layer, soft
//! caps, every second layer with a sliding window.

use super::{
    Fields, Spec,
    llama::{self, Names, PLAIN, base_config, base_json},
};
use crate::{
    config::{ModelConfig, NormPosition},
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
    json["attn_logit_softcapping"] = cap_json(config.attention_softcap);
    json["final_logit_softcapping"] = cap_json(config.logit_softcap);
    json["sliding_window"] = config.sliding_window.into();
    json["layer_types"] = (0..config.n_layer).map(|layer| layer_type(config, layer)).collect();
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    fields.only("attention_bias", false)?;
    fields.only("use_bidirectional_attention", false)?;
    let base = base_config(fields)?;
    let scalar = fields.number_or("query_pre_attn_scalar", 256.0)?;
    let config = ModelConfig {
        norm_position: NormPosition::Both,
        norm_offset: true,
        scale_embeddings: true,
        sliding_window: fields.integer_or("sliding_window", 4096)?,
        global_every: 2,
        global_offset: 1,
        attention_scale: 1.0 / scalar.sqrt(),
        attention_softcap: fields.number_or("attn_logit_softcapping", 0.0)?,
        logit_softcap: fields.number_or("final_logit_softcapping", 0.0)?,
        tie_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        ..base
    };
    if let Some(types) = fields.get("layer_types") {
        let listed = types.as_array().map(Vec::as_slice).unwrap_or_default();
        let alternate = listed.iter().enumerate().all(|(layer, found)| found == layer_type(&config, layer));
        if listed.len() != config.n_layer || !alternate {
            return Err(fields.unsupported("layer_types", types, "windows in every second layer"));
        }
    }
    Ok(config)
}

fn layer_type(config: &ModelConfig, layer: usize) -> &'static str {
    if config.slides(layer) { "sliding_attention" } else { "full_attention" }
}

fn cap_json(cap: f64) -> Value {
    if cap == 0.0 { Value::Null } else { json!(cap) }
}
