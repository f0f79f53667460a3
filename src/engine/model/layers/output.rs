//! Output projection: hidden states of a decoder to logits of the vocabulary, or to one number.

use super::{embeddings::Embeddings, linear::Linear};
use crate::{
    config::{Head, ModelConfig},
    kernels::{
        Mode,
        linear::{Epilogue, linear},
        softcap::softcap,
    },
    model::init::Initializer,
};
use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

/// The output projection of a decoder.
#[derive(Module, Debug)]
pub struct Output {
    /// Output projection, `[n_embd, vocab_size]`, or `[n_embd, 1]` for a number; `None` if it is tied to the
    /// embedding.
    pub head: Option<Linear>,
    /// Factor that the hidden states are multiplied by.
    #[module(skip)]
    scale: f64,
    /// Soft cap of the logits; 0 disables it.
    #[module(skip)]
    softcap: f64,
    #[module(skip)]
    mode: Mode,
}

impl Output {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let sizes = [config.n_embd, config.outputs()];
        let of_vocabulary = config.head == Head::LanguageModel;
        let is_tied = config.tie_embeddings && of_vocabulary;
        Self {
            head: (!is_tied).then(|| Linear::init(sizes, false, config.init_std, initializer)),
            scale: if config.scale_logits { 1.0 / (config.n_embd as f64).sqrt() } else { 1.0 },
            softcap: config.logit_softcap.filter(|_| of_vocabulary).unwrap_or(0.0),
            mode: initializer.mode,
        }
    }

    /// Computes logits of hidden states, `[B, T, n_embd]` -> `[B, T, vocab_size]`.
    pub(crate) fn forward(&self, x: Tensor<3>, embeddings: &Embeddings) -> Tensor<3> {
        let x = self.scaled(x);
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => embeddings.tied_logits(x),
        };
        if self.softcap > 0.0 { softcap(logits, self.softcap) } else { logits }
    }

    /// Prepares the output projection of hidden states `[B, T, n_embd]`, without computing the product.
    pub(crate) fn project(&self, x: Tensor<3>, embeddings: &Embeddings) -> Projection {
        let (weight, transposed) = match &self.head {
            Some(head) => (head.effective_weight(), false),
            None => (embeddings.output_table(), true),
        };
        let states = flat(self.scaled(x));
        Projection { states, weight, transposed, softcap: self.softcap, mode: self.mode }
    }

    fn scaled(&self, x: Tensor<3>) -> Tensor<3> {
        if self.scale == 1.0 { x } else { x.mul_scalar(self.scale) }
    }
}

/// Merges batch and time, `[B, T, width]` -> `[B T, width]`.
pub(crate) fn flat(x: Tensor<3>) -> Tensor<2> {
    let [batch, time, width] = x.dims();
    x.reshape([batch * time, width])
}

/// An output projection before its product is computed.
pub struct Projection {
    /// Hidden states, `[N, n_embd]`.
    pub states: Tensor<2>,
    /// Weight of the projection, `[n_embd, vocab_size]`, or `[vocab_size, n_embd]` if `transposed`.
    pub weight: Tensor<2>,
    pub transposed: bool,
    /// Soft cap of the logits; 0 disables it.
    pub softcap: f64,
    pub mode: Mode,
}

impl Projection {
    /// Projection of some of the rows, by their indices.
    pub(crate) fn select(self, rows: Tensor<1, Int>) -> Self {
        Self { states: self.states.select(0, rows), ..self }
    }

    /// Computes the logits, `[N, vocab_size]`.
    pub fn logits(self) -> Tensor<2> {
        let Self { states, weight, transposed, softcap: limit, mode } = self;
        let logits = linear(states, weight, transposed, Epilogue::default(), mode);
        if limit > 0.0 { softcap(logits, limit) } else { logits }
    }
}
