//! Batches that an objective makes itself, for example of answers that the model has sampled.

use crate::{data::HostBatch, error::Result};
use std::pin::Pin;

/// A result that is not there yet, because the device or a command is still busy.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Micro-batches of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnBatches {
    pub batches: Vec<HostBatch>,
    /// Texts to record, if the step is the first on them.
    pub samples: Vec<Sample>,
}

/// A text that the model has sampled in training, with its reward.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub text: String,
    pub reward: f32,
}
