//! A batch on a device: the model's inputs and targets.

use crate::{
    data::HostBatch,
    kernels::{
        cross_entropy::{CrossEntropySpec, Targets, cross_entropy, of_logits},
        log_probabilities::{self, ProjectionSpec, log_probabilities},
    },
    model::{Input, Model, Output, layers::output::Projection, mask},
};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A batch on a device. N is the number of targets, present or absent: B · T tokens or B texts.
#[derive(Clone)]
pub struct Batch {
    pub input: Input,
    /// Targets, `[N, 1]`; an absent one is 0 and has weight 0.
    pub targets: Targets,
    /// Target numbers of a regression, `[N, 1]`.
    pub values: Option<Tensor<2>>,
    /// Number of targets.
    pub target_tokens: usize,
    /// Sum of the weights of the targets.
    pub target_weight: f64,
    /// Whether padding has no mask, because it only follows the tokens.
    pads_unmarked: bool,
}

/// Factor and regularizing terms of a cross entropy.
#[derive(Debug, Clone, Copy)]
pub struct LossWeights {
    /// Factor that the sum is multiplied by.
    pub scale: f32,
    /// Share of the probability that is spread evenly over the vocabulary.
    pub label_smoothing: f32,
    /// Weight of the squared log-partition function, `log(sum(exp(logits)))²`.
    pub z_loss: f32,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { scale: 1.0, label_smoothing: 0.0, z_loss: 0.0 }
    }
}

impl Batch {
    /// Copies a batch to a device.
    pub fn new(host: &HostBatch, device: &Device) -> Self {
        let count = host.targets.len();
        let targets = host.targets.iter().map(|&target| target.max(0)).collect();
        let tokens = |tokens: &[i32]| -> Tensor<2, Int> {
            let width = tokens.len() / host.rows.max(1);
            Tensor::from_data(TensorData::new(tokens.to_vec(), [host.rows, width]), device)
        };
        let has_decoder = !host.decoder_inputs.is_empty();
        Self {
            input: Input {
                padding: host.padding().map(|padding| mask(padding, host.rows, device)),
                prefix: host.prefix().map(|prefix| mask(prefix, host.rows, device)),
                decoder_tokens: has_decoder.then(|| tokens(&host.decoder_inputs)),
                ..Input::from(tokens(&host.inputs))
            },
            targets: Targets {
                tokens: Tensor::from_data(TensorData::new::<i32, _>(targets, [count, 1]), device),
                weights: Tensor::from_data(TensorData::new(host.weights.clone(), [count, 1]), device),
            },
            values: (!host.values.is_empty())
                .then(|| Tensor::from_data(TensorData::new(host.values.clone(), [count, 1]), device)),
            target_tokens: host.target_tokens,
            target_weight: host.target_weight(),
            pads_unmarked: host.lengths.is_empty(),
        }
    }

    /// Computes the logits of this batch, `[N, vocab_size or classes]`, or the predicted numbers, `[N, 1]`.
    pub fn logits(&self, model: &Model) -> Tensor<2> {
        model.forward(self.input.clone()).0
    }

    /// Sum of the losses of the targets times `weights.scale`, `[1]`. Losses are negative log-probabilities
    /// in nats, or squared errors.
    pub fn loss(&self, output: Output, weights: LossWeights) -> Tensor<1> {
        let LossWeights { scale, label_smoothing, z_loss } = weights;
        let spec =
            |transposed, softcap| CrossEntropySpec { transposed, scale, softcap, label_smoothing, z_loss };
        match (output, &self.values) {
            (Output::Logits(numbers), Some(values)) => {
                let errors = (numbers - values.clone()).square() * self.targets.weights.clone();
                errors.sum().mul_scalar(scale)
            }
            (Output::Logits(logits), None) => of_logits(logits, self.targets.clone(), spec(false, 0.0)),
            (Output::Projection(Projection { states, weight, transposed, softcap, mode }), _) => {
                let spec = spec(transposed, softcap as f32);
                cross_entropy(states, weight, &self.targets, spec, mode)
            }
        }
    }

