//! `MixtralForCausalLM` of transformers: Mistral with experts (arXiv:2401.04088).

use super::{
    Fields, Spec,
    llama::{self, Defaults, Names, PLAIN, base_config, base_json},
    mistral::{everywhere, window_json},
};
use crate::{
    config::{ModelConfig, MoeConfig},
    error::Result,
};
use serde_json::Value;

pub(super) const SPEC: Spec = Spec {
    name: "mixtral",
    to_json,
    from_json,
    entries: |config| llama::entries(config, &NAMES),
    name_in_files: as_loaded,
    ..llama::SPEC
};

const NAMES: Names = Names {
    router: "block_sparse_moe.gate",
    experts: "block_sparse_moe.experts",
    expert_parts: ["w1", "w3", "w2"],
    ..PLAIN
};

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "MixtralForCausalLM");
    json["sliding_window"] = window_json(config);
    json["num_local_experts"] = config.moe.n_experts.into();
    json["num_experts_per_tok"] = config.moe.experts_per_token.into();
    json["router_aux_loss_coef"] = config.moe.aux_loss.into();
    json["output_router_logits"] = (config.moe.aux_loss > 0.0).into();
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let experts = fields.spelled("num_local_experts", "num_experts");
    let base = ModelConfig {
        moe: MoeConfig {
            n_experts: fields.integer_or(experts, 8)?,
            experts_per_token: fields.integer_or("num_experts_per_tok", 2)?,
            normalize: true,
            aux_loss: aux_loss(fields)?,
            ..Default::default()
        },
        ..base_config(fields, &DEFAULTS)?
    };
    everywhere(fields, base, fields.optional_integer("sliding_window", None)?)
}

const DEFAULTS: Defaults = Defaults {
    intermediate_size: 14_336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    ..llama::DEFAULTS
};

/// Converts the names that transformers 5 uses in memory for the parts of a mixture, in all families, to
/// those that files use.
fn as_loaded(name: String) -> String {
    let Some((layer, part)) = name.split_once(".mlp.") else { return name };
    let part = part.replace("gate_proj", "w1").replace("up_proj", "w3").replace("down_proj", "w2");
    format!("{layer}.block_sparse_moe.{part}")
}

/// Reads the weight of the load-balancing loss. transformers adds this loss only if router logits are
/// requested.
pub(super) fn aux_loss(fields: &Fields) -> Result<f64> {
    let added = fields.flag_or("output_router_logits", false)?;
    if added { fields.number_or("router_aux_loss_coef", 0.001) } else { Ok(0.0) }
}
