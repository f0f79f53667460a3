//! Divides a rollout into the micro-batches of its steps.

use super::{Answer, Rollout, answer_batch};
use crate::{
    data::{
        HostBatch,
        random::{rng, shuffle},
    },
    objective::reinforcement::{Averaging, row_weights},
};
use std::ops::Range;

/// Rule by which the answers of a rollout become the micro-batches of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBatches {
    /// Number of steps in an epoch over the answers.
    pub minibatches: usize,
    /// Mean over tokens and answers, and the number of answers in a micro-batch.
    pub averaging: Averaging,
    /// Seed of the order of the answers.
    pub seed: u64,
}

impl StepBatches {
    /// Makes the micro-batches of the step with number `index`, counted from the rollout's first. Each epoch
    /// has every answer once, in an order of its own.
    pub fn of(&self, rollout: &Rollout, index: u64) -> Vec<HostBatch> {
        let minibatches = self.minibatches.max(1) as u64;
        let (epoch, minibatch) = (index / minibatches, (index % minibatches) as usize);
        let mut order: Vec<usize> = (0..rollout.answers.len()).collect();
        let mut random = rng(self.seed, rollout.first_step + epoch * minibatches, "minibatches");
        shuffle(&mut order, &mut random);
        let size = order.len().div_ceil(minibatches as usize).max(1);
        let chosen = order.chunks(size).nth(minibatch).unwrap_or_default();
        let lengths: Vec<usize> = chosen.iter().map(|&row| rollout.answers[row].trained()).collect();
        let weights = row_weights(&lengths, self.averaging);
        let values: f32 = chosen.iter().flat_map(|&row| of_row(&rollout.value_mask, rollout, row)).sum();
        let micro_batch = self.averaging.micro_batch.max(1);
        let rows = chosen.chunks(micro_batch).zip(weights.chunks(micro_batch));
        rows.map(|(rows, weights)| micro_batch_of(rollout, rows, weights, values.max(1.0))).collect()
    }
}

/// Makes a micro-batch of some of a rollout's answers, given the weight of the tokens of each. Values count
/// one `values`th each.
fn micro_batch_of(rollout: &Rollout, rows: &[usize], weights: &[f32], values: f32) -> HostBatch {
    let answers: Vec<&Answer> = rows.iter().map(|&row| &rollout.answers[row]).collect();
    let mut batch = answer_batch(&answers, rollout.shape);
    let of_rows =
        |list: &[f32]| rows.iter().flat_map(|&row| of_row(list, rollout, row)).collect::<Vec<f32>>();
    let width = rollout.shape.width;
    let of_tokens = weights.iter().flat_map(|&weight| std::iter::repeat_n(weight, width));
    let token_weights = of_tokens.zip(&batch.weights).map(|(weight, target)| weight * target).collect();
    if let Some(answers) = &mut batch.answers {
        answers.weights = token_weights;
        answers.old_log_probabilities = of_rows(&rollout.old_log_probabilities);
        answers.reference_log_probabilities = of_rows(&rollout.reference_log_probabilities);
        answers.advantages = of_rows(&rollout.advantages);
        answers.values = of_rows(&rollout.values);
        answers.returns = of_rows(&rollout.returns);
        answers.value_weights = of_rows(&rollout.value_mask).into_iter().map(|mask| mask / values).collect();
    }
    batch
}

/// Numbers of one answer in a list; none if the list is empty.
fn of_row<'a>(list: &'a [f32], rollout: &Rollout, row: usize) -> impl Iterator<Item = f32> + use<'a> {
    let width = rollout.shape.width;
    let range: Range<usize> = row * width..(row + 1) * width;
    list.get(range).unwrap_or_default().iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Normalization, objective::rollout::Shape};

    fn rollout() -> Rollout {
        let answer = |row: u32| Answer {
            prompt: vec![9],
            tokens: (0..=row % 3).map(|place| 10 * row + place).collect(),
            is_left_out: row == 4,
        };
        let answers: Vec<Answer> = (0..8).map(answer).collect();
        let shape = Shape::of(&answers, 64, false);
        let numbers: Vec<f32> = (0..8 * shape.width).map(|i| i as f32).collect();
        Rollout {
            number: 2,
            first_step: 5,
            old_log_probabilities: numbers.clone(),
            advantages: numbers,
            value_mask: vec![1.0; 8 * shape.width],
            shape,
            answers,
            ..Rollout::default()
        }
    }

    const HALVES: StepBatches = StepBatches {
        minibatches: 2,
        averaging: Averaging { normalization: Normalization::Dapo, max_length: 3, micro_batch: 2 },
        seed: 7,
    };

    #[test]
    fn an_epoch_has_every_answer_once_in_its_own_order() {
        let rollout = rollout();
        let first_tokens = |index| -> Vec<i32> {
            let batches = HALVES.of(&rollout, index);
            assert_eq!(batches.len(), 2);
            let weight: f32 =
                batches.iter().filter_map(|batch| batch.answers.as_ref()).flat_map(|a| &a.weights).sum();
            assert!((weight - 1.0).abs() < 1e-6, "{weight}");
            batches.iter().flat_map(|batch| [batch.inputs[1], batch.inputs[batch.time + 1]]).collect()
        };
        let epochs = [0, 2].map(|index| [first_tokens(index), first_tokens(index + 1)].concat());
        assert_ne!(epochs[0], epochs[1]);
        for mut epoch in epochs {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..8).map(|row| 10 * row).collect::<Vec<_>>());
        }
        assert_eq!(HALVES.of(&rollout, 3), HALVES.of(&rollout, 3));
    }

    #[test]
    fn numbers_stay_with_their_answers() {
        let rollout = rollout();
        let width = rollout.shape.width;
        for batch in (0..2).flat_map(|index| HALVES.of(&rollout, index)) {
            let answers = batch.answers.as_ref().unwrap();
            for row in 0..batch.rows {
                let number = batch.inputs[row * batch.time + 1] / 10;
                let own = &answers.advantages[row * width..(row + 1) * width];
                assert_eq!(own[0], (number as usize * width) as f32);
                let is_trained = batch.targets[row * width] != crate::data::IGNORE_INDEX;
                assert_eq!(is_trained, number != 4);
                assert_eq!(answers.weights[row * width] > 0.0, number != 4);
            }
            assert!(answers.reference_log_probabilities.is_empty() && answers.values.is_empty());
            assert!(answers.value_weights.iter().all(|weight| (weight - 1.0 / 12.0).abs() < 1e-7));
        }
    }
}
