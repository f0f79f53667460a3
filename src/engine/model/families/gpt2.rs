//! `GPT2LMHeadModel` of transformers.

use super::{Entry, Fields, Spec, activation, heads, transform::Transform::AsIs};
use crate::{
    config::{Init, ModelConfig, Norm, NormPosition, Position},
    error::Result,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "gpt2",
    prefix: "transformer.",
    always_biased: true,
    to_json,
    from_json,
    is_ignored,
    entries,
    embedding_copies: &[],
    settle: |_, _| {},
    name_in_files: |name| name,
};

fn to_json(config: &ModelConfig) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": activation::plain_name(config.activation),
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.inner_size(),
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": config.init_std,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
    })
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    // `reorder_and_upcast_attn` is left out: it only matters in half precision.
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("add_cross_attention", false)?;
    // The second names are those that transformers has for all families.
    let integer = |name, second, default| fields.integer_or(fields.spelled(name, second), default);
    Ok(ModelConfig {
        vocab_size: fields.integer_or("vocab_size", 50_257)?,
        block_size: integer("n_positions", "max_position_embeddings", 1024)?,
        n_layer: integer("n_layer", "num_hidden_layers", 12)?,
        n_head: integer("n_head", "num_attention_heads", 12)?,
        n_kv_head: None,
        n_embd: integer("n_embd", "hidden_size", 768)?,
        n_inner: fields.optional_integer("n_inner", None)?,
        position: Position::Learned,
        norm: Norm::Layernorm,
        norm_position: NormPosition::Pre,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-5)?,
        activation: activation::read(fields, "activation_function", "gelu_new", false)?,
        bias: true,
        tie_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        dropout: fields.number_or("resid_pdrop", 0.1)?,
        init: Init::Gpt2,
        init_std: fields.number_or("initializer_range", 0.02)?,
        ..Default::default()
    })
}

/// Whether a tensor is an attention mask, which checkpoints on the Hub contain.
fn is_ignored(_: &ModelConfig, name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (width, inner) = (config.n_embd, config.inner_size());
    // GPT-2's Conv1D is laid out as ours, and its biases exist even where ours do not.
    let with_bias = |entries: &mut Vec<Entry>, ours: String, theirs: String, width: usize| {
        entries.push(Entry::whole(format!("{ours}.weight"), format!("{theirs}.weight"), width, AsIs));
        let bias = format!("{theirs}.bias");
        entries.push(match config.bias {
            true => Entry::whole(format!("{ours}.bias"), bias, width, AsIs),
            false => Entry::zeros(bias, width),
        });
    };
    let mut entries = vec![
        Entry::whole("embedding", "transformer.wte.weight", width, AsIs),
        Entry::whole("position", "transformer.wpe.weight", width, AsIs),
    ];
    for layer in 0..config.n_layer {
        let (ours, theirs) = (format!("blocks.{layer}"), format!("transformer.h.{layer}"));
        for (our_part, their_part, width) in [
            ("attention_norm", "ln_1", width),
            ("attention.qkv", "attn.c_attn", 3 * width),
            ("attention.output", "attn.c_proj", width),
            ("mlp_norm", "ln_2", width),
            ("mlp.up", "mlp.c_fc", inner),
            ("mlp.down", "mlp.c_proj", width),
        ] {
            with_bias(&mut entries, format!("{ours}.{our_part}"), format!("{theirs}.{their_part}"), width);
        }
    }
    with_bias(&mut entries, "norm".into(), "transformer.ln_f".into(), width);
    entries.extend(heads::decoder_output(config));
    entries
}
