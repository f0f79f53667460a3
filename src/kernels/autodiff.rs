//! How gradients flow through the kernels. Gradients of gradients do not.

use super::{
    attention::AttentionSpec,
    backend::{Differentiable, Kernels, Optional, OptionalMask},
    cross_entropy::CrossEntropySpec,
    dropout::Dropout,
    norm::NormSpec,
    rope::RopeSpec,
};
use crate::config::Activation;
use burn::backend::{
    Autodiff, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};
use std::{fmt::Debug, marker::PhantomData};

/// An operation of `N` inputs, the first of which is always there.
trait Operation<B: Kernels, const N: usize>: Send + Debug + 'static {
    /// What the backward pass needs of the forward pass.
    type Memory: Clone + Send + Debug + 'static;

    /// The gradients of the inputs that need one.
    fn backward(memory: Self::Memory, dy: FloatTensor<B>, needed: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

#[derive(Debug)]
struct Step<O>(PhantomData<O>);

impl<B: Kernels, O: Operation<B, N>, const N: usize> Backward<B, N> for Step<O> {
    type State = ([bool; N], O::Memory);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (present, memory) = ops.state;
        let dy = gradients.consume::<B>(&ops.node);
        let needed = std::array::from_fn(|i| present[i] && ops.parents[i].is_some());
        let found = O::backward(memory, dy, needed);
        for ((node, gradient), needed) in ops.parents.into_iter().zip(found).zip(needed) {
            if let (Some(node), Some(gradient), true) = (node, gradient, needed) {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Runs an operation; `forward` is told whether gradients may be asked for.
fn record<B, C, O, const N: usize>(
    first: FloatTensor<Autodiff<B, C>>,
    others: impl FnOnce(FloatTensor<Autodiff<B, C>>) -> [Option<FloatTensor<Autodiff<B, C>>>; N],
    forward: impl FnOnce([Option<FloatTensor<B>>; N], bool) -> (FloatTensor<B>, O::Memory),
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
            let (output, memory) = forward(inputs, true);
            prepared.finish((present, memory), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(inputs, false).0),
    }
}

/// The input that is always there.
fn given<T>(input: Option<T>) -> T {
    match input {
        Some(input) => input,
        None => unreachable!("the first input of an operation is always there"),
    }
}

fn optional<B: Kernels>(input: Option<FloatTensor<B>>) -> Optional<B> {
    input.map_or(Optional::Absent, Optional::Given)
}

#[derive(Debug)]
struct Linear;

impl<B: Kernels> Operation<B, 4> for Linear {
    /// Input, weight, and whether that is transposed.
    type Memory = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(
        (x, weight, transposed): Self::Memory,
        dy: FloatTensor<B>,
        needed: [bool; 4],
    ) -> [Option<FloatTensor<B>>; 4] {
        [
            needed[0].then(|| B::linear_input_gradient(dy.clone(), weight, transposed)),
            needed[1].then(|| B::linear_weight_gradient(x, dy.clone(), transposed)),
            needed[2].then(|| B::linear_bias_gradient(dy.clone())),
            needed[3].then_some(dy),
        ]
    }
}

#[derive(Debug)]
struct ActivatedLinear;

impl<B: Kernels> Operation<B, 4> for ActivatedLinear {
    /// What the non-linearity reads, weight, and whether that is transposed.
    type Memory = (FloatTensor<B>, FloatTensor<B>, bool, Activation);

    fn backward(
        (x, weight, transposed, activation): Self::Memory,
        dy: FloatTensor<B>,
        needed: [bool; 4],
    ) -> [Option<FloatTensor<B>>; 4] {
        let d_inner = B::linear_input_gradient(dy.clone(), weight, transposed);
        let (dx, inner) = B::activation_backward_with_value(x, d_inner, activation);
        [
            Some(dx),
            needed[1].then(|| B::linear_weight_gradient(inner, dy.clone(), transposed)),
            needed[2].then(|| B::linear_bias_gradient(dy.clone())),
            needed[3].then_some(dy),
        ]
    }
}

#[derive(Debug)]
struct NormalizedLinear;

#[derive(Debug, Clone)]
struct Normalized<B: Kernels> {
    x: FloatTensor<B>,
    norm_weight: FloatTensor<B>,
    norm_bias: Optional<B>,
    statistics: FloatTensor<B>,
    spec: NormSpec,
    weight: FloatTensor<B>,
    transposed: bool,
}

impl<B: Kernels> Operation<B, 6> for NormalizedLinear {
    type Memory = Normalized<B>;

    fn backward(memory: Self::Memory, dy: FloatTensor<B>, needed: [bool; 6]) -> [Option<FloatTensor<B>>; 6] {
        let Normalized { x, norm_weight, norm_bias, statistics, spec, weight, transposed } = memory;
        let d_inner = B::linear_input_gradient(dy.clone(), weight, transposed);
        let d_weight = needed[3].then(|| {
            let inner = B::norm_forward(x.clone(), norm_weight.clone(), norm_bias, spec).0;
            B::linear_weight_gradient(inner, dy.clone(), transposed)
        });
        let (dx, d_norm_weight, d_norm_bias) = B::norm_backward(x, norm_weight, statistics, d_inner, spec);
        let d_bias = needed[4].then(|| B::linear_bias_gradient(dy.clone()));
        [Some(dx), Some(d_norm_weight), Some(d_norm_bias), d_weight, d_bias, needed[5].then_some(dy)]
    }
}

#[derive(Debug)]
struct Norm;

impl<B: Kernels> Operation<B, 3> for Norm {
    /// Input, weight, statistics.
    type Memory = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, NormSpec);

    fn backward(
        (x, weight, statistics, spec): Self::Memory,
        dy: FloatTensor<B>,
        _: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let (dx, d_weight, d_bias) = B::norm_backward(x, weight, statistics, dy, spec);
        [Some(dx), Some(d_weight), Some(d_bias)]
    }
}

#[derive(Debug)]
struct Curve;

impl<B: Kernels> Operation<B, 1> for Curve {
    type Memory = (FloatTensor<B>, Activation);

    fn backward(
        (x, activation): Self::Memory,
        dy: FloatTensor<B>,
        _: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::activation_backward(x, dy, activation))]
    }
}

