//! A linear layer with a low-rank change of its weight (LoRA, arXiv:2106.09685). Both products and the norm or
//! non-linearity before them are one operation, which computes their input once, and once more in the backward
//! pass.

use super::{
    activation::Activation,
    backend::{Kernels, Optional},
    dropout::Dropout,
    linear::LinearSpec,
    norm::NormSpec,
};
use burn::{backend::tensor::FloatTensor, tensor::Tensor};

/// Low-rank product that a linear layer adds, `dropout(x) down up`.
pub struct LowRank {
    /// Factor of the inputs, `[I, R]`.
    pub down: Tensor<2>,
    /// Factor of the outputs, `[R, O]`.
    pub up: Tensor<2>,
    /// Dropout of the input of this product alone.
    pub dropout: Dropout,
}

/// Operation before the products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InputOperation {
    Plain,
    Activated(Activation),
    Normalized(NormSpec),
}

/// Settings of a linear layer with a low-rank change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptedSpec {
    /// Layout of the weight, and precision of all products.
    pub product: LinearSpec,
    pub input: InputOperation,
    pub dropout: Dropout,
}

impl AdaptedSpec {
    /// Settings of the products with the two factors.
    pub(super) fn factor(self) -> LinearSpec {
        LinearSpec { transposed: false, ..self.product }
    }
}

/// Input of the products, and the statistics of its rows if it is normalized.
pub(super) fn input<B: Kernels>(
    x: FloatTensor<B>,
    norm_weight: Option<FloatTensor<B>>,
    norm_bias: Option<FloatTensor<B>>,
    operation: InputOperation,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    match (operation, norm_weight) {
        (InputOperation::Activated(activation), _) => (B::activation_forward(x, activation), None),
        (InputOperation::Normalized(spec), Some(weight)) => {
            let bias = norm_bias.map_or(Optional::Absent, Optional::Given);
            let (inner, statistics) = B::norm_forward(x, weight, bias, spec);
            (inner, Some(statistics))
        }
        _ => (x, None),
    }
}

/// Input of the low-rank product.
pub(super) fn dropped<B: Kernels>(inner: FloatTensor<B>, dropout: Dropout) -> FloatTensor<B> {
    if dropout.is_on() { B::dropout(inner, Optional::Absent, dropout) } else { inner }
}

/// Computes both products of their input. Also returns the product with `down`, `[.., R]`.
pub(super) fn products<B: Kernels>(
    inner: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Optional<B>,
    residual: Optional<B>,
    [down, up]: [FloatTensor<B>; 2],
    spec: AdaptedSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let y = B::linear_forward(inner.clone(), weight, bias, residual, spec.product);
    let inner = dropped::<B>(inner, spec.dropout);
    let factor = spec.factor();
    let hidden = B::linear_forward(inner, down, Optional::Absent, Optional::Absent, factor);
    (B::linear_onto(y, hidden.clone(), up, factor), hidden)
}
