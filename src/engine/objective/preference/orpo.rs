//! ORPO (arXiv:2403.07691): the odds of the preferred answer over those of the rejected one.

use burn::tensor::{Tensor, activation::log_sigmoid};

/// Losses of pairs, `[P, 1]`, from the mean log-probabilities of their answers.
pub(super) fn losses(chosen: Tensor<2>, rejected: Tensor<2>, beta: f64) -> Tensor<2> {
    let odds = log_odds(chosen) - log_odds(rejected);
    log_sigmoid(odds).mul_scalar(-beta)
}

/// Largest log-probability whose odds are told apart from infinite ones in 32 bits.
const LARGEST: f64 = -1e-6;

/// Logarithm of p / (1 - p) for a log-probability.
fn log_odds(log_p: Tensor<2>) -> Tensor<2> {
    let log_p = log_p.clamp_max(LARGEST);
    log_p.clone() - log_p.exp().neg().log1p()
}
