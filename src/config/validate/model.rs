//! The checks of the `model` section.

use super::{Range, refused, size, within};
use crate::{
    config::{Architecture, Head, ModelConfig, Position, RopeScaling},
    error::{Error, Result, hint},
};

pub(super) fn check(model: &ModelConfig) -> Result<()> {
    for (key, value) in [
        ("model.block_size", model.block_size),
        ("model.n_layer", model.n_layer),
        ("model.n_head", model.n_head),
        ("model.n_embd", model.n_embd),
        ("model.n_inner", model.inner_size()),
        ("model.n_kv_head", model.kv_heads()),
        ("model.vocab_size", model.vocab_size.max(1)),
    ] {
        size(key, value)?;
    }
    let (width, heads) = (model.n_embd, model.n_head);
    if model.head_dim == 0 && !width.is_multiple_of(heads) {
        let message = format!("heads that don't divide the width: `model.n_head` is {heads}");
        return Err(nearest_width(width, heads, message));
    }
    size("model.head_dim", model.head_size())?;
    if !heads.is_multiple_of(model.kv_heads()) {
        let message = format!("key and value heads must divide `model.n_head`, which is {heads}");
        let divisors: Vec<_> =
            (1..=heads).filter(|n| heads.is_multiple_of(*n)).map(|n| n.to_string()).collect();
        let hint = format!("one of {}", divisors.join(", "));
        return Err(refused("model.n_kv_head", model.n_kv_head, message, hint));
    }
    match model.position {
        Position::Rotary if !model.head_size().is_multiple_of(2) => {
            if model.head_dim > 0 {
                let message = "rotary positions need heads of even width";
                return Err(Error::invalid_value("model.head_dim", model.head_dim, message));
            }
            let message = format!(
                "rotary positions need heads of even width: {width} / {heads} heads = {}",
                model.head_size()
            );
            return Err(nearest_width(width, 2 * heads, message));
        }
        Position::Sinusoidal if !width.is_multiple_of(2) => {
            return Err(nearest_width(width, 2 * heads, "sinusoidal positions need an even width".into()));
        }
        _ => {}
    }
    within("model.rope_theta", model.rope_theta, Range::Positive)?;
    within("model.rope_local_theta", model.rope_local_theta, Range::FromZero)?;
    check_architecture(model)?;
    check_relative(model)?;
    check_rope_scaling(model)?;
    check_attention(model)?;
    check_experts(model)?;
    within("model.norm_eps", model.norm_eps, Range::Positive)?;
    within("model.dropout", model.dropout, Range::Share)?;
    within("model.init_std", model.init_std, Range::Positive)
}

/// What goes with an architecture.
fn check_architecture(model: &ModelConfig) -> Result<()> {
    size("model.n_decoder_layer", model.decoder_layers())?;
    size("model.token_types", model.token_types.max(1))?;
    if model.architecture != Architecture::Encoder && model.head != Head::LanguageModel {
        let message = "decoders write: only encoders classify";
        return Err(refused(
            "model.head",
            head_name(model.head),
            message,
            hint!["add ", hint::set("model.architecture", "encoder")],
        ));
    }
    if model.architecture == Architecture::Encoder {
        let message = "only decoders bend or scale their logits";
        if model.logit_softcap > 0.0 {
            return Err(Error::invalid_value("model.logit_softcap", model.logit_softcap, message));
        }
        if model.scale_logits {
            return Err(Error::invalid_value("model.scale_logits", true, message));
        }
    }
    if model.architecture != Architecture::EncoderDecoder && model.n_decoder_layer > 0 {
        let message = "there is no decoder beside an encoder";
        let hint =
            hint![hint::set("model.architecture", "encoder-decoder"), ", or ", hint::key("model.n_layer")];
        return Err(refused("model.n_decoder_layer", model.n_decoder_layer, message, hint));
    }
    if model.architecture != Architecture::Decoder && model.prefix_attention {
        let message = "an encoder sees everything as it is";
        return Err(Error::invalid_value("model.prefix_attention", true, message));
    }
    if model.vocab_size > 0 && model.decoder_start_token >= model.vocab_size {
        let message = format!("the vocabulary ends at {}", model.vocab_size - 1);
        return Err(Error::invalid_value("model.decoder_start_token", model.decoder_start_token, message));
    }
    let mut labels: Vec<&str> = model.labels.iter().map(String::as_str).collect();
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid_value("model.labels", twice[0], "it is listed twice"));
    }
    match model.head {
        Head::LanguageModel | Head::Regression if !labels.is_empty() => {
            let message = "only classifiers have classes";
            let hint = hint!["add ", hint::set("model.head", "sequence-classification")];
            Err(refused("model.labels", labels.join(", "), message, hint))
        }
        _ => size("model.labels", labels.len().max(1)),
    }
}

