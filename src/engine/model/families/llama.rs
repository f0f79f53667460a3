//! `LlamaForCausalLM` of transformers, and the parts that its descendants share.

use super::{
    Entry, Fields, Spec, activation, heads,
    transform::Transform::{self, AsIs, Transpose},
};
use crate::{
    config::{Init, ModelConfig, Norm, NormPosition, Position, RopeConfig, RopeLayout, RopeScaling},
    error::Result,
};
use serde_json::{Map, Value, json};

/// Definition of Llama, on which the descendants' definitions are based.
pub(super) const SPEC: Spec = Spec {
    name: "llama",
    prefix: "model.",
    always_biased: false,
    to_json,
    from_json,
    is_ignored,
    entries: |config| entries(config, &PLAIN),
    embedding_copies: &[],
    settle: |_, _| {},
    name_in_files: |name| name,
};

/// Defaults of a descendant's class in transformers for keys that a `config.json` lacks.
pub(super) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Default number of key and value heads; `None` means as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// Default width of a head; `None` means the model's width divided by the number of heads.
    pub head_dim: Option<usize>,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub tie_word_embeddings: bool,
    /// Key of the activation and its default value.
    pub activation: (&'static str, &'static str),
}

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    tie_word_embeddings: false,
    activation: ("hidden_act", "silu"),
};

fn to_json(config: &ModelConfig) -> Value {
    let mut json = base_json(config, "LlamaForCausalLM");
    json["attention_bias"] = config.bias.into();
    json["mlp_bias"] = config.bias.into();
    json["pretraining_tp"] = 1.into();
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let bias = fields.flag_or("attention_bias", false)?;
    if bias != fields.flag_or("mlp_bias", false)? {
        return Err(fields.failed("`attention_bias` and `mlp_bias` differ, which kiln cannot express".into()));
    }
    Ok(ModelConfig { bias, ..base_config(fields, &DEFAULTS)? })
}

/// Makes the part of `config.json` that all descendants share.
pub(super) fn base_json(config: &ModelConfig, architecture: &str) -> Value {
    let mut rope = json!({ "rope_theta": config.rope.theta, "rope_type": "default" });
    match config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear => {
            rope["rope_type"] = "linear".into();
            rope["factor"] = config.rope.factor.into();
        }
        RopeScaling::Llama3 => {
            rope["rope_type"] = "llama3".into();
            rope["factor"] = config.rope.factor.into();
            rope["original_max_position_embeddings"] = config.rope.original_context.into();
            rope["low_freq_factor"] = config.rope.low_freq_factor.into();
            rope["high_freq_factor"] = config.rope.high_freq_factor.into();
        }
    }
    json!({
        "architectures": [architecture],
        "hidden_act": activation::gate_name(config.activation),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads(),
        "head_dim": config.head_size(),
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,
        "rope_theta": config.rope.theta,
        "attention_dropout": config.dropout,
        "initializer_range": config.init_std,
    })
}

/// Reads the fields that [`base_json`] writes.
pub(super) fn base_config(fields: &Fields, defaults: &Defaults) -> Result<ModelConfig> {
    let n_embd = fields.integer_or("hidden_size", defaults.hidden_size)?;
    let n_head = fields.integer_or("num_attention_heads", defaults.num_attention_heads)?;
    let head_dim = match defaults.head_dim {
        Some(default) => fields.integer_or("head_dim", default)?,
        None => fields.optional_integer("head_dim", None)?.unwrap_or(n_embd / n_head.max(1)),
    };
    let block_size = fields.integer_or("max_position_embeddings", defaults.max_position_embeddings)?;
    let (activation_key, activation) = defaults.activation;
    Ok(ModelConfig {
        vocab_size: fields.integer_or("vocab_size", defaults.vocab_size)?,
        block_size,
        n_layer: fields.integer_or("num_hidden_layers", defaults.num_hidden_layers)?,
        n_head,
        // Null is as many as query heads in all of them.
        n_kv_head: fields.optional_integer("num_key_value_heads", defaults.num_key_value_heads)?,
        n_embd,
        head_dim: (head_dim.checked_mul(n_head) != Some(n_embd)).then_some(head_dim),
        n_inner: Some(fields.integer_or("intermediate_size", defaults.intermediate_size)?),
        position: Position::Rotary,
        rope: rotary(fields, defaults.rope_theta, block_size)?,
        norm: Norm::Rmsnorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("rms_norm_eps", defaults.rms_norm_eps)?,
        activation: activation::read(fields, activation_key, activation, true)?,
        bias: false,
        tie_embeddings: fields.flag_or("tie_word_embeddings", defaults.tie_word_embeddings)?,
        dropout: fields.optional_number("attention_dropout", None)?.unwrap_or(0.0),
        init: Init::Llama,
        init_std: fields.number_or("initializer_range", 0.02)?,
        ..Default::default()
    })
}

