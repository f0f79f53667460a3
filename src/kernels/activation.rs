//! The MLP's non-linearity, plain (GELU: arXiv:1606.08415) or gated (arXiv:2002.05202).

pub use kiln_operations::activation::Activation;

use super::{Mode, backend::Differentiable, trace};
use burn::{
    backend::Dispatch,
    tensor::{
        Tensor,
        activation::{gelu, gelu_approximate, relu, silu},
    },
};

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
