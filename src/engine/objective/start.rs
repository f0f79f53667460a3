//! The parts of a run that an objective may use when it prepares for the first step.

use super::rollout::rewards::ScoreCommand;
use crate::{
    config::Config,
    data::{Dataset, HostBatch, Loader, RowLayout, TokenSplit, evaluation_batches},
    error::Result,
    model::Model,
};
use burn::tensor::Device;
use std::{pin::Pin, sync::Arc};

/// A preparation in progress. It may wait for the device.
pub type Preparation<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A run before its first step, or before the first step of its continuation.
pub struct Start<'a> {
    pub config: &'a Config,
    pub model: &'a Model,
    pub dataset: &'a Dataset,
    pub layout: &'a RowLayout,
    pub loader: &'a Loader,
    /// Training device, with autodiff.
    pub device: &'a Device,
    /// Number of finished steps.
    pub steps_done: u64,
    /// Runs the commands among the rewards; `None` where no commands can be run.
    pub score_command: Option<&'a ScoreCommand>,
}

impl<'a> Start<'a> {
    /// The first micro-batch of the run.
    pub fn first_batch(&self) -> HostBatch {
        self.loader.rows(0, 0..self.config.train.batch_size)
    }

    /// Batches of all rows that the run trains on or evaluates; some rows may come twice. A continued run has the
    /// same batches.
    pub fn batches(&self) -> impl Iterator<Item = HostBatch> + use<'a> {
        let Self { config, dataset, layout, loader, .. } = *self;
        let train = &config.train;
        let whole = |split: &Arc<TokenSplit>, limit| {
            evaluation_batches(split.clone(), layout.clone(), train.batch_size, limit)
        };
        let is_short = loader.epoch(train.max_steps) < 1.0;
        // Of a split that the run does not read once, only the rows that it reads.
        let of_steps = 0..if is_short { train.max_steps } else { 0 };
        let of_steps = of_steps.flat_map(move |step| {
            let rows = move |i: usize| i * train.batch_size..(i + 1) * train.batch_size;
            (0..train.gradient_accumulation_steps).map(move |i| loader.rows(step, rows(i)))
        });
        let of_epoch = (!is_short).then(|| whole(&dataset.train, 0)).into_iter().flatten();
        let evaluates = train.eval_interval > 0 && !dataset.val.is_empty();
        let of_validation = evaluates.then(|| whole(&dataset.val, train.eval_batches)).into_iter().flatten();
        of_steps.chain(of_epoch).chain(of_validation)
    }
}
