//! Training objectives. An [`Objective`] takes the model and a batch and returns a [`Loss`]: a tensor to
//! differentiate, and named metrics, which are shown everywhere without further changes.
//! `examples/custom_objective.rs` adds one from outside.

mod batch;
mod frozen;
mod metric;
mod prediction;
pub mod router;

pub use batch::{Batch, LossWeights};
pub use frozen::Frozen;
pub use metric::{Average, Metric, MetricValue, Metrics};
pub(crate) use metric::{MetricSums, named};
pub use prediction::Prediction;

use crate::{config::Config, data::HostBatch, model::Model};
use burn::tensor::Tensor;

/// Objective that a training step minimizes.
///
/// An objective may own further data, for example a second, frozen model ([`Frozen`]).
pub trait Objective {
    /// Computes the loss of one micro-batch as its share of the step's loss. Shares are added, so that the
    /// step does not depend on how its rows are divided into micro-batches. `step` contains totals over all
    /// micro-batches of the step.
    ///
    /// An implementation must not wait for the device.
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss;

    /// Whether the loss measures how well the model's outputs predict the targets of a batch. If so, an
    /// evaluation also reports accuracy and, for a language model, perplexity, and the loss can be compared
    /// with that of a uniform prediction. Otherwise an evaluation reports this loss and its metrics.
    fn predicts_targets(&self) -> bool {
        false
    }
}

/// Makes the objective of a validated configuration.
pub fn build(config: &Config) -> Box<dyn Objective> {
    Box::new(Prediction::new(config))
}

/// Totals of a step over all its micro-batches, by which losses and metrics are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepTotals {
    /// Number of rows, including those without a target.
    pub rows: usize,
    /// Sum of the weights of all targets: the number of targets if none is weighted.
    pub target_weight: f64,
}

impl StepTotals {
    /// Totals of a step that consists of these micro-batches.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a HostBatch>) -> Self {
        batches.into_iter().fold(Self::default(), |total, batch| Self {
            rows: total.rows + batch.rows,
            target_weight: total.target_weight + batch.target_weight(),
        })
    }

    /// Divisor of a mean over targets; 1 for a step without targets, whose loss is 0.
    pub fn divisor(&self) -> f64 {
        if self.target_weight > 0.0 { self.target_weight } else { 1.0 }
    }
}

/// Loss of one micro-batch, as its share of the step's loss.
pub struct Loss {
    /// Loss that is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// Loss that is reported, `[1]`: `total` without auxiliary terms such as a router's.
    pub reported: Tensor<1>,
    /// Further metrics to report.
    pub metrics: Vec<Metric>,
}

impl Loss {
    /// Makes a loss, `[1]`, that is both differentiated and reported.
    pub fn new(total: Tensor<1>) -> Self {
        Self { reported: total.clone(), total, metrics: Vec::new() }
    }

    /// Adds a metric, `[1]` or `[K]`. `average` says how the values of several micro-batches are combined.
    /// Names are like `accuracy` or `router/z`; the part before `/` groups them.
    pub fn with_metric<const D: usize>(
        mut self,
        name: &'static str,
        value: Tensor<D>,
        average: Average,
    ) -> Self {
        self.metrics.push(Metric::new(name, value, average));
        self
    }
}
