//! `BertForMaskedLM` of transformers (arXiv:1810.04805), and the classifiers of the same family.

use super::{
    Entry, Fields, Spec, activation, heads,
    transform::Transform::{AsIs, Transpose},
};
use crate::{
    config::{Architecture, Head, Init, ModelConfig, Norm, NormPosition, Position},
    error::Result,
    model::parameters::NamedData,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "bert",
    prefix: "bert.",
    always_biased: false,
    to_json,
    from_json,
    is_ignored,
    entries,
    embedding_copies: &[],
    settle: keep_one_bias,
    // As TensorFlow called them, in the oldest checkpoints.
    name_in_files: |name| {
        name.replace(".LayerNorm.gamma", ".LayerNorm.weight").replace(".LayerNorm.beta", ".LayerNorm.bias")
    },
};

fn to_json(config: &ModelConfig) -> Value {
    let mut json = json!({
        "hidden_act": activation::plain_name(config.activation),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "type_vocab_size": config.token_types,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "layer_norm_eps": config.norm_eps,
        "position_embedding_type": "absolute",
        "initializer_range": config.init_std,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
    });
    heads::write(&mut json, config, "Bert");
    json
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    fields.only("is_decoder", false)?;
    fields.only("add_cross_attention", false)?;
    Ok(ModelConfig {
        architecture: Architecture::Encoder,
        vocab_size: fields.integer_or("vocab_size", 30_522)?,
        block_size: fields.integer_or("max_position_embeddings", 512)?,
        token_types: fields.integer_or("type_vocab_size", 2)?,
        n_layer: fields.integer_or("num_hidden_layers", 12)?,
        n_head: fields.integer_or("num_attention_heads", 12)?,
        n_embd: fields.integer_or("hidden_size", 768)?,
        n_inner: Some(fields.integer_or("intermediate_size", 3072)?),
        position: Position::Learned,
        norm: Norm::Layernorm,
        embedding_norm: true,
        norm_position: NormPosition::Post,
        norm_eps: fields.number_or("layer_norm_eps", 1e-12)?,
        activation: activation::read(fields, "hidden_act", "gelu", false)?,
        bias: true,
        tie_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        dropout: fields.number_or("hidden_dropout_prob", 0.1)?,
        init: Init::Llama,
        init_std: fields.number_or("initializer_range", 0.02)?,
        ..heads::read(fields, "Bert")?
    })
}

/// Whether a tensor is a constant (position ids) or a pretraining head that is not in use.
fn is_ignored(config: &ModelConfig, name: &str) -> bool {
    let has_pooler = matches!(config.head, Head::SequenceClassification | Head::Regression);
    name.ends_with("embeddings.position_ids")
        || name.starts_with("cls.seq_relationship.")
        || (name.starts_with("cls.") && config.head != Head::LanguageModel)
        || (name.contains("pooler.dense.") && !has_pooler)
}

const BIAS: &str = "cls.predictions.bias";
const PROJECTION_BIAS: &str = "cls.predictions.decoder.bias";

/// Name under which the bias of the output projection is stored. If the projection is tied to the embedding,
/// which has no bias, it has a name of its own.
fn bias_name(config: &ModelConfig) -> &'static str {
    if config.tie_embeddings { BIAS } else { PROJECTION_BIAS }
}

/// Keeps one of the two names of the output bias. If both exist, transformers uses that of the projection.
fn keep_one_bias(config: &ModelConfig, tensors: &mut NamedData) {
    let second = tensors.remove(BIAS);
    if let Some(bias) = tensors.remove(PROJECTION_BIAS).or(second) {
        tensors.insert(bias_name(config).into(), bias);
    }
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner) = (config.n_embd, config.inner_size());
    let mut entries = vec![
        Entry::whole("embedding", "bert.embeddings.word_embeddings.weight", width, AsIs),
        Entry::whole("position", "bert.embeddings.position_embeddings.weight", width, AsIs),
        Entry::whole("token_type", "bert.embeddings.token_type_embeddings.weight", width, AsIs),
    ];
    let norm = |entries: &mut Vec<Entry>, ours: String, theirs: String| {
        for kind in ["weight", "bias"] {
            entries.push(Entry::whole(format!("{ours}.{kind}"), format!("{theirs}.{kind}"), width, AsIs));
        }
    };
    // One of ours, side by side what they keep apart.
    let linear = |entries: &mut Vec<Entry>, ours: String, theirs: &[String], width: usize| {
        for kind in ["weight", "bias"] {
            let parts = theirs.iter().map(|name| (format!("{name}.{kind}"), width, Transpose)).collect();
            entries.push(Entry::split(format!("{ours}.{kind}"), parts));
        }
    };
    norm(&mut entries, "embedding_norm".into(), "bert.embeddings.LayerNorm".into());
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("bert.encoder.layer.{layer}"));
        let qkv = ["query", "key", "value"].map(|part| format!("{theirs}.attention.self.{part}"));
        linear(&mut entries, format!("{ours}.attention.qkv"), &qkv, width);
        for (our_part, their_part, width) in [
            ("attention.output", "attention.output.dense", width),
            ("mlp.up", "intermediate.dense", inner),
            ("mlp.down", "output.dense", width),
        ] {
            linear(&mut entries, format!("{ours}.{our_part}"), &[format!("{theirs}.{their_part}")], width);
        }
        norm(&mut entries, format!("{ours}.attention_norm"), format!("{theirs}.attention.output.LayerNorm"));
        norm(&mut entries, format!("{ours}.mlp_norm"), format!("{theirs}.output.LayerNorm"));
    }
    let dense = "head.transform.dense".to_owned();
    match config.head {
        Head::LanguageModel => {
            let vocab = config.vocab_size;
            linear(&mut entries, dense, &["cls.predictions.transform.dense".into()], width);
            norm(&mut entries, "head.transform.norm".into(), "cls.predictions.transform.LayerNorm".into());
            entries.push(Entry::whole("head.bias", bias_name(config), vocab, AsIs));
            if !config.tie_embeddings {
                let output = "cls.predictions.decoder.weight";
                entries.push(Entry::whole("head.output.weight", output, vocab, Transpose));
            }
            return entries;
        }
        Head::TokenClassification => {}
        Head::SequenceClassification | Head::Regression => {
            linear(&mut entries, dense, &["bert.pooler.dense".into()], width);
        }
    }
    linear(&mut entries, "head.output".into(), &["classifier".into()], config.classes());
    entries
}
