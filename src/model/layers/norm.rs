//! LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467) over the last dimension.

use crate::{
    config::{ModelConfig, Norm as NormKind},
    model::init::Initializer,
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, module::layer_norm},
};

/// A normalization layer.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[n_embd]`
    pub weight: Param<Tensor<1>>,
    /// `[n_embd]`, LayerNorm only.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    #[module(skip)]
    epsilon: f64,
}

impl Norm {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let bias = config.norm == NormKind::Layernorm && config.bias;
        Self {
            weight: initializer.constant([config.n_embd], 1.0),
            bias: bias.then(|| initializer.constant([config.n_embd], 0.0)),
            kind: config.norm,
            epsilon: config.norm_eps,
        }
    }

    /// `[B, T, n_embd]` -> `[B, T, n_embd]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self.kind {
            NormKind::Layernorm => {
                layer_norm(x, self.weight.val(), self.bias.as_ref().map(|bias| bias.val()), self.epsilon)
            }
            NormKind::Rmsnorm => {
                let mean_square = x.clone().square().mean_dim(2); // [B, T, 1]
                let scale = mean_square.add_scalar(self.epsilon).sqrt().recip();
                x * scale * self.weight.val().unsqueeze()
            }
        }
    }
}
