//! Next-token prediction: the cross entropy of each token given those before it.

use super::router;
use crate::{
    config::ModelConfig,
    data::{HostBatch, IGNORE_INDEX},
    model::{Decoder, DecoderInput},
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
    /// `[B, T]`: where each token stands; `None`: one after another.
    pub positions: Option<Tensor<2, Int>>,
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
            positions: None,
            target_tokens: host.target_tokens,
        }
    }

    /// Logits `[B * T, vocab_size]` of this batch.
    pub fn logits(&self, model: &Decoder) -> Tensor<2> {
        flat(model.forward(self.input(), None))
    }

    fn input(&self) -> DecoderInput {
        DecoderInput {
            tokens: self.inputs.clone(),
            padding: self.padding.clone(),
            positions: self.positions.clone(),
        }
    }

    /// `[B * T, 1]`: 1 for tokens, 0 for padding.
    fn real(&self) -> Tensor<2> {
        match &self.padding {
            Some(padding) => {
                let count = padding.dims().iter().product();
                padding.clone().bool_not().float().reshape([count, 1])
            }
            None => self.weights.clone(),
        }
    }

    /// Sum over the targets of their negative log-probabilities in nats, `[1]`.
    pub fn negative_log_likelihood(&self, logits: Tensor<2>) -> Tensor<1> {
        let log_probabilities = log_softmax(logits, 1).gather(1, self.targets.clone()); // [B T, 1]
        (log_probabilities * self.weights.clone()).sum().neg()
    }
}

fn flat(logits: Tensor<3>) -> Tensor<2> {
    let [batch, time, vocab] = logits.dims();
    logits.reshape([batch * time, vocab])
}

/// Next-token prediction, with what a mixture of experts adds to it.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    router_aux_loss: f64,
    router_z_loss: f64,
}

/// The loss of one micro-batch as its share of a step's mean.
pub struct Loss {
    /// What is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// The cross entropy in it, `[1]`.
    pub cross_entropy: Tensor<1>,
    /// With experts: load-balancing loss, router-z loss, and the share of each expert, `[2 + X]`.
    pub router: Option<Tensor<1>>,
}

impl Objective {
    pub fn of(config: &ModelConfig) -> Self {
        Self { router_aux_loss: config.router_aux_loss, router_z_loss: config.router_z_loss }
    }

    /// The sum over the batch's targets divided by `step_targets`, the number of targets of all
    /// micro-batches of the step. Summed over them it is the mean over tokens, however they are grouped.
    /// A step without targets has loss 0.
    pub fn loss(&self, model: &Decoder, batch: &Batch, step_targets: usize) -> Loss {
        let (logits, routings) = model.forward_routed(batch.input(), None);
        let targets = step_targets.max(1) as f64;
        let cross_entropy = batch.negative_log_likelihood(flat(logits)).div_scalar(targets);
        let Some(found) = router::losses(&routings, &batch.real()) else {
            return Loss { total: cross_entropy.clone(), cross_entropy, router: None };
        };
        let share = batch.target_tokens as f64 / targets;
        let total = cross_entropy.clone()
            + found.load_balancing.clone().mul_scalar(self.router_aux_loss * share)
            + found.z.clone().mul_scalar(self.router_z_loss * share);
        let router = Tensor::cat(vec![found.load_balancing, found.z, found.utilization], 0);
        Loss { total, cross_entropy, router: Some(router.mul_scalar(share)) }
    }
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
