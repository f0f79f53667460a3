//! `x W + bias + residual`.

use super::{Mode, backend::Differentiable, optional};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, module},
};

/// What is beside the product.
#[derive(Default)]
pub struct Addends<const D: usize> {
    /// `[O]`
    pub bias: Option<Tensor<1>>,
    /// `[.., O]`
    pub residual: Option<Tensor<D>>,
}

/// `[.., I]` times a weight `[I, O]`, or `[O, I]` where `transposed`, plus addends -> `[.., O]`
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    transposed: bool,
    addends: Addends<D>,
    mode: Mode,
) -> Tensor<D> {
    let Addends { bias, residual } = addends;
    if !mode.fuses(&x) {
        return reference(x, weight, transposed, Addends { bias, residual });
    }
    Tensor::from_dispatch(Dispatch::linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        optional(bias),
        optional(residual),
        transposed,
    ))
}

/// The same by Burn's operations.
pub fn reference<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    transposed: bool,
    Addends { bias, residual }: Addends<D>,
) -> Tensor<D> {
    let weight = if transposed { weight.transpose() } else { weight };
    let y = module::linear(x, weight, bias);
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}
