//! Activations by the names that transformers has for them. Some have several names, which differ in the
//! implementation but not in the function.

use super::Fields;
use crate::{config::Activation, error::Result};

/// Names of activations without a gate. The first name of an activation is the one that is written.
const PLAIN: [(&str, Activation); 8] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("relu", Activation::Relu),
];

/// Names of activations with a gate. The first name of an activation is the one that is written.
const GATED: [(&str, Activation); 9] = [
    ("silu", Activation::Swiglu),
    ("swish", Activation::Swiglu),
    ("gelu_pytorch_tanh", Activation::Geglu),
    ("gelu_new", Activation::Geglu),
    ("gelu_python_tanh", Activation::Geglu),
    ("gelu_fast", Activation::Geglu),
    ("gelu_accurate", Activation::Geglu),
    ("gelu", Activation::GegluExact),
    ("gelu_python", Activation::GegluExact),
];

/// Name in transformers of an activation without a gate; `None` for one with a gate.
pub(super) fn plain_name(activation: Activation) -> Option<&'static str> {
    PLAIN.iter().find(|(_, ours)| *ours == activation).map(|(name, _)| *name)
}

/// Name in transformers of a gate's non-linearity; `None` for an activation without a gate.
pub(super) fn gate_name(activation: Activation) -> Option<&'static str> {
    GATED.iter().find(|(_, ours)| *ours == activation).map(|(name, _)| *name)
}

/// Activation of an MLP, with a gate or without, by its name in transformers; `None` if Kiln does not have
/// it.
pub(super) fn by_name(name: &str, is_gated: bool) -> Option<Activation> {
    let known = if is_gated { &GATED[..] } else { &PLAIN[..] };
    known.iter().find(|(known, _)| *known == name).map(|(_, ours)| *ours)
}

/// Reads the activation that a field names.
pub(super) fn read(fields: &Fields, key: &str, default: &str, is_gated: bool) -> Result<Activation> {
    let name = fields.text_or(key, default)?;
    by_name(name, is_gated)
        .ok_or_else(|| fields.failed(format!("`{key}` is `{name}`, which kiln does not have")))
}
