//! AdamW with moments of 8 bits in place, with one cube per block and one word of codes per unit.

use super::{
    launch::{Grid, UNITS, contiguous, floats, length, make_unique},
    math::most_of_cube,
};
use crate::adamw_8bit::{AdamW8BitSpec, BLOCK, PER_WORD, blocks, words};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

const _: () = assert!(UNITS * PER_WORD == BLOCK);

/// Number of entries of a table: the numbers of a code, or the middles between them.
const TABLE: usize = 256;

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Factors {
    kept_mean: f32,
    kept_square: f32,
    added_mean: f32,
    added_square: f32,
    decay: f32,
    rate: f32,
    epsilon: f32,
}

/// Number of middles below `x` in the table that begins at `start`, which is the index of the nearest number.
#[cube]
fn nearest(x: f32, tables: &[f32], #[comptime] start: usize) -> u32 {
    let mut found = 0u32;
    let mut step = 128u32;
    while step > 0u32 {
        let further = found + step;
        if tables[further as usize + start - 1] < x {
            found = further;
        }
        let half = step / 2u32;
        step = half;
    }
    found
}

#[cube(launch_unchecked)]
fn update_kernel(
    weights: &mut [f32],
    codes: &mut [u32],
    largest: &mut [f32],
    gradient: &[f32],
    scale: &[f32],
    tables: &[f32],
    count: usize,
    words: usize,
    blocks: usize,
    factors: Factors,
    #[comptime] per_word: usize,
    #[comptime] skip_non_finite: bool,
) {
    let block = CUBE_POS;
    if block >= blocks {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let word = block * UNITS + UNIT_POS as usize;
    let scale = scale[0];
    // By its bits: drivers may assume that numbers are finite.
    let finite = (scale.to_bits() & 0x7f80_0000u32) != 0x7f80_0000u32;
    let mut mean_word = 0u32;
    let mut square_word = 0u32;
    if word < words {
        mean_word = codes[word];
        square_word = codes[words + word];
    }
    let old_mean = largest[block];
    let old_square = largest[blocks + block];
    let mut means = Array::<f32>::new(per_word);
    let mut squares = Array::<f32>::new(per_word);
    let mut most_mean = 0.0f32;
    let mut most_square = 0.0f32;
    let mut shift = 0u32;
    #[unroll]
    for i in 0..per_word {
        let index = word * per_word + i;
        let mut mean = 0.0f32;
        let mut square = 0.0f32;
        if index < count {
            let gradient = gradient[index] * scale;
            let mean_code = (mean_word >> shift) & 255u32;
            let square_code = (square_word >> shift) & 255u32;
            mean =
                factors.kept_mean * (tables[mean_code as usize] * old_mean) + factors.added_mean * gradient;
            square = factors.kept_square * (tables[square_code as usize + 2 * TABLE] * old_square)
                + factors.added_square * (gradient * gradient);
        }
        means[i] = mean;
        squares[i] = square;
        most_mean = max(most_mean, mean.abs());
        most_square = max(most_square, square);
        shift += 8u32;
    }
    // Outside of any condition, since all units wait for each other there.
    let most_mean = most_of_cube(most_mean, &mut shared);
    let most_square = most_of_cube(most_square, &mut shared);
    if !skip_non_finite || finite {
        let mut mean_divisor = 1.0f32;
        if most_mean > 0.0 {
            mean_divisor = most_mean;
        }
        let mut square_divisor = 1.0f32;
        if most_square > 0.0 {
            square_divisor = most_square;
        }
        let mut new_means = 0u32;
        let mut new_squares = 0u32;
        let mut shift = 0u32;
        #[unroll]
        for i in 0..per_word {
            let index = word * per_word + i;
            if index < count {
                weights[index] = weights[index] * factors.decay
                    - factors.rate * means[i] / (squares[i].sqrt() + factors.epsilon);
            }
            new_means += nearest(means[i] / mean_divisor, tables, TABLE) << shift;
            new_squares += nearest(squares[i] / square_divisor, tables, 3 * TABLE) << shift;
            shift += 8u32;
        }
        if word < words {
            codes[word] = new_means;
            codes[words + word] = new_squares;
        }
        if UNIT_POS == 0 {
            largest[block] = most_mean;
            largest[blocks + block] = most_square;
        }
    }
}

/// Weights, codes and largest magnitudes after an update by `gradient * scale`. `tables` has the numbers and the
/// middles of the code of first moments, then those of second moments.
pub(super) fn update(
    weights: CubeTensor,
    codes: CubeTensor,
    largest: CubeTensor,
    [gradient, scale, tables]: [CubeTensor; 3],
    spec: AdamW8BitSpec,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [weights, largest] = [weights, largest].map(make_unique);
    let is_own = codes.can_mut() && codes.is_contiguous() && codes.is_contiguous_buffer();
    let codes = if is_own { codes } else { contiguous(codes.copy()) };
    let factors = spec.factors();
    let count = length(&weights);
    let (words, blocks) = (words(count), blocks(count));
    let Grid { client, count: cubes, dim } = Grid::cubes(&weights, blocks);
    // SAFETY: cubes beyond the last block end at once, units beyond the last element or word store nothing, and codes
    // lead to entries of the tables.
    unsafe {
        update_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            weights.clone().into_buffer_arg(),
            codes.clone().into_buffer_arg(),
            largest.clone().into_buffer_arg(),
            floats(gradient).into_buffer_arg(),
            floats(scale).into_buffer_arg(),
            floats(tables).into_buffer_arg(),
            count,
            words,
            blocks,
            FactorsLaunch::new(
                factors.kept[0],
                factors.kept[1],
                factors.added[0],
                factors.added[1],
                factors.decay,
                factors.rate,
                factors.epsilon,
            ),
            PER_WORD,
            spec.skip_non_finite,
        );
    }
    (weights, codes, largest)
}
