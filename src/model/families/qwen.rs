//! `Qwen2ForCausalLM`, `Qwen3ForCausalLM` and their mixtures of experts of transformers: Llama with
//! biases of queries, keys and values (Qwen2, arXiv:2407.10671) or with norms of queries and keys
//! (Qwen3, arXiv:2505.09388).

use super::{
    Fields, Spec,
    llama::{self, base_config, base_json},
    mixtral::aux_loss,
};
use crate::{config::ModelConfig, error::Result};
use serde_json::{Value, json};

pub(super) const QWEN2: Spec = Spec {
    name: "qwen2",
    to_json: |config| base_json(config, "Qwen2ForCausalLM"),
    from_json: |fields| Ok(ModelConfig { qkv_bias: true, ..whole_attention(fields)? }),
    ..llama::SPEC
};

pub(super) const QWEN3: Spec = Spec {
    name: "qwen3",
    to_json: |config| {
        let mut json = base_json(config, "Qwen3ForCausalLM");
        json["attention_bias"] = false.into();
        json
    },
    from_json: |fields| {
        fields.only("attention_bias", false)?;
        Ok(ModelConfig { qk_norm: true, ..whole_attention(fields)? })
    },
    ..llama::SPEC
};

pub(super) const QWEN2_MOE: Spec = Spec {
    name: "qwen2_moe",
    to_json: |config| {
        let mut json = experts_json(config, "Qwen2MoeForCausalLM");
        json["shared_expert_intermediate_size"] = config.shared_expert_inner.into();
        json["qkv_bias"] = config.qkv_bias.into();
        json
    },
    from_json: |fields| {
        Ok(ModelConfig {
            qkv_bias: fields.flag_or("qkv_bias", true)?,
            shared_expert_inner: fields.integer("shared_expert_intermediate_size")?,
            ..experts(fields)?
        })
    },
    ..llama::SPEC
};

pub(super) const QWEN3_MOE: Spec = Spec {
    name: "qwen3_moe",
    to_json: |config| {
        let mut json = experts_json(config, "Qwen3MoeForCausalLM");
        json["attention_bias"] = false.into();
        json
    },
    from_json: |fields| {
        fields.only("attention_bias", false)?;
        Ok(ModelConfig { qk_norm: true, ..experts(fields)? })
    },
    ..llama::SPEC
};

/// Refuses windows, which begin at some layer here.
fn whole_attention(fields: &Fields) -> Result<ModelConfig> {
    fields.only("use_sliding_window", false)?;
    base_config(fields)
}

fn experts_json(config: &ModelConfig, architecture: &str) -> Value {
    let mut json = base_json(config, architecture);
    json["moe_intermediate_size"] = config.inner_size().into();
    // Under both names that transformers has had for it.
    json["num_experts"] = config.n_experts.into();
    json["num_local_experts"] = config.n_experts.into();
    json["num_experts_per_tok"] = config.experts_per_token.into();
    json["norm_topk_prob"] = config.normalize_experts.into();
    json["decoder_sparse_step"] = 1.into();
    json["mlp_only_layers"] = json!([]);
    json["router_aux_loss_coef"] = config.router_aux_loss.into();
    json["output_router_logits"] = (config.router_aux_loss > 0.0).into();
    json
}

fn experts(fields: &Fields) -> Result<ModelConfig> {
    fields.only("decoder_sparse_step", 1)?;
    fields.only("mlp_only_layers", json!([]))?;
    Ok(ModelConfig {
        n_inner: fields.integer("moe_intermediate_size")?,
        n_experts: fields.integer(if fields.get("num_experts").is_some() {
            "num_experts"
        } else {
            "num_local_experts"
        })?,
        experts_per_token: fields.integer("num_experts_per_tok")?,
        normalize_experts: fields.flag_or("norm_topk_prob", false)?,
        router_aux_loss: aux_loss(fields)?,
        ..whole_attention(fields)?
    })
}
