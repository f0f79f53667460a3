//! Our own layout, for configurations that no Hugging Face family can express.

use super::{Entry, Fields, Spec, transform::Transform::AsIs};
use crate::{
    config::{ModelConfig, Norm, NormPosition, Position},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "kiln",
    prefix: "",
    always_biased: false,
    to_json,
    from_json,
    is_buffer: |_| false,
    entries,
    name_in_files: |name| name,
};

fn to_json(config: &ModelConfig) -> Value {
    json!({ "architectures": ["KilnDecoder"], "model": config })
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let model = fields.get("model").cloned().unwrap_or_default();
    serde_json::from_value(model).map_err(|e| fields.failed(format!("`model`: {e}")))
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner, head_size) = (config.n_embd, config.inner_size(), config.head_size());
    let qkv = (config.n_head + 2 * config.kv_heads()) * head_size;
    let same = |name: String, width: usize| Entry::whole(name.clone(), name, width, AsIs);
    let mut entries = vec![same("embedding".into(), width)];
    if config.position == Position::Learned {
        entries.push(same("position".into(), width));
    }
    let norm = |entries: &mut Vec<Entry>, name: String, width: usize| {
        entries.push(same(format!("{name}.weight"), width));
        if config.bias && config.norm == Norm::Layernorm {
            entries.push(same(format!("{name}.bias"), width));
        }
    };
    let linear = |entries: &mut Vec<Entry>, name: String, width: usize, bias: bool| {
        entries.push(same(format!("{name}.weight"), width));
        if bias {
            entries.push(same(format!("{name}.bias"), width));
        }
    };
    let mlp = |entries: &mut Vec<Entry>, name: String, inner: usize| {
        let up = if config.activation.is_gated() { 2 * inner } else { inner };
        linear(entries, format!("{name}.up"), up, config.bias);
        linear(entries, format!("{name}.down"), width, config.bias);
    };
    for layer in 0..config.n_layer {
        let block = format!("blocks.{layer}");
        norm(&mut entries, format!("{block}.attention_norm"), width);
        norm(&mut entries, format!("{block}.mlp_norm"), width);
        if config.norm_position == NormPosition::Both {
            norm(&mut entries, format!("{block}.attention_output_norm"), width);
            norm(&mut entries, format!("{block}.mlp_output_norm"), width);
        }
        if config.qk_norm {
            norm(&mut entries, format!("{block}.attention.query_norm"), head_size);
            norm(&mut entries, format!("{block}.attention.key_norm"), head_size);
        }
        linear(&mut entries, format!("{block}.attention.qkv"), qkv, config.bias || config.qkv_bias);
        linear(&mut entries, format!("{block}.attention.output"), width, config.bias);
        if config.has_experts() {
            entries.push(same(format!("{block}.mlp.router.weight"), config.n_experts));
            entries.push(same(format!("{block}.mlp.up"), 2 * inner));
            entries.push(same(format!("{block}.mlp.down"), width));
            if config.shared_expert_inner > 0 {
                mlp(&mut entries, format!("{block}.mlp.shared"), config.shared_expert_inner);
                entries.push(same(format!("{block}.mlp.shared_gate.weight"), 1));
            }
        } else {
            mlp(&mut entries, format!("{block}.mlp"), inner);
        }
    }
    if config.norm_position != NormPosition::Post {
        norm(&mut entries, "norm".into(), width);
    }
    if !config.tie_embeddings {
        entries.push(same("head.weight".into(), config.vocab_size));
    }
    entries
}
