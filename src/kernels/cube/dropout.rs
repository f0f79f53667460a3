//! Dropout with the same random numbers as on the CPU.

use super::{
    launch::{Grid, alloc, floats, length, width},
    math::{Draws, draw, of_part, of_row},
};
use crate::dropout::Dropout;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

#[cube(launch_unchecked)]
fn kernel(
    x: &[f32],
    residual: ComptimeOption<&[f32]>,
    y: &mut [f32],
    count: usize,
    time: usize,
    width: usize,
    draws: Draws,
) {
    let index = ABSOLUTE_POS;
    if index >= count {
        terminate!();
    }
    let position = index / width;
    let drawn = of_part(of_row(&draws, position / time), position % time);
    let kept = x[index] * draw(&draws, drawn, index % width);
    #[comptime]
    match residual {
        ComptimeOption::Some(residual) => y[index] = residual[index] + kept,
        ComptimeOption::None => y[index] = kept,
    }
}

/// Computes `residual + dropout(x)`, or `dropout(x)` without a residual, which is also the backward pass of
/// dropout.
pub(super) fn apply(x: CubeTensor, residual: Option<CubeTensor>, dropout: Dropout) -> CubeTensor {
    let x = floats(x);
    let y = alloc(&x, x.meta.shape().clone());
    let (count, width) = (length(&x), width(&x));
    let time = x.meta.shape().iter().rev().nth(1).copied().unwrap_or(1);
    let Grid { client, count: cubes, dim } = Grid::units(&x, count);
    // SAFETY: units beyond the last number end at once, the others stay within tensors of one shape.
    unsafe {
        kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            x.into_buffer_arg(),
            residual.map(|residual| floats(residual).into_buffer_arg()).into(),
            y.clone().into_buffer_arg(),
            count,
            time,
            width,
            Draws::arguments(dropout),
        );
    }
    y
}
