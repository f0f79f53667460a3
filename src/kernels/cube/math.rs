//! Functions that kernels share.

use super::launch::UNITS;
use crate::dropout::Dropout;
use burn_cubecl::cubecl::{self, prelude::*};

/// Hyperbolic tangent that neither overflows nor hides what is not a number, as those of some drivers do.
#[cube]
pub(super) fn tanh(x: f32) -> f32 {
    if x > 15.0 {
        f32::new(1.0)
    } else if x < f32::new(-15.0) {
        f32::new(-1.0)
    } else {
        1.0 - 2.0 / ((2.0 * x).exp() + 1.0)
    }
}

/// 1 / (1 + e^-x)
#[cube]
pub(super) fn sigmoid(x: f32) -> f32 {
    0.5 + 0.5 * tanh(0.5 * x)
}

/// [`crate::dropout::Dropout`], for kernels.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Draws {
    seed: u32,
    first_row: u32,
    threshold: u32,
    scale: f32,
}

impl Draws {
    pub fn arguments(dropout: Dropout) -> DrawsLaunch {
        DrawsLaunch::new(dropout.seed, dropout.first_row, dropout.threshold(), dropout.scale())
    }
}

/// State of the draws of a row of the batch.
#[cube]
pub(super) fn of_row(draws: &Draws, row: usize) -> u32 {
    mix(draws.seed ^ (draws.first_row + row as u32))
}

/// State of the draws of a part of what `drawn` stands for.
#[cube]
pub(super) fn of_part(drawn: u32, index: usize) -> u32 {
    mix(drawn + index as u32)
}

/// Dropout factor of a number of the part that `drawn` stands for.
#[cube]
pub(super) fn draw(draws: &Draws, drawn: u32, index: usize) -> f32 {
    if of_part(drawn, index) >= draws.threshold { draws.scale } else { 0.0f32.runtime() }
}

#[cube]
fn mix(x: u32) -> u32 {
    let a = (x ^ (x >> 16u32)) * 0x7feb_352du32;
    let b = (a ^ (a >> 15u32)) * 0x846c_a68bu32;
    b ^ (b >> 16u32)
}

/// Sum of a number over the units of a cube, which all get it. All of them wait here for each other, and
/// what `shared` held before is gone.
#[cube]
pub(super) fn sum_of_cube(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut total = 0.0f32;
    for unit in 0..UNITS {
        total += shared[unit];
    }
    total
}

/// Largest of a number over the units of a cube.
#[cube]
pub(super) fn most_of_cube(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut most = shared[0];
    for unit in 1..UNITS {
        most = max(most, shared[unit]);
    }
    most
}
