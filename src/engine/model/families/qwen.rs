//! `Qwen2ForCausalLM`, `Qwen3ForCausalLM` of transformers, and their mixtures of experts: Llama with biases
//! of queries, keys and values (Qwen2, arXiv:2407.10671) or with norms of queries and keys (Qwen3,
//! arXiv:2505.09388).

use super::{
    Fields, Spec,
    llama::{self, Defaults, base_config, base_json},
    mistral::everywhere,
    mixtral::aux_loss,
    windows::{Origin, layer_types, listed, with_windows},
};
use crate::{
    config::{ModelConfig, MoeConfig},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const QWEN2: Spec = Spec {
    name: "qwen2",
    to_json: |config| windows_json(base_json(config, "Qwen2ForCausalLM"), config),
    from_json: |fields| {
        let mut base = base_config(fields, &DEFAULTS)?;
        base.attention.qkv_bias = true;
        some_windows(fields, base, |layer, most| layer >= most)
    },
    ..llama::SPEC
};

pub(super) const QWEN3: Spec = Spec {
    name: "qwen3",
    to_json: |config| {
        let mut json = windows_json(base_json(config, "Qwen3ForCausalLM"), config);
        json["attention_bias"] = false.into();
        json
    },
    from_json: |fields| {
        fields.only("attention_bias", false)?;
        let defaults = Defaults { head_dim: Some(128), ..DEFAULTS };
        let mut base = base_config(fields, &defaults)?;
        base.attention.qk_norm = true;
        some_windows(fields, base, |layer, most| layer >= most)
    },
    ..llama::SPEC
};

pub(super) const QWEN2_MOE: Spec = Spec {
    name: "qwen2_moe",
    to_json: |config| {
        let mut json = windows_json(experts_json(config, "Qwen2MoeForCausalLM"), config);
        json["shared_expert_intermediate_size"] = config.moe.shared_expert_inner.unwrap_or(0).into();
        json["qkv_bias"] = config.attention.qkv_bias.into();
        json
    },
    from_json: |fields| {
        let moe = MoeDefaults { intermediate_size: 1408, experts: 60, experts_per_token: 4 };
        let defaults = Defaults {
            hidden_size: 2048,
            intermediate_size: 5632,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            num_key_value_heads: Some(16),
            ..DEFAULTS
        };
        let mut base = experts(fields, "num_experts", &moe, base_config(fields, &defaults)?)?;
        let shared = fields.integer_or("shared_expert_intermediate_size", 5632)?;
        base.moe.shared_expert_inner = (base.has_experts() && shared > 0).then_some(shared);
        base.attention.qkv_bias = fields.flag_or("qkv_bias", true)?;
        some_windows(fields, base, |layer, most| layer.is_multiple_of(2) && layer < most)
    },
    ..llama::SPEC
};

pub(super) const QWEN3_MOE: Spec = Spec {
    name: "qwen3_moe",
    to_json: |config| {
        let mut json = experts_json(config, "Qwen3MoeForCausalLM");
        json["attention_bias"] = false.into();
        if let Some(window) = config.attention.sliding_window {
            // One for all layers.
            json["use_sliding_window"] = true.into();
            json["sliding_window"] = window.into();
        }
        json
    },
    from_json: |fields| {
        fields.only("attention_bias", false)?;
        let moe = MoeDefaults { intermediate_size: 768, experts: 128, experts_per_token: 8 };
        let defaults = Defaults {
            hidden_size: 2048,
            intermediate_size: 6144,
            num_hidden_layers: 24,
            num_key_value_heads: Some(4),
            ..DEFAULTS
        };
        let counted = fields.spelled("num_experts", "num_local_experts");
        let mut base = experts(fields, counted, &moe, base_config(fields, &defaults)?)?;
        base.attention.qk_norm = true;
        everywhere(fields, base, window(fields)?)
    },
    ..llama::SPEC
};

const DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32_768,
    ..llama::DEFAULTS
};

/// Reads the length of the sliding window; `None` if it is not in use.
fn window(fields: &Fields) -> Result<Option<usize>> {
    let window = fields.optional_integer("sliding_window", Some(4096))?;
    Ok(if fields.flag_or("use_sliding_window", false)? { window } else { None })
}

