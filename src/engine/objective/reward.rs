//! Reward models: a number for each text, higher for the preferred one of a pair (Bradley and Terry, 1952), or
//! close to a score that the data gives.

use super::{Average, Batch, Loss, Objective, StepTotals, router::AuxiliaryLosses};
use crate::{config::Config, model::Model};
use burn::tensor::{
    Int, Tensor,
    activation::{log_sigmoid, sigmoid},
};

/// Number of bins of the calibration error, over confidences from a half to 1.
const BINS: usize = 10;

/// The objective of a reward model.
#[derive(Debug, Clone, Copy)]
pub struct Reward {
    /// Weight of the squared sum of a pair's rewards.
    center: f64,
    router: AuxiliaryLosses,
}

impl Reward {
    /// Makes the objective of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { center: config.reward.center, router: AuxiliaryLosses::new(&config.model) }
    }

    /// Loss over pairs, the preferred text first. The preferred reward has to lead by the margin that the data
    /// gives, if it gives one.
    fn of_pairs(&self, rewards: Tensor<2>, batch: &Batch, step: StepTotals) -> Loss {
        let pairs = rewards.dims()[0] / 2;
        let rewards = rewards.reshape([pairs, 2]);
        let (chosen, rejected) = (rewards.clone().narrow(1, 0, 1), rewards.narrow(1, 1, 1));
        let weights = batch.is_example(); // [P, 1]
        let difference = chosen.clone() - rejected.clone();
        let lead = match &batch.values {
            Some(values) => difference.clone() - values.clone().reshape([pairs, 2]).narrow(1, 0, 1),
            None => difference.clone(),
        };
        let mut losses = log_sigmoid(lead).neg();
        if self.center > 0.0 {
            losses = losses + (chosen.clone() + rejected.clone()).square().mul_scalar(self.center);
        }
        let share = |values: Tensor<2>, weights: &Tensor<2>| -> Tensor<1> {
            (values * weights.clone()).sum().div_scalar(step.examples.max(1) as f64)
        };
        let total = share(losses, &weights);
        let (weights, difference) = (weights.inner(), difference.inner());
        let correct = difference.clone().greater_elem(0.0).float();
        let gaps = calibration_gaps(difference.clone(), &weights).div_scalar(step.examples.max(1) as f64);
        Loss::new(total)
            .with_metric("rewards/chosen", share(chosen.inner(), &weights), Average::Sum)
            .with_metric("rewards/rejected", share(rejected.inner(), &weights), Average::Sum)
            .with_metric("rewards/margin", share(difference, &weights), Average::Sum)
            .with_metric("rewards/accuracy", share(correct, &weights), Average::Sum)
            .with_metric("rewards/calibration_error", gaps, Average::Magnitudes)
    }

    /// Mean squared distance from the scores of single texts.
    fn of_scores(&self, rewards: Tensor<2>, batch: &Batch, step: StepTotals) -> Loss {
        let weights = batch.is_example();
        let scores = batch.values.clone().unwrap_or_else(|| rewards.zeros_like());
        let errors = (rewards.clone() - scores).square() * weights.clone();
        let examples = step.examples.max(1) as f64;
        let mean = (rewards.inner() * weights.inner()).sum().div_scalar(examples);
        Loss::new(errors.sum().div_scalar(examples)).with_metric("rewards/mean", mean, Average::Sum)
    }
}

impl Objective for Reward {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let (rewards, routings) = model.forward(batch.input.clone()); // [B, 1]
        let loss = match batch.host.rows_per_example {
            2 => self.of_pairs(rewards, batch, step),
            _ => self.of_scores(rewards, batch, step),
        };
        self.router.add(loss, &routings, batch, step)
    }
}

