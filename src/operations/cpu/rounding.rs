//! Rounding of f32 to the numbers of f16, which products of that precision have as factors.

use super::{
    math::vectorized,
    parallel::{Shared, split},
};

const GRAIN: usize = 1 << 13;

/// Rounds each number to the nearest one of f16, ties to even. What is too large becomes infinite.
pub fn to_f16(values: &[f32]) -> Vec<f32> {
    let mut rounded = vec![0f32; values.len()];
    let shared = Shared::new(&mut rounded);
    split(values.len(), GRAIN, |range| {
        // SAFETY: every part has a range of its own.
        let rounded = unsafe { shared.part(range.clone()) };
        let values = &values[range];
        vectorized(
            #[inline(always)]
            || {
                for (rounded, value) in rounded.iter_mut().zip(values) {
                    *rounded = nearest(*value);
                }
            },
        );
    });
    rounded
}

/// The nearest number of f16.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    /// Smallest number of f16 that has all of its digits, 2^-14.
    const SMALLEST_WHOLE: f32 = 1.0 / 16384.0;
    /// Halfway from the largest number of f16 to the next one that there would be.
    const TOO_LARGE: f32 = 65520.0;
    let magnitude = value.abs();
    // 13 of the 23 digits of the fraction go.
    let bits = magnitude.to_bits();
    let whole = f32::from_bits(bits.wrapping_add(0xfff + ((bits >> 13) & 1)) & !0x1fff);
    // Numbers next to 0 are multiples of 2^-24, as f32 is next to 0.5.
    let near_zero = (magnitude + 0.5) - 0.5;
    let rounded = if magnitude < SMALLEST_WHOLE { near_zero } else { whole };
    let rounded = if magnitude >= TOO_LARGE { f32::INFINITY } else { rounded };
    if value.is_nan() { value } else { rounded.copysign(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of binary16 (IEEE 754) have 11 digits, or are multiples of 2^-24 below 2^-14.
    #[test]
    fn numbers_become_the_nearest_of_f16() {
        let step = 1.0 / 1024.0;
        let least = 2f32.powi(-24);
        for (value, expected) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (1.0 + 0.51 * step, 1.0 + step),
            (-2047.0, -2047.0),
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (65504.0, 65504.0),
            (65519.0, 65504.0),
            (65520.0, f32::INFINITY),
            (-1e9, f32::NEG_INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (least, least),
            (0.5 * least, 0.0),
            (0.51 * least, least),
            (1.5 * least, 2.0 * least),
            (-2.5 * least, -2.0 * least),
            (2f32.powi(-14) - 0.25 * least, 2f32.powi(-14)),
        ] {
            assert_eq!(to_f16(&[value; 3]), [expected; 3], "{value}");
        }
        assert!(to_f16(&[f32::NAN])[0].is_nan());
        let many: Vec<f32> = (0..70_000).map(|i| i as f32 / 16.0).collect();
        assert!(to_f16(&many).iter().zip(&many).all(|(a, b)| (a - b).abs() <= b / 2048.0));
    }
}
