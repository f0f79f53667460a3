//! Kernels composed of Burn's operations on primitive tensors, for operations where Burn's tuned matrix
//! products and its fusion are faster than a kernel of our own.

use super::backend::Optional;
use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    tensor::Shape,
};

/// Merges all dimensions but the last: `[.., E]` -> `[N, E]`.
fn rows<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let shape = tensor.shape();
    let width = shape[shape.num_dims() - 1];
    let count = shape.num_elements() / width.max(1);
    B::float_reshape(tensor, Shape::new([count, width]))
}

/// Replaces the last dimension of a shape.
pub(super) fn with_width(mut shape: Shape, width: usize) -> Shape {
    let last = shape.num_dims() - 1;
    shape[last] = width;
    shape
}

pub(super) fn linear_forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Optional<B>,
    residual: Optional<B>,
    transposed: bool,
) -> FloatTensor<B> {
    let shape = x.shape();
    let weight = if transposed { B::float_transpose(weight) } else { weight }; // [I, O]
    let outputs = weight.shape()[1];
    let mut y = B::float_matmul(rows::<B>(x), weight); // [N, O]
    if let Optional::Given(bias) = bias {
        y = B::float_add(y, B::float_reshape(bias, Shape::new([1, outputs])));
    }
    if let Optional::Given(residual) = residual {
        y = B::float_add(rows::<B>(residual), y);
    }
    B::float_reshape(y, with_width(shape, outputs))
}

pub(super) fn linear_input_gradient<B: Backend>(
    dy: FloatTensor<B>,
    weight: FloatTensor<B>,
    transposed: bool,
) -> FloatTensor<B> {
    let shape = dy.shape();
    let weight = if transposed { weight } else { B::float_transpose(weight) }; // [O, I]
    let inputs = weight.shape()[1];
    B::float_reshape(B::float_matmul(rows::<B>(dy), weight), with_width(shape, inputs))
}

pub(super) fn linear_weight_gradient<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    transposed: bool,
) -> FloatTensor<B> {
    let (x, dy) = (rows::<B>(x), rows::<B>(dy));
    match transposed {
        true => B::float_matmul(B::float_transpose(dy), x), // [O, I]
        false => B::float_matmul(B::float_transpose(x), dy), // [I, O]
    }
}

/// Sums over all rows: `[.., E]` -> `[E]`.
pub(super) fn sum_of_rows<B: Backend>(dy: FloatTensor<B>) -> FloatTensor<B> {
    let dy = rows::<B>(dy);
    let width = dy.shape()[1];
    B::float_reshape(B::float_sum_dim(dy, 0), Shape::new([width]))
}

/// Multiplies a tensor by a scalar, `[1]`.
pub(super) fn scaled<B: Backend>(tensor: FloatTensor<B>, factor: FloatTensor<B>) -> FloatTensor<B> {
    let ones = vec![1; tensor.shape().num_dims()];
    B::float_mul(tensor, B::float_reshape(factor, Shape::from(ones)))
}
