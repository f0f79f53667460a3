//! A batch on a device: the model's inputs and targets.

use crate::{
    data::HostBatch,
    kernels::{
        Precision,
        attention::PADDING,
        cross_entropy::{CrossEntropySpec, Targets, cross_entropy, of_logits},
        linear::LinearSpec,
        log_probabilities::{self, ProjectionSpec, log_probabilities},
    },
    model::{Input, Model, Output, Routings, layers::output::Projection, mask},
};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use std::sync::Arc;

/// A batch on a device. N is the number of targets, present or absent: B · T tokens or B texts.
#[derive(Clone)]
pub struct Batch {
    pub input: Input,
    /// Targets, `[N, 1]`; an absent one is 0 and has weight 0.
    pub targets: Targets,
    /// Number of each row, where the data has one, `[B, 1]`.
    pub values: Option<Tensor<2>>,
    /// The batch in host memory.
    pub host: Arc<HostBatch>,
    /// Indices of the tokens that have a target, if they are far fewer than all.
    target_indices: Option<Tensor<1, Int>>,
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
                positions: host.positions().map(|positions| tokens(&positions)),
                documents: (!host.documents.is_empty()).then(|| tokens(&host.documents)),
                branches: (!host.branches.is_empty()).then(|| tokens(&host.branches)),
                decoder_tokens: has_decoder.then(|| tokens(&host.decoder_inputs)),
                ..Input::from(tokens(&host.inputs))
            },
            targets: Targets {
                tokens: Tensor::from_data(TensorData::new::<i32, _>(targets, [count, 1]), device),
                weights: Tensor::from_data(TensorData::new(host.weights.clone(), [count, 1]), device),
            },
            values: (!host.values.is_empty()).then(|| {
                let values = TensorData::new(host.values.clone(), [host.values.len(), 1]);
                Tensor::from_data(values, device)
            }),
            target_indices: target_indices(host).map(|indices| {
                let count = indices.len();
                Tensor::from_data(TensorData::new(indices, [count]), device)
            }),
            host: Arc::new(host.clone()),
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
        let spec = |transposed, softcap, precision| CrossEntropySpec {
            transposed,
            scale,
            softcap,
            label_smoothing,
            z_loss,
            precision,
        };
        match (output, &self.values) {
            (Output::Logits(numbers), Some(values)) => {
                let errors = (numbers - values.clone()).square() * self.targets.weights.clone();
                errors.sum().mul_scalar(scale)
            }
            (Output::Logits(logits), None) => {
                of_logits(logits, self.targets.clone(), spec(false, 0.0, Precision::F32))
            }
            (Output::Projection(Projection { states, weight, transposed, softcap, mode }), _) => {
                let spec = spec(transposed, softcap as f32, mode.precision);
                cross_entropy(states, weight, &self.targets, spec, mode)
            }
        }
    }

    /// Log-probability of each target in nats, `[N, 1]`; 0 where there is no target. If the model has an
    /// output projection and fused kernels, the logits of all tokens are never stored at once, and those of
    /// tokens without a target are not computed if they are many.
    pub fn log_probabilities(&self, model: &Model) -> Tensor<2> {
        self.log_probabilities_of(model, &self.targets, self.target_indices.as_ref()).0
    }

    /// Log-probabilities of targets, the batch's or others, `[N, 1]`, and the routing of each layer; 0 where there
    /// is no target. Only those at `indices` are computed, if these are given.
    pub(super) fn log_probabilities_of(
        &self,
        model: &Model,
        targets: &Targets,
        indices: Option<&Tensor<1, Int>>,
    ) -> (Tensor<2>, Routings) {
        let tokens = targets.tokens.clone();
        let (output, routings) = model.forward_unprojected(self.input.clone());
        let log_p = match (output, indices) {
            (Output::Logits(logits), _) => log_probabilities::of_logits(logits, tokens),
            (Output::Projection(projection), None) => projected(projection, tokens),
            (Output::Projection(projection), Some(indices)) => {
                let some = projected(projection.select(indices.clone()), tokens.select(0, indices.clone()));
                let zeros = Tensor::<2>::zeros(targets.weights.dims(), &some.device());
                zeros.select_assign(0, indices.clone(), some, IndexingUpdateOp::Add)
            }
        };
        (log_p.mask_fill(targets.weights.clone().equal_elem(0.0), 0.0), routings)
    }

    /// Sum of the log-probabilities of each row's targets, `[B, 1]`: the log-probability of a whole text or
    /// completion.
    pub fn row_log_probabilities(&self, model: &Model) -> Tensor<2> {
        self.row_sums(self.log_probabilities(model))
    }

    /// Sums values of targets, `[N, 1]`, over each row, `[B, 1]`.
    pub(super) fn row_sums(&self, values: Tensor<2>) -> Tensor<2> {
        let (rows, count) = (self.rows(), values.dims()[0]);
        values.reshape([rows, count / rows.max(1)]).sum_dim(1)
    }

    /// 1 for each example that has a target in all of its rows, and 0 for one that only fills the batch, `[P,
    /// 1]`.
    pub(super) fn is_example(&self) -> Tensor<2> {
        let flags = (0..self.host.examples()).map(|example| f32::from(self.host.is_example(example)));
        let flags: Vec<f32> = flags.collect();
        let count = flags.len();
        Tensor::from_data(TensorData::new(flags, [count, 1]), &self.targets.weights.device())
    }

    /// Indices of the tokens that have a target, and of some others that fill up their number; `None` if they are
    /// nearly all.
    pub(super) fn target_rows(&self) -> Option<&Tensor<1, Int>> {
        self.target_indices.as_ref()
    }

    /// Indices of the outputs that predict the targets of [`target_rows`](Self::target_rows); `None` if these are
    /// all outputs in their order.
    pub(super) fn output_rows(&self) -> Option<Tensor<1, Int>> {
        let Some(answers) = &self.host.answers else { return self.target_indices.clone() };
        let count = answers.positions.len();
        let positions = TensorData::new(answers.positions.clone(), [count]);
        let positions = Tensor::<1, Int>::from_data(positions, &self.targets.weights.device());
        Some(match &self.target_indices {
            Some(indices) => positions.select(0, indices.clone()),
            None => positions,
        })
    }

    /// Indices of the target tokens in host memory, or those of all tokens.
    pub(super) fn target_list(&self) -> Vec<usize> {
        let all = || (0..self.host.weights.len()).collect();
        target_indices(&self.host)
            .map_or_else(all, |indices| indices.into_iter().map(|index| index as usize).collect())
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
            target_indices: self.target_indices.clone().map(Tensor::inner),
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
        if let Some(numbers) = self.input.documents.as_ref().or(self.input.branches.as_ref()) {
            return numbers.clone().not_equal_elem(PADDING).float().reshape([rows * time, 1]);
        }
        if let Some(answers) = &self.host.answers {
            let lengths = answers.input_lengths(&self.host.weights, time);
            let row = |length: usize| (0..time).map(move |at| f32::from(at < length));
            let flags: Vec<f32> = lengths.into_iter().flat_map(row).collect();
            let flags = TensorData::new(flags, [rows * time, 1]);
            return Tensor::from_data(flags, &self.targets.weights.device());
        }
        match &self.input.padding {
            Some(padding) => padding.clone().bool_not().float().reshape([rows * time, 1]),
            // What has a target is no padding.
            None if self.pads_unmarked => self.has_target(),
            None => Tensor::ones([rows * time, 1], &self.targets.weights.device()),
        }
    }
}

