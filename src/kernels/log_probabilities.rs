//! Log-probability of each target under an output projection, without storing the logits of all tokens at
//! once: the backward pass computes the logits of each chunk again.

use super::{
    Mode,
    backend::{Differentiable, Kernels, Optional},
    linear::{self, Epilogue, LinearSpec},
    softcap::softcap,
};
use burn::{
    backend::{
        Backend, Dispatch, TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{IndexingUpdateOp, Int, Slice, Tensor, activation::log_softmax},
};

/// Number of logits that are in memory at a time: 64 MiB. In tests it is small, so that there are several
/// chunks.
const CHUNK: usize = if cfg!(test) { 40 } else { 1 << 24 };

/// Settings of the output projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProjectionSpec {
    /// Layout of the weight, which is `[V, E]` if it is transposed, otherwise `[E, V]`, and precision.
    pub product: LinearSpec,
    /// Soft cap of the logits; 0 disables it.
    pub softcap: f32,
}

/// Logarithm of the probability of each row's target, `[N, 1]`. States are `[N, E]`, the weight is `[E, V]`
/// (or `[V, E]` if it is transposed), and targets are `[N, 1]`.
pub fn log_probabilities(
    states: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<2, Int>,
    spec: ProjectionSpec,
    mode: Mode,
) -> Tensor<2> {
    if !mode.fuses(&states) {
        return reference(states, weight, targets, spec);
    }
    Tensor::from_dispatch(Dispatch::projected_log_probabilities(
        states.into_dispatch(),
        weight.into_dispatch(),
        targets.into_dispatch(),
        spec,
    ))
}

/// Unfused reference, which keeps all logits in memory.
pub fn reference(
    states: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<2, Int>,
    spec: ProjectionSpec,
) -> Tensor<2> {
    let mut logits = linear::reference(states, weight, spec.product, Epilogue::default());
    if spec.softcap > 0.0 {
        logits = softcap(logits, f64::from(spec.softcap));
    }
    of_logits(logits, targets)
}

/// Log-probabilities, `[N, 1]`, of targets under given logits, `[N, V]`.
pub fn of_logits(logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
    log_softmax(logits, 1).gather(1, targets)
}

/// Some consecutive rows and the values computed for them.
struct Chunk<B: Backend> {
    states: FloatTensor<B>,
    targets: IntTensor<B>,
    /// Logits, `[rows, V]`.
    logits: FloatTensor<B>,
    /// Logarithm of the sum of exponentials of each row, `[rows, 1]`.
    log_sum: FloatTensor<B>,
}

fn chunks<B: Kernels>(
    states: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    spec: ProjectionSpec,
) -> impl Iterator<Item = Chunk<B>> {
    // [V, E] or [E, V]
    let shape = weight.shape();
    let (count, vocabulary) = (states.shape()[0], shape[usize::from(!spec.product.transposed)]);
    let rows = (CHUNK / vocabulary.max(1)).clamp(1, count.max(1));
    (0..count).step_by(rows).map(move |first| {
        let range = [Slice::from(first..(first + rows).min(count))];
        let states = B::float_slice(states.clone(), &range);
        let targets = B::int_slice(targets.clone(), &range);
        let none = || Optional::Absent;
        let mut logits = B::linear_forward(states.clone(), weight.clone(), none(), none(), spec.product);
        if spec.softcap > 0.0 {
            let bent = B::float_tanh(B::float_div_scalar(logits, spec.softcap.into()));
            logits = B::float_mul_scalar(bent, spec.softcap.into());
        }
        let most = B::float_max_dim(logits.clone(), 1);
        let sum = B::float_sum_dim(B::float_exp(B::float_sub(logits.clone(), most.clone())), 1);
        let log_sum = B::float_add(B::float_log(sum), most);
        Chunk { states, targets, logits, log_sum }
    })
}

/// Computes [`log_probabilities`] on primitive tensors.
pub(super) fn forward<B: Kernels>(
    states: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    spec: ProjectionSpec,
) -> FloatTensor<B> {
    // Converted once for all chunks.
    let weight = B::reduced(weight, spec.product.precision);
    let parts: Vec<_> = chunks::<B>(states, weight, targets, spec)
        .map(|chunk| B::float_sub(B::float_gather(1, chunk.logits, chunk.targets), chunk.log_sum))
        .collect();
    B::float_cat(parts, 0)
}

/// Gradients of states and weight, where `dy`, `[N, 1]`, is the gradient of the output. The second has no
/// meaning unless it is asked for.
pub(super) fn backward<B: Kernels>(
    states: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    dy: FloatTensor<B>,
    spec: ProjectionSpec,
    with_weight_gradient: bool,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let product = spec.product;
    let weight = B::reduced(weight, product.precision);
    let (mut d_states, mut d_weight, mut first) = (Vec::new(), None, 0);
    for chunk in chunks::<B>(states, weight.clone(), targets, spec) {
        let rows = chunk.states.shape()[0];
        let dy = B::float_slice(dy.clone(), &[Slice::from(first..first + rows)]);
        first += rows;
        // d log p(target) / d logit = [logit is the target's] - probability
        let probability = B::float_exp(B::float_sub(chunk.logits.clone(), chunk.log_sum));
        let away = B::float_neg(B::float_mul(probability, dy.clone()));
        let mut d_logits = B::float_scatter(1, away, chunk.targets, dy, IndexingUpdateOp::Add);
        if spec.softcap > 0.0 {
            let bent = B::float_div_scalar(chunk.logits, spec.softcap.into());
            let slope = B::float_add_scalar(B::float_neg(B::float_mul(bent.clone(), bent)), 1f32.into());
            d_logits = B::float_mul(d_logits, slope);
        }
        let d_logits = B::reduced(d_logits, product.precision);
        d_states.push(B::linear_input_gradient(d_logits.clone(), weight.clone(), product));
        if !with_weight_gradient {
            continue;
        }
        let part = B::linear_weight_gradient(chunk.states, d_logits, product);
        d_weight = Some(match d_weight {
            Some(sum) => B::float_add(sum, part),
            None => part,
        });
    }
    let d_states = B::float_cat(d_states, 0);
    if !with_weight_gradient {
        return (d_states.clone(), d_states);
    }
    let d_weight = d_weight.unwrap_or_else(|| B::float_mul_scalar(B::widened(weight), 0f32.into()));
    (d_states, d_weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;
    use burn::tensor::Distribution;

    #[test]
    fn chunks_give_the_values_and_gradients_of_the_whole() {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let random =
            |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad();
        let (states, upstream) = (random([7, 5]), random([7, 1]).detach());
        let targets = Tensor::<2, Int>::from_data([[0], [10], [3], [3], [9], [1], [0]], &device);
        for (transposed, softcap) in [(false, 0.0), (true, 0.0), (true, 2.0)] {
            let weight = random(if transposed { [11, 5] } else { [5, 11] });
            let product = LinearSpec { transposed, precision: Precision::F32 };
            let spec = ProjectionSpec { product, softcap };
            let [fused, whole] = [Mode::Fused, Mode::Reference].map(|mode| {
                let log_p = log_probabilities(states.clone(), weight.clone(), targets.clone(), spec, mode);
                assert_eq!(log_p.dims(), [7, 1]);
                let gradients = (log_p.clone() * upstream.clone()).sum().backward();
                let of = |input: &Tensor<2>| input.grad(&gradients).unwrap();
                [log_p.inner(), of(&states), of(&weight)]
            });
            for (fused, whole) in fused.into_iter().zip(whole) {
                assert!((fused - whole).abs().max().into_scalar::<f32>() < 1e-5, "{spec:?}");
            }
        }
    }
}