/// Sets the sliding window in those layers that `layer_types` lists, or else in those that `by_number`
/// selects by their number and `max_window_layers`.
fn some_windows(
    fields: &Fields,
    base: ModelConfig,
    by_number: impl Fn(usize, usize) -> bool,
) -> Result<ModelConfig> {
    let window = window(fields)?;
    let most = fields.integer_or("max_window_layers", 28)?;
    match listed(fields, base.n_layer)? {
        Some(is_sliding) => {
            let value = fields.get("layer_types").unwrap_or(&Value::Null);
            with_windows(fields, base, window, &Origin { key: "layer_types", value }, |layer| {
                is_sliding[layer]
            })
        }
        None => {
            let origin = Origin { key: "max_window_layers", value: &most.into() };
            with_windows(fields, base, window, &origin, |layer| window.is_some() && by_number(layer, most))
        }
    }
}

/// Adds the fields of the sliding window, if there is one.
fn windows_json(mut json: Value, config: &ModelConfig) -> Value {
    if let Some(window) = config.attention.sliding_window {
        json["use_sliding_window"] = true.into();
        json["sliding_window"] = window.into();
        json["layer_types"] = layer_types(config);
    }
    json
}

fn experts_json(config: &ModelConfig, architecture: &str) -> Value {
    let mut json = base_json(config, architecture);
    json["moe_intermediate_size"] = config.inner_size().into();
    // Under both names that transformers has had for it. Null cannot be read back: a model without experts
    // is of another family.
    let experts = if config.has_experts() { config.moe.n_experts.into() } else { Value::Null };
    json["num_experts"] = experts.clone();
    json["num_local_experts"] = experts;
    json["num_experts_per_tok"] = config.moe.experts_per_token.into();
    json["norm_topk_prob"] = config.moe.normalize.into();
    json["decoder_sparse_step"] = 1.into();
    json["mlp_only_layers"] = json!([]);
    json["router_aux_loss_coef"] = config.moe.aux_loss.into();
    json["output_router_logits"] = (config.moe.aux_loss > 0.0).into();
    json
}

/// Defaults of a class in transformers for the keys of experts that a `config.json` lacks.
struct MoeDefaults {
    intermediate_size: usize,
    experts: usize,
    experts_per_token: usize,
}

/// Sets the experts, whose number has the key `counted`. Either all layers have experts or none.
fn experts(fields: &Fields, counted: &str, defaults: &MoeDefaults, base: ModelConfig) -> Result<ModelConfig> {
    let n_experts = fields.integer_or(counted, defaults.experts)?;
    let step = fields.integer_or("decoder_sparse_step", 1)?;
    let plain = plain_layers(fields, base.n_layer)?;
    if n_experts == 0 || step > base.n_layer || plain == base.n_layer {
        return Ok(base);
    }
    if step != 1 {
        let step = Value::from(step);
        return Err(fields.unsupported("decoder_sparse_step", &step, "experts in all layers or in none"));
    }
    if plain > 0 {
        let value = fields.get("mlp_only_layers").unwrap_or(&Value::Null);
        return Err(fields.unsupported("mlp_only_layers", value, "experts in all layers or in none"));
    }
    Ok(ModelConfig {
        n_inner: Some(fields.integer_or("moe_intermediate_size", defaults.intermediate_size)?),
        moe: MoeConfig {
            n_experts,
            experts_per_token: fields.integer_or("num_experts_per_tok", defaults.experts_per_token)?,
            normalize: fields.flag_or("norm_topk_prob", false)?,
            aux_loss: aux_loss(fields)?,
            ..base.moe
        },
        ..base
    })
}

/// Number of layers that `mlp_only_layers` lists, which have a plain MLP.
fn plain_layers(fields: &Fields, layers: usize) -> Result<usize> {
    let Some(value) = fields.get("mlp_only_layers") else { return Ok(0) };
    let wrong = || fields.failed(format!("`mlp_only_layers` is `{value}`, which is not a list of layers"));
    let mut listed: Vec<u64> = Vec::new();
    for layer in value.as_array().ok_or_else(wrong)? {
        listed.push(layer.as_u64().ok_or_else(wrong)?);
    }
    listed.sort_unstable();
    listed.dedup();
    Ok(listed.into_iter().filter(|layer| *layer < layers as u64).count())
}
