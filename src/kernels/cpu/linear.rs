//! Linear layers with what stands around them: bias and residual.

use super::{
    gemm::{Into, Matrix, parallel_product, parallel_product_onto},
    math::vectorized,
    parallel::{Shared, split},
    tensor::room,
};

/// `x W + bias + residual`: `x` is `[N, I]`, `weight` `[I, O]`, or `[O, I]` where `transposed`.
pub(super) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    [inputs, outputs]: [usize; 2],
    transposed: bool,
) -> Vec<f32> {
    let count = x.len() / inputs.max(1);
    let mut y = room(count * outputs);
    let into = if bias.is_some() || residual.is_some() { Into::Add } else { Into::Replace };
    let matrix = matrix(weight, [inputs, outputs], transposed);
    let x = Matrix::of_rows(x, inputs);
    parallel_product_onto([count, inputs, outputs], x, matrix, &mut y, into, |row, columns, y| {
        let residual = residual.map(|residual| &residual[row * outputs..][columns.clone()]);
        let bias = bias.map(|bias| &bias[columns]);
        match (residual, bias) {
            (None, None) => (),
            (Some(addend), None) | (None, Some(addend)) => y.copy_from_slice(addend),
            (Some(residual), Some(bias)) => vectorized(
                #[inline(always)]
                || {
                    for ((y, residual), bias) in y.iter_mut().zip(residual).zip(bias) {
                        *y = residual + bias;
                    }
                },
            ),
        }
    });
    y
}

fn matrix(weight: &[f32], [inputs, outputs]: [usize; 2], transposed: bool) -> Matrix<'_> {
    match transposed {
        true => Matrix::of_rows(weight, inputs).transposed(),
        false => Matrix::of_rows(weight, outputs),
    }
}

/// The gradient of `x`.
pub(super) fn backward_input(dy: &[f32], weight: &[f32], sizes: [usize; 2], transposed: bool) -> Vec<f32> {
    let [inputs, outputs] = sizes;
    let count = dy.len() / outputs.max(1);
    let mut dx = room(count * inputs);
    let weight = matrix(weight, sizes, transposed).transposed();
    let dy = Matrix::of_rows(dy, outputs);
    parallel_product([count, outputs, inputs], dy, weight, &mut dx, Into::Replace);
    dx
}

/// The gradient of the weight, in its layout.
pub(super) fn backward_weight(
    x: &[f32],
    dy: &[f32],
    [inputs, outputs]: [usize; 2],
    transposed: bool,
) -> Vec<f32> {
    let count = x.len() / inputs.max(1);
    let mut dw = room(inputs * outputs);
    let (x, dy) = (Matrix::of_rows(x, inputs), Matrix::of_rows(dy, outputs));
    match transposed {
        true => parallel_product([outputs, count, inputs], dy.transposed(), x, &mut dw, Into::Replace),
        false => parallel_product([inputs, count, outputs], x.transposed(), dy, &mut dw, Into::Replace),
    }
    dw
}

/// The gradient of the bias: the sum of the rows.
pub(super) fn backward_bias(dy: &[f32], outputs: usize) -> Vec<f32> {
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
