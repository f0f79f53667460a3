//! Figures about a rollout, which the metrics of its steps show.

use super::PolicyOptimization;
use crate::{
    config::ObjectiveKind,
    generate::Completion,
    objective::{
        reinforcement::group_deviation,
        rollout::{Answer, Figures, Rollout, rewards::Scores},
    },
};

/// Answers of a rollout, with all numbers that are measured on them.
pub(super) struct Facts<'a> {
    pub answers: &'a [Answer],
    pub completions: &'a [Option<Completion>],
    pub scores: &'a Scores,
    /// Divergence of each answer from the reference, in nats; empty without a reference.
    pub divergences: &'a [f32],
}

impl PolicyOptimization {
    /// Computes the figures, all over the answers that are trained on. `scores` are their rewards.
    pub(super) fn figures(
        &self,
        rollout: &Rollout,
        entropies: &[f32],
        scores: &[Option<f32>],
        group: usize,
        facts: &Facts<'_>,
    ) -> Figures {
        let mut figures = Figures::new();
        let mut put = |name: &'static str, value: f64| drop(figures.insert(name, vec![value as f32]));
        let trained = || facts.answers.iter().enumerate().filter(|(_, answer)| !answer.is_left_out);
        put("reward", mean(scores.iter().flatten().map(|&score| f64::from(score))));
        put("reward_deviation", group_deviation(scores, if group > 1 { group } else { scores.len() }));
        put("answer_length", mean(trained().map(|(_, answer)| answer.tokens.len() as f64)));
        let has_ended = |row: usize| facts.completions[row].as_ref().is_some_and(super::draw::has_ended);
        put("ended", mean(trained().map(|(row, _)| f64::from(u8::from(has_ended(row))))));
        let width = rollout.shape.width;
        let of_tokens = |list: &[f32]| -> Vec<f64> {
            let tokens = |(row, answer): (usize, &Answer)| row * width..row * width + answer.tokens.len();
            trained().flat_map(tokens).filter_map(|at| list.get(at).map(|&value| f64::from(value))).collect()
        };
        put("entropy", mean(of_tokens(entropies).into_iter()));
        put("left_out", self.left_out as f64);
        if !facts.divergences.is_empty() {
            put("kl", mean(trained().map(|(row, _)| f64::from(facts.divergences[row]))));
        }
        if self.kind == ObjectiveKind::Ppo {
            put("kl_coefficient", f64::from(self.controller.coefficient));
            put(
                "explained_variance",
                explained_variance(&rollout.values, &rollout.returns, &rollout.value_mask),
            );
        }
        figures.extend(facts.scores.terms.iter().map(|(name, values)| (*name, values.clone())));
        figures
    }
}

/// Share of the variance of returns that values explain: 1 if they are equal, 0 or less if they know nothing.
fn explained_variance(values: &[f32], returns: &[f32], mask: &[f32]) -> f64 {
    let counted =
        || values.iter().zip(returns).zip(mask).filter(|(_, mask)| **mask > 0.0).map(|(pair, _)| pair);
    let errors = variance(counted().map(|(value, target)| f64::from(target - value)).collect());
    let all = variance(counted().map(|(_, target)| f64::from(*target)).collect());
    if all > 0.0 { 1.0 - errors / all } else { 0.0 }
}

fn variance(values: Vec<f64>) -> f64 {
    let average = mean(values.iter().copied());
    mean(values.iter().map(|value| (value - average).powi(2)))
}

/// Mean of numbers; 0 without one.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_explain_the_variance_that_they_share() {
        let (returns, mask) = ([1.0, 3.0, 5.0, 99.0], [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(explained_variance(&returns, &returns, &mask), 1.0);
        assert_eq!(explained_variance(&[3.0, 3.0, 3.0, 0.0], &returns, &mask), 0.0);
        // An offset costs nothing, as for a linear fit.
        assert_eq!(explained_variance(&[0.0, 2.0, 4.0, 0.0], &returns, &mask), 1.0);
        assert_eq!(explained_variance(&[1.0; 3], &[2.0; 3], &[1.0; 3]), 0.0);
    }
}
