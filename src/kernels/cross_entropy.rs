//! Cross entropy of the output projection, without storing the logits of all tokens at once.
//!
//! The gradients are computed together with the loss, while the logits of a chunk are in memory (Liger
//! Kernel, arXiv:2410.10989).

pub use kiln_operations::cross_entropy::CrossEntropySpec;

use super::{
    Mode,
    backend::Differentiable,
    linear::{self, Epilogue, LinearSpec},
    softcap::softcap,
};
use burn::{
    backend::Dispatch,
    tensor::{Int, Tensor, activation::log_softmax},
};

/// Target of each row and its weight.
#[derive(Clone)]
pub struct Targets {
    /// Target tokens, `[N, 1]`.
    pub tokens: Tensor<2, Int>,
    /// Loss weights, `[N, 1]`: 1, or 0 for a row without a target.
    pub weights: Tensor<2>,
}

/// Weighted sum of the losses of states `[N, E]`, `[1]`. `weight` is `[E, V]`, or `[V, E]` if
/// `spec.transposed`.
pub fn cross_entropy(
    states: Tensor<2>,
    weight: Tensor<2>,
    targets: &Targets,
    spec: CrossEntropySpec,
    mode: Mode,
) -> Tensor<1> {
    let targets = targets.clone();
    let with_weight_gradient = weight.is_tracked() || weight.is_require_grad();
    if !mode.fuses(&states) {
        return reference(states, weight, targets, spec);
    }
    Tensor::from_dispatch(Dispatch::projected_cross_entropy(
        states.into_dispatch(),
        weight.into_dispatch(),
        targets.tokens.into_dispatch(),
        targets.weights.into_dispatch(),
        spec,
        with_weight_gradient,
    ))
}

/// Unfused reference of the cross entropy, made of Burn's operations.
pub fn reference(
    states: Tensor<2>,
    weight: Tensor<2>,
    targets: Targets,
    spec: CrossEntropySpec,
) -> Tensor<1> {
    let product = LinearSpec { transposed: spec.transposed, precision: spec.precision };
    let mut logits = linear::reference(states, weight, product, Epilogue::default());
    if spec.softcap > 0.0 {
        logits = softcap(logits, f64::from(spec.softcap));
    }
    of_logits(logits, targets, spec)
}

/// Weighted cross entropy of given logits `[N, V]`, summed to `[1]`.
pub fn of_logits(logits: Tensor<2>, targets: Targets, spec: CrossEntropySpec) -> Tensor<1> {
    let (smoothing, z_loss) = (spec.label_smoothing, spec.z_loss);
    let log_p = log_softmax(logits.clone(), 1);
    let mut losses = log_p.clone().gather(1, targets.tokens).mul_scalar(smoothing - 1.0); // [N, 1]
    if smoothing > 0.0 {
        losses = losses - log_p.clone().mean_dim(1).mul_scalar(smoothing);
    }
    if z_loss > 0.0 {
        // What logits and their logarithms of probability differ by is the same for the whole vocabulary.
        let log_sum = (logits - log_p).mean_dim(1);
        losses = losses + log_sum.square().mul_scalar(z_loss);
    }
    let loss = (losses * targets.weights).sum();
    if spec.scale == 1.0 { loss } else { loss.mul_scalar(spec.scale) }
}
