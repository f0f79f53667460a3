//! An exponential moving average of the weights (Polyak averaging).

use crate::model::parameters::{FlatTensor, parameters, trainable_shapes};
use burn::{
    module::Module,
    tensor::{Bool, Tensor},
};
use std::collections::BTreeMap;

/// Averaged weights by parameter name.
#[derive(Debug, Clone)]
pub struct Ema {
    pub decay: f64,
    pub weights: BTreeMap<String, FlatTensor>,
}

impl Ema {
    /// Starts with the weights of `model` that are trained; frozen weights need no average.
    pub fn new<M: Module>(decay: f64, model: &M) -> Self {
        let trainable = trainable_shapes(model);
        let mut weights = parameters(model);
        weights.retain(|name, _| trainable.contains_key(name));
        Self { decay, weights }
    }

    /// Updates the average: `average = decay * average + (1 - decay) * weights`.
    ///
    /// `keep_if`, a `[1]` tensor, skips the update if it is false.
    pub fn update<M: Module>(&mut self, model: &M, keep_if: Option<&Tensor<1, Bool>>) {
        for (name, new) in parameters(model) {
            if let Some(average) = self.weights.get_mut(&name) {
                let decay = self.decay;
                average.values.inplace(|old| {
                    let moved = old.clone().mul_scalar(decay) + new.values.mul_scalar(1.0 - decay);
                    match keep_if {
                        None => moved,
                        Some(keep_if) => old.mask_where(keep_if.clone().expand(moved.dims()), moved),
                    }
                });
            }
        }
    }
}
