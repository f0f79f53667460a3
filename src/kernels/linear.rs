//! `x W + bias + residual`, where `x` may be what a norm or a non-linearity makes of something smaller or
//! kept anyway: it is then made again in the backward pass instead of kept.

use super::{
    Mode,
    activation::{self, Activation, activate},
    backend::Differentiable,
    norm::{self, NormSpec, norm},
    optional,
};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, module},
};

/// What is multiplied.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one a layer, and not kept")]
pub enum Source<const D: usize> {
    /// `[.., I]`
    Plain(Tensor<D>),
    /// Of `[.., I]`, or gated `[.., 2 I]`.
    Activated(Tensor<D>, Activation),
    /// Of `[.., I]`.
    Normalized(Tensor<D>, Normalization),
}

/// A norm and its parameters.
#[derive(Clone)]
pub struct Normalization {
    /// `[I]`
    pub weight: Tensor<1>,
    /// `[I]`
    pub bias: Option<Tensor<1>>,
    pub spec: NormSpec,
}

impl<const D: usize> From<Tensor<D>> for Source<D> {
    fn from(x: Tensor<D>) -> Self {
        Self::Plain(x)
    }
}

impl<const D: usize> Source<D> {
    /// `[.., I]`
    pub fn resolve(self, mode: Mode) -> Tensor<D> {
        match self {
            Self::Plain(x) => x,
            Self::Activated(x, activation) => activate(x, activation, mode),
            Self::Normalized(x, Normalization { weight, bias, spec }) => norm(x, weight, bias, spec, mode),
        }
    }

    fn fuses(&self, mode: Mode) -> bool {
        let (Self::Plain(x) | Self::Activated(x, _) | Self::Normalized(x, _)) = self;
        mode.fuses(x)
    }
}

/// What is added to the product.
#[derive(Default)]
pub struct Addends<const D: usize> {
    /// `[O]`
    pub bias: Option<Tensor<1>>,
    /// `[.., O]`
    pub residual: Option<Tensor<D>>,
}

/// `[.., I]` times a weight `[I, O]`, or `[O, I]` where `transposed`, plus addends -> `[.., O]`
pub fn linear<const D: usize>(
    source: impl Into<Source<D>>,
    weight: Tensor<2>,
    transposed: bool,
    addends: Addends<D>,
    mode: Mode,
) -> Tensor<D> {
    let source = source.into();
    if !source.fuses(mode) {
        return reference(source, weight, transposed, addends);
    }
    let (bias, residual) = (optional(addends.bias), optional(addends.residual));
    let weight = weight.into_dispatch();
    Tensor::from_dispatch(match source {
        Source::Plain(x) => Dispatch::linear(x.into_dispatch(), weight, bias, residual, transposed),
        Source::Activated(x, activation) => {
            Dispatch::activated_linear(x.into_dispatch(), weight, bias, residual, transposed, activation)
        }
        Source::Normalized(x, norm) => Dispatch::normalized_linear(
            x.into_dispatch(),
            norm.weight.into_dispatch(),
            optional(norm.bias),
            weight,
            bias,
            residual,
            transposed,
            norm.spec,
        ),
    })
}

/// The same by Burn's operations.
pub fn reference<const D: usize>(
    source: impl Into<Source<D>>,
    weight: Tensor<2>,
    transposed: bool,
    Addends { bias, residual }: Addends<D>,
) -> Tensor<D> {
    let x = match source.into() {
        Source::Plain(x) => x,
        Source::Activated(x, activation) => activation::reference(x, activation),
        Source::Normalized(x, Normalization { weight, bias, spec }) => norm::reference(x, weight, bias, spec),
    };
    let weight = if transposed { weight.transpose() } else { weight };
    let y = module::linear(x, weight, bias);
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}
