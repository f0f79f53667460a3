//! The position-wise feed-forward layer, plain or gated (arXiv:2002.05202).

use super::linear::Linear;
use crate::{
    config::{Activation, ModelConfig},
    model::init::Initializer,
};
use burn::{
    module::Module,
    tensor::{
        Tensor,
        activation::{gelu, gelu_approximate, relu, silu},
    },
};

/// Up projection, non-linearity, down projection.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[n_embd, n_inner]`; gated: `[n_embd, 2 * n_inner]`, the gate's columns first.
    pub up: Linear,
    /// `[n_inner, n_embd]`
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::of_width(config.inner_size(), config, initializer)
    }

    pub(crate) fn of_width(inner: usize, config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let up_size = if config.activation.is_gated() { 2 * inner } else { inner };
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        Self {
            up: Linear::init([config.n_embd, up_size], config.bias, std, initializer),
            down: Linear::init([inner, config.n_embd], config.bias, residual_std, initializer),
            activation: config.activation,
        }
    }

    /// `[B, T, n_embd]` -> `[B, T, n_embd]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.down.forward(gate(self.activation, self.up.forward(x)))
    }
}

/// The non-linearity: `[.., n_inner]` -> the same, or gated `[.., 2 * n_inner]` -> `[.., n_inner]`.
pub(crate) fn gate(activation: Activation, x: Tensor<3>) -> Tensor<3> {
    match activation {
        Activation::Relu => relu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
        gated @ (Activation::Swiglu | Activation::Geglu | Activation::GegluExact) => {
            let (gate, up) = halves(x);
            ungated(gated, gate) * up
        }
    }
}

/// The non-linearity without its gate.
pub(crate) fn ungated(activation: Activation, x: Tensor<3>) -> Tensor<3> {
    match activation {
        Activation::Swiglu => silu(x),
        Activation::Geglu => gelu_approximate(x),
        Activation::GegluExact => gelu(x),
        plain => gate(plain, x),
    }
}

/// `[B, T, 2 * n]` -> two of `[B, T, n]`
fn halves(x: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
    let n = x.dims()[2] / 2;
    (x.clone().narrow(2, 0, n), x.narrow(2, n, n))
}
