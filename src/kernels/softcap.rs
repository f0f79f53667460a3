//! Soft capping of logits and attention scores (Gemma 2, arXiv:2408.00118).

use burn::tensor::Tensor;

/// Computes `limit * tanh(x / limit)`, whose values are within ±`limit`.
pub fn softcap<const D: usize>(x: Tensor<D>, limit: f64) -> Tensor<D> {
    x.div_scalar(limit).tanh().mul_scalar(limit)
}
