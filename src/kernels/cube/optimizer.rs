//! AdamW in place, and sums of squares.

use super::{
    launch::{Grid, UNITS, alloc, floats, length, make_unique},
    math::sum_of_cube,
};
use crate::adamw::AdamWSpec;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Factors {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    decay: f32,
    rate: f32,
    correction: f32,
}

#[cube(launch_unchecked)]
fn update_kernel(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: &[f32],
    count: usize,
    factors: Factors,
    #[comptime] skip_non_finite: bool,
) {
    let index = ABSOLUTE_POS;
    if index >= count {
        terminate!();
    }
    let scale = scale[0];
    // By its bits: drivers may assume that numbers are finite.
    let finite = (scale.to_bits() & 0x7f80_0000u32) != 0x7f80_0000u32;
    if !skip_non_finite || finite {
        let gradient = gradient[index] * scale;
        let mean = factors.beta1 * first[index] + (1.0 - factors.beta1) * gradient;
        let square = factors.beta2 * second[index] + (1.0 - factors.beta2) * (gradient * gradient);
        let deviation = (square * factors.correction).sqrt() + factors.epsilon;
        first[index] = mean;
        second[index] = square;
        weights[index] = weights[index] * factors.decay - factors.rate * mean / deviation;
    }
}

/// Weights and moments after an update by `gradient * scale`.
pub(super) fn adamw(
    old: [CubeTensor; 3],
    gradient: CubeTensor,
    scale: CubeTensor,
    spec: AdamWSpec,
) -> [CubeTensor; 3] {
    let [weights, first, second] = old.map(make_unique);
    let (decay, rate, correction) = spec.factors();
    let count = length(&weights);
    let Grid { client, count: cubes, dim } = Grid::units(&weights, count);
    // SAFETY: units beyond the last number end at once, the others stay within tensors of one length.
    unsafe {
        update_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            weights.clone().into_buffer_arg(),
            first.clone().into_buffer_arg(),
            second.clone().into_buffer_arg(),
            floats(gradient).into_buffer_arg(),
            floats(scale).into_buffer_arg(),
            count,
            FactorsLaunch::new(spec.beta1, spec.beta2, spec.epsilon, decay, rate, correction),
            spec.skip_non_finite,
        );
    }
    [weights, first, second]
}

/// Computes one sum per cube; neighbouring units take neighbouring elements.
#[cube(launch_unchecked)]
fn sum_kernel(x: &[f32], sums: &mut [f32], count: usize, cubes: usize, #[comptime] squares: bool) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let mut total = 0.0f32;
    let mut index = CUBE_POS * UNITS + UNIT_POS as usize;
    while index < count {
        let value = x[index];
        if squares {
            total += value * value;
        } else {
            total += value;
        }
        index += cubes * UNITS;
    }
    let total = sum_of_cube(total, &mut shared);
    if UNIT_POS == 0 && CUBE_POS < cubes {
        sums[CUBE_POS] = total;
    }
}

fn sums(x: CubeTensor, cubes: usize, squares: bool) -> CubeTensor {
    let (y, count) = (alloc(&x, [cubes]), length(&x));
    let Grid { client, count: grid, dim } = Grid::cubes(&x, cubes);
    // SAFETY: what is read is below the length, what is written below the number of cubes.
    unsafe {
        sum_kernel::launch_unchecked(
            &client,
            grid,
            dim,
            x.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            count,
            cubes,
            squares,
        );
    }
    y
}

/// Sum of all elements or their squares, `[1]`. Enough cubes to fill a device compute partial sums, which one
/// cube then adds.
fn sum_in_two(x: CubeTensor, squares: bool) -> CubeTensor {
    let x = floats(x);
    match length(&x).div_ceil(16 * UNITS).clamp(1, 1024) {
        1 => sums(x, 1, squares),
        cubes => sums(sums(x, cubes, squares), 1, false),
    }
}

/// Sum of all elements, `[1]`.
pub(super) fn sum(x: CubeTensor) -> CubeTensor {
    sum_in_two(x, false)
}

/// Sum of the squares of all elements, `[1]`.
pub(super) fn sum_of_squares(x: CubeTensor) -> CubeTensor {
    sum_in_two(x, true)
}
