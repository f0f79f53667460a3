//! The MLP's non-linearity, plain (GELU: arXiv:1606.08415) or gated (arXiv:2002.05202).

use super::{Mode, backend::Differentiable, trace};
use burn::{
    backend::Dispatch,
    tensor::{
        Tensor,
        activation::{gelu, gelu_approximate, relu, silu},
    },
};
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

/// Applies the non-linearity: `[.., n_inner]` -> `[.., n_inner]`, or, if gated, `[.., 2 * n_inner]` with the
/// gates first -> `[.., n_inner]`.
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation, mode: Mode) -> Tensor<D> {
    if !mode.fuses(&x) {
        return trace::output("activation", reference(x, activation));
    }
    let y = Tensor::from_dispatch(Dispatch::activation(x.into_dispatch(), activation));
    trace::output("activation", y)
}

/// Unfused reference of the MLP's non-linearity, made of Burn's operations.
pub fn reference<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    if !activation.is_gated() {
        return pointwise(x, activation);
    }
    let inner = x.dims()[D - 1] / 2;
    let (gate, up) = (x.clone().narrow(D - 1, 0, inner), x.narrow(D - 1, inner, inner));
    pointwise(gate, activation) * up
}

/// Elementwise non-linearity without its gate.
pub fn pointwise<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Relu => relu(x),
        Activation::Gelu | Activation::GegluExact => gelu(x),
        Activation::GeluTanh | Activation::Geglu => gelu_approximate(x),
        Activation::Swiglu => silu(x),
    }
}
