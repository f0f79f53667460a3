//! Linear layers with bias and residual.

use super::{
    gemm::{Epilogue, Matrix, parallel_product, parallel_product_onto},
    math::vectorized,
    parallel::{Shared, split},
};
use crate::linear::LinearSpec;

/// Computes `x W + bias + residual`. `x` is `[N, I]`, `weight` is `[I, O]`, or `[O, I]` if `spec.transposed`.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue,
    [inputs, outputs]: [usize; 2],
    spec: LinearSpec,
) -> Vec<f32> {
    let count = x.len() / inputs.max(1);
    let matrix = matrix(weight, [inputs, outputs], spec.transposed);
    parallel_product([count, inputs, outputs], Matrix::of_rows(x, inputs), matrix, epilogue, spec.precision)
}

/// Adds `x W` to `total`, `[N, O]`.
pub fn onto(total: &mut [f32], x: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2], spec: LinearSpec) {
    let count = x.len() / inputs.max(1);
    let matrix = matrix(weight, [inputs, outputs], spec.transposed);
    parallel_product_onto(
        [count, inputs, outputs],
        Matrix::of_rows(x, inputs),
        matrix,
        total,
        spec.precision,
    );
}

fn matrix(weight: &[f32], [inputs, outputs]: [usize; 2], transposed: bool) -> Matrix<'_> {
    match transposed {
        true => Matrix::of_rows(weight, inputs).transposed(),
        false => Matrix::of_rows(weight, outputs),
    }
}

/// Gradient of `x`.
pub fn backward_input(dy: &[f32], weight: &[f32], sizes: [usize; 2], spec: LinearSpec) -> Vec<f32> {
    let [inputs, outputs] = sizes;
    let count = dy.len() / outputs.max(1);
    let weight = matrix(weight, sizes, spec.transposed).transposed();
    let dy = Matrix::of_rows(dy, outputs);
    parallel_product([count, outputs, inputs], dy, weight, Epilogue::default(), spec.precision)
}

/// Gradient of the weight, in its layout.
pub fn backward_weight(x: &[f32], dy: &[f32], [inputs, outputs]: [usize; 2], spec: LinearSpec) -> Vec<f32> {
    let count = x.len() / inputs.max(1);
    let (x, dy) = (Matrix::of_rows(x, inputs), Matrix::of_rows(dy, outputs));
    match spec.transposed {
        true => parallel_product(
            [outputs, count, inputs],
            dy.transposed(),
            x,
            Epilogue::default(),
            spec.precision,
        ),
        false => parallel_product(
            [inputs, count, outputs],
            x.transposed(),
            dy,
            Epilogue::default(),
            spec.precision,
        ),
    }
}

/// Gradient of the bias: the sum of the rows of `dy`.
pub fn backward_bias(dy: &[f32], outputs: usize) -> Vec<f32> {
    let mut db = vec![0f32; outputs];
    let shared = Shared::new(&mut db);
    let count = dy.len() / outputs.max(1);
    split(outputs, (1usize << 14).div_ceil(count.max(1)).next_multiple_of(16), |columns| {
        // SAFETY: every part has columns of its own.
        let db = unsafe { shared.part(columns.clone()) };
        vectorized(
            #[inline(always)]
            || {
                for dy in dy.chunks_exact(outputs) {
                    for (sum, dy) in db.iter_mut().zip(&dy[columns.clone()]) {
                        *sum += dy;
                    }
                }
            },
        );
    });
    db
}
