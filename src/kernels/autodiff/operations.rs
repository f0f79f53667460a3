//! Saved tensors and the backward pass of each kernel.

use super::Operation;
use crate::{
    activation::Activation,
    attention::AttentionSpec,
    backend::{Kernels, Optional, OptionalInts, OptionalMask},
    dropout::Dropout,
    linear::LinearSpec,
    log_probabilities::ProjectionSpec,
    norm::NormSpec,
    rope::RopeSpec,
};
use burn::backend::{
    Autodiff, TensorMetadata,
    autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{FloatTensor, IntTensor},
};

#[derive(Debug)]
pub(super) struct Linear;

impl<B: Kernels> Operation<B, 4> for Linear {
    /// Input, weight and settings.
    type Saved = (FloatTensor<B>, FloatTensor<B>, LinearSpec);

    fn backward(
        (x, weight, spec): Self::Saved,
        dy: FloatTensor<B>,
        needed: [bool; 4],
    ) -> [Option<FloatTensor<B>>; 4] {
        let reduced = B::reduced(dy.clone(), spec.precision);
        [
            needed[0].then(|| B::linear_input_gradient(reduced.clone(), weight, spec)),
            needed[1].then(|| B::linear_weight_gradient(x, reduced, spec)),
            needed[2].then(|| B::linear_bias_gradient(dy.clone())),
            needed[3].then_some(dy),
        ]
    }
}

#[derive(Debug)]
pub(super) struct ActivatedLinear;

impl<B: Kernels> Operation<B, 4> for ActivatedLinear {
    /// Input of the non-linearity, weight, settings of the product, and the non-linearity.
    type Saved = (FloatTensor<B>, FloatTensor<B>, LinearSpec, Activation);

    fn backward(
        (x, weight, spec, activation): Self::Saved,
        dy: FloatTensor<B>,
        needed: [bool; 4],
    ) -> [Option<FloatTensor<B>>; 4] {
        let reduced = B::reduced(dy.clone(), spec.precision);
        let d_inner = B::linear_input_gradient(reduced.clone(), weight, spec);
        let (dx, inner) = B::activation_backward_with_value(B::widened(x), d_inner, activation);
        [
            Some(dx),
            needed[1].then(|| B::linear_weight_gradient(inner, reduced, spec)),
            needed[2].then(|| B::linear_bias_gradient(dy.clone())),
            needed[3].then_some(dy),
        ]
    }
}

#[derive(Debug)]
pub(super) struct NormalizedLinear;

#[derive(Debug, Clone)]
pub(super) struct Normalized<B: Kernels> {
    /// Rows of the residual stream, which stay f32.
    pub x: FloatTensor<B>,
    pub norm_weight: FloatTensor<B>,
    pub norm_bias: Optional<B>,
    pub statistics: FloatTensor<B>,
    pub norm: NormSpec,
    pub weight: FloatTensor<B>,
    pub spec: LinearSpec,
}

impl<B: Kernels> Operation<B, 6> for NormalizedLinear {
    type Saved = Normalized<B>;

    fn backward(saved: Self::Saved, dy: FloatTensor<B>, needed: [bool; 6]) -> [Option<FloatTensor<B>>; 6] {
        let Normalized { x, norm_weight, norm_bias, statistics, norm, weight, spec } = saved;
        let reduced = B::reduced(dy.clone(), spec.precision);
        let d_weight = needed[3].then(|| {
            let inner = B::norm_forward(x.clone(), norm_weight.clone(), norm_bias, norm).0;
            B::linear_weight_gradient(inner, reduced.clone(), spec)
        });
        let d_inner = B::linear_input_gradient(reduced, weight, spec);
        let (dx, d_norm_weight, d_norm_bias) = B::norm_backward(x, norm_weight, statistics, d_inner, norm);
        let d_bias = needed[4].then(|| B::linear_bias_gradient(dy.clone()));
        [Some(dx), Some(d_norm_weight), Some(d_norm_bias), d_weight, d_bias, needed[5].then_some(dy)]
    }
}

#[derive(Debug)]
pub(super) struct Norm;

impl<B: Kernels> Operation<B, 3> for Norm {
    /// Input, weight, statistics and settings.
    type Saved = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, NormSpec);

    fn backward(
        (x, weight, statistics, spec): Self::Saved,
        dy: FloatTensor<B>,
        _: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let (dx, d_weight, d_bias) = B::norm_backward(x, weight, statistics, dy, spec);
        [Some(dx), Some(d_weight), Some(d_bias)]
    }
}