    /// Log-probability of each target in nats, `[N, 1]`; 0 where there is no target. If the model has an
    /// output projection and fused kernels, the logits of all tokens are never stored at once.
    pub fn log_probabilities(&self, model: &Model) -> Tensor<2> {
        let targets = self.targets.tokens.clone();
        let log_p = match model.forward_unprojected(self.input.clone()).0 {
            Output::Logits(logits) => log_probabilities::of_logits(logits, targets),
            Output::Projection(Projection { states, weight, transposed, softcap, mode }) => {
                let spec = ProjectionSpec { transposed, softcap: softcap as f32 };
                log_probabilities(states, weight, targets, spec, mode)
            }
        };
        log_p.mask_fill(self.targets.weights.clone().equal_elem(0.0), 0.0)
    }

    /// Sum of the log-probabilities of each row's targets, `[B, 1]`: the log-probability of a whole text or
    /// completion.
    pub fn row_log_probabilities(&self, model: &Model) -> Tensor<2> {
        let log_p = self.log_probabilities(model);
        let (rows, count) = (self.rows(), log_p.dims()[0]);
        log_p.reshape([rows, count / rows.max(1)]).sum_dim(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.input.tokens.dims()[0]
    }

    /// Copy of the batch for a model without autodiff or dropout.
    pub(super) fn without_autodiff(&self) -> Self {
        Self {
            input: self.input.clone().without_autodiff(),
            targets: Targets {
                tokens: self.targets.tokens.clone().inner(),
                weights: self.targets.weights.clone().inner(),
            },
            values: self.values.clone().map(Tensor::inner),
            ..self.clone()
        }
    }

    /// 1 where there is a target, whatever its weight, and 0 elsewhere, `[N, 1]`.
    pub(super) fn has_target(&self) -> Tensor<2> {
        self.targets.weights.clone().not_equal_elem(0.0).float()
    }

    /// 1 for tokens of the input and 0 for padding, `[B T, 1]`.
    pub(super) fn real(&self) -> Tensor<2> {
        let [rows, time] = self.input.tokens.dims();
        match &self.input.padding {
            Some(padding) => padding.clone().bool_not().float().reshape([rows * time, 1]),
            // What has a target is no padding.
            None if self.pads_unmarked => self.has_target(),
            None => Tensor::ones([rows * time, 1], &self.targets.weights.device()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORE_INDEX;

    #[test]
    fn ignored_targets_do_not_count_and_none_at_all_gives_zero() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let logits = Tensor::<2>::from_data([[0.0, 0.0], [5.0, -5.0]], &device);
        let loss = |targets: Vec<i32>| {
            let batch = HostBatch::new(vec![0, 0], targets, 1, 2);
            let output = Output::Logits(logits.clone());
            Batch::new(&batch, &device).loss(output, LossWeights::default()).into_scalar::<f32>()
        };
        assert!((loss(vec![0, IGNORE_INDEX]) - 2f32.ln()).abs() < 1e-6);
        assert!((loss(vec![1, 1]) - (2f32.ln() + 10.000_045)).abs() < 1e-4);
        assert_eq!(loss(vec![IGNORE_INDEX, IGNORE_INDEX]), 0.0);
    }

    #[test]
    fn a_regression_counts_squared_errors() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let mut host = HostBatch::new(vec![0; 6], vec![0, 0, IGNORE_INDEX], 3, 2);
        host.values = vec![1.0, -1.0, 9.0];
        let given = Tensor::<2>::from_data([[3.0], [-1.5], [0.0]], &device);
        let output = Output::Logits(given);
        let loss = Batch::new(&host, &device).loss(output, LossWeights::default()).into_scalar::<f32>();
        assert!((loss - 4.25).abs() < 1e-6);
    }
}
