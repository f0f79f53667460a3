//! Training objectives. An [`Objective`] takes the model and a batch and returns a [`Loss`]: a tensor to
//! differentiate, and named metrics, which are shown everywhere without further changes.
//! `examples/custom_objective.rs` adds one from outside.

mod batch;
pub mod distill;
mod frozen;
mod metric;
mod neftune;
mod own_batches;
mod policy;
mod prediction;
pub mod preference;
mod reference;
pub mod reinforcement;
mod reward;
pub mod rollout;
pub mod router;
mod start;

pub use batch::{Batch, LossWeights};
pub use distill::Distill;
pub use frozen::Frozen;
pub use metric::{Average, Metric, MetricValue, Metrics};
pub(crate) use metric::{MetricSums, named};
pub use own_batches::{OwnBatches, Pending, Sample};
pub use policy::{PolicyOptimization, PolicyUpdate, UpdateTerms};
pub use prediction::Prediction;
pub use preference::{Kto, Preference};
pub use reference::Reference;
pub use reward::Reward;
pub use start::{Preparation, Start};

use crate::{
    config::{Config, ObjectiveKind},
    data::HostBatch,
    error::Result,
    model::{Model, parameters::NamedData},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor};

use reinforcement::Companion;

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

    /// Computes what the losses of a step need of all of its micro-batches, before the first of them. Must not
    /// wait for the device.
    fn begin_step(&self, _model: &Model, _batches: &[HostBatch], _device: &Device) {}

    /// Prepares for the first step of a run, or of its continuation, and checks what can be checked then.
    fn prepare<'a>(&'a mut self, _start: Start<'a>) -> Preparation<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes the micro-batches of the next step, if the objective makes them itself; otherwise the step is
    /// taken on rows of the training split.
    fn batches<'a>(&'a mut self, _run: Start<'a>) -> Pending<'a, Option<OwnBatches>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Evaluates `model`, without autodiff, on the validation split, if the objective does so itself. Returns
    /// a loss, which is the lower the better, and metrics.
    fn evaluate<'a>(&'a self, _run: Start<'a>, _model: &'a Model) -> Pending<'a, Option<(f64, Metrics)>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Modules that are trained beside the model.
    fn companion(&self) -> Option<&Companion> {
        None
    }

    /// Place of the modules that are trained beside the model, out of which an update takes them.
    fn companion_slot(&mut self) -> Option<&mut Option<Companion>> {
        None
    }

    /// State that a checkpoint keeps, so that a resumed run goes on as the uninterrupted one. The weights of
    /// the companion are kept in any case.
    fn state(&self) -> NamedData {
        NamedData::new()
    }

    /// Takes up the state of a checkpoint.
    ///
    /// # Errors
    /// A message about the tensor that is missing, broken or unknown.
    fn restore(&mut self, state: NamedData) -> Result<(), String> {
        match state.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("tensor `{name}` is of another objective")),
        }
    }

    /// Whether the loss measures how well the model's outputs predict the targets of a batch. If so, an
    /// evaluation also reports accuracy and, for a language model, perplexity, and the loss can be compared
    /// with that of a uniform prediction. Otherwise an evaluation reports this loss and its metrics.
    fn predicts_targets(&self) -> bool {
        false
    }
}

/// Makes the objective of a validated configuration for `model`, whose tokenizer is `tokenizer`. Opens the
/// second model that the objective needs, a reference or a teacher.
///
/// # Errors
/// [`Error::InvalidValue`](crate::Error::InvalidValue) if a second model is needed and none is named, or if it
/// does not suit the first one, and errors of opening it.
pub fn build(config: &Config, model: &Model, tokenizer: &Tokenizer) -> Result<Box<dyn Objective>> {
    let objective: Box<dyn Objective> = match config.objective_kind() {
        ObjectiveKind::Reward => Box::new(Reward::new(config)),
        ObjectiveKind::Dpo | ObjectiveKind::Orpo | ObjectiveKind::Simpo => {
            let reference = Reference::open(config, model, tokenizer)?;
            Box::new(Preference::new(config, reference))
        }
        ObjectiveKind::Kto => Box::new(Kto::open(config, model, tokenizer)?),
        ObjectiveKind::Distill => Box::new(Distill::open(config, model, tokenizer)?),
        ObjectiveKind::Ppo | ObjectiveKind::Grpo | ObjectiveKind::Rloo => {
            Box::new(PolicyOptimization::open(config, model, tokenizer)?)
        }
        _ => Box::new(Prediction::new(config)),
    };
    Ok(objective)
}

/// Totals of a step over all its micro-batches, by which losses and metrics are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepTotals {
    /// Number of rows, including those without a target.
    pub rows: usize,
    /// Sum of the weights of all targets: the number of targets if none is weighted.
    pub target_weight: f64,
    /// Number of examples with a target in each of their rows; a pair is one example.
    pub examples: usize,
    /// Number of targets in the first rows of these examples: those of preferred answers.
    pub first_targets: usize,
    /// Number of these examples whose first row has a value over a half: desirable answers.
    pub positive_examples: usize,
    /// Number of tokens that follow another one in the first rows of these examples: those of prompts and
    /// preferred answers.
    pub first_tokens: usize,
}

impl StepTotals {
    /// Totals of a step that consists of these micro-batches.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a HostBatch>) -> Self {
        batches.into_iter().fold(Self::default(), |mut total, batch| {
            total.add(batch);
            total
        })
    }

    /// Adds a micro-batch.
    pub fn add(&mut self, batch: &HostBatch) {
        self.rows += batch.rows;
        self.target_weight += batch.target_weight();
        for example in (0..batch.examples()).filter(|&example| batch.is_example(example)) {
            let first = example * batch.rows_per_example.max(1);
            self.examples += 1;
            self.positive_examples += usize::from(batch.values.get(first).is_some_and(|&value| value > 0.5));
            self.first_targets += batch.row_targets(first);
            self.first_tokens += batch.row_length(first);
        }
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
