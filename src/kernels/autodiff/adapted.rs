//! Backward pass of a linear layer with a low-rank change.

use super::Operation;
use crate::{
    backend::{Kernels, Optional},
    linear::LinearSpec,
    low_rank::{self, AdaptedSpec, InputOperation, dropped},
};
use burn::backend::tensor::FloatTensor;

/// The inputs are `x`, weight and bias of the norm, the weight, its bias, the residual, `down` and `up`.
#[derive(Debug)]
pub(super) struct AdaptedLinear;

#[derive(Debug, Clone)]
pub(super) struct Adapted<B: Kernels> {
    pub x: FloatTensor<B>,
    pub norm_weight: Option<FloatTensor<B>>,
    pub norm_bias: Option<FloatTensor<B>>,
    pub statistics: Option<FloatTensor<B>>,
    pub weight: FloatTensor<B>,
    pub down: FloatTensor<B>,
    pub up: FloatTensor<B>,
    /// Product with `down`, `[.., R]`.
    pub hidden: FloatTensor<B>,
    pub spec: AdaptedSpec,
}

impl<B: Kernels> Operation<B, 8> for AdaptedLinear {
    type Saved = Adapted<B>;

    fn backward(saved: Self::Saved, dy: FloatTensor<B>, needed: [bool; 8]) -> [Option<FloatTensor<B>>; 8] {
        let Adapted { x, norm_weight, norm_bias, statistics, weight, down, up, hidden, spec } = saved;
        let (AdaptedSpec { product, input, dropout }, factor) = (spec, spec.factor());
        let x = B::widened(x);
        let reduced = B::reduced(dy.clone(), product.precision);
        let d_up = needed[7].then(|| B::linear_weight_gradient(hidden, reduced.clone(), factor));
        let d_bias = needed[4].then(|| B::linear_bias_gradient(dy.clone()));
        let d_hidden = B::linear_input_gradient(reduced.clone(), up, factor);
        let d_inner = (needed[0] || needed[1] || needed[2]).then(|| {
            let d_inner = B::linear_input_gradient(reduced.clone(), weight, product);
            if !dropout.is_on() {
                let transposed = LinearSpec { transposed: true, ..factor };
                return B::linear_onto(d_inner, d_hidden.clone(), down.clone(), transposed);
            }
            let part = B::linear_input_gradient(d_hidden.clone(), down.clone(), factor);
            B::dropout(part, Optional::Given(d_inner), dropout)
        });
        let (inner, [dx, d_norm_weight, d_norm_bias]) = match (input, d_inner) {
            (InputOperation::Plain, d_inner) => (x, [d_inner, None, None]),
            (InputOperation::Activated(activation), Some(d_inner)) => {
                let (dx, inner) = B::activation_backward_with_value(x, d_inner, activation);
                (inner, [Some(dx), None, None])
            }
            (InputOperation::Normalized(norm), Some(d_inner)) => {
                let (inner, _) = low_rank::input::<B>(x.clone(), norm_weight.clone(), norm_bias, input);
                let gradients = norm_weight.zip(statistics).map(|(weight, statistics)| {
                    let (dx, d_weight, d_bias) = B::norm_backward(x, weight, statistics, d_inner, norm);
                    [Some(dx), Some(d_weight), Some(d_bias)]
                });
                (inner, gradients.unwrap_or([None, None, None]))
            }
            (_, None) => (low_rank::input::<B>(x, norm_weight, norm_bias, input).0, [None, None, None]),
        };
        let d_weight = needed[3].then(|| B::linear_weight_gradient(inner.clone(), reduced, product));
        let d_down =
            needed[6].then(|| B::linear_weight_gradient(dropped::<B>(inner, dropout), d_hidden, factor));
        [dx, d_norm_weight, d_norm_bias, d_weight, d_bias, needed[5].then_some(dy), d_down, d_up]
    }
}
