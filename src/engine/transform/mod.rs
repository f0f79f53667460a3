//! Changes to a model from outside, applied between building and training; the model's own files do not know
//! of them. They are part of the configuration, so that checkpoints preserve them.

pub mod adapter;
mod freeze;
pub mod pruning;
mod recompute;
mod reduced;

pub use reduced::reduce_weights;

use crate::{config::Config, error::Result, model::Model};

/// Applies the changes that a configuration describes to a model that will be trained.
///
/// # Errors
/// [`Error::InvalidValue`](crate::Error::InvalidValue) for a pattern of `train.freeze` that no parameter
/// matches, or if nothing is left to train.
pub fn apply(config: &Config, model: Model) -> Result<Model> {
    let model = recompute::recompute(model, config.train.recompute);
    freeze::freeze(model, &config.train.freeze)
}
