//! AdamW (arXiv:1711.05101) in one pass over weights, moments and gradient.

pub use kiln_operations::adamw::AdamWSpec;

use super::{Mode, backend::Kernels};
use burn::{backend::Dispatch, tensor::Tensor};

/// Weights and moments of one parameter, flattened.
#[derive(Clone)]
pub struct Updated {
    pub weights: Tensor<1>,
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

/// Updates weights and moments by `gradient * scale`, where `scale` is `[1]`. Happens in place if nothing
/// else holds the tensors.
pub fn adamw(old: Updated, gradient: Tensor<1>, scale: Tensor<1>, spec: AdamWSpec, mode: Mode) -> Updated {
    if !mode.fuses(&old.weights) {
        return reference(old, gradient, scale, spec);
    }
    let (weights, first, second) = Dispatch::adamw(
        old.weights.into_dispatch(),
        old.first.into_dispatch(),
        old.second.into_dispatch(),
        gradient.into_dispatch(),
        scale.into_dispatch(),
        spec,
    );
    let [weights, first, second] = [weights, first, second].map(Tensor::from_dispatch);
    Updated { weights, first, second }
}

/// Unfused reference of the AdamW update, made of Burn's operations.
pub fn reference(old: Updated, gradient: Tensor<1>, scale: Tensor<1>, spec: AdamWSpec) -> Updated {
    let (decay, rate, correction) = spec.factors();
    let gradient = gradient * scale.clone();
    let moment =
        |old: Tensor<1>, new: Tensor<1>, beta: f32| old.mul_scalar(beta) + new.mul_scalar(1.0 - beta);
    let first = moment(old.first.clone(), gradient.clone(), spec.beta1);
    let second = moment(old.second.clone(), gradient.square(), spec.beta2);
    let deviation = second.clone().mul_scalar(correction).sqrt().add_scalar(spec.epsilon);
    let weights = old.weights.clone().mul_scalar(decay) - first.clone().mul_scalar(rate) / deviation;
    if !spec.skip_non_finite {
        return Updated { weights, first, second };
    }
    let keep = |new: Tensor<1>, old: Tensor<1>| {
        let mask = scale.clone().is_finite().expand(new.dims());
        old.mask_where(mask, new)
    };
    Updated {
        weights: keep(weights, old.weights),
        first: keep(first, old.first),
        second: keep(second, old.second),
    }
}

/// Sum of the squares of all elements, `[1]`.
pub fn sum_of_squares(x: Tensor<1>, mode: Mode) -> Tensor<1> {
    match mode.fuses(&x) {
        true => Tensor::from_dispatch(Dispatch::sum_of_squares(x.into_dispatch())),
        false => x.square().sum(),
    }
}
