//! Matrix products by units that multiply numbers of 8 binary digits (bfloat16) and add up in f32: the tile registers of
//! newer Xeons (AMX), which are sixteen times as fast as vectors of f32, and the vectors of AVX-512 BF16, twice as fast.
//!
//! One such number stands for an f32 in the precision `bf16`. In `tf32` two do: with the three largest products of their
//! parts, sums have at least 16 digits. Three parts and six products would be as accurate as f32 ([Henry, Tang and
//! Heinecke](https://arxiv.org/abs/1904.06376)), but these units slow down under load, so that training is slower than
//! with vectors of f32. Two limits: parts below 1.2e-38 count as 0, and a product with an infinite number is NaN.

mod pack;
mod pairs;
mod tiles;

use super::{
    few_rows::Target,
    gemm::{Into, Matrix},
};
use crate::Precision;
use pack::pack;
use std::{arch::x86_64::*, cell::RefCell, ops::Range};

/// Rows of a tile; also its columns, as f32 or as pairs of bfloat16.
const SIDE: usize = 16;

/// Depth that one tile covers: its pairs hold elements `k` and `k + 16`, in both matrices.
const DEPTH: usize = 2 * SIDE;

/// Rows, and columns, of the result that are computed at once.
const STRIP: usize = 2 * SIDE;

/// Bytes of a strip, which stays in the first cache.
const STREAMED: usize = 48 << 10;

/// Bytes of the matrix that is packed whole, which stays in the second cache.
const RESIDENT: usize = 768 << 10;

/// A row of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; SIDE]);

/// Lines of one depth step of a strip: two tiles for each part.
const fn step_lines(parts: usize) -> usize {
    parts * 2 * SIDE
}

/// A unit that multiplies packed strips.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Tiles,
    Pairs,
}

/// The unit that multiplies numbers of a precision faster than vectors multiply f32.
fn unit(precision: Precision) -> Option<Unit> {
    match precision {
        Precision::F32 | Precision::F16 => None,
        _ if tiles::are_there() => Some(Unit::Tiles),
        Precision::Bf16 if pairs::are_there() => Some(Unit::Pairs),
        _ => None,
    }
}

/// Whether this processor has a unit for products of a precision.
pub(super) fn has_unit(precision: Precision) -> bool {
    unit(precision).is_some()
}

/// The unit that multiplies matrices of sizes m, k and n faster than vectors of f32, if there is one. Products of small
/// ones take as long as packing.
pub(super) fn unit_for(sizes: [usize; 3], precision: Precision) -> Option<Unit> {
    // Measured on Emerald Rapids.
    const LEAST_WORK: usize = 1 << 17;
    let least = if precision == Precision::Tf32 { 48 } else { STRIP };
    let is_large =
        sizes.into_iter().all(|size| size >= least) && sizes.into_iter().product::<usize>() >= LEAST_WORK;
    unit(precision).filter(|_| is_large)
}

/// Computes `c = factor * a b` or `c += factor * a b`: `[m, k] [k, n] -> [m, n]`, with a unit that [`unit_for`] has found.
///
/// # Safety
/// `c` must be a matrix of this size that nothing else uses at the same time. It may be uninitialized if it is replaced.
#[allow(clippy::too_many_arguments, reason = "as many as a product of strided matrices has")]
pub(super) unsafe fn product(
    unit: Unit,
    sizes: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: Target,
    into: Into,
    precision: Precision,
) {
    // SAFETY: the caller's promise, and the unit is there.
    unsafe {
        match precision {
            Precision::Tf32 => blocks::<2>(sizes, a, b, factor, c, into, unit),
            _ => blocks::<1>(sizes, a, b, factor, c, into, unit),
        }
    }
}

