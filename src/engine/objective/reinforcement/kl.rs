//! Estimates of the Kullback–Leibler divergence from log-ratios of sampled tokens
//! (joschu.net/blog/kl-approx.html), and the controller of its weight (arXiv:1909.08593).

use crate::config::KlEstimator;

/// Estimates the divergence of a policy from a reference at one sampled token. `log_ratio` is the
/// log-probability of the policy minus that of the reference.
pub fn sampled_kl(estimator: KlEstimator, log_ratio: f32) -> f32 {
    match estimator {
        KlEstimator::K1 => log_ratio,
        KlEstimator::K2 => 0.5 * log_ratio * log_ratio,
        KlEstimator::K3 => (-log_ratio).exp_m1() + log_ratio,
    }
}

/// Weight of the divergence in the rewards, adapted so that the divergence approaches a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlController {
    pub coefficient: f32,
    /// Divergence of an answer to approach; `None` for a fixed coefficient.
    pub target: Option<f64>,
    /// Number of answers over which the coefficient is adapted.
    pub horizon: f64,
}

/// Largest relative error of the divergence that the controller follows.
const LARGEST_ERROR: f64 = 0.2;

impl KlController {
    /// Adapts the coefficient after a rollout of `answers` answers whose mean divergence was `kl`.
    pub fn observe(&mut self, kl: f64, answers: usize) {
        let Some(target) = self.target else { return };
        let error = (kl / target - 1.0).clamp(-LARGEST_ERROR, LARGEST_ERROR);
        let factor = 1.0 + error * answers as f64 / self.horizon;
        self.coefficient = (f64::from(self.coefficient) * factor) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_and_k3_are_never_negative_and_all_vanish_together() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            assert_eq!(sampled_kl(estimator, 0.0), 0.0);
        }
        for log_ratio in [-3.0, -1e-4, 1e-4, 3.0] {
            assert_eq!(sampled_kl(KlEstimator::K1, log_ratio), log_ratio);
            let [k2, k3] = [KlEstimator::K2, KlEstimator::K3].map(|kl| sampled_kl(kl, log_ratio));
            assert!(k2 > 0.0 && k3 > 0.0, "{log_ratio}: {k2} {k3}");
        }
        let exact = (-0.5f64).exp() - 1.0 + 0.5;
        assert!((f64::from(sampled_kl(KlEstimator::K3, 0.5)) - exact).abs() < 1e-7);
    }

    #[test]
    fn the_coefficient_follows_the_divergence_slowly() {
        let mut controller = KlController { coefficient: 0.1, target: Some(6.0), horizon: 1000.0 };
        controller.observe(60.0, 100);
        assert!((controller.coefficient - 0.102).abs() < 1e-6);
        controller.observe(5.4, 100);
        assert!((controller.coefficient - 0.102 * 0.99).abs() < 1e-6);
        controller.target = None;
        let before = controller;
        controller.observe(60.0, 100);
        assert_eq!(controller, before);
    }
}
