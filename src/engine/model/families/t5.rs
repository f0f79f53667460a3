//! `T5ForConditionalGeneration` of transformers, version 1.0 (arXiv:1910.10683) and 1.1 (gated, with an
//! untied output projection).

use super::{
    Entry, Fields, HEAD, Spec, activation,
    transform::Transform::{AsIs, Transpose},
};
use crate::{
    config::{Activation, Architecture, AttentionConfig, Init, ModelConfig, Norm, NormPosition, Position},
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
    embedding_copies: &["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
    settle: |_, _| {},
    name_in_files: |name| name,
};

/// Context length in tokens. T5 itself has no limit; this is the limit of its tokenizers.
const BLOCK_SIZE: usize = 512;

fn to_json(config: &ModelConfig) -> Value {
    json!({
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": true,
        "feed_forward_proj": feed_forward_name(config.activation),
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
        "scale_decoder_outputs": config.scale_logits,
        "decoder_start_token_id": config.decoder_start_token,
        // What transformers puts where there is no label.
        "pad_token_id": config.decoder_start_token,
    })
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    // transformers 5 ties always, unless the weights differ, and keeps apart whether outputs are scaled.
    // Where the second is not said, the first says it, as it did in all versions before. Null is not false
    // for one and is for the other.
    let tied = fields.get("tie_word_embeddings").is_none_or(|tied| *tied != Value::Bool(false));
    let scaled = match fields.json.get("scale_decoder_outputs") {
        Some(Value::Null) => false,
        _ => fields.flag_or("scale_decoder_outputs", tied)?,
    };
    // The second names are those that transformers has for all families.
    let integer = |name, second, default| fields.integer_or(fields.spelled(name, second), default);
    let (n_embd, n_head) =
        (integer("d_model", "hidden_size", 512)?, integer("num_heads", "num_attention_heads", 8)?);
    let head_dim = integer("d_kv", "head_dim", 64)?;
    Ok(ModelConfig {
        architecture: Architecture::EncoderDecoder,
        vocab_size: fields.integer_or("vocab_size", 32_128)?,
        block_size: fields.integer_or("n_positions", BLOCK_SIZE)?,
        n_layer: integer("num_layers", "num_hidden_layers", 6)?,
        // Before the second name of the encoder's is read.
        n_decoder_layer: Some(match fields.optional_integer("num_decoder_layers", None)? {
            Some(layers) => layers,
            None => fields.integer_or("num_layers", 6)?,
        }),
        n_head,
        n_embd,
        head_dim: (head_dim.checked_mul(n_head) != Some(n_embd)).then_some(head_dim),
        n_inner: Some(fields.integer_or("d_ff", 2048)?),
        position: Position::Relative,
        relative_buckets: fields.integer_or("relative_attention_num_buckets", 32)?,
        relative_max_distance: fields.integer_or("relative_attention_max_distance", 128)?,
        attention: AttentionConfig { scale: Some(1.0), ..Default::default() },
        norm: Norm::Rmsnorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-6)?,
        activation: feed_forward(fields)?,
        bias: false,
        tie_embeddings: tied,
        scale_logits: scaled,
        decoder_start_token: fields.optional_integer("decoder_start_token_id", None)?.unwrap_or(0),
        dropout: fields.number_or("dropout_rate", 0.1)?,
        init: Init::Gpt2,
        ..Default::default()
    })
}

/// Reads the activation from `feed_forward_proj`: a name, after `gated-` if there is a gate. `is_gated_act`
/// and `dense_act_fn` take precedence.
fn feed_forward(fields: &Fields) -> Result<Activation> {
    let name = fields.text_or("feed_forward_proj", "relu")?;
    let gate = name.strip_prefix("gated-");
    // Of old it means the approximation.
    let function = if name == "gated-gelu" { "gelu_new" } else { gate.unwrap_or(name) };
    let is_gated = fields.flag_or("is_gated_act", gate.is_some())?;
    let function = fields.text_or("dense_act_fn", function)?;
    activation::by_name(function, is_gated).ok_or_else(|| {
        let gate = if is_gated { "with" } else { "without" };
        fields
            .failed(format!("`feed_forward_proj` is `{name}`: kiln does not have `{function}` {gate} a gate"))
    })
}

/// Value of `feed_forward_proj` for an activation; `None` if T5 does not have it.
fn feed_forward_name(activation: Activation) -> Option<String> {
    match activation {
        Activation::Geglu => Some("gated-gelu".into()),
        // `gated-gelu` is taken.
        Activation::GegluExact => Some("gated-gelu_python".into()),
        _ if activation.is_gated() => activation::gate_name(activation).map(|name| format!("gated-{name}")),
        _ => activation::plain_name(activation).map(Into::into),
    }
}

/// Whether a tensor is a bias that old checkpoints contain but do not use.
fn is_ignored(_: &ModelConfig, name: &str) -> bool {
    name.ends_with("EncDecAttention.relative_attention_bias.weight")
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
