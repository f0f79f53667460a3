//! `T5ForConditionalGeneration` of transformers, version 1.0 (arXiv:1910.10683) and 1.1 (gated, with an
//! output projection of its own).

use super::{
    Entry, Fields, HEAD, Spec,
    transform::Transform::{AsIs, Transpose},
};
use crate::{
    config::{Activation, Architecture, Init, ModelConfig, Norm, NormPosition, Position},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "t5",
    prefix: "",
    always_biased: false,
    to_json,
    from_json,
    is_ignored,
    entries,
    name_in_files: |name| name,
};

/// The feed-forward layers by transformers' names.
const ACTIVATIONS: [(&str, Activation); 3] =
    [("relu", Activation::Relu), ("gelu", Activation::Gelu), ("gated-gelu", Activation::Geglu)];

/// T5 has no longest context of its own; the tables of its tokenizers end here.
const BLOCK_SIZE: usize = 512;

fn to_json(config: &ModelConfig) -> Value {
    let activation = ACTIVATIONS.iter().find(|(_, ours)| *ours == config.activation).map(|(name, _)| *name);
    json!({
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": true,
        "feed_forward_proj": activation,
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "d_model": config.n_embd,
        "d_kv": config.head_size(),
        "d_ff": config.inner_size(),
        "num_layers": config.n_layer,
        "num_decoder_layers": config.decoder_layers(),
        "num_heads": config.n_head,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "dropout_rate": config.dropout,
        "initializer_factor": 1.0,
        "decoder_start_token_id": config.decoder_start_token,
        // What transformers puts where there is no label.
        "pad_token_id": config.decoder_start_token,
    })
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let activation = fields.get("feed_forward_proj").and_then(Value::as_str).unwrap_or("relu");
    let known = ACTIVATIONS.iter().find(|(name, _)| *name == activation).map(|(_, ours)| *ours);
    // transformers 5 keeps apart whether outputs are scaled, and says `true` of the other always.
    let tied = match fields.get("scale_decoder_outputs") {
        Some(_) => fields.flag_or("scale_decoder_outputs", true)?,
        None => fields.flag_or("tie_word_embeddings", true)?,
    };
    let (n_embd, n_head) = (fields.integer("d_model")?, fields.integer("num_heads")?);
    let head_dim = fields.integer("d_kv")?;
    let n_layer = fields.integer("num_layers")?;
    Ok(ModelConfig {
        architecture: Architecture::EncoderDecoder,
        vocab_size: fields.integer("vocab_size")?,
        block_size: fields.integer_or("n_positions", BLOCK_SIZE)?,
        n_layer,
        n_decoder_layer: fields.integer_or("num_decoder_layers", n_layer)?,
        n_head,
        n_embd,
        head_dim: if head_dim.checked_mul(n_head) == Some(n_embd) { 0 } else { head_dim },
        n_inner: fields.integer("d_ff")?,
        position: Position::Relative,
        relative_buckets: fields.integer_or("relative_attention_num_buckets", 32)?,
        relative_max_distance: fields.integer_or("relative_attention_max_distance", 128)?,
        attention_scale: 1.0,
        norm: Norm::Rmsnorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-6)?,
        activation: known.ok_or_else(|| {
            fields.failed(format!("`feed_forward_proj` is `{activation}`, which kiln does not have"))
        })?,
        bias: false,
        tie_embeddings: tied,
        scale_logits: tied,
        decoder_start_token: fields.integer_or("decoder_start_token_id", 0)?,
        dropout: fields.number_or("dropout_rate", 0.1)?,
        init: Init::Gpt2,
        ..Default::default()
    })
}

/// Second names of the shared embedding, and a bias that old checkpoints carry along without using it.
fn is_ignored(config: &ModelConfig, name: &str) -> bool {
    ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"].contains(&name)
        || name.ends_with("EncDecAttention.relative_attention_bias.weight")
        || (name == HEAD && config.tie_embeddings)
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner) = (config.n_embd, config.inner_size());
    let (queries, keys) = (config.n_head * config.head_size(), config.kv_heads() * config.head_size());
    let mut entries = vec![Entry::whole("embedding", "shared.weight", width, AsIs)];
    for (stack, layers, mlp) in [("encoder", config.n_layer, 1), ("decoder", config.decoder_layers(), 2)] {
        let bias = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        entries.push(Entry::whole(format!("{stack}.relative_bias"), bias, config.n_head, AsIs));
        for layer in 0..layers {
            let (ours, theirs) = (format!("{stack}.blocks.{layer}"), format!("{stack}.block.{layer}.layer"));
            // One of ours, side by side what they keep apart.
            let mut linear = |our_part: &str, group: String, parts: &[(&str, usize)]| {
                let name = |part: &str| format!("{theirs}.{group}.{part}.weight");
                let parts = parts.iter().map(|(part, width)| (name(part), *width, Transpose)).collect();
                entries.push(Entry::split(format!("{ours}.{our_part}.weight"), parts));
            };
            let own = "0.SelfAttention".to_owned();
            linear("attention.qkv", own.clone(), &[("q", queries), ("k", keys), ("v", keys)]);
            linear("attention.output", own, &[("o", width)]);
            if stack == "decoder" {
                let cross = "1.EncDecAttention".to_owned();
                linear("cross.query", cross.clone(), &[("q", queries)]);
                linear("cross.key_value", cross.clone(), &[("k", keys), ("v", keys)]);
                linear("cross.output", cross, &[("o", width)]);
            }
            let dense = format!("{mlp}.DenseReluDense");
            match config.activation.is_gated() {
                true => linear("mlp.up", dense.clone(), &[("wi_0", inner), ("wi_1", inner)]),
                false => linear("mlp.up", dense.clone(), &[("wi", inner)]),
            }
            linear("mlp.down", dense, &[("wo", width)]);
            let mut norm = |our_part: &str, number: usize| {
                let name = format!("{theirs}.{number}.layer_norm.weight");
                entries.push(Entry::whole(format!("{ours}.{our_part}.weight"), name, width, AsIs));
            };
            norm("attention_norm", 0);
            if stack == "decoder" {
                norm("cross_norm", 1);
            }
            norm("mlp_norm", mlp);
        }
        let last = format!("{stack}.final_layer_norm.weight");
        entries.push(Entry::whole(format!("{stack}.norm.weight"), last, width, AsIs));
    }
    if !config.tie_embeddings {
        entries.push(Entry::whole("head.weight", HEAD, config.vocab_size, Transpose));
    }
    entries
}