/// Reads the wavelengths of rotary positions. Refuses scalings that Kiln does not compute, and heads of which
/// only a part rotates.
fn rotary(fields: &Fields, default_theta: f64, context: usize) -> Result<RopeConfig> {
    let plain = RopeConfig { layout: RopeLayout::Half, ..Default::default() };
    // The first is the older name. Unless it is empty, transformers reads nothing under the newer one.
    let mut objects = ["rope_scaling", "rope_parameters"].into_iter().filter_map(|key| {
        let is_empty = |value: &&Value| value.as_object().is_some_and(Map::is_empty);
        Some((key, fields.get(key).filter(|value| !is_empty(value))?))
    });
    let Some((key, rope)) = objects.next() else {
        return Ok(RopeConfig { theta: fields.number_or("rope_theta", default_theta)?, ..plain });
    };
    let known = "rotary positions of `rope_type` `default`, `linear` or `llama3`";
    // Objects within are parameters by the type of a layer.
    if rope.as_object().is_none_or(|rope| rope.values().any(Value::is_object)) {
        return Err(fields.unsupported(key, rope, known));
    }
    let theta = match rope.get("rope_theta") {
        Some(_) => fields.number_in(key, "rope_theta", None)?,
        None => fields.number_or("rope_theta", default_theta)?,
    };
    let kind = rope.get("rope_type").or_else(|| rope.get("type"));
    let (scaling, factor) = match kind.map_or(Some("default"), Value::as_str) {
        // A factor without a type is not read.
        Some("default") => return Ok(RopeConfig { theta, ..plain }),
        Some("linear") => (RopeScaling::Linear, fields.number_in(key, "factor", None)?),
        Some("llama3") => (RopeScaling::Llama3, fields.number_in(key, "factor", None)?),
        _ => return Err(fields.unsupported(key, rope, known)),
    };
    // Plain wavelengths are those of whole heads, whatever this says.
    let share = rope.get("partial_rotary_factor").or_else(|| fields.get("partial_rotary_factor"));
    if let Some(share) = share.filter(|share| share.as_f64() != Some(1.0)) {
        return Err(fields.unsupported("partial_rotary_factor", share, "heads that rotate whole"));
    }
    let scaled = RopeConfig { theta, scaling, factor, ..plain };
    if scaling == RopeScaling::Linear {
        return Ok(scaled);
    }
    Ok(RopeConfig {
        low_freq_factor: fields.number_in(key, "low_freq_factor", None)?,
        high_freq_factor: fields.number_in(key, "high_freq_factor", None)?,
        original_context: Some(fields.integer_in(key, "original_max_position_embeddings", context)?),
        ..scaled
    })
}

