//! `ModernBertForMaskedLM` of transformers (arXiv:2412.13663), and the classifiers of the same family: rotary
//! positions, windows in two of three layers, no biases.

use super::{
    Entry, Fields, Spec, heads,
    transform::Transform::{AsIs, Transpose},
    windows::{FULL, Origin, SLIDING, layer_types, listed, with_windows},
};
use crate::{
    config::{
        Activation, Architecture, Head, Init, ModelConfig, Norm, NormPosition, Pooling, Position, RopeConfig,
    },
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
    embedding_copies: &[],
    settle: |_, _| {},
    name_in_files: |name| name,
};

const POOLING: [(Pooling, &str); 2] = [(Pooling::First, "cls"), (Pooling::Mean, "mean")];

/// Fields for the biases of linear layers and norms, with the only values that Kiln supports.
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
        "local_attention": config.attention.sliding_window.unwrap_or(WINDOW),
        "global_attn_every_n_layers": config.attention.full_attention_every.unwrap_or(1),
        "layer_types": layer_types(config),
        "rope_parameters": { FULL: rope(config.rope.theta), SLIDING: rope(local_theta) },
        "global_rope_theta": config.rope.theta,
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
    for key in ["hidden_activation", "classifier_activation"] {
        if !["gelu", "gelu_python"].contains(&fields.text_or(key, "gelu")?) {
            fields.only(key, "gelu")?;
        }
    }
    let pooling = fields.text_or("classifier_pooling", "cls")?;
    let pooling = POOLING.iter().find(|(_, name)| *name == pooling).map(|(ours, _)| *ours);
    let config = ModelConfig {
        architecture: Architecture::Encoder,
        pooling: pooling
            .ok_or_else(|| fields.failed("`classifier_pooling` is neither `cls` nor `mean`".into()))?,
        vocab_size: fields.integer_or("vocab_size", 50_368)?,
        block_size: fields.integer_or("max_position_embeddings", 8192)?,
        n_layer: fields.integer_or("num_hidden_layers", 22)?,
        n_head: fields.integer_or("num_attention_heads", 12)?,
        n_embd: fields.integer_or("hidden_size", 768)?,
        n_inner: Some(fields.integer_or("intermediate_size", 1152)?),
        position: Position::Rotary,
        rope: RopeConfig {
            theta: theta(fields, FULL, "global_rope_theta", 160_000.0)?,
            local_theta: Some(theta(fields, SLIDING, "local_rope_theta", 10_000.0)?),
            ..Default::default()
        },
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
        ..heads::read(fields, "ModernBert")?
    };
    // The second name is that of one half; a window of no token is one of the token itself.
    let window = match fields.optional_integer("sliding_window", None)? {
        Some(half) => half.saturating_mul(2),
        None => fields.integer_or("local_attention", WINDOW)?,
    };
    let window = Some(window.max(1));
    if let Some(is_sliding) = listed(fields, config.n_layer)? {
        let value = fields.get("layer_types").unwrap_or(&Value::Null);
        return with_windows(fields, config, window, &Origin { key: "layer_types", value }, |layer| {
            is_sliding[layer]
        });
    }
    let every = fields.integer_or("global_attn_every_n_layers", 3)?;
    let origin = Origin { key: "global_attn_every_n_layers", value: &every.into() };
    if every == 0 {
        return Err(fields.unsupported(origin.key, origin.value, "distances from 1 on"));
    }
    with_windows(fields, config, window, &origin, |layer| !layer.is_multiple_of(every))
}

/// Default length of the sliding window, in tokens.
const WINDOW: usize = 128;

/// Reads the base of the wavelengths for one type of layers. `older` is the key that earlier versions used.
fn theta(fields: &Fields, kind: &str, older: &str, default: f64) -> Result<f64> {
    let plain = "wavelengths as they are, by the type of a layer";
    if let Some(scaling) = fields.get("rope_scaling") {
        return Err(fields.unsupported("rope_scaling", scaling, plain));
    }
    let Some(kinds) = fields.get("rope_parameters") else { return fields.number_or(older, default) };
    let rope = kinds.get(kind);
    let is_plain = |rope: &Value| {
        let name = rope.get("rope_type").or_else(|| rope.get("type"));
        rope.is_object() && name.is_none_or(|name| name == "default")
    };
    if !kinds.as_object().is_some_and(|kinds| kinds.values().all(is_plain)) {
        return Err(fields.unsupported("rope_parameters", kinds, plain));
    }
    match rope.and_then(|rope| rope.get("rope_theta")) {
        None => fields.number_or(older, default),
        Some(theta) => theta.as_f64().ok_or_else(|| {
            fields.failed(format!("`rope_theta` in `rope_parameters` is `{theta}`, which is not a number"))
        }),
    }
}

fn local_theta(config: &ModelConfig) -> f64 {
    config.rope.local_theta.unwrap_or(config.rope.theta)
}

/// Whether a tensor belongs to a head that is not in use.
fn is_ignored(config: &ModelConfig, name: &str) -> bool {
    config.head != Head::LanguageModel && ["decoder.weight", "decoder.bias"].contains(&name)
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
