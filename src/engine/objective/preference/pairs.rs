//! Log-probabilities of pairs of answers under the model in training.

use super::super::{Batch, StepTotals};
use crate::{
    kernels::cross_entropy::Targets,
    model::{Model, Routings},
};
use burn::tensor::{Int, Tensor};

/// Log-probabilities of the answers of a batch of P pairs.
pub(super) struct Pairs {
    /// Sums over the tokens of each answer, the preferred one first, `[P, 2]`.
    pub sums: Tensor<2>,
    /// Number of tokens of each answer, at least 1, `[P, 2]`.
    pub counts: Tensor<2>,
    /// 1 for a pair, and 0 for rows that only fill the batch, `[P, 1]`.
    pub weights: Tensor<2>,
    /// Routing of each layer.
    pub routings: Routings,
    /// Sum over the tokens of the preferred row, prompt included, `[P, 1]`; `None` if it was not asked for.
    whole: Option<Tensor<2>>,
}

impl Pairs {
    /// Computes the log-probabilities, also those of the prompts if `of_prompt`.
    pub fn of(model: &Model, batch: &Batch, of_prompt: bool) -> Self {
        let pairs = batch.rows() / 2;
        let in_pairs = |rows: Tensor<2>| rows.reshape([pairs, 2]);
        let has_target = batch.has_target();
        let (log_p, whole, routings) = if of_prompt {
            let targets = every_token(batch);
            let (log_p, routings) = batch.log_probabilities_of(model, &targets, None);
            let of_rows = in_pairs(batch.row_sums(log_p.clone())); // [P, 2]
            (log_p * has_target.clone(), Some(of_rows.narrow(1, 0, 1)), routings)
        } else {
            let (log_p, routings) = batch.log_probabilities_of(model, &batch.targets, batch.target_rows());
            (log_p, None, routings)
        };
        Self {
            sums: in_pairs(batch.row_sums(log_p)),
            counts: in_pairs(batch.row_sums(has_target)).clamp_min(1.0),
            weights: batch.is_example(),
            routings,
            whole,
        }
    }

    /// Mean cross entropy of the tokens of all preferred answers of the step, and of their prompts if they were
    /// asked for, as the share of this batch, `[1]`.
    pub fn negative_log_likelihood(&self, step: StepTotals) -> Tensor<1> {
        let (sums, count) = match &self.whole {
            Some(whole) => (whole.clone(), step.first_tokens),
            None => (self.sums.clone().narrow(1, 0, 1), step.first_targets),
        };
        (sums * self.weights.clone()).sum().div_scalar(-(count.max(1) as f64))
    }
}

/// Targets of a batch in which each token is predicted from those before it, those of the prompt too.
fn every_token(batch: &Batch) -> Targets {
    let [rows, time] = batch.input.tokens.dims();
    let has_target = batch.has_target().reshape([rows, time]); // [B, T]
    let is_real = match &batch.input.padding {
        Some(padding) => padding.clone().bool_not().float(),
        // Padding follows the last target.
        None => {
            let columns: Tensor<2> =
                Tensor::<1, Int>::arange(0..time as i64, &has_target.device()).float().unsqueeze(); // [1, T]
            let last = (has_target.clone() * columns.clone()).max_dim(1); // [B, 1]
            let found = has_target.clone().max_dim(1); // [B, 1]
            (last - columns).greater_equal_elem(0.0).float() * found
        }
    };
    let next_is_real = shifted(is_real.clone()); // [B, T]
    let is_target = (has_target.clone() + is_real * next_is_real).clamp_max(1.0);
    let own = batch.targets.tokens.clone().reshape([rows, time]);
    let next: Tensor<2, Int> = shifted_tokens(batch.input.tokens.clone());
    let tokens = next.mask_where(has_target.not_equal_elem(0.0), own);
    Targets { tokens: tokens.reshape([rows * time, 1]), weights: is_target.reshape([rows * time, 1]) }
}

/// Moves values one column to the left; the last column is 0.
fn shifted(values: Tensor<2>) -> Tensor<2> {
    let [rows, time] = values.dims();
    let zeros = Tensor::<2>::zeros([rows, 1], &values.device());
    Tensor::cat(vec![values, zeros], 1).narrow(1, 1, time)
}

/// Moves tokens one column to the left; the last column is 0.
fn shifted_tokens(tokens: Tensor<2, Int>) -> Tensor<2, Int> {
    let [rows, time] = tokens.dims();
    let zeros = Tensor::<2, Int>::zeros([rows, 1], &tokens.device());
    Tensor::cat(vec![tokens, zeros], 1).narrow(1, 1, time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{HostBatch, IGNORE_INDEX},
        model::mask,
    };

    #[test]
    fn every_token_of_a_prompt_is_a_target_and_padding_is_none() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let n = IGNORE_INDEX;
        // The tokens 5, 6, 7 and 8, of which the last two are the answer, padded on the right and on the left.
        let right = HostBatch::new(vec![5, 6, 7, 0], vec![n, 7, 8, n], 1, 4);
        let left = HostBatch::new(vec![0, 5, 6, 7], vec![n, n, 7, 8], 1, 4);
        let read = |batch: &Batch| {
            let targets = every_token(batch);
            (
                targets.tokens.into_data().try_into_vec_as::<i32>().unwrap(),
                targets.weights.into_data().try_into_vec_as::<f32>().unwrap(),
            )
        };
        let (tokens, weights) = read(&Batch::new(&right, &device));
        assert_eq!((&tokens[..3], &weights[..]), (&[6, 7, 8][..], &[1.0, 1.0, 1.0, 0.0][..]));
        let mut batch = Batch::new(&left, &device);
        batch.input.padding = Some(mask(vec![true, false, false, false], 1, &device));
        let (tokens, weights) = read(&batch);
        assert_eq!((&tokens[1..], &weights[..]), (&[6, 7, 8][..], &[0.0, 1.0, 1.0, 1.0][..]));
        // A row that only fills the batch has none.
        let empty = HostBatch::new(vec![0; 4], vec![n; 4], 1, 4);
        assert_eq!(read(&Batch::new(&empty, &device)).1, [0.0; 4]);
    }
}
