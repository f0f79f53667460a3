//! PPO's targets: rewards, advantages and returns of every token of sampled answers, which stay fixed while
//! the policy is updated (arXiv:1707.06347, arXiv:2203.02155).

use super::{Mean, generalized_advantages, sampled_kl, whiten};
use crate::config::{Config, KlEstimator, ScorePosition};

/// Sampled answers with everything that was measured of them. Lists are `[answers * width]`.
#[derive(Debug, Clone, Copy)]
pub struct Sampled<'a> {
    pub width: usize,
    /// Number of tokens of each answer; 0 for an answer that is left out.
    pub lengths: &'a [usize],
    /// Score of each answer.
    pub scores: &'a [f32],
    /// Log-probabilities of the policy that sampled the answers.
    pub old_log_probabilities: &'a [f32],
    /// Log-probabilities of the reference.
    pub reference_log_probabilities: &'a [f32],
    /// Values before each token.
    pub values: &'a [f32],
}

/// Settings of the targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetsConfig {
    pub score_position: ScorePosition,
    pub kl: KlEstimator,
    pub kl_coefficient: f32,
    pub whiten_rewards: bool,
    pub gamma: f64,
    pub lambda: f64,
}

/// Targets of PPO. Lists are `[answers * width]`, and 0 beyond the end of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// Estimated divergence from the reference.
    pub kl: Vec<f32>,
    /// Score of the answer less the weighted divergence, whitened if so configured.
    pub rewards: Vec<f32>,
    /// Advantages before they are whitened.
    pub raw_advantages: Vec<f32>,
    /// Whitened advantages.
    pub advantages: Vec<f32>,
    /// Advantages plus values, which the value model learns.
    pub returns: Vec<f32>,
    /// 1 where a value counts, otherwise 0.
    pub value_mask: Vec<f32>,
}

impl TargetsConfig {
    /// Settings of a configuration, with the present coefficient of the divergence.
    pub fn of(config: &Config, kl_coefficient: f32) -> Self {
        let ppo = &config.ppo;
        Self {
            score_position: ppo.score_position,
            kl: ppo.kl,
            kl_coefficient,
            whiten_rewards: ppo.whiten_rewards,
            gamma: ppo.gamma,
            lambda: ppo.lambda,
        }
    }

    /// Computes the targets of sampled answers.
    pub fn targets(&self, sampled: Sampled<'_>) -> Targets {
        let width = sampled.width;
        let mask = answer_mask(sampled.lengths, width);
        let log_ratios = sampled.old_log_probabilities.iter().zip(sampled.reference_log_probabilities);
        let kl: Vec<f32> = log_ratios
            .zip(&mask)
            .map(|((old, reference), mask)| sampled_kl(self.kl, old - reference) * mask)
            .collect();
        let mut rewards: Vec<f32> = kl.iter().map(|kl| -self.kl_coefficient * kl).collect();
        let mut value_mask = mask.clone();
        for (row, (&length, score)) in sampled.lengths.iter().zip(sampled.scores).enumerate() {
            let Some(last) = length.checked_sub(1) else { continue };
            let place = match self.score_position {
                ScorePosition::Last => last,
                ScorePosition::Next => length.min(width - 1),
            };
            rewards[row * width + place] += score;
            value_mask[row * width + place] = 1.0;
        }
        if self.whiten_rewards {
            rewards = whiten(&rewards, &value_mask, Mean::Kept);
        }
        let values = product(sampled.values, &value_mask);
        let all = generalized_advantages(&rewards, &values, width, self.gamma, self.lambda);
        let returns: Vec<f32> = all.iter().zip(&values).map(|(advantage, value)| advantage + value).collect();
        Targets {
            kl,
            rewards,
            raw_advantages: product(&all, &value_mask),
            advantages: whiten(&all, &mask, Mean::Zero),
            returns: product(&returns, &value_mask),
            value_mask,
        }
    }
}

/// 1 for the tokens of answers with the given lengths and 0 beyond their ends, `[answers * width]`.
pub fn answer_mask(lengths: &[usize], width: usize) -> Vec<f32> {
    lengths.iter().flat_map(|&length| (0..width).map(move |place| f32::from(place < length))).collect()
}

fn product(values: &[f32], mask: &[f32]) -> Vec<f32> {
    values.iter().zip(mask).map(|(value, mask)| value * mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: Sampled<'_> = Sampled {
        width: 4,
        lengths: &[2, 4, 0],
        scores: &[3.0, -1.0, 7.0],
        old_log_probabilities: &[-1.0, -2.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, -9.0, 0.0, 0.0, 0.0],
        reference_log_probabilities: &[-1.5, -2.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0],
        values: &[0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4, 5.0, 5.0, 5.0, 5.0],
    };

    fn config(score_position: ScorePosition) -> TargetsConfig {
        TargetsConfig {
            score_position,
            kl: KlEstimator::K1,
            kl_coefficient: 0.5,
            whiten_rewards: false,
            gamma: 1.0,
            lambda: 1.0,
        }
    }

    #[test]
    fn score_stands_on_the_last_token_trl_3750() {
        let targets = config(ScorePosition::Last).targets(SAMPLED);
        assert_eq!(targets.rewards[..8], [-0.25, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
        assert_eq!(targets.value_mask, answer_mask(SAMPLED.lengths, 4));
        // What is beyond the end has no value, so that nothing is taken from there.
        let mut returns = targets.returns[..4].iter().zip([2.75f32, 3.0, 0.0, 0.0]);
        assert!(returns.all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", targets.returns);
        let next = config(ScorePosition::Next).targets(SAMPLED);
        assert_eq!(next.rewards[..8], [-0.25, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
        assert_eq!(next.value_mask[..8], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn an_answer_that_is_left_out_has_no_target() {
        let Targets { kl, rewards, raw_advantages, advantages, returns, value_mask } =
            config(ScorePosition::Next).targets(SAMPLED);
        for list in [kl, rewards, raw_advantages, advantages, returns, value_mask] {
            assert_eq!(list[8..], [0.0; 4]);
        }
    }
}
