//! Strips of bfloat16 multiplied by vectors that add up products of pairs (AVX-512 BF16).

use super::{Line, SIDE, STRIP, load, store};
use crate::cpu::{few_rows::Target, gemm::Into};
use std::{arch::x86_64::*, mem::transmute};

/// Rows whose sums are in registers, a vector for each half.
const AT_ONCE: usize = 8;

/// Whether this processor has the vectors.
pub(super) fn are_there() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Multiplies a packed strip of rows by a packed strip of columns, into a part of `c` of this size.
///
/// # Safety
/// The part must lie in a matrix that nothing else uses at the same time, and [`are_there`] must have said so.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn multiply([a, b]: [&[Line]; 2], [rows, columns]: [usize; 2], c: Target, into: Into) {
    let mut product = [[Line([0; SIDE]); 2]; STRIP];
    if into == Into::Add {
        // SAFETY: the caller's promise.
        unsafe { load(&mut product, [rows, columns], c) };
    }
    for first in (0..rows).step_by(AT_ONCE) {
        let mut sums = [[_mm512_setzero_ps(); 2]; AT_ONCE];
        for (sums, lines) in sums.iter_mut().zip(&product[first..]) {
            *sums = [vector(&lines[0]), vector(&lines[1])].map(|line| _mm512_castsi512_ps(line));
        }
        let steps = a.as_chunks::<STRIP>().0.iter().zip(b.as_chunks::<STRIP>().0);
        for (a, b) in steps {
            let rows = &a[first..first + AT_ONCE];
            let (left, right) = b.split_at(SIDE);
            for (pair, (left, right)) in left.iter().zip(right).enumerate() {
                let halves = [vector(left), vector(right)];
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let row = _mm512_set1_epi32(row.0[pair].cast_signed());
                    for (sum, half) in sums.iter_mut().zip(halves) {
                        *sum = _mm512_dpbf16_ps(*sum, pairs(row), pairs(half));
                    }
                }
            }
        }
        for (lines, sums) in product[first..].iter_mut().zip(sums) {
            for (line, sum) in lines.iter_mut().zip(sums) {
                // SAFETY: a line has the size and the alignment of a vector.
                unsafe { _mm512_store_ps(line.0.as_mut_ptr().cast(), sum) };
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store(&product, [rows, columns], c) };
}

/// A line as a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn vector(line: &Line) -> __m512i {
    // SAFETY: a line has the size and the alignment of a vector.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// The same bits as pairs of bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: the types have the same size, and any bits are numbers.
    unsafe { transmute::<__m512i, __m512bh>(bits) }
}
