//! `MistralForCausalLM` of transformers: Llama with a sliding window (arXiv:2310.06825).

use super::{
    Fields, Spec,
    llama::{self, Defaults, base_config, base_json},
    windows::{Origin, listed, with_windows},
};
use crate::{config::ModelConfig, error::Result};
use serde_json::Value;

pub(super) const SPEC: Spec = Spec { name: "mistral", to_json, from_json, ..llama::SPEC };

const DEFAULTS: Defaults = Defaults {
    intermediate_size: 14_336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 131_072,
    ..llama::DEFAULTS
};

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "MistralForCausalLM");
    json["sliding_window"] = window_json(config);
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let base = base_config(fields, &DEFAULTS)?;
    let window = fields.optional_integer("sliding_window", Some(4096))?;
    match listed(fields, base.n_layer)? {
        None => everywhere(fields, base, window),
        // transformers takes such a model for a Ministral.
        Some(is_sliding) => {
            let value = fields.get("layer_types").unwrap_or(&Value::Null);
            with_windows(fields, base, window, &Origin { key: "layer_types", value }, |layer| {
                is_sliding[layer]
            })
        }
    }
}

/// Sets the sliding window in all layers, if there is one.
pub(super) fn everywhere(fields: &Fields, base: ModelConfig, window: Option<usize>) -> Result<ModelConfig> {
    let value = Value::from(window);
    with_windows(fields, base, window, &Origin { key: "sliding_window", value: &value }, |_| window.is_some())
}

/// Value of `sliding_window`, null without a window.
pub(super) fn window_json(config: &ModelConfig) -> Value {
    config.attention.sliding_window.into()
}
