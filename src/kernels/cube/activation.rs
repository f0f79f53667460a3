//! Non-linearities of the MLP, plain and gated.

use super::{
    launch::{Grid, alloc, floats, length, width},
    math::{sigmoid, tanh},
};
use crate::{activation::Activation, composed::with_width};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Non-linearity, without its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ActivationKind {
    Relu,
    Gelu,
    GeluTanh,
    Silu,
}

impl ActivationKind {
    fn of(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Gelu | Activation::GegluExact => Self::Gelu,
            Activation::GeluTanh | Activation::Geglu => Self::GeluTanh,
            Activation::Swiglu => Self::Silu,
        }
    }
}

/// The bell curve e^(-x^2 / 2).
#[cube]
fn bell(x: f32) -> f32 {
    (x * x * f32::new(-0.5)).exp()
}

/// The cumulative distribution function of the standard normal distribution at `x` (Abramowitz and Stegun,
/// 7.1.26).
#[cube]
fn normal(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.231_641_89 * x.abs());
    let outer = 1.421_413_8 + t * (t * 1.061_405_4 - 1.453_152);
    let polynomial = t * (0.254_829_6 + t * (t * outer - 0.284_496_73));
    let tail = 0.5 * polynomial * bell(x);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cube]
fn value(x: f32, #[comptime] activation: ActivationKind) -> f32 {
    match activation {
        ActivationKind::Relu => {
            if x < 0.0 {
                0.0f32.runtime()
            } else {
                x
            }
        }
        ActivationKind::Gelu => x * normal(x),
        ActivationKind::GeluTanh => 0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x))),
        ActivationKind::Silu => x * sigmoid(x),
    }
}

#[cube]
fn slope(x: f32, #[comptime] activation: ActivationKind) -> f32 {
    match activation {
        ActivationKind::Relu => {
            if x <= 0.0 {
                0.0f32.runtime()
            } else {
                1.0f32.runtime()
            }
        }
        ActivationKind::Gelu => normal(x) + x * 0.398_942_3 * bell(x),
        ActivationKind::GeluTanh => {
            let t = tanh(0.797_884_6 * (x + 0.044_715 * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.797_884_6 * (1.0 + 0.134_145 * x * x)
        }
        ActivationKind::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
    }
}

#[cube(launch_unchecked)]
fn forward_kernel(
    x: &[f32],
    y: &mut [f32],
    count: usize,
    inner: usize,
    #[comptime] activation: ActivationKind,
    #[comptime] gated: bool,
) {
    let index = ABSOLUTE_POS;
    if index >= count {
        terminate!();
    }
    if gated {
        let gate = index / inner * 2 * inner + index % inner;
        y[index] = value(x[gate], activation) * x[gate + inner];
    } else {
        y[index] = value(x[index], activation);
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    count: usize,
    inner: usize,
    #[comptime] activation: ActivationKind,
    #[comptime] gated: bool,
) {
    let index = ABSOLUTE_POS;
    if index >= count {
        terminate!();
    }
    if gated {
        let gate = index / inner * 2 * inner + index % inner;
        dx[gate] = dy[index] * x[gate + inner] * slope(x[gate], activation);
        dx[gate + inner] = dy[index] * value(x[gate], activation);
    } else {
        dx[index] = dy[index] * slope(x[index], activation);
    }
}

/// Applies the non-linearity: `[.., inner]` -> `[.., inner]`, or, if gated, `[.., 2 * inner]` with the gates
/// first -> `[.., inner]`.
pub(super) fn forward(x: CubeTensor, activation: Activation) -> CubeTensor {
    let (x, gated) = (floats(x), activation.is_gated());
    let inner = if gated { width(&x) / 2 } else { width(&x) };
    let y = alloc(&x, with_width(x.meta.shape().clone(), inner));
    let count = length(&y);
    let Grid { client, count: cubes, dim } = Grid::units(&x, count);
    // SAFETY: units beyond the last number end at once, the others stay within both tensors.
    unsafe {
        forward_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            x.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            count,
            inner,
            ActivationKind::of(activation),
            gated,
        );
    }
    y
}

/// Gradient of `x`.
pub(super) fn backward(x: CubeTensor, dy: CubeTensor, activation: Activation) -> CubeTensor {
    let (x, dy) = (floats(x), floats(dy));
    let dx = alloc(&x, x.meta.shape().clone());
    let (count, inner) = (length(&dy), width(&dy));
    let Grid { client, count: cubes, dim } = Grid::units(&x, count);
    // SAFETY: units beyond the last number end at once, the others stay within all tensors.
    unsafe {
        backward_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            x.into_buffer_arg(),
            dy.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            count,
            inner,
            ActivationKind::of(activation),
            activation.is_gated(),
        );
    }
    dx
}
