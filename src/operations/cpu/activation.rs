//! Non-linearities of the MLP, plain and gated.

use super::{
    math::{normal, sigmoid, tanh, vectorized},
    parallel::{Shared, alloc, split},
};
use crate::activation::Activation;

const GRAIN: usize = 1 << 13;

/// Value and derivative at `x`, without the gate.
#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    if x > 0.0 || x.is_nan() { (x, 1.0) } else { (0.0, 0.0) }
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let (below, density) = normal(x);
    (x * below, below + x * density)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBE: f32 = 0.044_715;
    let t = tanh(SCALE * (x + CUBE * x * x * x));
    let slope = SCALE * (1.0 + 3.0 * CUBE * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// Calls a function with the non-linearity as its last argument, so that it is inlined.
macro_rules! with_curve {
    ($activation:expr, $function:ident ( $($argument:expr),* )) => {
        match $activation {
            Activation::Relu => $function($($argument,)* relu),
            Activation::Gelu | Activation::GegluExact => $function($($argument,)* gelu),
            Activation::GeluTanh | Activation::Geglu => $function($($argument,)* gelu_tanh),
            Activation::Swiglu => $function($($argument,)* silu),
        }
    };
}

/// Applies the non-linearity: `[N, width]` -> `[N, width]`, or, if gated, `[N, 2 * inner]` with the gates
/// first -> `[N, inner]`.
pub fn forward(x: &[f32], width: usize, activation: Activation) -> Vec<f32> {
    if activation.is_gated() {
        with_curve!(activation, gated_forward(x, width / 2))
    } else {
        with_curve!(activation, plain_forward(x))
    }
}

/// Overwrites `x` with its gradient, and `dy` with the value of the non-linearity.
pub fn backward_with_value(x: &mut [f32], dy: &mut [f32], width: usize, activation: Activation) {
    if activation.is_gated() {
        with_curve!(activation, gated_backward(x, dy, width / 2))
    } else {
        with_curve!(activation, plain_backward(x, dy))
    }
}

#[inline(always)]
fn plain_forward(x: &[f32], activation: impl Fn(f32) -> (f32, f32) + Sync + Copy) -> Vec<f32> {
    let mut y = alloc(x.len());
    let shared = Shared::new(&mut y);
    split(x.len(), GRAIN, |range| {
        // SAFETY: every part has a range of its own.
        let y = unsafe { shared.part(range.clone()) };
        let x = &x[range];
        vectorized(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    y.write(activation(*x).0);
                }
            },
        );
    });
    // SAFETY: the parts, each of which is written whole, are all there is.
    unsafe { y.assume_init() }.into_vec()
}

#[inline(always)]
fn plain_backward(x: &mut [f32], dy: &mut [f32], activation: impl Fn(f32) -> (f32, f32) + Sync + Copy) {
    let count = x.len();
    let shared = [Shared::new(x), Shared::new(dy)];
    split(count, GRAIN, |range| {
        // SAFETY: every part has a range of its own.
        let [x, dy] = shared.each_ref().map(|shared| unsafe { shared.part(range.clone()) });
        vectorized(
            #[inline(always)]
            || {
                for (x, dy) in x.iter_mut().zip(dy) {
                    let (value, slope) = activation(*x);
                    *x = *dy * slope;
                    *dy = value;
                }
            },
        );
    });
}

#[inline(always)]
fn gated_forward(x: &[f32], inner: usize, activation: impl Fn(f32) -> (f32, f32) + Sync + Copy) -> Vec<f32> {
    let count = x.len() / (2 * inner);
    let mut y = alloc(count * inner);
    let shared = Shared::new(&mut y);
    split(count, GRAIN.div_ceil(inner), |rows| {
        // SAFETY: every part has rows of its own.
        let y = unsafe { shared.part(rows.start * inner..rows.end * inner) };
        let x = &x[rows.start * 2 * inner..rows.end * 2 * inner];
        vectorized(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(inner).zip(x.chunks_exact(2 * inner)) {
                    let (gate, up) = x.split_at(inner);
                    for i in 0..inner {
                        y[i].write(activation(gate[i]).0 * up[i]);
                    }
                }
            },
        );
    });
    // SAFETY: the parts, each of which is written whole, are all there is.
    unsafe { y.assume_init() }.into_vec()
}

#[inline(always)]
fn gated_backward(
    x: &mut [f32],
    dy: &mut [f32],
    inner: usize,
    activation: impl Fn(f32) -> (f32, f32) + Sync + Copy,
) {
    let count = x.len() / (2 * inner);
    let (x, dy) = (Shared::new(x), Shared::new(dy));
    split(count, GRAIN.div_ceil(inner), |rows| {
        let narrow = rows.start * inner..rows.end * inner;
        // SAFETY: every part has rows of its own.
        let (x, dy) = unsafe { (x.part(2 * narrow.start..2 * narrow.end), dy.part(narrow)) };
        vectorized(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks_exact_mut(2 * inner).zip(dy.chunks_exact_mut(inner)) {
                    let (gate, up) = x.split_at_mut(inner);
                    for i in 0..inner {
                        let (value, slope) = activation(gate[i]);
                        let y = value * up[i];
                        gate[i] = dy[i] * up[i] * slope;
                        up[i] = dy[i] * value;
                        dy[i] = y;
                    }
                }
            },
        );
    });
}
