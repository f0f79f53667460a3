//! Measures sampled answers before the first update: log-probabilities of the policy and the reference,
//! entropies and values.

use super::{Answer, Shape, answer_batch};
use crate::{
    device::read_numbers,
    error::Result,
    model::Model,
    objective::{
        Batch,
        reinforcement::{AnswerTensors, ValueModel, entropy, log_probabilities},
    },
};
use burn::tensor::{Device, Tensor};

/// Action that a device may fail at.
const ACTION: &str = "measuring answers";

/// Models that answers are measured with, without autodiff.
pub struct Models<'a> {
    pub policy: &'a Model,
    pub reference: Option<&'a Model>,
    pub value: Option<&'a ValueModel>,
    /// Divisor of the logits.
    pub temperature: f64,
    /// Number of answers that are measured together.
    pub at_once: usize,
}

/// Measurements of sampled answers. Lists are `[answers * width]`, and 0 where there is no token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    pub log_probabilities: Vec<f32>,
    /// Entropies of the policy, in nats.
    pub entropies: Vec<f32>,
    /// Log-probabilities of the reference; empty without one.
    pub reference_log_probabilities: Vec<f32>,
    /// Values before each token and one place beyond the last; empty without a value model.
    pub values: Vec<f32>,
}

/// Measures sampled answers in batches of `models.at_once` rows.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn measure(
    answers: &[Answer],
    shape: Shape,
    models: &Models<'_>,
    device: &Device,
) -> Result<Measured> {
    let device = device.clone().inner();
    let mut all = [const { Vec::new() }; 4];
    let temperature = models.temperature;
    for answers in answers.chunks(models.at_once.max(1)) {
        let host = answer_batch(&answers.iter().collect::<Vec<_>>(), shape);
        let Some(sampled) = &host.answers else { continue };
        let tensors = AnswerTensors::new(sampled, &host.weights, &device);
        let batch = Batch::new(&host, &device);
        let (positions, tokens, places) = (&tensors.positions, &batch.targets.tokens, batch.target_rows());
        let mask = batch.targets.weights.clone().not_equal_elem(0.0).float(); // [R A, 1]
        let output = models.policy.forward_unprojected(batch.input.clone()).0;
        let own = log_probabilities(&output, positions, tokens, places, temperature) * mask.clone();
        let entropies = entropy(&output, positions, places, temperature) * mask.clone();
        let reference = models.reference.map(|reference| {
            let output = reference.forward_unprojected(batch.input.clone()).0;
            log_probabilities(&output, positions, tokens, places, temperature) * mask.clone()
        });
        let values = models.value.map(|value| value.values(batch.input.clone(), &output, positions));
        // All columns are read together, so that the device is waited for once.
        let columns = [Some(own), Some(entropies), reference, values];
        let present: Vec<Tensor<2>> = columns.iter().flatten().cloned().collect();
        let numbers = read_numbers(Tensor::cat(present, 0), ACTION).await?;
        let mut parts = numbers.chunks(host.targets.len());
        for (all, column) in all.iter_mut().zip(&columns) {
            if column.is_some() {
                all.extend_from_slice(parts.next().unwrap_or_default());
            }
        }
    }
    let [log_probabilities, entropies, reference_log_probabilities, values] = all;
    Ok(Measured { log_probabilities, entropies, reference_log_probabilities, values })
}

/// Log-probabilities of sampled answers under a model in training, as a step computes them.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn answer_log_probabilities(
    answers: &[Answer],
    shape: Shape,
    model: &Model,
    temperature: f64,
    device: &Device,
) -> Result<Vec<f32>> {
    let host = answer_batch(&answers.iter().collect::<Vec<_>>(), shape);
    let Some(sampled) = &host.answers else { return Ok(Vec::new()) };
    let tensors = AnswerTensors::new(sampled, &host.weights, device);
    let batch = Batch::new(&host, device);
    let mask = batch.targets.weights.clone().not_equal_elem(0.0).float();
    let output = model.forward_unprojected(batch.input.clone()).0;
    let (tokens, places) = (&batch.targets.tokens, batch.target_rows());
    let log_p = log_probabilities(&output, &tensors.positions, tokens, places, temperature) * mask;
    read_numbers(log_p.inner(), ACTION).await
}
