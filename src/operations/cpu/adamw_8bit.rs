//! AdamW with moments of 8 bits, in place.

use super::{
    math::vectorized,
    parallel::{Shared, split},
};
use crate::adamw_8bit::{AdamW8BitSpec, BLOCK, Code, Factors, PER_WORD, SIGNED, UNSIGNED, blocks, words};

/// Smallest number of blocks that a thread takes.
const GRAIN: usize = 32;

/// Words of codes in a block.
const WORDS: usize = BLOCK / PER_WORD;

/// Updates weights and moments in place. `codes` has the words of the first moment and then those of the second,
/// `largest` the largest magnitudes of the blocks of the first moment and then those of the second.
pub fn adamw_8bit(
    weights: &mut [f32],
    codes: &mut [u32],
    largest: &mut [f32],
    gradient: &[f32],
    scale: f32,
    spec: AdamW8BitSpec,
) {
    let (count, factors) = (weights.len(), spec.factors());
    let blocks = blocks(count);
    let (first, second) = codes.split_at_mut(words(count));
    let (first_largest, second_largest) = largest.split_at_mut(blocks);
    let weights = Shared::new(weights);
    let [first, second] = [first, second].map(Shared::new);
    let [first_largest, second_largest] = [first_largest, second_largest].map(Shared::new);
    let (signed, unsigned) = (&*SIGNED, &*UNSIGNED);
    split(blocks, GRAIN, |range| {
        // SAFETY: every part has blocks of its own.
        let [first_largest, second_largest] =
            unsafe { [first_largest.part(range.clone()), second_largest.part(range.clone())] };
        for ((block, first_largest), second_largest) in range.zip(first_largest).zip(second_largest) {
            let elements = block * BLOCK..((block + 1) * BLOCK).min(count);
            let of_words = block * WORDS..words(elements.end);
            // SAFETY: as above.
            let (weights, first, second) = unsafe {
                (weights.part(elements.clone()), first.part(of_words.clone()), second.part(of_words))
            };
            let first = Block { codes: first, largest: first_largest, code: signed };
            let second = Block { codes: second, largest: second_largest, code: unsigned };
            update(weights, first, second, &gradient[elements], scale, factors);
        }
    });
}

/// One block of a moment.
struct Block<'a> {
    codes: &'a mut [u32],
    largest: &'a mut f32,
    code: &'a Code,
}

impl Block<'_> {
    fn read(&self, numbers: &mut [f32; BLOCK]) {
        for (numbers, word) in numbers.chunks_exact_mut(PER_WORD).zip(&*self.codes) {
            for (number, code) in numbers.iter_mut().zip(word.to_le_bytes()) {
                *number = self.code.numbers[usize::from(code)] * *self.largest;
            }
        }
    }

    /// Stores numbers. Those beyond the last element, at the end of the last block, must be 0.
    fn write(&mut self, numbers: &[f32; BLOCK]) {
        let mut largest = 0f32;
        for number in numbers {
            let magnitude = number.abs();
            // NaN stays.
            largest = if magnitude > largest || magnitude.is_nan() { magnitude } else { largest };
        }
        let divisor = if largest > 0.0 { largest } else { 1.0 };
        for (numbers, word) in numbers.chunks_exact(PER_WORD).zip(&mut *self.codes) {
            let code = |i: usize| self.code.nearest(numbers[i] / divisor);
            *word = u32::from_le_bytes([code(0), code(1), code(2), code(3)]);
        }
        *self.largest = largest;
    }
}

fn update(
    weights: &mut [f32],
    mut first: Block<'_>,
    mut second: Block<'_>,
    gradient: &[f32],
    scale: f32,
    factors: Factors,
) {
    let (mut means, mut squares) = ([0f32; BLOCK], [0f32; BLOCK]);
    first.read(&mut means);
    second.read(&mut squares);
    let Factors { kept, added, decay, rate, epsilon } = factors;
    let count = weights.len();
    vectorized(
        #[inline(always)]
        || {
            let moments = means.iter_mut().zip(&mut squares);
            for ((weight, gradient), (mean, square)) in weights.iter_mut().zip(gradient).zip(moments) {
                let gradient = gradient * scale;
                *mean = kept[0] * *mean + added[0] * gradient;
                *square = kept[1] * *square + added[1] * (gradient * gradient);
                *weight = *weight * decay - rate * *mean / (square.sqrt() + epsilon);
            }
        },
    );
    means[count..].fill(0.0);
    squares[count..].fill(0.0);
    first.write(&means);
    second.write(&squares);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(updates: usize) -> AdamW8BitSpec {
        AdamW8BitSpec {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            updates,
            skip_non_finite: false,
        }
    }

    /// Gradients of both signs, which differ in size as those of one parameter do.
    fn gradients(count: usize, step: usize) -> Vec<f32> {
        let wave = |i: usize| ((i * 7 + step * 13) as f32).sin() * (1 + i % 3) as f32;
        (0..count).map(wave).collect()
    }

    #[test]
    fn the_update_stays_near_that_of_32_bits() {
        for count in [1, 3, 256, 257, 20_000] {
            let mut weights = vec![0.5f32; count];
            let mut exact = (weights.clone(), vec![0f64; count], vec![0f64; count]);
            let mut codes = vec![0u32; 2 * words(count)];
            let mut largest = vec![0f32; 2 * blocks(count)];
            for step in 1..=5 {
                let gradient = gradients(count, step);
                adamw_8bit(&mut weights, &mut codes, &mut largest, &gradient, 0.5, spec(step));
                let t = step as i32;
                let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.99f64.powi(t));
                for (i, gradient) in gradient.iter().enumerate() {
                    let gradient = f64::from(gradient * 0.5);
                    exact.1[i] = 0.9 * exact.1[i] + 0.1 * gradient;
                    exact.2[i] = 0.99 * exact.2[i] + 0.01 * gradient * gradient;
                    let change = 0.01 * (exact.1[i] / c1) / ((exact.2[i] / c2).sqrt() + 1e-8);
                    exact.0[i] = (f64::from(exact.0[i]) * 0.999 - change) as f32;
                }
            }
            let moved: f32 = exact.0.iter().map(|weight| (weight - 0.5).powi(2)).sum::<f32>().sqrt();
            let apart = weights.iter().zip(&exact.0).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(apart < 0.05 * moved, "{count}: {apart} of {moved}");
        }
    }

    #[test]
    fn nan_stays_in_the_moments() {
        let (mut weights, mut codes, mut largest) = ([1f32; 4], [0u32; 2], [0f32; 2]);
        adamw_8bit(&mut weights, &mut codes, &mut largest, &[1.0; 4], f32::NAN, spec(1));
        assert!(weights.iter().chain(&largest).all(|number| number.is_nan()));
    }
}
