//! Next-token prediction: the cross entropy of each token given those before it.

use crate::{
    data::{HostBatch, IGNORE_INDEX},
    model::Decoder,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation::log_softmax};

/// A batch on a device.
#[derive(Clone)]
pub struct Batch {
    /// `[B, T]`
    pub inputs: Tensor<2, Int>,
    /// `[B * T, 1]`; 0 where there is no target.
    pub targets: Tensor<2, Int>,
    /// `[B * T, 1]`, 1 where there is a target and 0 elsewhere.
    pub weights: Tensor<2>,
    /// `[B, T]`, true for padding; `None` where padding can only follow the tokens.
    pub padding: Option<Tensor<2, Bool>>,
    /// Number of targets.
    pub target_tokens: usize,
}

impl Batch {
    /// Copies a batch to a device.
    pub fn new(host: &HostBatch, device: &Device) -> Self {
        let count = host.rows * host.time;
        let targets = host.targets.iter().map(|&target| target.max(0)).collect();
        let weights = host.targets.iter().map(|&target| f32::from(target != IGNORE_INDEX)).collect();
        Self {
            inputs: Tensor::from_data(TensorData::new(host.inputs.clone(), [host.rows, host.time]), device),
            targets: Tensor::from_data(TensorData::new::<i32, _>(targets, [count, 1]), device),
            weights: Tensor::from_data(TensorData::new::<f32, _>(weights, [count, 1]), device),
            padding: None,
            target_tokens: host.target_tokens,
        }
    }

    /// Logits `[B * T, vocab_size]` of this batch.
    pub fn logits(&self, model: &Decoder) -> Tensor<2> {
        let input = crate::model::DecoderInput { tokens: self.inputs.clone(), padding: self.padding.clone() };
        let logits = model.forward(input, None);
        let [batch, time, vocab] = logits.dims();
        logits.reshape([batch * time, vocab])
    }

    /// Sum over the targets of their negative log-probabilities in nats, `[1]`.
    pub fn negative_log_likelihood(&self, logits: Tensor<2>) -> Tensor<1> {
        let log_probabilities = log_softmax(logits, 1).gather(1, self.targets.clone()); // [B T, 1]
        (log_probabilities * self.weights.clone()).sum().neg()
    }
}

/// The loss of one micro-batch as its share of a step's mean: the sum over its targets divided by
/// `step_targets`, the number of targets of all micro-batches of the step. Summed over them it is
/// the mean over tokens, however they are grouped. A step without targets has loss 0.
pub fn loss(model: &Decoder, batch: &Batch, step_targets: usize) -> Tensor<1> {
    let logits = batch.logits(model);
    batch.negative_log_likelihood(logits).div_scalar(step_targets.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_targets_do_not_count_and_none_at_all_gives_zero() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let logits = Tensor::<2>::from_data([[0.0, 0.0], [5.0, -5.0]], &device);
        let nll = |targets: Vec<i32>| {
            let batch = HostBatch::new(vec![0, 0], targets, 1, 2);
            Batch::new(&batch, &device).negative_log_likelihood(logits.clone()).into_scalar::<f32>()
        };
        assert!((nll(vec![0, IGNORE_INDEX]) - 2f32.ln()).abs() < 1e-6);
        assert!((nll(vec![1, 1]) - (2f32.ln() + 10.000_045)).abs() < 1e-4);
        assert_eq!(nll(vec![IGNORE_INDEX, IGNORE_INDEX]), 0.0);
    }
}
