//! Dropout that draws the same places as the CPU does.

use super::{
    launch::{Grid, floats, length, room, width},
    math::{Draws, draw, of_part, of_row},
};
use crate::kernels::dropout::Dropout;
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
    let place = ABSOLUTE_POS;
    if place >= count {
        terminate!();
    }
    let position = place / width;
    let drawn = of_part(of_row(&draws, position / time), position % time);
    let kept = x[place] * draw(&draws, drawn, place % width);
    #[comptime]
    match residual {
        ComptimeOption::Some(residual) => y[place] = residual[place] + kept,
        ComptimeOption::None => y[place] = kept,
    }
}

/// `residual + dropout(x)`, or without a residual `dropout(x)`, which is its own gradient.
pub(super) fn apply(x: CubeTensor, residual: Option<CubeTensor>, dropout: Dropout) -> CubeTensor {
    let x = floats(x);
    let y = room(&x, x.meta.shape().clone());
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
