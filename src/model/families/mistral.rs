//! `MistralForCausalLM` of transformers: Llama with a sliding window (arXiv:2310.06825).

use super::{
    Fields, Spec,
    llama::{self, base_config, base_json},
};
use crate::{config::ModelConfig, error::Result};
use serde_json::Value;

pub(super) const SPEC: Spec = Spec { name: "mistral", to_json, from_json, ..llama::SPEC };

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "MistralForCausalLM");
    json["sliding_window"] = window_json(config);
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    Ok(ModelConfig { sliding_window: fields.integer_or("sliding_window", 0)?, ..base_config(fields)? })
}

/// `sliding_window`, null where there is none.
pub(super) fn window_json(config: &ModelConfig) -> Value {
    if config.sliding_window == 0 { Value::Null } else { config.sliding_window.into() }
}
