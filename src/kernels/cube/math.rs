//! Functions that several kernels use.

use super::launch::UNITS;
use crate::dropout::Dropout;
use burn_cubecl::cubecl::{self, prelude::*};

/// Hyperbolic tangent that does not overflow and keeps NaN, unlike those of some drivers.
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

/// The logistic function, 1 / (1 + e^-x).
#[cube]
pub(super) fn sigmoid(x: f32) -> f32 {
    0.5 + 0.5 * tanh(0.5 * x)
}

/// Settings of [`crate::dropout::Dropout`] in the form that kernels use.
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

/// State of the dropout generator for a row of the batch.
#[cube]
pub(super) fn of_row(draws: &Draws, row: usize) -> u32 {
    mix(draws.seed ^ (draws.first_row + row as u32))
}

/// State of the dropout generator for part `index` of the part with state `drawn`.
#[cube]
pub(super) fn of_part(drawn: u32, index: usize) -> u32 {
    mix(drawn + index as u32)
}

/// Dropout factor of element `index` of the part with state `drawn`.
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

/// Sum of a value over the units of a cube, returned to all of them. Synchronizes the cube and overwrites
/// `shared`.
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

/// Maximum of a value over the units of a cube, returned to all of them. Synchronizes the cube and overwrites
/// `shared`.
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
