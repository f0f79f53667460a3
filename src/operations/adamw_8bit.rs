//! AdamW with moments of 8 bits (arXiv:2110.02861): its settings, and the numbers that 8 bits stand for.
//!
//! Moments are cut into blocks of [`BLOCK`] elements. A block has the largest magnitude of its elements as f32 and one
//! byte for each element, which is the index of the nearest number of a [`Code`] to the element's share of the largest
//! magnitude. Four bytes are one word, the first in its lowest bits, so that devices without bytes can store them.

use std::sync::LazyLock;

/// Number of elements that share a largest magnitude.
pub const BLOCK: usize = 256;

/// Number of elements in a word of codes.
pub const PER_WORD: usize = 4;

/// Number of words that the codes of a moment with `count` elements take.
pub fn words(count: usize) -> usize {
    count.div_ceil(PER_WORD)
}

/// Number of blocks of a moment with `count` elements.
pub fn blocks(count: usize) -> usize {
    count.div_ceil(BLOCK)
}

/// Settings of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW8BitSpec {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Number of updates so far, this one included.
    pub updates: usize,
    /// Whether to change nothing if the scale is not finite.
    pub skip_non_finite: bool,
}

/// Numbers that an update multiplies by. They are rounded once, as PyTorch rounds them, since a moment that lies
/// between two codes may fall to either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Shares of the old moments.
    pub kept: [f32; 2],
    /// Shares of the gradient and its square.
    pub added: [f32; 2],
    /// Factor of the weights.
    pub decay: f32,
    /// Factor of the first moment over the deviation.
    pub rate: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl AdamW8BitSpec {
    pub fn factors(self) -> Factors {
        let unbiased = |beta: f64| 1.0 - beta.powi(self.updates as i32);
        let root = unbiased(self.beta2).sqrt();
        Factors {
            kept: [self.beta1 as f32, self.beta2 as f32],
            added: [(1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32],
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
            rate: (self.learning_rate * root / unbiased(self.beta1)) as f32,
            epsilon: (self.epsilon * root) as f32,
        }
    }
}

/// The 256 numbers that a byte stands for, in ascending order: 0, 1, and for each of seven powers of ten an even grid
/// between a tenth and the whole of it, twice as fine for each larger power (bitsandbytes' dynamic type).
pub struct Code {
    pub numbers: [f32; 256],
    /// Middles between neighbouring numbers, from which on the larger one is the nearest, and an infinity.
    pub middles: [f32; 256],
    /// Nearest number to the smallest float with each pattern of the upper 16 bits. No more than one middle is among
    /// the floats of a pattern.
    starts: Box<[u8]>,
}

/// Code of first moments, of numbers from -1 to 1.
pub static SIGNED: LazyLock<Code> = LazyLock::new(|| Code::new(true));

/// Code of second moments, of numbers from 0 to 1.
pub static UNSIGNED: LazyLock<Code> = LazyLock::new(|| Code::new(false));

impl Code {
    fn new(is_signed: bool) -> Self {
        let mut all = vec![0.0, 1.0];
        for exponent in 0..7 {
            let intervals = if is_signed { 1 << exponent } else { 2 << exponent };
            let power = 10f64.powi(exponent - 6) as f32;
            for i in 0..intervals {
                let number = power * ((edge(i, intervals) + edge(i + 1, intervals)) / 2.0);
                all.push(number);
                all.extend(is_signed.then_some(-number));
            }
        }
        all.sort_by(f32::total_cmp);
        let mut numbers = [0.0; 256];
        numbers.copy_from_slice(&all);
        let mut middles = [f32::INFINITY; 256];
        for (middle, pair) in middles.iter_mut().zip(numbers.windows(2)) {
            *middle = (pair[0] + pair[1]) / 2.0;
        }
        let start = |upper: u32| {
            // Of floats below 0, those with the largest patterns are the smallest.
            let lower = if upper < 1 << 15 { 0 } else { 0xffff };
            let smallest = f32::from_bits((upper << 16) | lower);
            middles[..255].partition_point(|middle| *middle < smallest) as u8
        };
        let starts = (0..1 << 16).map(start).collect();
        Self { numbers, middles, starts }
    }

    /// Index of the nearest number; of two equally near ones the lower.
    #[inline(always)]
    pub fn nearest(&self, x: f32) -> u8 {
        let start = self.starts[(x.to_bits() >> 16) as usize];
        start + u8::from(self.middles[usize::from(start)] < x)
    }
}

/// Edge `i` of an even grid of `intervals` from 0.1 to 1, as `torch.linspace` rounds it: once after the product and the
/// sum.
fn edge(i: usize, intervals: usize) -> f32 {
    let step = f64::from((1.0 - 0.1f32) / intervals as f32);
    match i < intervals.div_ceil(2) {
        true => (f64::from(0.1f32) + step * i as f64) as f32,
        false => (1.0 - step * (intervals - i) as f64) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ascending_and_symmetric_but_for_the_largest() {
        for (code, zero) in [(&*SIGNED, 127), (&*UNSIGNED, 0)] {
            assert!(code.numbers.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!((code.numbers[zero], code.numbers[255]), (0.0, 1.0));
        }
        for i in 1..128 {
            assert_eq!(SIGNED.numbers[127 - i], -SIGNED.numbers[127 + i]);
        }
    }

    #[test]
    fn the_nearest_number_is_the_one_that_a_search_finds() {
        let mut bits = 1u32;
        for code in [&*SIGNED, &*UNSIGNED] {
            let random = (0..200_000).map(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let share = (bits >> 8) as f32 / (1 << 24) as f32;
                // Of all sizes.
                share * 10f32.powi(-((bits & 7) as i32)) * if bits & 8 == 0 { 1.0 } else { -1.0 }
            });
            let near = |x: f32| [x.next_down(), x, x.next_up()];
            let edges = code.numbers.iter().chain(&code.middles[..255]).flat_map(|x| near(*x));
            for x in random.chain(edges).filter(|x| (-1.0..=1.0).contains(x)) {
                let expected = code.middles.iter().filter(|middle| **middle < x).count();
                assert_eq!(usize::from(code.nearest(x)), expected, "{x}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_has_some_code() {
        for x in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            SIGNED.nearest(x);
            UNSIGNED.nearest(x);
        }
    }
}
