//! DPO and its variants (arXiv:2305.18290): losses of the difference between the log-ratios of both answers.

use crate::config::PreferenceLoss;
use burn::tensor::{
    Tensor,
    activation::{log_sigmoid, relu},
};

/// Losses of pairs, `[P, 1]`, from the differences of their scores. `smoothing` is the share of pairs that are
/// taken to be the wrong way round.
pub(super) fn losses(differences: Tensor<2>, beta: f64, loss: PreferenceLoss, smoothing: f64) -> Tensor<2> {
    let likely = |differences: Tensor<2>| log_sigmoid(differences.mul_scalar(beta));
    match loss {
        PreferenceLoss::Sigmoid if smoothing == 0.0 => likely(differences).neg(),
        PreferenceLoss::Sigmoid => {
            let flipped = likely(differences.clone().neg());
            likely(differences).mul_scalar(smoothing - 1.0) - flipped.mul_scalar(smoothing)
        }
        PreferenceLoss::Robust => {
            let flipped = likely(differences.clone().neg());
            let loss = likely(differences).mul_scalar(smoothing - 1.0) + flipped.mul_scalar(smoothing);
            loss.div_scalar(1.0 - 2.0 * smoothing)
        }
        PreferenceLoss::Hinge => relu(differences.mul_scalar(-beta).add_scalar(1.0)),
        PreferenceLoss::Ipo => differences.sub_scalar(0.5 / beta).square(),
    }
}