fn head_name(head: Head) -> String {
    let name = serde_json::to_value(head).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

fn check_relative(model: &ModelConfig) -> Result<()> {
    if model.position != Position::Relative {
        return Ok(());
    }
    size("model.relative_buckets", model.relative_buckets)?;
    size("model.relative_max_distance", model.relative_max_distance)?;
    let (buckets, furthest) = (model.relative_buckets, model.relative_max_distance);
    if buckets < 4 || !buckets.is_multiple_of(4) {
        let message = "half of them are for one distance each, in both directions: a multiple of 4";
        return Err(Error::invalid_value("model.relative_buckets", buckets, message));
    }
    if furthest <= buckets / 2 {
        let message = format!("it must exceed half of `model.relative_buckets`, which is {buckets}");
        return Err(Error::invalid_value("model.relative_max_distance", furthest, message));
    }
    Ok(())
}

fn check_rope_scaling(model: &ModelConfig) -> Result<()> {
    within("model.rope_factor", model.rope_factor, Range::Positive)?;
    within("model.rope_low_freq_factor", model.rope_low_freq_factor, Range::Positive)?;
    within("model.rope_high_freq_factor", model.rope_high_freq_factor, Range::Positive)?;
    if model.rope_scaling == RopeScaling::None {
        return Ok(());
    }
    if model.position != Position::Rotary {
        let message = "only rotary positions have wavelengths to stretch";
        let name = if model.rope_scaling == RopeScaling::Linear { "linear" } else { "llama3" };
        return Err(refused(
            "model.rope_scaling",
            name,
            message,
            hint!["add ", hint::set("model.position", "rotary")],
        ));
    }
    if model.rope_scaling == RopeScaling::Llama3 {
        size("model.rope_original_context", model.rope_original_context)?;
        let (low, high) = (model.rope_low_freq_factor, model.rope_high_freq_factor);
        if high <= low {
            let message = format!("it must exceed `model.rope_low_freq_factor`, which is {low}");
            return Err(Error::invalid_value("model.rope_high_freq_factor", high, message));
        }
    }
    Ok(())
}

fn check_attention(model: &ModelConfig) -> Result<()> {
    within("model.attention_scale", model.attention_scale, Range::FromZero)?;
    within("model.attention_softcap", model.attention_softcap, Range::FromZero)?;
    within("model.logit_softcap", model.logit_softcap, Range::FromZero)?;
    size("model.sparse_block", model.sparse_block.max(1))?;
    size("model.sparse_local_blocks", model.sparse_local_blocks.max(1))?;
    size("model.sparse_global_tokens", model.sparse_global_tokens.max(1))?;
    let (every, offset) = (model.global_every, model.global_offset);
    if model.sliding_window == 0 && every > 0 {
        let message = "every layer sees everything: there is no window";
        return Err(refused(
            "model.global_every",
            every,
            message,
            hint![hint::choose("model.sliding_window", "N")],
        ));
    }
    if offset > 0 && offset >= every {
        let message = format!("it counts layers below `model.global_every`, which is {every}");
        return Err(Error::invalid_value("model.global_offset", offset, message));
    }
    Ok(())
}

fn check_experts(model: &ModelConfig) -> Result<()> {
    within("model.expert_capacity", model.expert_capacity, Range::FromZero)?;
    within("model.router_aux_loss", model.router_aux_loss, Range::FromZero)?;
    within("model.router_z_loss", model.router_z_loss, Range::FromZero)?;
    if !model.has_experts() {
        return match model.shared_expert_inner {
            0 => Ok(()),
            width => {
                let message = "there are no experts to share with";
                Err(refused(
                    "model.shared_expert_inner",
                    width,
                    message,
                    hint![hint::choose("model.n_experts", "N")],
                ))
            }
        };
    }
    size("model.n_experts", model.n_experts)?;
    size("model.shared_expert_inner", model.shared_expert_inner.max(1))?;
    if !(1..=model.n_experts).contains(&model.experts_per_token) {
        let message = format!("expected 1 to `model.n_experts`, which is {}", model.n_experts);
        return Err(Error::invalid_value("model.experts_per_token", model.experts_per_token, message));
    }
    if !model.activation.is_gated() || model.bias {
        let message = "experts are gated MLPs without biases";
        let hint = hint!["add ", hint::set("model.activation", "swiglu").and("model.bias", false)];
        return Err(refused("model.n_experts", model.n_experts, message, hint));
    }
    Ok(())
}

/// Refuses `model.n_embd`, with the nearest multiple of `unit` as the way out.
fn nearest_width(width: usize, unit: usize, message: String) -> Error {
    let below = width / unit * unit;
    let nearest = if below > 0 && width - below <= unit / 2 { below } else { below + unit };
    refused(
        "model.n_embd",
        width,
        message,
        hint!["the nearest that fits: ", hint::set("model.n_embd", nearest)],
    )
}
