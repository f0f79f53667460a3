//! LayerNorm and RMSNorm with one cube per row. In the backward pass a cube takes several rows and keeps
//! their sums for the weight and the bias in registers, so that neither is fetched twice from global memory.

use super::{
    launch::{Grid, UNITS, alloc, floats, length, width},
    math::sum_of_cube,
};
use crate::norm::NormSpec;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Largest number of blocks of rows, whose sums are added at the end.
const BLOCKS: usize = 256;

#[cube(launch_unchecked)]
fn forward_kernel(
    x: &[f32],
    weight: &[f32],
    bias: ComptimeOption<&[f32]>,
    y: &mut [f32],
    statistics: &mut [f32],
    rows: usize,
    width: usize,
    epsilon: f32,
    offset: f32,
    #[comptime] centered: bool,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let start = row * width;
    let mut mean = 0.0f32;
    if centered {
        let mut total = 0.0f32;
        let mut column = unit;
        while column < width {
            total += x[start + column];
            column += UNITS;
        }
        mean = sum_of_cube(total, &mut shared) / width as f32;
    }
    let mut square = 0.0f32;
    let mut column = unit;
    while column < width {
        let centered = x[start + column] - mean;
        square += centered * centered;
        column += UNITS;
    }
    let square = sum_of_cube(square, &mut shared);
    let inverse = 1.0 / (square / width as f32 + epsilon).sqrt();
    let mut column = unit;
    while column < width {
        let scaled = (x[start + column] - mean) * inverse * (weight[column] + offset);
        #[comptime]
        match &bias {
            ComptimeOption::Some(bias) => y[start + column] = scaled + bias[column],
            ComptimeOption::None => y[start + column] = scaled,
        }
        column += UNITS;
    }
    if unit == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = inverse;
    }
}

/// Computes the gradients of the rows of a block, and the block's part of the gradients of weight and bias,
/// `[block, 2, width]`.
#[cube(launch_unchecked)]
fn backward_kernel(
    x: &[f32],
    weight: &[f32],
    statistics: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    parts: &mut [f32],
    rows: usize,
    rows_per_block: usize,
    width: usize,
    offset: f32,
    #[comptime] centered: bool,
    #[comptime] columns: usize,
) {
    let block = CUBE_POS;
    let first = block * rows_per_block;
    if first >= rows {
        terminate!();
    }
    let end = min(first + rows_per_block, rows);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let mut d_weight = Array::<f32>::new(columns);
    let mut d_bias = Array::<f32>::new(columns);
    #[unroll]
    for i in 0..columns {
        d_weight[i] = 0.0;
        d_bias[i] = 0.0;
    }
    for row in first..end {
        let start = row * width;
        let mean = statistics[2 * row];
        let inverse = statistics[2 * row + 1];
        // Of the gradient of the normalized row: its part along the row, and its mean.
        let mut along = 0.0f32;
        let mut even = 0.0f32;
        let mut column = unit;
        while column < width {
            let slope = dy[start + column] * (weight[column] + offset);
            along += slope * (x[start + column] - mean) * inverse;
            even += slope;
            column += UNITS;
        }
        let along = sum_of_cube(along, &mut shared) / width as f32;
        let mut middle = 0.0f32;
        if centered {
            middle = sum_of_cube(even, &mut shared) / width as f32;
        }
        #[unroll]
        for i in 0..columns {
            let column = unit + i * UNITS;
            if column < width {
                let normalized = (x[start + column] - mean) * inverse;
                let upstream = dy[start + column];
                dx[start + column] =
                    inverse * (upstream * (weight[column] + offset) - middle - normalized * along);
                d_weight[i] += upstream * normalized;
                d_bias[i] += upstream;
            }
        }
    }
    #[unroll]
    for i in 0..columns {
        let column = unit + i * UNITS;
        if column < width {
            parts[2 * block * width + column] = d_weight[i];
            parts[(2 * block + 1) * width + column] = d_bias[i];
        }
    }
}

/// Adds the parts of all blocks.
#[cube(launch_unchecked)]
fn reduce_kernel(parts: &[f32], d_weight: &mut [f32], d_bias: &mut [f32], blocks: usize, width: usize) {
    let column = ABSOLUTE_POS;
    if column >= width {
        terminate!();
    }
    let mut weight = 0.0f32;
    let mut bias = 0.0f32;
    for block in 0..blocks {
        weight += parts[2 * block * width + column];
        bias += parts[(2 * block + 1) * width + column];
    }
    d_weight[column] = weight;
    d_bias[column] = bias;
}

/// Normalizes the rows of `x`, `[.., width]`. Also returns the mean and inverse standard deviation of each
/// row, `[N, 2]`.
pub(super) fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    spec: NormSpec,
) -> (CubeTensor, CubeTensor) {
    let x = floats(x);
    let width = width(&x);
    let rows = length(&x) / width.max(1);
    let (y, statistics) = (alloc(&x, x.meta.shape().clone()), alloc(&x, [rows, 2]));
    let Grid { client, count, dim } = Grid::cubes(&x, rows);
    // SAFETY: cubes beyond the last row end at once, units stay within their row.
    unsafe {
        forward_kernel::launch_unchecked(
            &client,
            count,
            dim,
            x.into_buffer_arg(),
            floats(weight).into_buffer_arg(),
            bias.map(|bias| floats(bias).into_buffer_arg()).into(),
            y.clone().into_buffer_arg(),
            statistics.clone().into_buffer_arg(),
            rows,
            width,
            spec.epsilon,
            spec.offset,
            spec.centered,
        );
    }
    (y, statistics)
}

/// Gradients of `x`, the weight and the bias. The last is computed even if there is no bias.
pub(super) fn backward(
    x: CubeTensor,
    weight: CubeTensor,
    statistics: CubeTensor,
    dy: CubeTensor,
    spec: NormSpec,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (x, weight) = (floats(x), floats(weight));
    let width = width(&x);
    let rows = length(&x) / width.max(1);
    let rows_per_block = rows.div_ceil(BLOCKS).max(1);
    let blocks = rows.div_ceil(rows_per_block);
    let dx = alloc(&x, x.meta.shape().clone());
    let parts = alloc(&x, [blocks, 2, width]);
    let (d_weight, d_bias) = (alloc(&x, [width]), alloc(&x, [width]));
    let Grid { client, count, dim } = Grid::cubes(&x, blocks);
    // SAFETY: cubes beyond the last block end at once, units stay within their rows and parts.
    unsafe {
        backward_kernel::launch_unchecked(
            &client,
            count,
            dim,
            x.into_buffer_arg(),
            weight.clone().into_buffer_arg(),
            floats(statistics).into_buffer_arg(),
            floats(dy).into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            rows,
            rows_per_block,
            width,
            spec.offset,
            spec.centered,
            width.div_ceil(UNITS),
        );
    }
    let Grid { client, count, dim } = Grid::units(&weight, width);
    // SAFETY: units beyond the last column end at once, the others read one number of each part.
    unsafe {
        reduce_kernel::launch_unchecked(
            &client,
            count,
            dim,
            parts.into_buffer_arg(),
            d_weight.clone().into_buffer_arg(),
            d_bias.clone().into_buffer_arg(),
            blocks,
            width,
        );
    }
    (dx, d_weight, d_bias)
}
