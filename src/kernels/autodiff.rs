//! Automatic differentiation of the kernels. Second derivatives are not supported.

mod adapted;
mod operations;
pub(super) mod recompute;

use super::{
    activation::Activation,
    attention::AttentionSpec,
    backend::{Differentiable, Kernels, Optional, OptionalInts, OptionalMask},
    cross_entropy::CrossEntropySpec,
    dropout::Dropout,
    linear::LinearSpec,
    log_probabilities::ProjectionSpec,
    low_rank::{self, AdaptedSpec, InputOperation},
    norm::NormSpec,
    rope::RopeSpec,
};
use adapted::{Adapted, AdaptedLinear};
use burn::backend::{
    Autodiff,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};
use operations::{
    Activate, ActivatedLinear, Attend, Attended, Carry, CrossEntropy, DropOut, Embed, Linear,
    LogProbabilities, Norm, Normalized, NormalizedLinear, Rotate,
};
use std::{fmt::Debug, marker::PhantomData};

/// A differentiable operation with `N` inputs, of which only the first is always present.
trait Operation<B: Kernels, const N: usize>: Send + Debug + 'static {
    /// Tensors and settings saved in the forward pass for the backward pass.
    type Saved: Clone + Send + Debug + 'static;

    /// Computes the gradients of the inputs that need one.
    fn backward(saved: Self::Saved, dy: FloatTensor<B>, needed: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

#[derive(Debug)]
struct Step<O>(PhantomData<O>);

impl<B: Kernels, O: Operation<B, N>, const N: usize> Backward<B, N> for Step<O> {
    type State = ([bool; N], O::Saved);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (present, saved) = ops.state;
        let dy = gradients.consume::<B>(&ops.node);
        let needed = std::array::from_fn(|i| present[i] && ops.parents[i].is_some());
        let found = O::backward(saved, dy, needed);
        for ((node, gradient), needed) in ops.parents.into_iter().zip(found).zip(needed) {
            if let (Some(node), Some(gradient), true) = (node, gradient, needed) {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Runs an operation and records it for the backward pass. `forward` is told whether gradients may be needed.
fn record<B, C, O, const N: usize>(
    first: FloatTensor<Autodiff<B, C>>,
    others: impl FnOnce(FloatTensor<Autodiff<B, C>>) -> [Option<FloatTensor<Autodiff<B, C>>>; N],
    forward: impl FnOnce([Option<FloatTensor<B>>; N], bool) -> (FloatTensor<B>, O::Saved),
) -> FloatTensor<Autodiff<B, C>>
where
    B: Kernels,
    C: CheckpointStrategy,
    O: Operation<B, N>,
{
    let absent = first.clone();
    let inputs = others(first);
    let present = inputs.each_ref().map(Option::is_some);
    // What is absent stands as another use of the first input, which gets no gradient from it.
    let nodes = inputs.each_ref().map(|input| input.as_ref().unwrap_or(&absent).node());
    drop(absent);
    let inputs = inputs.map(|input| input.map(|input| input.into_primitive()));
    match Step::<O>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, saved) = forward(inputs, true);
            prepared.finish((present, saved), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(inputs, false).0),
    }
}

/// Unwraps the first input, which is always present.
fn given<T>(input: Option<T>) -> T {
    match input {
        Some(input) => input,
        None => unreachable!("the first input of an operation is always there"),
    }
}

fn optional<B: Kernels>(input: Option<FloatTensor<B>>) -> Optional<B> {
    input.map_or(Optional::Absent, Optional::Given)
}

impl<B: Kernels, C: CheckpointStrategy> Differentiable for Autodiff<B, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        record::<B, C, Linear, 4>(
            x,
            |x| [Some(x), Some(weight), bias.into_option(), residual.into_option()],
            |[x, weight, bias, residual], _| {
                let (x, weight) = (B::reduced(given(x), spec.precision), given(weight));
                let (bias, residual) = (optional(bias), optional(residual));
                let y = B::linear_forward(x.clone(), weight.clone(), bias, residual, spec);
                (y, (x, weight, spec))
            },
        )
    }

    fn activated_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        spec: LinearSpec,
        activation: Activation,
    ) -> FloatTensor<Self> {
        record::<B, C, ActivatedLinear, 4>(
            x,
            |x| [Some(x), Some(weight), bias.into_option(), residual.into_option()],
            |[x, weight, bias, residual], _| {
                let (x, weight) = (given(x), given(weight));
                let inner = B::activation_forward(x.clone(), activation);
                let (bias, residual) = (optional(bias), optional(residual));
                let y = B::linear_forward(inner, weight.clone(), bias, residual, spec);
                (y, (B::reduced(x, spec.precision), weight, spec, activation))
            },
        )
    }

    fn normalized_linear(
        x: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        norm_bias: Optional<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        spec: LinearSpec,
        norm: NormSpec,
    ) -> FloatTensor<Self> {
        record::<B, C, NormalizedLinear, 6>(
            x,
            |x| {
                let optional = [norm_bias, bias, residual].map(Optional::into_option);
                let [norm_bias, bias, residual] = optional;
                [Some(x), Some(norm_weight), norm_bias, Some(weight), bias, residual]
            },
            |[x, norm_weight, norm_bias, weight, bias, residual], _| {
                let (x, norm_weight, weight) = (given(x), given(norm_weight), given(weight));
                let (norm_bias, bias, residual) = (optional(norm_bias), optional(bias), optional(residual));
                let (inner, statistics) =
                    B::norm_forward(x.clone(), norm_weight.clone(), norm_bias.clone(), norm);
                let y = B::linear_forward(inner, weight.clone(), bias, residual, spec);
                (y, Normalized { x, norm_weight, norm_bias, statistics, norm, weight, spec })
            },
        )
    }

    fn adapted_linear(
        x: FloatTensor<Self>,
        norm_weight: Optional<Self>,
        norm_bias: Optional<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
        spec: AdaptedSpec,
    ) -> FloatTensor<Self> {
        record::<B, C, AdaptedLinear, 8>(
            x,
            |x| {
                let optional = [norm_weight, norm_bias, bias, residual].map(Optional::into_option);
                let [norm_weight, norm_bias, bias, residual] = optional;
                [Some(x), norm_weight, norm_bias, Some(weight), bias, residual, Some(down), Some(up)]
            },
            |[x, norm_weight, norm_bias, weight, bias, residual, down, up], _| {
                let (x, weight, down, up) = (given(x), given(weight), given(down), given(up));
                let (inner, statistics) =
                    low_rank::input::<B>(x.clone(), norm_weight.clone(), norm_bias.clone(), spec.input);
                let (bias, residual) = (optional(bias), optional(residual));
                let factors = [down.clone(), up.clone()];
                let (y, hidden) =
                    low_rank::products::<B>(inner, weight.clone(), bias, residual, factors, spec);
                let x = match spec.input {
                    // Rows of the residual stream stay f32.
                    InputOperation::Normalized(_) => x,
                    _ => B::reduced(x, spec.product.precision),
                };
                (y, Adapted { x, norm_weight, norm_bias, statistics, weight, down, up, hidden, spec })
            },
        )
    }

    fn norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        spec: NormSpec,
    ) -> FloatTensor<Self> {
        record::<B, C, Norm, 3>(
            x,
            |x| [Some(x), Some(weight), bias.into_option()],
            |[x, weight, bias], _| {
                let (x, weight) = (given(x), given(weight));
                let (y, statistics) = B::norm_forward(x.clone(), weight.clone(), optional(bias), spec);
                (y, (x, weight, statistics, spec))
            },
        )
    }

    fn activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        record::<B, C, Activate, 1>(
            x,
            |x| [Some(x)],
            |[x], _| {
                let x = given(x);
                (B::activation_forward(x.clone(), activation), (x, activation))
            },
        )
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spec: RopeSpec,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        record::<B, C, Rotate, 1>(
            x,
            |x| [Some(x)],
            |[x], _| {
                let y = B::rope(given(x), cos.clone(), sin.clone(), spec);
                (y, (cos, sin, RopeSpec { inverse: !spec.inverse, ..spec }))
            },
        )
    }

    fn attend(
        query: FloatTensor<Self>,
        key_value: Optional<Self>,
        mask: OptionalMask<Self>,
        documents: OptionalInts<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self> {
        let mask = match mask {
            OptionalMask::Given(mask) => OptionalMask::Given(mask),
            OptionalMask::Absent => OptionalMask::Absent,
        };
        let documents = match documents {
            OptionalInts::Given(documents) => OptionalInts::Given(documents),
            OptionalInts::Absent => OptionalInts::Absent,
        };
        record::<B, C, Attend, 2>(
            query,
            |query| [Some(query), key_value.into_option()],
            |[query, key_value], _| {
                // The backward pass computes the scores again, which must be of the same numbers.
                let query = B::reduced(given(query), spec.precision);
                let key_value = key_value.map(|key_value| B::reduced(key_value, spec.precision));
                let (output, sums) = B::attention_forward(
                    B::widened(query.clone()),
                    optional(key_value.clone().map(B::widened)),
                    mask.clone(),
                    documents.clone(),
                    spec,
                );
                let saved = B::reduced(output.clone(), spec.precision);
                (output, Attended { query, key_value, mask, documents, output: saved, sums, spec })
            },
        )
    }

    fn projected_cross_entropy(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        spec: CrossEntropySpec,
        with_weight_gradient: bool,
    ) -> FloatTensor<Self> {
        let weights = weights.into_primitive();
        record::<B, C, CrossEntropy, 2>(
            states,
            |states| [Some(states), Some(weight)],
            |[states, weight], is_tracked| {
                let (states, weight) = (given(states), given(weight));
                if !is_tracked {
                    return (B::cross_entropy(states, weight, targets, weights, spec), None);
                }
                let (loss, d_states, d_weight) = B::cross_entropy_with_gradients(
                    states,
                    weight,
                    targets,
                    weights,
                    spec,
                    with_weight_gradient,
                );
                (loss, Some((d_states, with_weight_gradient.then_some(d_weight))))
            },
        )
    }

    fn projected_log_probabilities(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        spec: ProjectionSpec,
    ) -> FloatTensor<Self> {
        record::<B, C, LogProbabilities, 2>(
            states,
            |states| [Some(states), Some(weight)],
            |[states, weight], _| {
                let states = B::reduced(given(states), spec.product.precision);
                let weight = given(weight);
                let y = B::log_probabilities(states.clone(), weight.clone(), targets.clone(), spec);
                (y, (states, weight, targets, spec))
            },
        )
    }

    fn embed(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        let output = B::embedding(table.primitive().clone(), tokens.clone());
        match Embed.prepare::<C>([table.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((table, tokens), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn carry(
        loss: FloatTensor<Self>,
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let gradient = gradient.into_primitive();
        record::<B, C, Carry, 2>(
            loss,
            |loss| [Some(loss), Some(parameter)],
            |[loss, _], _| (given(loss), gradient),
        )
    }

    fn drop_out(x: FloatTensor<Self>, residual: Optional<Self>, dropout: Dropout) -> FloatTensor<Self> {
        record::<B, C, DropOut, 2>(
            x,
            |x| [Some(x), residual.into_option()],
            |[x, residual], _| (B::dropout(given(x), optional(residual), dropout), dropout),
        )
    }
}
