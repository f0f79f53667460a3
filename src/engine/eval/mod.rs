//! Evaluation of a model on a split.

pub mod confusion;
pub mod exposure;
pub mod generated;
pub mod locate;
pub mod memorization;
pub mod scorer;
pub mod verify;

use crate::{
    config::{Head, ModelConfig},
    data::HostBatch,
    device::read_numbers,
    error::Result,
    model::{Model, Output},
    objective::{self, Batch, LossWeights, MetricSums, Metrics, Objective, StepTotals},
};
use burn::tensor::{Device, Tensor};
use confusion::Confusion;
use serde::Serialize;

/// Results of one pass over a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood per target, in nats; for a regression, the mean squared error.
    pub loss: f64,
    /// The perplexity, `exp(loss)`; only for a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Share of targets that were the most likely prediction; `None` for a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Share of rows with targets in which every target was the most likely prediction, so that greedy
    /// decoding is completely correct; `None` for a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
    /// Number of targets.
    pub tokens: u64,
    /// Confusion matrix; only for a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Confusion>,
}

impl Evaluation {
    /// Loss in bits per byte of text, where `bytes` is the size of the whole split's text in UTF-8. Unlike
    /// perplexity it is comparable between tokenizers.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.loss * self.tokens as f64 / std::f64::consts::LN_2 / bytes as f64
    }
}

/// Action that a device may fail at.
const ACTION: &str = "evaluating";

/// Number of batches whose results are read from the device together.
const BATCHES_PER_READ: usize = 16;

/// Evaluates a model without autodiff (`Module::valid`) on batches.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn evaluate(
    model: &Model,
    config: &ModelConfig,
    batches: impl Iterator<Item = HostBatch>,
    device: &Device,
) -> Result<Evaluation> {
    let device = device.clone().inner();
    let classifies = matches!(config.head, Head::SequenceClassification | Head::TokenClassification);
    let classes = if classifies { config.classes() } else { 0 };
    let mut confusion = Confusion::new(classes);
    let (mut loss, mut correct, mut exact) = (0f64, 0f64, 0f64);
    let (mut tokens, mut rows, mut weight) = (0u64, 0u64, 0f64);
    let mut pending: Vec<Tensor<1>> = Vec::new();
    let mut batches = batches.peekable();
    let mut since_read = 0;
    while let Some(batch) = batches.next() {
        tokens += batch.target_tokens as u64;
        weight += batch.target_weight();
        let full_rows = batch.rows_with_targets();
        rows += full_rows as u64;
        let empty_rows = (batch.rows - full_rows) as f64;
        let shape = [batch.rows, batch.targets.len() / batch.rows.max(1)];
        let batch = Batch::new(&batch, &device);
        let logits = batch.logits(model);
        let predicted = logits.clone().argmax(1); // [N, 1]
        let weights = &batch.targets.weights;
        let hits = predicted.clone().equal(batch.targets.tokens.clone()).float() * weights.clone();
        let misses: Tensor<2> = (weights.clone() - hits.clone()).reshape(shape); // [B, T]
        // Rows without a target have no miss either.
        let right = misses.sum_dim(1).equal_elem(0.0).float().sum().sub_scalar(empty_rows);
        let losses = batch.loss(Output::Logits(logits), LossWeights::default());
        pending.extend([losses, hits.sum(), right]);
        if classifies {
            pending.push(confusion::counts(predicted, &batch, classes));
        }
        since_read += 1;
        if since_read == BATCHES_PER_READ || batches.peek().is_none() {
            since_read = 0;
            let values = read_numbers(Tensor::cat(std::mem::take(&mut pending), 0), ACTION).await?;
            for sums in values.chunks_exact(3 + classes * classes) {
                loss += f64::from(sums[0]);
                correct += f64::from(sums[1]);
                exact += f64::from(sums[2]);
                confusion.add(&sums[3..]);
            }
        }
    }
    let count = if weight > 0.0 { weight } else { 1.0 };
    let loss = loss / count;
    let predicts = config.head != Head::Regression;
    Ok(Evaluation {
        loss,
        perplexity: config.has_perplexity().then(|| loss.exp()),
        accuracy: predicts.then(|| correct / count),
        exact_match: predicts.then(|| exact / rows.max(1) as f64),
        tokens,
        classes: classifies.then_some(confusion),
    })
}

/// Loss and metrics of an objective over batches, for objectives whose loss is not that of predicting targets. All
/// batches together count like one step. `model` must be without autodiff (`Module::valid`).
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn evaluate_objective(
    objective: &dyn Objective,
    model: &Model,
    batches: impl Iterator<Item = HostBatch> + Clone,
    device: &Device,
) -> Result<(f64, Metrics)> {
    let device = device.clone().inner();
    let mut totals = StepTotals::default();
    batches.clone().for_each(|host| totals.add(&host));
    let mut metrics = MetricSums::default();
    let (mut loss, mut pending) = (0f64, Vec::new());
    let mut batches = batches.peekable();
    while let Some(host) = batches.next() {
        objective.begin_step(model, std::slice::from_ref(&host), &device);
        let batch = Batch::new(&host, &device);
        let share = objective.loss(model, &batch, totals);
        metrics.add(share.metrics, &batch, totals);
        pending.push(share.reported.inner());
        if pending.len() == BATCHES_PER_READ || batches.peek().is_none() {
            let shares = read_numbers(Tensor::cat(std::mem::take(&mut pending), 0), ACTION).await?;
            loss += shares.into_iter().map(f64::from).sum::<f64>();
        }
    }
    let (names, values) = metrics.into_parts();
    if values.is_empty() {
        return Ok((loss, Metrics::new()));
    }
    let values = read_numbers(Tensor::cat(values, 0), ACTION).await?;
    Ok((loss, objective::named(&names, &values)))
}
