//! A second model that an objective asks but does not train: a teacher, a reference policy.

use super::Batch;
use crate::model::Model;
use burn::{module::Module, tensor::Tensor};

/// A model without gradients, on the device of the model in training.
#[derive(Debug, Clone)]
pub struct Frozen {
    model: Model,
}

impl Frozen {
    /// Takes the weights of `model` as they are now. They share memory with it until one of the two changes.
    pub fn new(model: &Model) -> Self {
        Self { model: model.valid() }
    }

    /// Logits `[N, vocab_size or classes]` of a batch, which gradients take for constants.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().logits(&self.model))
    }

    /// Logarithm of the probability of each target, `[N, 1]`, 0 where there is none.
    pub fn log_probabilities(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().log_probabilities(&self.model))
    }
}
