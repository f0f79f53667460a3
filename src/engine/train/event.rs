//! Events that the training loop reports to a terminal, a log or a page.

use crate::{eval::memorization::Memorization, objective::Metrics};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something worth showing. Serialized with a `type` tag, one JSON object each, in `log.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "TrainEvent"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Started(RunInfo),
    Step(StepReport),
    Evaluation(EvaluationReport),
    /// The validation loss rises while the training loss falls; once in a run.
    Overfitting(OverfittingReport),
    Tasks(TaskReport),
    Sample(SampleReport),
    Checkpoint(CheckpointReport),
    /// A step that was skipped because its loss or gradient norm was not finite.
    Skipped {
        step: u64,
        loss: f32,
        grad_norm: f32,
        batch: String,
    },
    Finished(FinishReport),
    /// Memorization of the training text by the trained model.
    Memorization(MemorizationReport),
}

/// Description of a run, before its first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct RunInfo {
    /// For example `cpu` or `wgpu:0 (NVIDIA H100)`.
    pub device: String,
    pub parameters: usize,
    pub vocab_size: usize,
    pub train_tokens: usize,
    pub val_tokens: usize,
    /// Tokens of one optimizer step.
    pub tokens_per_step: usize,
    /// Floating-point operations of one optimizer step, forward and backward.
    pub flops_per_step: f64,
    /// Measured matrix-product peak of the device in FLOP/s, if it was measured.
    pub peak_flops: Option<f64>,
    /// Steps done before this process (resume).
    pub first_step: u64,
    pub last_step: u64,
    /// Steps between readings of the loss, and between lines of a plain log.
    pub log_interval: u64,
    /// Loss of giving every token or class the same probability, in nats. A regression has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform_loss: Option<f64>,
    /// Whether `exp` of a loss is a perplexity: the loss of a language model is over its vocabulary, that of
    /// a classifier is over a few classes. Logs that do not say so are taken for those of language models.
    #[serde(default = "yes")]
    pub has_perplexity: bool,
    /// Notes for the user before the run starts, a sentence each: data that is left out, a learning rate that jumps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn yes() -> bool {
    true
}

/// One optimizer step. `step` counts finished steps: the first report says 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct StepReport {
    pub step: u64,
    /// Mean cross entropy per target token, in nats.
    pub loss: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f32,
    pub learning_rate: f64,
    /// Tokens read since the run began, over all resumes.
    pub tokens: u64,
    /// Over the time since the previous reports were read.
    pub tokens_per_second: f64,
    /// Share of the measured peak, if there is one.
    pub mfu: Option<f64>,
    /// Passes over the training split so far.
    pub epoch: f64,
    /// Seconds since this process began to train.
    pub seconds: f64,
    /// Further figures of the objective by name. A mixture of experts has `router/load_balancing` and
    /// `router/z`, both before their weights, and `router/expert`, the share of assignments of each expert.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
}

/// One evaluation on the validation split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EvaluationReport {
    pub step: u64,
    /// Mean loss of the steps since the previous evaluation.
    pub train_loss: Option<f64>,
    pub val_loss: f64,
    /// Validation loss minus training loss. Early in training it may be below 0, since the training loss is a
    /// mean over earlier steps, with dropout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// `exp` of the validation loss, of a language model only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Share of rows whose every target was the most likely token; only where targets are answers
    /// (`data.answer_after`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
    /// Mean F1 over the classes, for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Further figures of an objective that does not predict targets.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    pub is_best: bool,
    pub seconds: f64,
}

/// Warning of overfitting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct OverfittingReport {
    pub step: u64,
    /// Number of evaluations in a row that showed it.
    pub evaluations: u64,
    pub val_loss: f64,
    pub best_val_loss: f64,
    pub best_step: u64,
    pub train_loss: f64,
    pub train_loss_at_best: f64,
}

/// Memorization of the training text by the trained model, at the end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct MemorizationReport {
    pub step: u64,
    pub memorization: Memorization,
}

/// One evaluation of the tasks of `eval.suites`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TaskReport {
    pub step: u64,
    /// Metrics as `TASK/METRIC`, such as `arc_easy/acc`.
    pub metrics: Metrics,
    pub seconds: f64,
}

/// Text that the model has generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SampleReport {
    pub step: u64,
    pub text: String,
    /// Reward of an answer that was sampled to train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f32>,
}

/// A checkpoint that is on the disk, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct CheckpointReport {
    pub step: u64,
    pub path: PathBuf,
    pub is_best: bool,
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct FinishReport {
    pub step: u64,
    pub reason: FinishReason,
    pub best_val_loss: Option<f64>,
    pub best_step: Option<u64>,
    pub seconds: f64,
    pub tokens: u64,
    pub skipped_steps: u64,
    pub peak_memory_bytes: Option<u64>,
}

/// Reason why the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// `train.max_steps` reached.
    Completed,
    /// `train.stop_after` reached.
    StoppedAtStep,
    /// No improvement for `train.early_stopping_patience` evaluations.
    EarlyStopped,
    /// The user asked to stop (Ctrl-C, the page's button).
    Interrupted,
}
