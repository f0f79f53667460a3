//! Our own layout, for configurations that no Hugging Face family can express.

use super::{Entry, Fields, Transform::AsIs};
use crate::{
    config::{ModelConfig, Norm, NormPosition, Position},
    error::Result,
};
use serde_json::{Value, json};

pub(super) fn to_json(config: &ModelConfig) -> Value {
    json!({ "architectures": ["KilnDecoder"], "model": config })
}

pub(super) fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let model = fields.get("model").cloned().unwrap_or_default();
    serde_json::from_value(model).map_err(|e| fields.failed(format!("`model`: {e}")))
}

pub(super) fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner) = (config.n_embd, config.inner_size());
    let qkv = (config.n_head + 2 * config.kv_heads()) * config.head_size();
    let up = if config.activation.is_gated() { 2 * inner } else { inner };
    let same = |name: String, width: usize| Entry::whole(name.clone(), name, width, AsIs);
    let mut entries = vec![same("embedding".into(), width)];
    if config.position == Position::Learned {
        entries.push(same("position".into(), width));
    }
    let norm = |entries: &mut Vec<Entry>, name: String| {
        entries.push(same(format!("{name}.weight"), width));
        if config.bias && config.norm == Norm::Layernorm {
            entries.push(same(format!("{name}.bias"), width));
        }
    };
    for layer in 0..config.n_layer {
        let block = format!("blocks.{layer}");
        norm(&mut entries, format!("{block}.attention_norm"));
        norm(&mut entries, format!("{block}.mlp_norm"));
        for (part, width) in
            [("attention.qkv", qkv), ("attention.output", width), ("mlp.up", up), ("mlp.down", width)]
        {
            entries.push(same(format!("{block}.{part}.weight"), width));
            if config.bias {
                entries.push(same(format!("{block}.{part}.bias"), width));
            }
        }
    }
    if config.norm_position == NormPosition::Pre {
        norm(&mut entries, "norm".into());
    }
    if !config.tie_embeddings {
        entries.push(same("head.weight".into(), config.vocab_size));
    }
    entries
}
