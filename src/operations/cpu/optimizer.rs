//! AdamW in place, and sums of squares.

use super::{
    math::{sum, vectorized},
    parallel::{Shared, split},
};
use crate::adamw::AdamWSpec;

const GRAIN: usize = 1 << 13;

/// Updates weights and moments in place.
pub fn adamw(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: f32,
    spec: AdamWSpec,
) {
    let count = weights.len();
    let (weights, first, second) = (Shared::new(weights), Shared::new(first), Shared::new(second));
    let AdamWSpec { beta1, beta2, epsilon, .. } = spec;
    let (decay, rate, correction) = spec.factors();
    split(count, GRAIN, |range| {
        // SAFETY: every part has a range of its own.
        let (weights, first, second) =
            unsafe { (weights.part(range.clone()), first.part(range.clone()), second.part(range.clone())) };
        let gradient = &gradient[range];
        vectorized(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second);
                for ((weight, gradient), (first, second)) in weights.iter_mut().zip(gradient).zip(moments) {
                    let gradient = gradient * scale;
                    *first = beta1 * *first + (1.0 - beta1) * gradient;
                    *second = beta2 * *second + (1.0 - beta2) * (gradient * gradient);
                    let deviation = (*second * correction).sqrt() + epsilon;
                    *weight = *weight * decay - rate * *first / deviation;
                }
            },
        );
    });
}

/// Sum of the squares, added in blocks whose number does not depend on the number of threads.
pub fn sum_of_squares(values: &[f32]) -> f32 {
    const BLOCK: usize = 1 << 12;
    let blocks = values.len().div_ceil(BLOCK);
    let mut sums = vec![0f32; blocks];
    let shared = Shared::new(&mut sums);
    split(blocks, 4, |part| {
        // SAFETY: every part has blocks of its own.
        let sums = unsafe { shared.part(part.clone()) };
        let values = &values[part.start * BLOCK..(part.end * BLOCK).min(values.len())];
        vectorized(
            #[inline(always)]
            || {
                for (total, block) in sums.iter_mut().zip(values.chunks(BLOCK)) {
                    *total = sum(
                        block.len(),
                        #[inline(always)]
                        |i| block[i] * block[i],
                    );
                }
            },
        );
    });
    sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() as f32
}