#[derive(Debug)]
pub(super) struct Activate;

impl<B: Kernels> Operation<B, 1> for Activate {
    type Saved = (FloatTensor<B>, Activation);

    fn backward(
        (x, activation): Self::Saved,
        dy: FloatTensor<B>,
        _: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::activation_backward(x, dy, activation))]
    }
}

#[derive(Debug)]
pub(super) struct Rotate;

impl<B: Kernels> Operation<B, 1> for Rotate {
    /// Cosines, sines, and the settings of the inverse rotation.
    type Saved = (FloatTensor<B>, FloatTensor<B>, RopeSpec);

    fn backward(
        (cos, sin, inverse): Self::Saved,
        dy: FloatTensor<B>,
        _: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::rope(dy, cos, sin, inverse))]
    }
}

#[derive(Debug)]
pub(super) struct Attend;

#[derive(Debug, Clone)]
pub(super) struct Attended<B: Kernels> {
    pub query: FloatTensor<B>,
    pub key_value: Option<FloatTensor<B>>,
    pub mask: OptionalMask<B>,
    pub documents: OptionalInts<B>,
    pub output: FloatTensor<B>,
    pub sums: FloatTensor<B>,
    pub spec: AttentionSpec,
}

impl<B: Kernels> Operation<B, 2> for Attend {
    type Saved = Attended<B>;

    fn backward(saved: Self::Saved, dy: FloatTensor<B>, _: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        let Attended { query, key_value, mask, documents, output, sums, spec } = saved;
        let (query, output) = (B::widened(query), B::widened(output));
        let key_value = super::optional::<B>(key_value.map(B::widened));
        let (d_query, d_key_value) =
            B::attention_backward(query, key_value, mask, documents, output, sums, dy, spec);
        [Some(d_query), Some(d_key_value)]
    }
}

#[derive(Debug)]
pub(super) struct CrossEntropy;

impl<B: Kernels> Operation<B, 2> for CrossEntropy {
    /// Gradients of the loss with respect to the states and, if needed, the weight, both computed in the
    /// forward pass.
    type Saved = Option<(FloatTensor<B>, Option<FloatTensor<B>>)>;

    fn backward(saved: Self::Saved, dy: FloatTensor<B>, needed: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        let Some((states, weight)) = saved else { return [None, None] };
        [
            needed[0].then(|| B::scaled_gradient(states, dy.clone())),
            weight.filter(|_| needed[1]).map(|weight| B::scaled_gradient(weight, dy)),
        ]
    }
}

#[derive(Debug)]
pub(super) struct LogProbabilities;

impl<B: Kernels> Operation<B, 2> for LogProbabilities {
    /// States, weight, targets and settings.
    type Saved = (FloatTensor<B>, FloatTensor<B>, IntTensor<B>, ProjectionSpec);

    fn backward(
        (states, weight, targets, spec): Self::Saved,
        dy: FloatTensor<B>,
        needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let (d_states, d_weight) =
            B::log_probabilities_backward(states, weight, targets, dy, spec, needed[1]);
        [Some(d_states), Some(d_weight)]
    }
}

#[derive(Debug)]
pub(super) struct Embed;

/// This is not an [`Operation`]: instead of allocating another gradient, it adds to the one from a tied
/// output projection, which is as large as the table.
impl<B: Kernels> Backward<B, 1> for Embed {
    /// Embedding table and tokens.
    type State = (FloatTensor<Autodiff<B>>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (table, tokens) = ops.state;
        let dy = gradients.consume::<B>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let gradient = match gradients.remove(&table) {
            Some(total) => B::embedding_gradient_onto(total, tokens, dy),
            None => B::embedding_gradient(tokens, dy, table.shape()[0]),
        };
        gradients.register::<B>(node.id, gradient);
    }
}

#[derive(Debug)]
pub(super) struct DropOut;

impl<B: Kernels> Operation<B, 2> for DropOut {
    type Saved = Dropout;

    fn backward(dropout: Self::Saved, dy: FloatTensor<B>, needed: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        [Some(B::dropout(dy.clone(), Optional::Absent, dropout)), needed[1].then_some(dy)]
    }
}

#[derive(Debug)]
pub(super) struct Carry;

impl<B: Kernels> Operation<B, 2> for Carry {
    /// Gradient of the second input so far.
    type Saved = FloatTensor<B>;

    fn backward(gradient: Self::Saved, dy: FloatTensor<B>, _: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        [Some(dy), Some(gradient)]
    }
}
