//! KTO (arXiv:2402.01306): single answers that are desirable or not, by how much more likely they are than
//! under the reference, beyond what all answers are.
//!
//! The divergence z₀ from the reference is estimated once a step, on each prompt of the step with the answer to
//! the prompt before it. So the step does not depend on how its rows are divided into micro-batches.

use super::super::{
    Average, Batch, Frozen, Loss, Objective, Preparation, Reference, Start, StepTotals,
    router::AuxiliaryLosses,
};
use crate::{
    config::Config,
    data::{Example, HostBatch, IGNORE_INDEX, Width},
    error::{Error, Result},
    model::Model,
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor, activation::sigmoid};
use std::cell::RefCell;

/// The objective of KTO.
pub struct Kto {
    beta: f64,
    desirable_weight: f64,
    undesirable_weight: f64,
    /// Largest number of tokens of a row.
    block_size: usize,
    router: AuxiliaryLosses,
    reference: Reference,
    /// Divergence from the reference in the present step, `[1, 1]`, without autodiff; `None` before the first.
    divergence: RefCell<Option<Tensor<2>>>,
}

impl Kto {
    /// Opens the objective of a configuration and its reference.
    ///
    /// # Errors
    /// Those of [`Reference::open`].
    pub fn open(config: &Config, model: &Model, tokenizer: &Tokenizer) -> Result<Self> {
        let reference = Reference::open(config, model, tokenizer)?;
        let reference = reference.ok_or_else(|| {
            Error::invalid_value("objective.kind", config.objective_kind().name(), "it has no reference")
        })?;
        Ok(Self::new(config, reference))
    }

    /// Makes the objective of a configuration with its reference.
    pub fn new(config: &Config, reference: Reference) -> Self {
        Self {
            beta: config.preference_beta(),
            desirable_weight: config.preference.desirable_weight,
            undesirable_weight: config.preference.undesirable_weight,
            block_size: config.model.block_size,
            router: AuxiliaryLosses::new(&config.model),
            reference,
            divergence: RefCell::default(),
        }
    }

    /// Mean log-ratio of answers to other prompts to the reference's, at least 0, `[1, 1]`, without autodiff.
    fn estimate(&self, model: &Model, batches: &[HostBatch], device: &Device) -> Tensor<2> {
        let (model, mismatched) = (Frozen::new(model), mismatched(batches, self.block_size));
        let rows: usize = mismatched.iter().map(|host| host.rows).sum();
        let log_ratio = |host: &HostBatch| {
            let batch = Batch::new(host, device);
            let ratio = model.row_log_probabilities(&batch) - self.reference.log_probabilities(&batch);
            ratio.sum().reshape([1, 1])
        };
        let zero = Tensor::<2>::zeros([1, 1], device);
        let sum = mismatched.iter().fold(zero, |sum, host| sum + log_ratio(host));
        sum.div_scalar(rows.max(1) as f64).clamp_min(0.0)
    }

    /// Divergence from the reference in the present step, `[1, 1]`, without autodiff.
    pub(crate) fn present_divergence(&self) -> Option<Tensor<2>> {
        self.divergence.borrow().clone()
    }
}

impl Objective for Kto {
    fn begin_step(&self, model: &Model, batches: &[HostBatch], device: &Device) {
        let divergence = self.estimate(model, batches, &device.clone().inner());
        *self.divergence.borrow_mut() = Some(divergence);
    }

    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let (log_p, routings) = batch.log_probabilities_of(model, &batch.targets, batch.target_rows());
        let sums = batch.row_sums(log_p); // [B, 1]
        let like = |values: Tensor<2>| if sums.is_autodiff() { Tensor::from_inner(values) } else { values };
        let device = sums.device().inner();
        let divergence = self.present_divergence().unwrap_or_else(|| Tensor::zeros([1, 1], &device));
        let ratio = sums.clone() - like(self.reference.log_probabilities(batch));
        let weights = batch.is_example();
        let desirable = batch.values.clone().unwrap_or_else(|| weights.zeros_like());
        let desirable = desirable.greater_elem(0.5).float(); // [B, 1]

        // 1 where the answer is desirable, -1 where it is not.
        let sign = desirable.clone().mul_scalar(2.0).sub_scalar(1.0);
        let gain = (ratio.clone() - like(divergence.clone())).mul_scalar(self.beta) * sign;
        let importance = desirable
            .clone()
            .mul_scalar(self.desirable_weight - self.undesirable_weight)
            .add_scalar(self.undesirable_weight);
        let losses = sigmoid(gain.neg()) * importance; // 1 - σ(x) = σ(-x)
        let examples = step.examples.max(1) as f64;
        let total = (losses * weights.clone()).sum().div_scalar(examples);

        let weights = weights.inner();
        let desirable = desirable.inner() * weights.clone();
        let undesirable = weights.clone() - desirable.clone();
        let rewards = ratio.inner().mul_scalar(self.beta);
        let mean = |values: &Tensor<2>, weights: &Tensor<2>, count: usize| -> Tensor<1> {
            (values.clone() * weights.clone()).sum().div_scalar(count.max(1) as f64)
        };
        let (good, bad) = (step.positive_examples, step.examples - step.positive_examples);
        let chosen = mean(&rewards, &desirable, good);
        let rejected = mean(&rewards, &undesirable, bad);
        let sums = sums.inner();
        let share = batch.host.rows as f64 / step.rows.max(1) as f64;
        let loss = Loss::new(total)
            .with_metric("rewards/margin", chosen.clone() - rejected.clone(), Average::Sum)
            .with_metric("rewards/chosen", chosen, Average::Sum)
            .with_metric("rewards/rejected", rejected, Average::Sum)
            .with_metric("log_probability/chosen", mean(&sums, &desirable, good), Average::Sum)
            .with_metric("log_probability/rejected", mean(&sums, &undesirable, bad), Average::Sum)
            .with_metric("kl", divergence.mul_scalar(share), Average::Sum);
        self.router.add(loss, &routings, batch, step)
    }

    fn prepare<'a>(&'a mut self, start: Start<'a>) -> Preparation<'a> {
        // Prompts with answers to others are new in each step.
        Box::pin(async move { self.reference.prepare(&start, true).await })
    }
}

