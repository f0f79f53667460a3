//! Linear layers, `x W + bias + residual`, with a fused prologue and epilogue. If `x` is the output of a norm
//! or a non-linearity, the backward pass computes it again instead of saving it.

pub use kiln_operations::linear::LinearSpec;

use super::{
    Mode,
    activation::{self, Activation, activate},
    backend::Differentiable,
    dropout::dropout,
    low_rank::{AdaptedSpec, InputOperation, LowRank},
    norm::{self, NormSpec, norm},
    optional,
    precision::rounded,
    trace,
};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, module},
};

/// Input of a linear layer, with the operation that is fused before the product.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one a layer, and not kept")]
pub enum Prologue<const D: usize> {
    /// The input itself, `[.., I]`.
    Plain(Tensor<D>),
    /// Non-linearity of `[.., I]`, or, if gated, of `[.., 2 I]`.
    Activated(Tensor<D>, Activation),
    /// Norm of `[.., I]`.
    Normalized(Tensor<D>, Normalization),
}

/// A norm and its parameters.
#[derive(Clone)]
pub struct Normalization {
    /// Weight, `[I]`.
    pub weight: Tensor<1>,
    /// Bias, `[I]`.
    pub bias: Option<Tensor<1>>,
    pub spec: NormSpec,
}

impl<const D: usize> From<Tensor<D>> for Prologue<D> {
    fn from(x: Tensor<D>) -> Self {
        Self::Plain(x)
    }
}

impl<const D: usize> Prologue<D> {
    /// Computes the input of the product, `[.., I]`.
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

/// Bias, residual and low-rank product that are added to the product.
#[derive(Default)]
pub struct Epilogue<const D: usize> {
    /// Bias, `[O]`.
    pub bias: Option<Tensor<1>>,
    /// Residual, `[.., O]`.
    pub residual: Option<Tensor<D>>,
    /// Low-rank change of the weight.
    pub low_rank: Option<LowRank>,
}

/// Multiplies `[.., I]` by a weight `[I, O]`, or `[O, I]` if `transposed`, and adds the epilogue -> `[..,
/// O]`.
pub fn linear<const D: usize>(
    prologue: impl Into<Prologue<D>>,
    weight: Tensor<2>,
    transposed: bool,
    epilogue: Epilogue<D>,
    mode: Mode,
) -> Tensor<D> {
    let prologue = prologue.into();
    let spec = LinearSpec { transposed, precision: mode.precision };
    trace::input(|| prologue.clone().resolve(mode));
    if !prologue.fuses(mode) {
        return trace::output("linear", reference(prologue, weight, spec, epilogue));
    }
    let Epilogue { bias, residual, low_rank } = epilogue;
    if let Some(change) = low_rank {
        return trace::output("linear", adapted(prologue, weight, spec, bias, residual, change));
    }
    let (bias, residual) = (optional(bias), optional(residual));
    let weight = weight.into_dispatch();
    let y = Tensor::from_dispatch(match prologue {
        Prologue::Plain(x) => Dispatch::linear(x.into_dispatch(), weight, bias, residual, spec),
        Prologue::Activated(x, activation) => {
            Dispatch::activated_linear(x.into_dispatch(), weight, bias, residual, spec, activation)
        }
        Prologue::Normalized(x, norm) => Dispatch::normalized_linear(
            x.into_dispatch(),
            norm.weight.into_dispatch(),
            optional(norm.bias),
            weight,
            bias,
            residual,
            spec,
            norm.spec,
        ),
    });
    trace::output("linear", y)
}

/// Computes a linear layer with a low-rank change.
fn adapted<const D: usize>(
    prologue: Prologue<D>,
    weight: Tensor<2>,
    spec: LinearSpec,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    LowRank { down, up, dropout }: LowRank,
) -> Tensor<D> {
    let (x, norm_weight, norm_bias, input) = match prologue {
        Prologue::Plain(x) => (x, None, None, InputOperation::Plain),
        Prologue::Activated(x, activation) => (x, None, None, InputOperation::Activated(activation)),
        Prologue::Normalized(x, Normalization { weight, bias, spec }) => {
            (x, Some(weight), bias, InputOperation::Normalized(spec))
        }
    };
    Tensor::from_dispatch(Dispatch::adapted_linear(
        x.into_dispatch(),
        optional(norm_weight),
        optional(norm_bias),
        weight.into_dispatch(),
        optional(bias),
        optional(residual),
        down.into_dispatch(),
        up.into_dispatch(),
        AdaptedSpec { product: spec, input, dropout },
    ))
}

/// Unfused reference of a linear layer, made of Burn's operations. It rounds the factors of products to the precision
/// and computes in f32.
pub fn reference<const D: usize>(
    prologue: impl Into<Prologue<D>>,
    weight: Tensor<2>,
    LinearSpec { transposed, precision }: LinearSpec,
    Epilogue { bias, residual, low_rank }: Epilogue<D>,
) -> Tensor<D> {
    let x = match prologue.into() {
        Prologue::Plain(x) => x,
        Prologue::Activated(x, activation) => activation::reference(x, activation),
        Prologue::Normalized(x, Normalization { weight, bias, spec }) => {
            norm::reference(x, weight, bias, spec)
        }
    };
    let weight = if transposed { weight.transpose() } else { weight };
    let product = |x: Tensor<D>, weight: Tensor<2>, bias| {
        module::linear(rounded(x, precision), rounded(weight, precision), bias)
    };
    let mut y = product(x.clone(), weight, bias);
    if let Some(change) = low_rank {
        let x = dropout(x, None, change.dropout, Mode::Reference);
        y = y + product(product(x, change.down, None), change.up, None);
    }
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}
