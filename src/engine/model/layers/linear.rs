//! Linear layers, `y = x W + b`, with `W` stored as `[d_input, d_output]` like in GPT-2.

use crate::{
    kernels::{
        Mode,
        linear::{Epilogue, Prologue, linear},
    },
    model::init::Initializer,
};
use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

/// A linear layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_input, d_output]`
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    mode: Mode,
}

impl Linear {
    pub(crate) fn init(
        [d_input, d_output]: [usize; 2],
        bias: bool,
        std: f64,
        initializer: &mut Initializer,
    ) -> Self {
        Self {
            weight: initializer.normal([d_input, d_output], std),
            bias: bias.then(|| initializer.constant([d_output], 0.0)),
            mode: initializer.mode,
        }
    }

    /// Computes `[..., d_input]` -> `[..., d_output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_onto(x, None)
    }

    /// Computes `[..., d_input]` -> `[..., d_output]` and adds `residual` if given.
    pub(crate) fn forward_onto<const D: usize>(
        &self,
        x: impl Into<Prologue<D>>,
        residual: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        linear(x, self.weight.val(), false, Epilogue { bias, residual }, self.mode)
    }
}
