//! `ModernBertForMaskedLM` and the classifiers beside it of transformers (arXiv:2412.13663): rotary
//! positions, windows in two of three layers, no biases.

use super::{
    Entry, Fields, Spec, heads,
    transform::Transform::{AsIs, Transpose},
};
use crate::{
    config::{Activation, Architecture, Head, Init, ModelConfig, Norm, NormPosition, Pooling, Position},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "modernbert",
    prefix: "model.",
    always_biased: false,
    to_json,
    from_json,
    is_ignored,
    entries,
    name_in_files: |name| name,
};

const POOLING: [(Pooling, &str); 2] = [(Pooling::First, "cls"), (Pooling::Mean, "mean")];

/// Whether linear layers and norms have biases; all of these must be so.
const BIASES: [(&str, bool); 5] = [
    ("attention_bias", false),
    ("mlp_bias", false),
    ("norm_bias", false),
    ("classifier_bias", false),
    ("decoder_bias", true),
];

fn to_json(config: &ModelConfig) -> Value {
    let pooling = POOLING.iter().find(|(ours, _)| *ours == config.pooling).map(|(_, name)| *name);
    let rope = |theta: f64| json!({ "rope_type": "default", "rope_theta": theta });
    let local_theta = local_theta(config);
    let mut json = json!({
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "classifier_pooling": pooling,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "norm_eps": config.norm_eps,
        "local_attention": config.sliding_window,
        "global_attn_every_n_layers": config.global_every,
        "layer_types": (0..config.n_layer).map(|layer| layer_type(config, layer)).collect::<Vec<_>>(),
        "rope_parameters": { FULL: rope(config.rope_theta), SLIDING: rope(local_theta) },
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": local_theta,
        "initializer_range": config.init_std,
        "embedding_dropout": config.dropout,
        "attention_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "classifier_dropout": config.dropout,
        "cls_token_id": null,
        "sep_token_id": null,
    });
    for (key, value) in BIASES {
        json[key] = value.into();
    }
    heads::write(&mut json, config, "ModernBert");
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    for (key, value) in BIASES {
        fields.only(key, value)?;
    }
    fields.only("hidden_activation", "gelu")?;
    fields.only("classifier_activation", "gelu")?;
    let theta = |kind: &str, older: &str, default: f64| -> Result<f64> {
        let kinds = fields.get("rope_parameters");
        let Some(rope) = kinds.and_then(|kinds| kinds.get(kind)) else {
            return fields.number_or(older, default);
        };
        if rope.get("rope_type").is_some_and(|name| name != "default") {
            return Err(fields.unsupported("rope_parameters", rope, "with wavelengths as they are"));
        }
        Ok(rope.get("rope_theta").and_then(Value::as_f64).unwrap_or(default))
    };
    let pooling = fields.get("classifier_pooling").and_then(Value::as_str).unwrap_or("cls");
    let pooling = POOLING.iter().find(|(_, name)| *name == pooling).map(|(ours, _)| *ours);
    let base = heads::read(fields, "ModernBert")?;
    let config = ModelConfig {
        architecture: Architecture::Encoder,
        pooling: pooling
            .ok_or_else(|| fields.failed("`classifier_pooling` is neither `cls` nor `mean`".into()))?,
        vocab_size: fields.integer("vocab_size")?,
        block_size: fields.integer("max_position_embeddings")?,
        n_layer: fields.integer("num_hidden_layers")?,
        n_head: fields.integer("num_attention_heads")?,
        n_embd: fields.integer("hidden_size")?,
        n_inner: fields.integer("intermediate_size")?,
        position: Position::Rotary,
        rope_theta: theta(FULL, "global_rope_theta", 160_000.0)?,
        rope_local_theta: theta(SLIDING, "local_rope_theta", 10_000.0)?,
        sliding_window: fields.integer_or("local_attention", 128)?,
        global_every: global_every(fields)?,
        norm: Norm::Layernorm,
        embedding_norm: true,
        skip_first_norm: true,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("norm_eps", 1e-5)?,
        activation: Activation::GegluExact,
        bias: false,
        tie_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        dropout: fields.number_or("mlp_dropout", 0.0)?,
        init: Init::Llama,
        init_std: fields.number_or("initializer_range", 0.02)?,
        ..base
    };
    if config.sliding_window < 2 {
        return Err(
            fields.failed(format!("`local_attention` is {}, which sees nothing", config.sliding_window))
        );
    }
    if let Some(types) = fields.get("layer_types") {
        let listed = types.as_array().map(Vec::as_slice).unwrap_or_default();
        let regular = listed.iter().enumerate().all(|(layer, found)| found == layer_type(&config, layer));
        if listed.len() != config.n_layer || !regular {
            return Err(fields.unsupported(
                "layer_types",
                types,
                "layers without a window at equal distances",
            ));
        }
    }
    Ok(config)
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

fn layer_type(config: &ModelConfig, layer: usize) -> &'static str {
    if config.slides(layer) { SLIDING } else { FULL }
}

