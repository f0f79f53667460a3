//! A second model that an objective evaluates but does not train: a teacher, or a reference policy.

use super::Batch;
use crate::model::Model;
use burn::{module::Module, tensor::Tensor};

/// A model without gradients, on the device of the model in training.
#[derive(Debug, Clone)]
pub struct Frozen {
    model: Model,
}

impl Frozen {
    /// Copies the present weights of `model`. They share memory with it until one of the two changes.
    pub fn new(model: &Model) -> Self {
        Self { model: model.valid() }
    }

    /// Logits of a batch, `[N, vocab_size or classes]`, through which no gradients flow.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().logits(&self.model))
    }

    /// Log-probability of each target, `[N, 1]`; 0 where there is no target.
    pub fn log_probabilities(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().log_probabilities(&self.model))
    }
}
