//! Splits matrices into parts, and lays them out as tiles.

use super::{DEPTH, Line, SIDE, step_lines};
use crate::cpu::gemm::Matrix;
use std::{arch::x86_64::*, ops::Range};

/// Packs a strip of the first matrix (`ROWS`) or of the second: its rows or columns `outer`, in tiles of their parts.
///
/// # Safety
/// The processor must have the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack<const ROWS: bool, const PARTS: usize>(
    matrix: Matrix,
    outer: Range<usize>,
    depths: Range<usize>,
    factor: f32,
    to: &mut [Line],
) {
    let factor = _mm512_set1_ps(factor);
    for (start, step) in depths.clone().step_by(DEPTH).zip(to.chunks_exact_mut(step_lines(PARTS))) {
        for (first, tile) in outer.clone().step_by(SIDE).zip(0..) {
            let outer = first..outer.end.min(first + SIDE);
            let half = |from: usize| {
                let depths = from.min(depths.end)..depths.end.min(from + SIDE);
                let (rows, columns) = if ROWS { (outer.clone(), depths) } else { (depths, outer.clone()) };
                // SAFETY: the caller's promise.
                unsafe { block(matrix, rows, columns) }
            };
            let (low, high) = (half(start), half(start + SIDE));
            for row in 0..SIDE {
                let pair = match ROWS {
                    true => [_mm512_mul_ps(low[row], factor), _mm512_mul_ps(high[row], factor)],
                    false => [low[row], high[row]],
                };
                for (part, pairs) in parts::<PARTS>(pair).into_iter().enumerate() {
                    let line: *mut Line = &mut step[(part * 2 + tile) * SIDE + row];
                    // SAFETY: a line has the size and the alignment of a vector.
                    unsafe { _mm512_store_si512(line.cast(), pairs) };
                }
            }
        }
    }
}

/// Splits numbers into their parts, and puts each part of the first vector beside that of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn parts<const PARTS: usize>([mut low, mut high]: [__m512; 2]) -> [__m512i; PARTS] {
    let half = _mm512_set1_epi32(0x8000);
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let rounded = |x| _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    let mut pairs = [_mm512_setzero_si512(); PARTS];
    for pair in &mut pairs {
        let (a, b) = (rounded(low), rounded(high));
        *pair = _mm512_or_si512(_mm512_srli_epi32::<16>(a), b);
        (low, high) =
            (_mm512_sub_ps(low, _mm512_castsi512_ps(a)), _mm512_sub_ps(high, _mm512_castsi512_ps(b)));
    }
    pairs
}

/// Up to 16 by 16 elements of a matrix, a vector for each row; 0 where there are none.
///
/// # Safety
/// The processor must have the instructions, and the elements must lie in the matrix.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn block(matrix: Matrix, rows: Range<usize>, columns: Range<usize>) -> [__m512; SIDE] {
    if !matrix.rows_are_dense() {
        // SAFETY: the caller's promise.
        return transposed(unsafe { dense_block(matrix.transposed(), columns, rows) });
    }
    // SAFETY: the caller's promise.
    unsafe { dense_block(matrix, rows, columns) }
}

/// [`block`] of a matrix whose rows are contiguous.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn dense_block(matrix: Matrix, rows: Range<usize>, columns: Range<usize>) -> [__m512; SIDE] {
    let mask = (u32::MAX >> (32 - columns.len() as u32).min(31)) as u16;
    let mask = if columns.is_empty() { 0 } else { mask };
    let mut block = [_mm512_setzero_ps(); SIDE];
    for (vector, row) in block.iter_mut().zip(rows) {
        // SAFETY: reads nothing but elements of the matrix.
        *vector = unsafe { _mm512_maskz_loadu_ps(mask, matrix.element(row, columns.start)) };
    }
    block
}

/// Rows of these columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn transposed(columns: [__m512; SIDE]) -> [__m512; SIDE] {
    let wide = |x| _mm512_castps_pd(x);
    let narrow = |x| _mm512_castpd_ps(x);
    let mut pairs = columns;
    for i in (0..SIDE).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(columns[i], columns[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(columns[i], columns[i + 1]);
    }
    // Vector `4 g + r` has in lane `l` elements `4 g..4 g + 4` of row `4 l + r`.
    let mut quads = pairs;
    for i in (0..SIDE).step_by(4) {
        quads[i] = narrow(_mm512_unpacklo_pd(wide(pairs[i]), wide(pairs[i + 2])));
        quads[i + 1] = narrow(_mm512_unpackhi_pd(wide(pairs[i]), wide(pairs[i + 2])));
        quads[i + 2] = narrow(_mm512_unpacklo_pd(wide(pairs[i + 1]), wide(pairs[i + 3])));
        quads[i + 3] = narrow(_mm512_unpackhi_pd(wide(pairs[i + 1]), wide(pairs[i + 3])));
    }
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xdd;
    let mut rows = quads;
    for r in 0..4 {
        let even = _mm512_shuffle_f32x4::<EVEN>(quads[r], quads[4 + r]);
        let odd = _mm512_shuffle_f32x4::<ODD>(quads[r], quads[4 + r]);
        let more_even = _mm512_shuffle_f32x4::<EVEN>(quads[8 + r], quads[12 + r]);
        let more_odd = _mm512_shuffle_f32x4::<ODD>(quads[8 + r], quads[12 + r]);
        rows[r] = _mm512_shuffle_f32x4::<EVEN>(even, more_even);
        rows[4 + r] = _mm512_shuffle_f32x4::<EVEN>(odd, more_odd);
        rows[8 + r] = _mm512_shuffle_f32x4::<ODD>(even, more_even);
        rows[12 + r] = _mm512_shuffle_f32x4::<ODD>(odd, more_odd);
    }
    rows
}