/// Whether a tensor contains the wavelengths of rotary positions, which old checkpoints store.
fn is_ignored(_: &ModelConfig, name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Names of the parts of a layer, which differ between descendants.
pub(super) struct Names {
    pub mlp_norm: &'static str,
    /// Names of the norms of the attention's and the MLP's outputs.
    pub output_norms: [&'static str; 2],
    pub router: &'static str,
    pub experts: &'static str,
    /// Names of the gate, up and down projections of an expert.
    pub expert_parts: [&'static str; 3],
}

pub(super) const PLAIN: Names = Names {
    mlp_norm: "post_attention_layernorm",
    output_norms: ["", ""],
    router: "mlp.gate",
    experts: "mlp.experts",
    expert_parts: ["gate_proj", "up_proj", "down_proj"],
};

pub(super) fn entries(config: &ModelConfig, names: &Names) -> Vec<Entry> {
    let (width, inner, head_size) = (config.n_embd, config.inner_size(), config.head_size());
    let (queries, keys) = (config.n_head * head_size, config.kv_heads() * head_size);
    let rotary = match config.rope.layout {
        RopeLayout::Half => Transpose,
        RopeLayout::Interleaved => Transform::TransposeRotary { head_size },
    };
    let mut entries = vec![Entry::whole("embedding", "model.embed_tokens.weight", width, AsIs)];
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("model.layers.{layer}"));
        let mut norm = |our_part: &str, their_part: &str, width: usize| {
            let their_name = format!("{theirs}.{their_part}.weight");
            entries.push(Entry::whole(format!("{ours}.{our_part}.weight"), their_name, width, AsIs));
        };
        norm("attention_norm", "input_layernorm", width);
        norm("mlp_norm", names.mlp_norm, width);
        if config.norm_position == NormPosition::Both {
            let [attention, mlp] = names.output_norms;
            norm("attention_output_norm", attention, width);
            norm("mlp_output_norm", mlp, width);
        }
        if config.attention.qk_norm {
            norm("attention.query_norm", "self_attn.q_norm", head_size);
            norm("attention.key_norm", "self_attn.k_norm", head_size);
        }
        // One of our layers, side by side what they keep apart.
        let mut linear = |our_part: &str, bias: bool, parts: &[(&str, usize, Transform)]| {
            let kinds: &[&str] = if bias { &["weight", "bias"] } else { &["weight"] };
            for kind in kinds {
                let parts = parts
                    .iter()
                    .map(|(part, width, transform)| (format!("{theirs}.{part}.{kind}"), *width, *transform));
                entries.push(Entry::split(format!("{ours}.{our_part}.{kind}"), parts.collect()));
            }
        };
        linear(
            "attention.qkv",
            config.bias || config.attention.qkv_bias,
            &[
                ("self_attn.q_proj", queries, rotary),
                ("self_attn.k_proj", keys, rotary),
                ("self_attn.v_proj", keys, Transpose),
            ],
        );
        linear("attention.output", config.bias, &[("self_attn.o_proj", width, Transpose)]);
        if !config.has_experts() {
            let up = [("mlp.gate_proj", inner, Transpose), ("mlp.up_proj", inner, Transpose)];
            linear("mlp.up", config.bias, &up);
            linear("mlp.down", config.bias, &[("mlp.down_proj", width, Transpose)]);
            continue;
        }
        linear("mlp.router", false, &[(names.router, config.moe.n_experts, Transpose)]);
        if let Some(shared) = config.moe.shared_expert_inner {
            let up = [
                ("mlp.shared_expert.gate_proj", shared, Transpose),
                ("mlp.shared_expert.up_proj", shared, Transpose),
            ];
            linear("mlp.shared.up", false, &up);
            linear("mlp.shared.down", false, &[("mlp.shared_expert.down_proj", width, Transpose)]);
            linear("mlp.shared_gate", false, &[("mlp.shared_expert_gate", 1, Transpose)]);
        }
        let [gate, up, down] = names.expert_parts;
        let stack = |parts: &[(&str, usize)]| {
            let of_expert = |expert: usize| {
                let name = |part| format!("{theirs}.{}.{expert}.{part}.weight", names.experts);
                parts.iter().map(|(part, width)| (name(part), *width, Transpose)).collect()
            };
            (0..config.moe.n_experts).map(of_expert).collect()
        };
        entries.push(Entry::stack(format!("{ours}.mlp.up"), stack(&[(gate, inner), (up, inner)])));
        entries.push(Entry::stack(format!("{ours}.mlp.down"), stack(&[(down, width)])));
    }
    entries.push(Entry::whole("norm.weight", "model.norm.weight", width, AsIs));
    entries.extend(heads::decoder_output(config));
    entries
}
