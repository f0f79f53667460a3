//! Shapes and element types of the kernels' outputs, which Burn's fusion needs before they run.

use super::{
    activation::Activation,
    adamw::AdamWSpec,
    adamw_8bit::AdamW8BitSpec,
    attention::AttentionSpec,
    backend::{OptionalIntsMetadata, OptionalMaskMetadata, OptionalMetadata},
    composed::with_width,
    cross_entropy::CrossEntropySpec,
    norm::NormSpec,
};
use burn::{
    backend::fusion::custom::TensorSpec,
    tensor::{DType, Shape},
};

fn floats<const D: usize>(shape: [usize; D]) -> TensorSpec {
    TensorSpec::new(Shape::new(shape), DType::F32)
}

/// Number of rows of all samples.
fn rows(x: &TensorSpec) -> usize {
    let width = x.shape[x.shape.num_dims() - 1];
    x.shape.num_elements() / width.max(1)
}

pub(super) fn norm_forward(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _bias: &OptionalMetadata,
    _spec: &NormSpec,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), floats([rows(x), 2]))
}

pub(super) fn norm_backward(
    x: &TensorSpec,
    weight: &TensorSpec,
    _statistics: &TensorSpec,
    _dy: &TensorSpec,
    _spec: &NormSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), weight.clone(), weight.clone())
}

pub(super) fn activation_forward(x: &TensorSpec, activation: &Activation) -> TensorSpec {
    let width = x.shape[x.shape.num_dims() - 1];
    let inner = if activation.is_gated() { width / 2 } else { width };
    TensorSpec::new(with_width(x.shape.clone(), inner), x.dtype)
}

pub(super) fn attention_forward(
    query: &TensorSpec,
    _key_value: &OptionalMetadata,
    _hidden: &OptionalMaskMetadata,
    _documents: &OptionalIntsMetadata,
    spec: &AttentionSpec,
) -> (TensorSpec, TensorSpec) {
    let (batch, time) = (query.shape[0], query.shape[1]);
    (floats([batch, time, spec.heads * spec.head_size]), floats([batch, spec.heads, time]))
}

#[allow(clippy::too_many_arguments, reason = "those of the operation")]
pub(super) fn attention_backward(
    query: &TensorSpec,
    key_value: &OptionalMetadata,
    _hidden: &OptionalMaskMetadata,
    _documents: &OptionalIntsMetadata,
    _output: &TensorSpec,
    _sums: &TensorSpec,
    _d_output: &TensorSpec,
    _spec: &AttentionSpec,
) -> (TensorSpec, TensorSpec) {
    match key_value {
        OptionalMetadata::Given(key_value) => (query.clone(), key_value.clone()),
        OptionalMetadata::Absent => (query.clone(), query.clone()),
    }
}

pub(super) fn attention_cached(
    query: &TensorSpec,
    _key: &TensorSpec,
    _value: &TensorSpec,
    _hidden: &OptionalMaskMetadata,
    spec: &AttentionSpec,
) -> TensorSpec {
    floats([query.shape[0], query.shape[2], spec.heads * spec.head_size])
}

pub(super) fn cross_entropy(
    _states: &TensorSpec,
    _weight: &TensorSpec,
    _targets: &TensorSpec,
    _weights: &TensorSpec,
    _spec: &CrossEntropySpec,
) -> TensorSpec {
    floats([1])
}

pub(super) fn cross_entropy_with_gradients(
    states: &TensorSpec,
    weight: &TensorSpec,
    _targets: &TensorSpec,
    _weights: &TensorSpec,
    _spec: &CrossEntropySpec,
    with_weight_gradient: &bool,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let weight = if *with_weight_gradient { weight.clone() } else { floats([1]) };
    (floats([1]), states.clone(), weight)
}

pub(super) fn embedding_gradient(_tokens: &TensorSpec, dy: &TensorSpec, vocabulary: &usize) -> TensorSpec {
    floats([*vocabulary, dy.shape[dy.shape.num_dims() - 1]])
}

pub(super) fn adamw(
    weights: &TensorSpec,
    first: &TensorSpec,
    second: &TensorSpec,
    _gradient: &TensorSpec,
    _scale: &TensorSpec,
    _spec: &AdamWSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (weights.clone(), first.clone(), second.clone())
}

pub(super) fn adamw_8bit(
    weights: &TensorSpec,
    codes: &TensorSpec,
    largest: &TensorSpec,
    _gradient: &TensorSpec,
    _scale: &TensorSpec,
    _tables: &TensorSpec,
    _spec: &AdamW8BitSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (weights.clone(), codes.clone(), largest.clone())
}

pub(super) fn sum_of_squares(_x: &TensorSpec) -> TensorSpec {
    floats([1])
}
