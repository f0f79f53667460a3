//! Validation of the `model` section.

use super::{refused, size};
use crate::{
    config::{Architecture, AttentionConfig, Head, ModelConfig, Position, RopeConfig, RopeScaling},
    error::{Error, Result, hint},
};

pub(super) fn check(model: &ModelConfig) -> Result<()> {
    // What is derived where nothing is set.
    size("model.n_inner", model.inner_size())?;
    let (width, heads) = (model.n_embd, model.n_head);
    if model.head_dim.is_none() && !width.is_multiple_of(heads) {
        let message = format!("heads that don't divide the width: `model.n_head` is {heads}");
        return Err(nearest_width(width, heads, message));
    }
    size("model.head_dim", model.head_size())?;
    if !heads.is_multiple_of(model.kv_heads()) {
        let message = format!("key and value heads must divide `model.n_head`, which is {heads}");
        let divisors: Vec<_> =
            (1..=heads).filter(|n| heads.is_multiple_of(*n)).map(|n| n.to_string()).collect();
        let hint = format!("one of {}", divisors.join(", "));
        return Err(refused("model.n_kv_head", model.kv_heads(), message, hint));
    }
    match model.position {
        Position::Rotary if !model.head_size().is_multiple_of(2) => {
            if let Some(head_dim) = model.head_dim {
                let message = "rotary positions need heads of even width";
                return Err(Error::invalid_value("model.head_dim", head_dim, message));
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
    check_architecture(model)?;
    check_relative(model)?;
    check_rope_scaling(model)?;
    check_attention(model)?;
    check_experts(model)
}

/// Checks that the other keys suit the architecture.
fn check_architecture(model: &ModelConfig) -> Result<()> {
    let scores_text = model.architecture == Architecture::Decoder && model.head == Head::Regression;
    if model.architecture != Architecture::Encoder && model.head != Head::LanguageModel && !scores_text {
        let message = "decoders generate text or give it a number: only encoders classify";
        return Err(refused(
            "model.head",
            head_name(model.head),
            message,
            hint!["add ", hint::set("model.architecture", "encoder")],
        ));
    }
    if model.architecture == Architecture::Encoder {
        let message = "only decoders bend or scale their logits";
        if let Some(softcap) = model.logit_softcap {
            return Err(Error::invalid_value("model.logit_softcap", softcap, message));
        }
        if model.scale_logits {
            return Err(Error::invalid_value("model.scale_logits", true, message));
        }
    }
    if let Some(layers) = model.n_decoder_layer.filter(|_| model.architecture != Architecture::EncoderDecoder)
    {
        let message = "there is no decoder beside an encoder";
        let hint =
            hint![hint::set("model.architecture", "encoder-decoder"), ", or ", hint::key("model.n_layer")];
        return Err(refused("model.n_decoder_layer", layers, message, hint));
    }
    if model.architecture != Architecture::Decoder && model.attention.prefix {
        let message = "an encoder sees everything as it is";
        return Err(Error::invalid_value("model.attention.prefix", true, message));
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
    let RopeConfig { scaling, original_context, low_freq_factor: low, high_freq_factor: high, .. } =
        model.rope;
    if scaling == RopeScaling::None {
        return Ok(());
    }
    if model.position != Position::Rotary {
        let message = "only rotary positions have wavelengths to stretch";
        let name = if scaling == RopeScaling::Linear { "linear" } else { "llama3" };
        return Err(refused(
            "model.rope.scaling",
            name,
            message,
            hint!["add ", hint::set("model.position", "rotary")],
        ));
    }
    if scaling == RopeScaling::Llama3 {
        if original_context.is_none() {
            let message = "it stretches wavelengths by the context that they were made for";
            let hint = hint!["add ", hint::choose("model.rope.original_context", "N")];
            return Err(refused("model.rope.scaling", "llama3", message, hint));
        }
        if high <= low {
            let message = format!("it must exceed `model.rope.low_freq_factor`, which is {low}");
            return Err(Error::invalid_value("model.rope.high_freq_factor", high, message));
        }
    }
    Ok(())
}

fn check_attention(model: &ModelConfig) -> Result<()> {
    let AttentionConfig {
        sliding_window, full_attention_every: every, full_attention_offset: offset, ..
    } = model.attention;
    if let Some(every) = every.filter(|_| sliding_window.is_none()) {
        let message = "every layer attends to everything: there is no window";
        let hint = hint![hint::choose("model.attention.sliding_window", "N")];
        return Err(refused("model.attention.full_attention_every", every, message, hint));
    }
    if offset > 0 && every.is_none_or(|every| offset >= every) {
        let every = every.map_or("absent".into(), |every| every.to_string());
        let message =
            format!("it counts layers below `model.attention.full_attention_every`, which is {every}");
        return Err(Error::invalid_value("model.attention.full_attention_offset", offset, message));
    }
    Ok(())
}

fn check_experts(model: &ModelConfig) -> Result<()> {
    let moe = model.moe;
    if !model.has_experts() {
        return match moe.shared_expert_inner {
            None => Ok(()),
            Some(width) => {
                let message = "there are no experts to share with";
                Err(refused(
                    "model.moe.shared_expert_inner",
                    width,
                    message,
                    hint![hint::choose("model.moe.n_experts", "N")],
                ))
            }
        };
    }
    if !(1..=moe.n_experts).contains(&moe.experts_per_token) {
        let message = format!("expected 1 to `model.moe.n_experts`, which is {}", moe.n_experts);
        return Err(Error::invalid_value("model.moe.experts_per_token", moe.experts_per_token, message));
    }
    if !model.activation.is_gated() || model.bias {
        let message = "experts are gated MLPs without biases";
        let hint = hint!["add ", hint::set("model.activation", "swiglu").and("model.bias", false)];
        return Err(refused("model.moe.n_experts", moe.n_experts, message, hint));
    }
    Ok(())
}

/// Refuses `model.n_embd` and suggests the nearest multiple of `unit`.
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
