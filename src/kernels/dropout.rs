//! Dropout (JMLR 15, 2014) whose choices are a function of a seed and a place: the same on every device, and
//! drawn again instead of kept.

use super::{Mode, backend::Differentiable, optional};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, TensorData},
};

/// How much is dropped, and which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of the numbers that become 0; the others grow by 1 / (1 - share).
    pub probability: f32,
    pub seed: u32,
}

impl Dropout {
    pub const NONE: Self = Self { probability: 0.0, seed: 0 };

    pub fn is_on(self) -> bool {
        self.probability > 0.0
    }

    /// What is kept is multiplied by this.
    pub fn scale(self) -> f32 {
        if self.probability < 1.0 { 1.0 / (1.0 - self.probability) } else { 0.0 }
    }

    /// Draws below this are dropped.
    pub fn threshold(self) -> u32 {
        (f64::from(self.probability) * f64::from(u32::MAX)) as u32
    }
}

/// Whether the number at a place is kept. Places of vectors have `column` 0.
#[inline(always)]
pub fn keeps(dropout: Dropout, row: u32, column: u32) -> bool {
    mix(mix(row ^ dropout.seed).wrapping_add(column)) >= dropout.threshold()
}

/// Every bit of the result depends on every bit of `x` (Chris Wellons' lowbias32).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `residual + dropout(x)`, or `dropout(x)`; all of one shape.
pub fn dropout<const D: usize>(
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    dropout: Dropout,
    mode: Mode,
) -> Tensor<D> {
    if !dropout.is_on() {
        return match residual {
            Some(residual) => residual + x,
            None => x,
        };
    }
    if !mode.fuses(&x) {
        return reference(x, residual, dropout);
    }
    Tensor::from_dispatch(Dispatch::drop_out(x.into_dispatch(), optional(residual), dropout))
}

/// The same by Burn's operations.
pub fn reference<const D: usize>(x: Tensor<D>, residual: Option<Tensor<D>>, dropout: Dropout) -> Tensor<D> {
    let places = 0..x.dims().iter().product::<usize>() as u32;
    let kept = places.map(|place| if keeps(dropout, place, 0) { dropout.scale() } else { 0.0 }).collect();
    let kept = Tensor::from_data(TensorData::new::<f32, _>(kept, x.dims()), &x.device());
    match residual {
        Some(residual) => residual + x * kept,
        None => x * kept,
    }
}
