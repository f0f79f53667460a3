//! Changes to a model from outside, applied between building and training: model files do not know of them.
//! The configuration describes them, so that checkpoints keep them.

mod freeze;

use crate::{config::Config, error::Result, model::Model};

/// Applies what a configuration asks for to a model that is about to be trained.
///
/// # Errors
/// [`Error::InvalidValue`](crate::Error::InvalidValue) for a pattern of `train.freeze` that no parameter matches,
/// or if nothing is left to train.
pub fn apply(config: &Config, model: Model) -> Result<Model> {
    freeze::freeze(model, &config.train.freeze)
}
