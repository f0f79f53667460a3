//! The position-wise feed-forward layer, plain or gated (arXiv:2002.05202).

use super::linear::Linear;
use crate::{
    config::{Activation, ModelConfig},
    kernels::{linear::Prologue, trace::layer},
    model::{Pass, init::Initializer},
};
use burn::{module::Module, tensor::Tensor};

/// An MLP: up projection, non-linearity, down projection.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Up projection, `[n_embd, n_inner]`, or, if gated, `[n_embd, 2 * n_inner]` with the gate's columns
    /// first.
    pub up: Linear,
    /// Down projection, `[n_inner, n_embd]`.
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::of_width(config.inner_size(), config, initializer)
    }

    pub(crate) fn of_width(inner: usize, config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let up_size = if config.activation.is_gated() { inner.saturating_mul(2) } else { inner };
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        Self {
            up: Linear::init([config.n_embd, up_size], config.bias, std, initializer),
            down: Linear::init([inner, config.n_embd], config.bias, residual_std, initializer),
            activation: config.activation,
        }
    }

    /// Computes `[B, T, n_embd]` -> `[B, T, n_embd]` and adds `residual` if given.
    pub(crate) fn forward(
        &self,
        x: impl Into<Prologue<3>>,
        residual: Option<Tensor<3>>,
        pass: &Pass,
    ) -> Tensor<3> {
        let up = layer("up", None, || self.up.forward_onto(x, None, pass));
        let inner = Prologue::Activated(up, self.activation);
        layer("down", None, || self.down.forward_onto(inner, residual, pass))
    }
}