/// Log-probabilities of targets under an output projection, `[N, 1]`.
fn projected(projection: Projection, targets: Tensor<2, Int>) -> Tensor<2> {
    let Projection { states, weight, transposed, softcap, mode } = projection;
    let product = LinearSpec { transposed, precision: mode.precision };
    let spec = ProjectionSpec { product, softcap: softcap as f32 };
    log_probabilities(states, weight, targets, spec, mode)
}

/// Numbers of selected tokens are rounded up to a multiple of this, so that a device compiles kernels for few
/// shapes.
const COUNT_STEP: usize = 64;

/// Indices of the tokens that have a target, followed by enough others to fill up a multiple of
/// [`COUNT_STEP`], each once. `None` if that is over three quarters of all tokens.
fn target_indices(host: &HostBatch) -> Option<Vec<i32>> {
    let of = |wanted: bool| {
        let indices = host.weights.iter().enumerate();
        indices.filter(move |(_, weight)| (**weight != 0.0) == wanted).map(|(index, _)| index as i32)
    };
    let count = of(true).count().next_multiple_of(COUNT_STEP);
    (count > 0 && 4 * count <= 3 * host.weights.len())
        .then(|| of(true).chain(of(false)).take(count).collect())
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
    fn only_tokens_with_a_target_are_projected_where_they_are_few() {
        use crate::{
            config::ModelConfig,
            kernels::Mode,
            model::parameters::{gradients, read},
        };
        use burn::optim::GradientsParams;
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let config = ModelConfig { vocab_size: 13, n_embd: 16, n_head: 2, n_layer: 1, ..Default::default() };
        let model = Model::init(&config, Mode::Fused, 3, &device);
        let n = IGNORE_INDEX;
        let tokens: Vec<i32> = (0..128).map(|i| i * 5 % 13).collect();
        let mut targets = vec![n; 128];
        for (index, token) in [(0, 7), (1, 0), (63, 2), (64, 0), (100, 12)] {
            targets[index] = token;
        }
        let host = HostBatch::new(tokens, targets, 2, 64);
        let batch = Batch::new(&host, &device);
        assert_eq!(target_indices(&host).unwrap()[..6], [0, 1, 63, 64, 100, 2]);
        let all = Batch { target_indices: None, ..batch.clone() };
        let of = |batch: &Batch| {
            let log_p = batch.log_probabilities(&model);
            let backward = (log_p.clone() * log_p.clone()).sum().backward();
            let found = GradientsParams::from_grads(backward, &model);
            let found = pollster::block_on(read(gradients(&model, &found))).unwrap();
            (log_p.inner().into_data().try_into_vec_as::<f32>().unwrap(), found)
        };
        let (some, all) = (of(&batch), of(&all));
        let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest(&some.0, &all.0) < 1e-6 && some.0[1] < 0.0 && some.0[2] == 0.0);
        for (name, gradient) in &all.1 {
            assert!(largest(&some.1[name].values, &gradient.values) < 1e-4, "{name}");
        }
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