/// Layers from one without a window to the next.
fn global_every(fields: &Fields) -> Result<usize> {
    let types = fields.get("layer_types").and_then(Value::as_array);
    let second = types.and_then(|types| types.iter().skip(1).position(|found| found == FULL));
    match second {
        Some(between) => Ok(between + 1),
        None => fields.integer_or("global_attn_every_n_layers", 3),
    }
}

fn local_theta(config: &ModelConfig) -> f64 {
    if config.rope_local_theta == 0.0 { config.rope_theta } else { config.rope_local_theta }
}

/// Second names of tied tensors, and a head that is not in use.
fn is_ignored(config: &ModelConfig, name: &str) -> bool {
    let fills_masks = config.head == Head::LanguageModel;
    (name == "decoder.weight" && (config.tie_embeddings || !fills_masks))
        || (name == "decoder.bias" && !fills_masks)
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner, vocab) = (config.n_embd, config.inner_size(), config.vocab_size);
    let norm = |ours: String, theirs: String| {
        Entry::whole(format!("{ours}.weight"), format!("{theirs}.weight"), width, AsIs)
    };
    let linear = |ours: String, theirs: String, width: usize| {
        Entry::whole(format!("{ours}.weight"), format!("{theirs}.weight"), width, Transpose)
    };
    let mut entries = vec![
        Entry::whole("embedding", "model.embeddings.tok_embeddings.weight", width, AsIs),
        norm("embedding_norm".into(), "model.embeddings.norm".into()),
    ];
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("model.layers.{layer}"));
        if layer > 0 {
            entries.push(norm(format!("{ours}.attention_norm"), format!("{theirs}.attn_norm")));
        }
        entries.push(norm(format!("{ours}.mlp_norm"), format!("{theirs}.mlp_norm")));
        for (our_part, their_part, width) in [
            ("attention.qkv", "attn.Wqkv", 3 * width),
            ("attention.output", "attn.Wo", width),
            ("mlp.up", "mlp.Wi", 2 * inner),
            ("mlp.down", "mlp.Wo", width),
        ] {
            entries.push(linear(format!("{ours}.{our_part}"), format!("{theirs}.{their_part}"), width));
        }
    }
    entries.push(norm("norm".into(), "model.final_norm".into()));
    entries.push(linear("head.transform.dense".into(), "head.dense".into(), width));
    entries.push(norm("head.transform.norm".into(), "head.norm".into()));
    if config.head == Head::LanguageModel {
        entries.push(Entry::whole("head.bias", "decoder.bias", vocab, AsIs));
        if !config.tie_embeddings {
            entries.push(linear("head.output".into(), "decoder".into(), vocab));
        }
    } else {
        entries.push(linear("head.output".into(), "classifier".into(), config.classes()));
        entries.push(Entry::whole("head.output.bias", "classifier.bias", config.classes(), AsIs));
    }
    entries
}
