//! Linear layers, `y = x W + b`, with `W` stored as `[d_input, d_output]` like in GPT-2.

use super::adapter::Adapter;
use crate::{
    kernels::{
        Mode, Precision,
        linear::{Epilogue, Prologue, linear},
    },
    model::{Pass, init::Initializer},
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
    /// Changes of the layer from outside.
    pub adapter: Option<Adapter>,
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
            adapter: None,
            mode: initializer.mode,
        }
    }

    /// The layer with products in f32, whatever the precision of the model.
    pub(crate) fn in_f32(self) -> Self {
        Self { mode: self.mode.with_precision(Precision::F32), ..self }
    }

    /// Computes `[..., d_input]` -> `[..., d_output]`, without dropout.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_onto(x, None, &Pass::default())
    }

    /// Computes `[..., d_input]` -> `[..., d_output]` and adds `residual` if given.
    pub(crate) fn forward_onto<const D: usize>(
        &self,
        x: impl Into<Prologue<D>>,
        residual: Option<Tensor<D>>,
        pass: &Pass,
    ) -> Tensor<D> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        let (weight, epilogue) = (self.weight.val(), Epilogue { bias, residual, low_rank: None });
        match &self.adapter {
            None => linear(x, weight, false, epilogue, self.mode),
            Some(adapter) => adapter.forward(x.into(), weight, epilogue, pass, self.mode),
        }
    }

    /// The matrix with changes from outside in it, `[d_input, d_output]`.
    pub(crate) fn effective_weight(&self) -> Tensor<2> {
        match &self.adapter {
            None => self.weight.val(),
            Some(adapter) => adapter.effective(self.weight.val()),
        }
    }
}
