//! Rotary position embedding (arXiv:2104.09864) of queries and keys that lie side by side.

pub use kiln_operations::rope::RopeSpec;

use super::{Mode, backend::Differentiable, trace};
use burn::{backend::Dispatch, tensor::Tensor};

/// Rotates `[B, T, width]` by tables `[1 or B, T, head_size / 2]`.
pub fn rotate(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>, spec: RopeSpec, mode: Mode) -> Tensor<3> {
    if !mode.fuses(&x) {
        return trace::output("rope", reference(x, cos, sin, spec));
    }
    let (cos, sin) = (cos.into_dispatch(), sin.into_dispatch());
    trace::output("rope", Tensor::from_dispatch(Dispatch::rotate(x.into_dispatch(), cos, sin, spec)))
}

/// Unfused reference of the rotation, made of Burn's operations.
pub fn reference(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>, spec: RopeSpec) -> Tensor<3> {
    let [batch, time, width] = x.dims();
    let (heads, size) = (spec.heads, spec.head_size);
    let rotated: Tensor<4> = x.clone().narrow(2, 0, heads * size).reshape([batch, time, heads, size]);
    let rotated = rotate_heads(rotated, cos.unsqueeze_dim(2), sin.unsqueeze_dim(2), spec);
    let rotated = rotated.reshape([batch, time, heads * size]);
    if heads * size == width {
        return rotated;
    }
    Tensor::cat(vec![rotated, x.narrow(2, heads * size, width - heads * size)], 2)
}

/// Rotates `[.., head_size]`, a four-dimensional tensor, by tables that broadcast to `[.., head_size / 2]`.
pub fn rotate_heads(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>, spec: RopeSpec) -> Tensor<4> {
    let shape @ [a, b, c, size] = x.dims();
    let half = size / 2;
    let sin = if spec.inverse { sin.neg() } else { sin };
    let (first, second) = match spec.interleaved {
        false => (x.clone().narrow(3, 0, half), x.narrow(3, half, half)),
        true => {
            let pairs: Tensor<5> = x.reshape([a, b, c, half, 2]);
            let component = |i| pairs.clone().narrow(4, i, 1).reshape([a, b, c, half]);
            (component(0), component(1))
        }
    };
    let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
    let rotated_second = second * cos + first * sin;
    match spec.interleaved {
        false => Tensor::cat(vec![rotated_first, rotated_second], 3),
        true => Tensor::stack::<5>(vec![rotated_first, rotated_second], 4).reshape(shape),
    }
}
