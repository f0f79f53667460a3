//! Rotation of queries and keys in rows that contain all heads side by side.

use super::launch::{Grid, alloc, floats, length, width};
use crate::rope::RopeSpec;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Rotates with one unit per element. The other element of its pair is near and read twice, which costs less
/// than units that have nothing to copy after the last head.
#[cube(launch_unchecked)]
fn kernel(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    y: &mut [f32],
    count: usize,
    width: usize,
    rotated: usize,
    angles: usize,
    sign: f32,
    #[comptime] half: usize,
    #[comptime] interleaved: bool,
) {
    let index = ABSOLUTE_POS;
    if index >= count {
        terminate!();
    }
    let column = index % width;
    if column < rotated {
        let within = column % (2 * half);
        let second = if interleaved { within % 2 == 1 } else { within >= half };
        let pair = if interleaved { within / 2 } else { within % half };
        let apart = if interleaved { 1usize } else { half };
        let other = if second { index - apart } else { index + apart };
        let angle = (index / width) % angles * half + pair;
        let turned = sign * sin[angle] * x[other];
        let straight = x[index] * cos[angle];
        y[index] = if second { straight + turned } else { straight - turned };
    } else {
        y[index] = x[index];
    }
}

/// Rotates `x`, `[B, T, width]`, by tables `cos` and `sin`, `[1 or B, T, D / 2]`.
pub(super) fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, spec: RopeSpec) -> CubeTensor {
    let (x, cos, sin) = (floats(x), floats(cos), floats(sin));
    let y = alloc(&x, x.meta.shape().clone());
    let (count, width, half) = (length(&x), width(&x), spec.head_size / 2);
    let angles = length(&cos) / half.max(1);
    let Grid { client, count: cubes, dim } = Grid::units(&x, count);
    // SAFETY: units beyond the last number end at once; the others read the other number of their pair, and
    // tables of as many rows as one or all of the batches have.
    unsafe {
        kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            count,
            width,
            spec.heads * spec.head_size,
            angles,
            if spec.inverse { -1.0 } else { 1.0 },
            half,
            spec.interleaved,
        );
    }
    y
}
