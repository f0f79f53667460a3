//! SimPO (arXiv:2405.14734): the preferred answer's mean log-probability leads by a margin.

use burn::tensor::{Tensor, activation::log_sigmoid};

/// Losses of pairs, `[P, 1]`, from the differences of their mean log-probabilities.
pub(super) fn losses(differences: Tensor<2>, beta: f64, gamma: f64) -> Tensor<2> {
    log_sigmoid(differences.mul_scalar(beta).sub_scalar(gamma)).neg()
}
