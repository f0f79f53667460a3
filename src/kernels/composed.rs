//! Kernels composed of Burn's operations on primitive tensors, for operations where Burn's tuned matrix
//! products and its fusion are faster than a kernel of our own.

use super::{Precision, backend::Optional, linear::LinearSpec, precision::small_type};
use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, FloatDType, Shape},
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

/// Converts to the element type of a precision.
pub(super) fn reduced<B: Backend>(tensor: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    match small_type(precision) {
        Some(kind) if tensor.dtype() != DType::from(kind) => B::float_cast(tensor, kind),
        _ => tensor,
    }
}

/// Converts to f32.
pub(super) fn widened<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    if tensor.dtype() == DType::F32 { tensor } else { B::float_cast(tensor, FloatDType::F32) }
}

/// Multiplies matrices, `[M, K] [K, N]` -> `[M, N]`. Factors of a small precision are rounded to it, and the product
/// is too before it becomes f32.
pub(super) fn product<B: Backend>(
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    precision: Precision,
) -> FloatTensor<B> {
    let (a, b) = match small_type(precision) {
        Some(_) => (reduced::<B>(a, precision), reduced::<B>(b, precision)),
        // What was saved or stored in a small type.
        None => (widened::<B>(a), widened::<B>(b)),
    };
    widened::<B>(B::float_matmul(a, b))
}

pub(super) fn linear_forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Optional<B>,
    residual: Optional<B>,
    LinearSpec { transposed, precision }: LinearSpec,
) -> FloatTensor<B> {
    let shape = x.shape();
    let weight = if transposed { B::float_transpose(weight) } else { weight }; // [I, O]
    let outputs = weight.shape()[1];
    let mut y = product::<B>(rows::<B>(x), weight, precision); // [N, O]
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
    LinearSpec { transposed, precision }: LinearSpec,
) -> FloatTensor<B> {
    let shape = dy.shape();
    let weight = if transposed { weight } else { B::float_transpose(weight) }; // [O, I]
    let inputs = weight.shape()[1];
    B::float_reshape(product::<B>(rows::<B>(dy), weight, precision), with_width(shape, inputs))
}

pub(super) fn linear_weight_gradient<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    LinearSpec { transposed, precision }: LinearSpec,
) -> FloatTensor<B> {
    let (x, dy) = (rows::<B>(x), rows::<B>(dy));
    match transposed {
        true => product::<B>(B::float_transpose(dy), x, precision), // [O, I]
        false => product::<B>(B::float_transpose(x), dy, precision), // [I, O]
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