/// For each bin of confidence, the sum over its pairs of (1 if the order is right, else 0) minus confidence,
/// `[BINS]`. The sum of their magnitudes over the number of pairs is the expected calibration error
/// (arXiv:1706.04599) of σ(difference) as the probability that the first text is preferred.
fn calibration_gaps(differences: Tensor<2>, weights: &Tensor<2>) -> Tensor<1> {
    let correct = differences.clone().greater_elem(0.0).float();
    let confidence = sigmoid(differences.abs()); // [P, 1], from 0.5 to 1
    let gap = (correct - confidence.clone()) * weights.clone();
    let bin = confidence.sub_scalar(0.5).mul_scalar(2.0 * BINS as f64).floor().clamp(0.0, BINS as f64 - 1.0);
    let bins = Tensor::<1, Int>::arange(0..BINS as i64, &gap.device()).float().unsqueeze::<2>(); // [1, BINS]
    let distance = (bin - bins).abs(); // [P, BINS], 0 in the bin of a pair and at least 1 elsewhere
    (gap * distance.lower_elem(0.5).float()).sum_dim(0).reshape([BINS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Head, ModelConfig},
        data::{Example, HostBatch, Width},
        kernels::Mode,
        objective::MetricSums,
    };

    fn device() -> burn::tensor::Device {
        crate::device::Choice::cpu().open().unwrap()
    }

    fn model() -> Model {
        let config = ModelConfig {
            vocab_size: 11,
            n_embd: 8,
            n_head: 2,
            n_layer: 1,
            block_size: 8,
            head: Head::Regression,
            ..Default::default()
        };
        Model::init(&config, Mode::Fused, 3, &device())
    }

    #[test]
    fn calibration_compares_confidence_with_accuracy_in_each_bin() {
        let logit = |p: f32| (p / (1.0 - p)).ln();
        // Two pairs at 0.8, of which one is right; one at 0.6, wrong; the last one only fills the batch.
        let differences = [[logit(0.8)], [-logit(0.8)], [-logit(0.6)], [9.0]];
        let differences = Tensor::<2>::from_data(differences, &device());
        let weights = Tensor::<2>::from_data([[1.0], [1.0], [1.0], [0.0]], &device());
        let gaps = calibration_gaps(differences, &weights);
        let gaps = gaps.into_data().try_into_vec_as::<f32>().unwrap();
        let error = gaps.iter().map(|gap| gap.abs()).sum::<f32>() / 3.0;
        // |(1 - 0.8) + (0 - 0.8)| = 0.6 in one bin and |0 - 0.6| in another.
        assert!((error - 0.4).abs() < 1e-5, "{gaps:?}");
    }

    #[test]
    fn shares_of_pairs_add_up_and_the_margin_counts() {
        let model = model();
        let row = |tokens: &[i32], value: f32| Example {
            inputs: tokens.to_vec(),
            targets: vec![0],
            value: Some(value),
            ..Default::default()
        };
        let all = [row(&[1, 2, 3], 0.5), row(&[4, 0], 0.0), row(&[5], 0.25), row(&[6, 7, 8, 9], 0.0)];
        let pairs = |rows: &[Example], count| {
            let mut host = HostBatch::of(rows.to_vec(), count, Width::LongestWithOneTarget, 8);
            host.rows_per_example = 2;
            host
        };
        let objective = Reward { center: 0.01, router: AuxiliaryLosses::default() };
        // The last pair only fills the batch.
        let found = [vec![pairs(&all, 6)], vec![pairs(&all[..2], 2), pairs(&all[2..], 2)]].map(|step| {
            let totals = StepTotals::of(&step);
            assert_eq!(totals.examples, 2);
            let (mut sum, mut metrics) = (0.0, MetricSums::default());
            for host in &step {
                let batch = Batch::new(host, &device());
                let loss = objective.loss(&model, &batch, totals);
                sum += loss.total.into_scalar::<f32>();
                metrics.add(loss.metrics, &batch, totals);
            }
            let (names, values) = metrics.into_parts();
            assert!(names.contains(&("rewards/calibration_error", 1)));
            let values = Tensor::cat(values, 0).into_data().try_into_vec_as::<f32>().unwrap();
            (sum, values)
        });
        assert!((found[0].0 - found[1].0).abs() < 1e-6);
        let differences = found[0].1.iter().zip(&found[1].1).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 1e-5, "{found:?}");
        let rewards = |tokens: &[i32]| {
            let host = pairs(&[row(tokens, 0.0), row(tokens, 0.0)], 2);
            Batch::new(&host, &device()).logits(&model).into_data().try_into_vec_as::<f32>().unwrap()[0]
        };
        let rewards = all.each_ref().map(|row| rewards(&row.inputs));
        let loss = |chosen: f32, rejected: f32, margin: f32| {
            (-(chosen - rejected - margin)).exp().ln_1p() + 0.01 * (chosen + rejected).powi(2)
        };
        let expected = (loss(rewards[0], rewards[1], 0.5) + loss(rewards[2], rewards[3], 0.25)) / 2.0;
        assert!((found[0].0 - expected).abs() < 1e-5, "{} {expected}", found[0].0);
    }

    #[test]
    fn a_scored_text_counts_its_squared_error() {
        let model = model();
        let example =
            Example { inputs: vec![1, 2], targets: vec![0], value: Some(2.0), ..Default::default() };
        let host = HostBatch::of(vec![example], 2, Width::LongestWithOneTarget, 8);
        let batch = Batch::new(&host, &device());
        let reward = batch.logits(&model).into_data().try_into_vec_as::<f32>().unwrap()[0];
        let objective = Reward { center: 0.0, router: AuxiliaryLosses::default() };
        let loss = objective.loss(&model, &batch, StepTotals::of([&host]));
        assert!((loss.total.into_scalar::<f32>() - (reward - 2.0).powi(2)).abs() < 1e-5);
    }
}
