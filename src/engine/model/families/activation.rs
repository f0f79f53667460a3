//! Non-linearities by the names that transformers has for them. It has several for some, which differ in
//! how they are computed and not in what.

use super::Fields;
use crate::{config::Activation, error::Result};

/// Names of activations without a gate; the first name of an activation is the one that is stored.
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

/// Names of activations of a gate, likewise.
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

/// transformers' name of a plain activation; `None` for a gate.
pub(super) fn plain_name(activation: Activation) -> Option<&'static str> {
    PLAIN.iter().find(|(_, ours)| *ours == activation).map(|(name, _)| *name)
}

/// transformers' name of a gate's non-linearity; `None` for an activation without a gate.
pub(super) fn gate_name(activation: Activation) -> Option<&'static str> {
    GATED.iter().find(|(_, ours)| *ours == activation).map(|(name, _)| *name)
}

/// The activation of an MLP, with a gate or without, by transformers' name; `None` where Kiln has none.
pub(super) fn by_name(name: &str, is_gated: bool) -> Option<Activation> {
    let known = if is_gated { &GATED[..] } else { &PLAIN[..] };
    known.iter().find(|(known, _)| *known == name).map(|(_, ours)| *ours)
}

/// The activation that a field names.
pub(super) fn read(fields: &Fields, key: &str, default: &str, is_gated: bool) -> Result<Activation> {
    let name = fields.text_or(key, default)?;
    by_name(name, is_gated)
        .ok_or_else(|| fields.failed(format!("`{key}` is `{name}`, which kiln does not have")))
}
