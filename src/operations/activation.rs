//! The MLP's non-linearities, plain (GELU: arXiv:1606.08415) and gated (arXiv:2002.05202).

use serde::{Deserialize, Serialize};

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Relu,
    /// The exact GELU, with the error function.
    Gelu,
    /// The tanh approximation of GELU (GPT-2's `gelu_new`).
    GeluTanh,
    /// `silu(gate(x)) * up(x)` (arXiv:2002.05202).
    Swiglu,
    /// `gelu_tanh(gate(x)) * up(x)` (arXiv:2002.05202).
    Geglu,
    /// `gelu(gate(x)) * up(x)`, with the exact GELU (ModernBERT).
    GegluExact,
}

impl Activation {
    /// Whether the MLP has a gate projection beside the up projection.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Swiglu | Self::Geglu | Self::GegluExact)
    }
}
