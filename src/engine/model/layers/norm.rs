//! LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467) over the last dimension.

use crate::{
    config::{ModelConfig, Norm as NormKind},
    kernels::{
        Mode,
        linear::{Normalization, Prologue},
        norm::NormSpec,
    },
    model::init::Initializer,
};
use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

/// A normalization layer.
#[derive(Module, Debug)]
pub struct Norm {
    /// Factors, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Bias, `[width]`; only in LayerNorm.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    #[module(skip)]
    epsilon: f64,
    /// Number that is added to `weight` before use.
    #[module(skip)]
    offset: f64,
    #[module(skip)]
    mode: Mode,
}

impl Norm {
    /// Makes a norm of the residual stream's width.
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::of_width(config.n_embd, config, initializer)
    }

    pub(crate) fn of_width(width: usize, config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let bias = config.norm == NormKind::Layernorm && config.bias;
        let offset = if config.norm_offset { 1.0 } else { 0.0 };
        Self {
            weight: initializer.constant([width], 1.0 - offset as f32),
            bias: bias.then(|| initializer.constant([width], 0.0)),
            kind: config.norm,
            epsilon: config.norm_eps,
            offset,
            mode: initializer.mode,
        }
    }

    /// Normalizes the last dimension, `[..., width]` -> `[..., width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.prologue(x).resolve(self.mode)
    }

    /// Makes the norm of `x` the prologue of the linear layer that reads it.
    pub(crate) fn prologue<const D: usize>(&self, x: Tensor<D>) -> Prologue<D> {
        let spec = NormSpec {
            centered: self.kind == NormKind::Layernorm,
            epsilon: self.epsilon as f32,
            offset: self.offset as f32,
        };
        let bias = self.bias.as_ref().map(|bias| bias.val());
        Prologue::Normalized(x, Normalization { weight: self.weight.val(), bias, spec })
    }
}