/// Rows of a step that have a target, with their batches.
fn rows(batches: &[HostBatch]) -> impl Iterator<Item = (&HostBatch, usize)> {
    let all = batches.iter().flat_map(|host| (0..host.rows).map(move |row| (host, row)));
    all.filter(|(host, row)| host.row_targets(*row) > 0)
}

/// A token, and whether it is a target.
type Labelled = (i32, bool);

/// Prompt of a row and the tokens after it, up to the last target. Between the messages of an answer there may be
/// tokens that are no target.
fn prompt_and_answer(host: &HostBatch, row: usize) -> (&[i32], Vec<Labelled>) {
    let (prompt, completion) = host.prompt_and_completion(row);
    let end = completion.iter().rposition(|&target| target != IGNORE_INDEX).map_or(0, |last| last + 1);
    let start = row * host.time + prompt.len();
    // A token that is no target of the one before is known as an input.
    let token = |(index, &target): (usize, &i32)| match target {
        IGNORE_INDEX => (host.inputs[start + index], false),
        target => (target, true),
    };
    (prompt, completion[..end].iter().enumerate().map(token).collect())
}

/// Each prompt of a step with the answer to the prompt before it, in batches as large as the given ones. Answers
/// are cut where the row would be longer than `block_size`. Empty if there is only one prompt.
fn mismatched(batches: &[HostBatch], block_size: usize) -> Vec<HostBatch> {
    let all: Vec<(&[i32], Vec<Labelled>)> =
        rows(batches).map(|(host, row)| prompt_and_answer(host, row)).collect();
    let Some(most) = batches.iter().map(|host| host.rows).max().filter(|_| all.len() > 1) else {
        return Vec::new();
    };
    let rows: Vec<Example> = (0..all.len())
        .map(|row| {
            let prompt = all[row].0.iter().map(|&token| (token, false));
            let answer = &all[(row + all.len() - 1) % all.len()].1;
            example(&prompt.chain(answer.iter().copied()).take(block_size + 1).collect::<Vec<_>>())
        })
        .collect();
    let batch = |rows: &[Example]| HostBatch::of(rows.to_vec(), rows.len(), Width::Longest, block_size);
    rows.chunks(most).map(batch).collect()
}

/// Example of a row, of which the last token is no input.
fn example(row: &[Labelled]) -> Example {
    let target = |&(token, is_target): &Labelled| if is_target { token } else { IGNORE_INDEX };
    Example {
        inputs: row.iter().take(row.len().saturating_sub(1)).map(|(token, _)| *token).collect(),
        targets: row.iter().skip(1).map(target).collect(),
        ..Example::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two prompts' tokens and three answers' tokens.
    fn host(first: i32, rows: usize) -> HostBatch {
        let n = IGNORE_INDEX;
        let row = |row: i32| (0..5).map(move |i| first + 10 * row + i).collect::<Vec<i32>>();
        let all: Vec<Vec<i32>> = (0..rows as i32).map(row).collect();
        let inputs = all.iter().flat_map(|row| row[..4].to_vec()).collect();
        let targets = all.iter().flat_map(|row| vec![n, row[2], row[3], row[4]]).collect();
        HostBatch::new(inputs, targets, rows, 4)
    }

    #[test]
    fn each_prompt_gets_the_answer_before_it_whatever_the_micro_batches() {
        let [whole, parts] =
            [vec![host(10, 3)], vec![host(10, 1), host(20, 2)]].map(|step| mismatched(&step, 9));
        let row = |step: &[HostBatch], wanted: usize| {
            let mut number = wanted;
            for host in step {
                if number < host.rows {
                    let (prompt, answer) = host.prompt_and_completion(number);
                    return (prompt.to_vec(), answer.to_vec());
                }
                number -= host.rows;
            }
            unreachable!()
        };
        assert_eq!(row(&whole, 0), (vec![10, 11], vec![32, 33, 34]));
        assert_eq!(row(&whole, 1), (vec![20, 21], vec![12, 13, 14]));
        for number in 0..3 {
            assert_eq!(row(&whole, number), row(&parts, number));
        }
        assert!(mismatched(&[host(10, 1)], 9).is_empty());
        // The tokens between two messages of an answer are read, and are no targets.
        let mut two_messages = host(10, 2);
        (two_messages.targets[6], two_messages.weights[6]) = (IGNORE_INDEX, 0.0);
        let mixed = mismatched(&[two_messages], 9);
        assert_eq!(mixed[0].inputs[..4], [10, 11, 22, 23]);
        assert_eq!(mixed[0].targets[..4], [IGNORE_INDEX, 22, IGNORE_INDEX, 24]);
        assert_eq!(row(&mismatched(&[host(10, 3)], 3), 0), (vec![10, 11], vec![32, 33]));
    }
}
