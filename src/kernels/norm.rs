//! LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467) over the last dimension.

pub use kiln_operations::norm::NormSpec;

use super::{Mode, backend::Differentiable, optional, trace};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, module::layer_norm},
};

/// Normalizes `x`, `[.., width]`; `weight` and `bias` are `[width]`.
pub fn norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    spec: NormSpec,
    mode: Mode,
) -> Tensor<D> {
    if !mode.fuses(&x) {
        return trace::output("norm", reference(x, weight, bias, spec));
    }
    let y = Dispatch::norm(x.into_dispatch(), weight.into_dispatch(), optional(bias), spec);
    trace::output("norm", Tensor::from_dispatch(y))
}

/// Unfused reference of the norm, made of Burn's operations.
pub fn reference<const D: usize>(
    x: Tensor<D>,
    mut weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    spec: NormSpec,
) -> Tensor<D> {
    if spec.offset != 0.0 {
        weight = weight.add_scalar(spec.offset);
    }
    if spec.centered {
        return layer_norm(x, weight, bias, f64::from(spec.epsilon));
    }
    let mean_square = x.clone().square().mean_dim(D - 1); // [.., 1]
    let scale = mean_square.add_scalar(spec.epsilon).sqrt().recip();
    let y = x * scale * weight.unsqueeze();
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}
