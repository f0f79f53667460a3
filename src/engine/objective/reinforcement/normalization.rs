//! Weights of tokens in the loss of a step: which mean over tokens and answers the loss is.

use crate::config::Normalization;

/// A mean over the tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Averaging {
    pub normalization: Normalization,
    /// Largest length of an answer, for [`Normalization::DrGrpo`].
    pub max_length: usize,
    /// Number of answers in a micro-batch, for [`Normalization::Bnpo`].
    pub micro_batch: usize,
}

/// Weight of each token of each answer in the loss of a step, given the answers' lengths. An answer of length
/// 0 is left out. The weighted sum of the losses of all tokens is the loss of the step, however the answers
/// are grouped.
pub fn row_weights(lengths: &[usize], averaging: Averaging) -> Vec<f32> {
    let count = |lengths: &[usize]| lengths.iter().filter(|&&length| length > 0).count().max(1) as f64;
    let tokens = |lengths: &[usize]| lengths.iter().sum::<usize>().max(1) as f64;
    let answers = count(lengths);
    let batches = lengths.chunks(averaging.micro_batch.max(1));
    let batch_count =
        batches.clone().filter(|batch| batch.iter().any(|&length| length > 0)).count().max(1) as f64;
    let weights = batches.flat_map(|batch| {
        let of_batch = tokens(batch) * batch_count;
        batch.iter().map(move |&length| match averaging.normalization {
            _ if length == 0 => 0.0,
            Normalization::Grpo => 1.0 / (length as f64 * answers),
            Normalization::Bnpo => 1.0 / of_batch,
            Normalization::DrGrpo => 1.0 / (answers * averaging.max_length.max(1) as f64),
            Normalization::Dapo => 1.0 / tokens(lengths),
        })
    });
    weights.map(|weight| weight as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(normalization: Normalization) -> Vec<f32> {
        row_weights(&[4, 1, 0, 3], Averaging { normalization, max_length: 8, micro_batch: 2 })
    }

    #[test]
    fn each_mean_is_a_weighted_sum_and_what_is_left_out_has_no_weight() {
        let of = |weights: [f64; 4]| weights.map(|weight| weight as f32);
        assert_eq!(weights(Normalization::Grpo), of([1.0 / 12.0, 1.0 / 3.0, 0.0, 1.0 / 9.0]));
        assert_eq!(weights(Normalization::Bnpo), of([0.1, 0.1, 0.0, 1.0 / 6.0]));
        assert_eq!(weights(Normalization::DrGrpo), of([1.0 / 24.0, 1.0 / 24.0, 0.0, 1.0 / 24.0]));
        assert_eq!(weights(Normalization::Dapo), of([0.125, 0.125, 0.0, 0.125]));
    }

    /// With GRPO's own mean a token of a long answer counts less than one of a short answer, so that wrong
    /// answers grow (arXiv:2503.20783); with the others all tokens count alike.
    #[test]
    fn length_bias_of_grpo_trl_3138_is_absent_from_the_other_means() {
        let long_to_short = |normalization| {
            let weights = weights(normalization);
            weights[0] / weights[1]
        };
        assert_eq!(long_to_short(Normalization::Grpo), 0.25);
        for other in [Normalization::Bnpo, Normalization::DrGrpo, Normalization::Dapo] {
            assert_eq!(long_to_short(other), 1.0);
        }
    }
}