#[derive(Debug)]
struct Rotate;

impl<B: Kernels> Operation<B, 1> for Rotate {
    /// Cosines, sines, and the way back.
    type Memory = (FloatTensor<B>, FloatTensor<B>, RopeSpec);

    fn backward(
        (cos, sin, back): Self::Memory,
        dy: FloatTensor<B>,
        _: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::rope(dy, cos, sin, back))]
    }
}

#[derive(Debug)]
struct Attend;

#[derive(Debug, Clone)]
struct Attended<B: Kernels> {
    query: FloatTensor<B>,
    key_value: Optional<B>,
    hidden: OptionalMask<B>,
    output: FloatTensor<B>,
    sums: FloatTensor<B>,
    spec: AttentionSpec,
}

impl<B: Kernels> Operation<B, 2> for Attend {
    type Memory = Attended<B>;

    fn backward(memory: Self::Memory, dy: FloatTensor<B>, _: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        let Attended { query, key_value, hidden, output, sums, spec } = memory;
        let (d_query, d_key_value) = B::attention_backward(query, key_value, hidden, output, sums, dy, spec);
        [Some(d_query), Some(d_key_value)]
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Kernels> Operation<B, 2> for CrossEntropy {
    /// The gradients of the loss itself.
    type Memory = Option<[FloatTensor<B>; 2]>;

    fn backward(memory: Self::Memory, dy: FloatTensor<B>, needed: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        let Some([states, weight]) = memory else { return [None, None] };
        [
            needed[0].then(|| B::scaled_gradient(states, dy.clone())),
            needed[1].then(|| B::scaled_gradient(weight, dy)),
        ]
    }
}

#[derive(Debug)]
struct Embed;

/// Not an [`Operation`], since it adds to the gradient that a tied output projection left, which is as large
/// as the table, instead of making another one.
impl<B: Kernels> Backward<B, 1> for Embed {
    /// The table, and the tokens.
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
struct DropOut;

impl<B: Kernels> Operation<B, 2> for DropOut {
    type Memory = Dropout;

    fn backward(dropout: Self::Memory, dy: FloatTensor<B>, needed: [bool; 2]) -> [Option<FloatTensor<B>>; 2] {
        [Some(B::dropout(dy.clone(), Optional::Absent, dropout)), needed[1].then_some(dy)]
    }
}

impl<B: Kernels, C: CheckpointStrategy> Differentiable for Autodiff<B, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        transposed: bool,
    ) -> FloatTensor<Self> {
        record::<B, C, Linear, 4>(
            x,
            |x| [Some(x), Some(weight), bias.into_option(), residual.into_option()],
            |[x, weight, bias, residual], _| {
                let (x, weight) = (given(x), given(weight));
                let y = B::linear_forward(
                    x.clone(),
                    weight.clone(),
                    optional(bias),
                    optional(residual),
                    transposed,
                );
                (y, (x, weight, transposed))
            },
        )
    }

    fn activated_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        transposed: bool,
        activation: Activation,
    ) -> FloatTensor<Self> {
        record::<B, C, ActivatedLinear, 4>(
            x,
            |x| [Some(x), Some(weight), bias.into_option(), residual.into_option()],
            |[x, weight, bias, residual], _| {
                let (x, weight) = (given(x), given(weight));
                let inner = B::activation_forward(x.clone(), activation);
                let (bias, residual) = (optional(bias), optional(residual));
                let y = B::linear_forward(inner, weight.clone(), bias, residual, transposed);
                (y, (x, weight, transposed, activation))
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
        transposed: bool,
        spec: NormSpec,
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
                    B::norm_forward(x.clone(), norm_weight.clone(), norm_bias.clone(), spec);
                let y = B::linear_forward(inner, weight.clone(), bias, residual, transposed);
                (y, Normalized { x, norm_weight, norm_bias, statistics, spec, weight, transposed })
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
        record::<B, C, Curve, 1>(
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
                (y, (cos, sin, RopeSpec { back: !spec.back, ..spec }))
            },
        )
    }

    fn attend(
        query: FloatTensor<Self>,
        key_value: Optional<Self>,
        hidden: OptionalMask<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self> {
        let hidden = match hidden {
            OptionalMask::Given(hidden) => OptionalMask::Given(hidden),
            OptionalMask::Absent => OptionalMask::Absent,
        };
        record::<B, C, Attend, 2>(
            query,
            |query| [Some(query), key_value.into_option()],
            |[query, key_value], _| {
                let (query, key_value) = (given(query), optional(key_value));
                let (output, sums) =
                    B::attention_forward(query.clone(), key_value.clone(), hidden.clone(), spec);
                (output.clone(), Attended { query, key_value, hidden, output, sums, spec })
            },
        )
    }

    fn projected_cross_entropy(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        spec: CrossEntropySpec,
    ) -> FloatTensor<Self> {
        let weights = weights.into_primitive();
        record::<B, C, CrossEntropy, 2>(
            states,
            |states| [Some(states), Some(weight)],
            |[states, weight], remembers| {
                let (states, weight) = (given(states), given(weight));
                if !remembers {
                    return (B::cross_entropy(states, weight, targets, weights, spec), None);
                }
                let (loss, d_states, d_weight) =
                    B::cross_entropy_with_gradients(states, weight, targets, weights, spec);
                (loss, Some([d_states, d_weight]))
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

    fn drop_out(x: FloatTensor<Self>, residual: Optional<Self>, dropout: Dropout) -> FloatTensor<Self> {
        record::<B, C, DropOut, 2>(
            x,
            |x| [Some(x), residual.into_option()],
            |[x, residual], _| (B::dropout(given(x), optional(residual), dropout), dropout),
        )
    }
}