thread_local! {
    /// Packed matrices: the strip that is multiplied, and what it is multiplied by.
    static PACKED: RefCell<(Vec<Line>, Vec<Line>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// [`product`] in blocks that fit the caches.
///
/// # Safety
/// As for [`product`], and the processor must have the unit.
unsafe fn blocks<const PARTS: usize>(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: Target,
    into: Into,
    unit: Unit,
) {
    // The smaller matrix is packed whole, and the other one strip after strip.
    let rows_stream = m >= n;
    let (streamed, resident) = if rows_stream { (m, n) } else { (n, m) };
    let most = STREAMED / (step_lines(PARTS) * size_of::<Line>()) * DEPTH;
    let depth = k.div_ceil(k.div_ceil(most)).next_multiple_of(DEPTH);
    let lines = depth / DEPTH * step_lines(PARTS);
    let at_once = (RESIDENT / size_of::<Line>() / lines).max(1) * STRIP;
    let at_once = resident.div_ceil(resident.div_ceil(at_once)).next_multiple_of(STRIP);
    let pack_strip = |rows: bool, first: usize, depths: Range<usize>, to: &mut [Line]| {
        // SAFETY: a processor that has either unit has these vectors.
        match rows {
            true => unsafe { pack::<true, PARTS>(a, first..m.min(first + STRIP), depths, factor, to) },
            false => unsafe { pack::<false, PARTS>(b, first..n.min(first + STRIP), depths, 1.0, to) },
        }
    };
    PACKED.with_borrow_mut(|(one, all)| {
        one.resize(one.len().max(lines), Line([0; SIDE]));
        all.resize(all.len().max(at_once / STRIP * lines), Line([0; SIDE]));
        // SAFETY: the caller's promise.
        let configured = unsafe { (unit == Unit::Tiles).then(|| tiles::configure()) };
        for start in (0..k).step_by(depth) {
            let depths = start..k.min(start + depth);
            let used = depths.len().div_ceil(DEPTH) * step_lines(PARTS);
            let into = if start > 0 { Into::Add } else { into };
            for first in (0..resident).step_by(at_once) {
                let others = first..resident.min(first + at_once);
                for (other, to) in others.clone().step_by(STRIP).zip(all.chunks_exact_mut(lines)) {
                    pack_strip(!rows_stream, other, depths.clone(), to);
                }
                for this in (0..streamed).step_by(STRIP) {
                    pack_strip(rows_stream, this, depths.clone(), one);
                    for (other, packed) in others.clone().step_by(STRIP).zip(all.chunks_exact(lines)) {
                        let (row, column) = if rows_stream { (this, other) } else { (other, this) };
                        let strips = if rows_stream { [&**one, packed] } else { [packed, &**one] };
                        let strips = strips.map(|strip| &strip[..used]);
                        let size = [(m - row).min(STRIP), (n - column).min(STRIP)];
                        let c = Target(c.0.wrapping_add(row * c.1 + column), c.1);
                        // SAFETY: this part lies in `c`, and the tiles are configured.
                        match unit {
                            Unit::Tiles => unsafe { tiles::multiply::<PARTS>(strips, size, c, into) },
                            Unit::Pairs => unsafe { pairs::multiply(strips, size, c, into) },
                        }
                    }
                }
            }
        }
        drop(configured);
    });
}

/// Numbers of a strip's product.
type Product = [[Line; 2]; STRIP];

/// Reads a part of `c` of this size into a product.
///
/// # Safety
/// `c` must be a matrix of this size, and the processor must have the vectors.
#[target_feature(enable = "avx512f")]
unsafe fn load(product: &mut Product, [rows, columns]: [usize; 2], c: Target) {
    for (row, pair) in product.iter_mut().enumerate().take(rows) {
        for (half, line) in pair.iter_mut().enumerate() {
            let (from, mask) = part_of_row(c, row, half, columns);
            // SAFETY: reads nothing but a part of `c`.
            unsafe { _mm512_store_ps(line.0.as_mut_ptr().cast(), _mm512_maskz_loadu_ps(mask, from)) };
        }
    }
}

/// Writes a product of this size into `c`.
///
/// # Safety
/// `c` must be a matrix of this size that nothing else uses at the same time, and the processor must have the vectors.
#[target_feature(enable = "avx512f")]
unsafe fn store(product: &Product, [rows, columns]: [usize; 2], c: Target) {
    for (row, pair) in product.iter().enumerate().take(rows) {
        for (half, line) in pair.iter().enumerate() {
            let (to, mask) = part_of_row(c, row, half, columns);
            // SAFETY: writes nothing but a part of `c`.
            unsafe { _mm512_mask_storeu_ps(to, mask, _mm512_load_ps(line.0.as_ptr().cast())) };
        }
    }
}

/// Address of half a row, and a bit for each of its elements.
fn part_of_row(c: Target, row: usize, half: usize, columns: usize) -> (*mut f32, u16) {
    let count = columns.saturating_sub(half * SIDE).min(SIDE);
    (c.0.wrapping_add(row * c.1 + half * SIDE), ((1_u32 << count) - 1) as u16)
}
