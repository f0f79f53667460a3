//! LayerNorm and RMSNorm of rows.

use super::{
    math::{sum, vectorized},
    parallel::{Shared, alloc, split},
};
use crate::norm::NormSpec;

/// Minimum number of rows that are worth a thread.
fn grain(width: usize) -> usize {
    (1usize << 14).div_ceil(width)
}

/// Normalizes the rows of `x`, `[N, width]`. Also returns the mean and inverse standard deviation of each
/// row, `[N, 2]`.
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, spec: NormSpec) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let count = x.len() / width;
    let (mut y, mut statistics) = (alloc(count * width), alloc(2 * count));
    let (y_shared, statistics_shared) = (Shared::new(&mut y), Shared::new(&mut statistics));
    split(count, grain(width), |rows| {
        // SAFETY: every part has rows of its own.
        let (y, statistics) = unsafe {
            (
                y_shared.part(rows.start * width..rows.end * width),
                statistics_shared.part(2 * rows.start..2 * rows.end),
            )
        };
        let x = &x[rows.start * width..rows.end * width];
        vectorized(
            #[inline(always)]
            || {
                let rows =
                    x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(statistics.chunks_exact_mut(2));
                for ((x, y), statistics) in rows {
                    let mean = if spec.centered {
                        sum(
                            width,
                            #[inline(always)]
                            |i| x[i],
                        ) / width as f32
                    } else {
                        0.0
                    };
                    let square = sum(
                        width,
                        #[inline(always)]
                        |i| (x[i] - mean) * (x[i] - mean),
                    );
                    let inverse = 1.0 / (square / width as f32 + spec.epsilon).sqrt();
                    match bias {
                        None => {
                            for i in 0..width {
                                y[i].write((x[i] - mean) * inverse * (weight[i] + spec.offset));
                            }
                        }
                        Some(bias) => {
                            for i in 0..width {
                                y[i].write((x[i] - mean) * inverse * (weight[i] + spec.offset) + bias[i]);
                            }
                        }
                    }
                    statistics[0].write(mean);
                    statistics[1].write(inverse);
                }
            },
        );
    });
    // SAFETY: the parts, each of which is written whole, are all rows.
    unsafe { (y.assume_init().into_vec(), statistics.assume_init().into_vec()) }
}

/// Gradients of `x`, the weight and the bias. The last is computed even if there is no bias.
pub fn backward(
    x: &[f32],
    weight: &[f32],
    statistics: &[f32],
    dy: &[f32],
    spec: NormSpec,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let count = x.len() / width;
    let mut dx = alloc(count * width);
    let dx_shared = Shared::new(&mut dx);
    // Sums over rows are kept for blocks of rows, whose number does not depend on the threads, so that
    // the order of adding does not either.
    let blocks = count.div_ceil(BLOCK).max(1);
    let mut sums = vec![0f32; blocks * 2 * width];
    let sums_shared = Shared::new(&mut sums);
    split(blocks, grain(width).div_ceil(BLOCK), |part| {
        for block in part {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(count);
            // SAFETY: every block has rows and sums of its own.
            let (dx, sums) = unsafe {
                (
                    dx_shared.part(rows.start * width..rows.end * width),
                    sums_shared.part(block * 2 * width..(block + 1) * 2 * width),
                )
            };
            let (dw, db) = sums.split_at_mut(width);
            let (x, dy) =
                (&x[rows.start * width..rows.end * width], &dy[rows.start * width..rows.end * width]);
            let statistics = &statistics[2 * rows.start..2 * rows.end];
            vectorized(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
                    let rows = rows.zip(dx.chunks_exact_mut(width)).zip(statistics.chunks_exact(2));
                    for (((x, dy), dx), statistics) in rows {
                        let (mean, inverse) = (statistics[0], statistics[1]);
                        // Of the gradient of the normalized row: its part along the row, and its mean.
                        let along = sum(
                            width,
                            #[inline(always)]
                            |i| dy[i] * (weight[i] + spec.offset) * (x[i] - mean) * inverse,
                        ) / width as f32;
                        let even = if spec.centered {
                            sum(
                                width,
                                #[inline(always)]
                                |i| dy[i] * (weight[i] + spec.offset),
                            ) / width as f32
                        } else {
                            0.0
                        };
                        for i in 0..width {
                            let normalized = (x[i] - mean) * inverse;
                            dx[i].write(
                                inverse * (dy[i] * (weight[i] + spec.offset) - even - normalized * along),
                            );
                            dw[i] += dy[i] * normalized;
                            db[i] += dy[i];
                        }
                    }
                },
            );
        }
    });
    // SAFETY: the blocks, each of which is written whole, are all rows.
    let dx = unsafe { dx.assume_init() }.into_vec();
    let (dw, db) = sums.split_at_mut(width);
    let mut dw = dw.to_vec();
    let mut db = db[..width].to_vec();
    for block in sums.chunks_exact(2 * width).skip(1) {
        for i in 0..width {
            dw[i] += block[i];
            db[i] += block[width + i];
        }
    }
    (dx, dw, db)
}

const BLOCK: usize = 64;
