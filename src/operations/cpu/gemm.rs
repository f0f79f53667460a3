//! Matrix products over strided slices.

use super::{
    few_rows::{FewRows, Target, are_few},
    math::vectorized,
    parallel::{Shared, alloc, split},
    parts::{self, Unit},
};
use crate::Precision;
use std::{mem::MaybeUninit, ops::Range};

/// A matrix in a slice: element `(i, j)` is at index `i * rows + j * columns`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows begin `width` elements apart.
    pub fn of_rows(values: &'a [f32], width: usize) -> Self {
        Self { values, rows: width, columns: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, ..self }
    }

    /// The matrix from row `row` on.
    fn below(self, row: usize) -> Self {
        Self { values: &self.values[row * self.rows..], ..self }
    }

    /// The matrix from column `column` on.
    fn right_of(self, column: usize) -> Self {
        Self { values: &self.values[column * self.columns..], ..self }
    }

    /// Address of an element.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
    #[inline(always)]
    pub fn element(&self, row: usize, column: usize) -> *const f32 {
        self.values.as_ptr().wrapping_add(row * self.rows + column * self.columns)
    }

    /// Whether the elements of a row are contiguous.
    #[inline(always)]
    pub fn rows_are_dense(&self) -> bool {
        self.columns == 1
    }

    /// Some columns of a row. The rows must be contiguous.
    #[inline(always)]
    pub fn part(&self, row: usize, columns: &Range<usize>) -> &[f32] {
        &self.values[row * self.rows + columns.start..row * self.rows + columns.end]
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.rows + (columns - 1) * self.columns < self.values.len()
    }
}

/// Whether a product replaces its output or is added to it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Into {
    /// Replaces the output, which may be uninitialized.
    Replace,
    Add,
}

/// Bias and residual that are added to a product, `[m, n]`.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Bias, `[n]`.
    pub bias: Option<&'a [f32]>,
    /// Residual, `[m, n]`.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none()
    }

    /// Writes the sum of bias and residual for some columns of a row of `n` elements; writes nothing if there
    /// are neither.
    fn write(&self, row: usize, columns: Range<usize>, n: usize, c: &mut [MaybeUninit<f32>]) {
        let residual = self.residual.map(|residual| &residual[row * n..][columns.clone()]);
        let bias = self.bias.map(|bias| &bias[columns]);
        match (residual, bias) {
            (None, None) => (),
            (Some(addend), None) | (None, Some(addend)) => {
                c.write_copy_of_slice(addend);
            }
            (Some(residual), Some(bias)) => vectorized(
                #[inline(always)]
                || {
                    for ((c, residual), bias) in c.iter_mut().zip(residual).zip(bias) {
                        c.write(residual + bias);
                    }
                },
            ),
        }
    }
}

/// Whether this processor multiplies numbers of a precision by units that are faster than its vectors of f32.
pub fn has_unit(precision: Precision) -> bool {
    parts::has_unit(precision)
}

/// Computes `c = factor * a b` or `c += factor * a b` on this thread: `[m, k] [k, n] -> [m, n]`. Every
/// element of `c` is written. Factors are rounded to `precision`, or less where that is not faster.
///
/// # Safety
/// `c` must point to a matrix of this size that nothing else uses at the same time. It may be uninitialized
/// if it is replaced.
pub(super) unsafe fn product(
    sizes: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: Target,
    into: Into,
    precision: Precision,
) {
    // SAFETY: the caller's promise.
    unsafe { product_by(parts::unit_for(sizes, precision), sizes, a, b, factor, c, into, precision) }
}

/// [`product`] by a unit, if there is one.
///
/// # Safety
/// As for [`product`].
#[allow(clippy::too_many_arguments, reason = "as many as a product of strided matrices has")]
unsafe fn product_by(
    unit: Option<Unit>,
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: Target,
    into: Into,
    precision: Precision,
) {
    let Target(address, width) = c;
    assert!(a.holds(m, k) && b.holds(k, n) && n <= width);
    if are_few(m, a, b) {
        // SAFETY: the caller's promise.
        return unsafe { FewRows { sizes: [m, k, n], a, b, factor, into }.write(c) };
    }
    if let Some(unit) = unit {
        // SAFETY: the caller's promise.
        return unsafe { parts::product(unit, [m, k, n], a, b, factor, c, into, precision) };
    }
    // SAFETY: `a` and `b` lie within their slices, `c` by the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            address,
            1,
            width as isize,
            into == Into::Add,
            a.values.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.values.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            // With 0 nothing is read of `c`, by thin products neither.
            if into == Into::Add { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Computes `factor * a b` into the contiguous matrix `c`, which it fills.
pub(super) fn product_of<'c>(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: &'c mut [MaybeUninit<f32>],
    precision: Precision,
) -> &'c mut [f32] {
    assert_eq!(m * n, c.len());
    // SAFETY: `c` has the size of the product, is borrowed mutably, and is written by it.
    unsafe {
        product([m, k, n], a, b, factor, Target(c.as_mut_ptr().cast(), n), Into::Replace, precision);
        c.assume_init_mut()
    }
}

/// Computes `a b` plus the epilogue. The work is divided among threads by rows or by columns, whichever are
/// more numerous, since every thread packs all of the other matrix.
pub(super) fn parallel_product(
    sizes: [usize; 3],
    a: Matrix,
    b: Matrix,
    epilogue: Epilogue,
    precision: Precision,
) -> Vec<f32> {
    let [m, _, n] = sizes;
    let mut c = alloc(m * n);
    parallel_product_in(sizes, a, b, epilogue, &mut c, precision);
    // SAFETY: the product has been written there.
    unsafe { c.assume_init() }.into_vec()
}

/// Computes `a b` plus the epilogue into `c`, which it fills.
pub(super) fn parallel_product_in<'c>(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    epilogue: Epilogue,
    c: &'c mut [MaybeUninit<f32>],
    precision: Precision,
) -> &'c mut [f32] {
    assert_eq!(m * n, c.len());
    let shared = Shared::new(c);
    let into = if epilogue.is_empty() { Into::Replace } else { Into::Add };
    // By the sizes of the whole, so that the number of threads does not change results.
    let unit = parts::unit_for([m, k, n], precision);
    in_parts([m, k, n], a, b, |rows, columns| {
        for row in rows.clone() {
            // SAFETY: every part has numbers of its own.
            let c = unsafe { shared.part(row * n + columns.start..row * n + columns.end) };
            epilogue.write(row, columns.clone(), n, c);
        }
        let sizes = [rows.len(), k, columns.len()];
        let c = shared.at(rows.start * n + columns.start).cast();
        // SAFETY: every part has numbers of its own, which lie within `c`, and to which it adds only where
        // the epilogue has been written.
        unsafe {
            let (a, b) = (a.below(rows.start), b.right_of(columns.start));
            product_by(unit, sizes, a, b, 1.0, Target(c, n), into, precision)
        }
    });
    // SAFETY: parts are written whole, and are all there is.
    unsafe { c.assume_init_mut() }
}

/// Computes `c += a b`, with the work divided among threads like in [`parallel_product`].
pub(super) fn parallel_product_onto(
    sizes: [usize; 3],
    a: Matrix,
    b: Matrix,
    c: &mut [f32],
    precision: Precision,
) {
    let [m, k, n] = sizes;
    assert_eq!(m * n, c.len());
    let shared = Shared::new(c);
    let unit = parts::unit_for(sizes, precision);
    in_parts(sizes, a, b, |rows, columns| {
        let sizes = [rows.len(), k, columns.len()];
        let c = shared.at(rows.start * n + columns.start);
        // SAFETY: every part has numbers of its own, which lie within `c`.
        unsafe {
            let (a, b) = (a.below(rows.start), b.right_of(columns.start));
            product_by(unit, sizes, a, b, 1.0, Target(c, n), Into::Add, precision)
        }
    });
}

/// Calls `part` in parallel with the rows and columns of each part of a product.
fn in_parts([m, k, n]: [usize; 3], a: Matrix, b: Matrix, part: impl Fn(Range<usize>, Range<usize>) + Sync) {
    assert!(a.holds(m, k) && b.holds(k, n));
    let few = are_few(m, a, b);
    let by_columns = few || n > m;
    let work = if few { 1 << 16 } else { 1 << 17 };
    if by_columns {
        let grain = (work / (m * k).max(1)).next_multiple_of(LEAST).max(LEAST);
        split(n, grain, |columns| blocks(columns).for_each(|columns| part(0..m, columns)));
    } else {
        let grain = (work / (k * n).max(1)).next_multiple_of(LEAST).max(LEAST);
        split(m, grain, |rows| blocks(rows).for_each(|rows| part(rows, 0..n)));
    }
}

/// Least rows or columns of a part. With so many, parts are computed as the whole would be, so that the number of
/// threads does not change results.
const LEAST: usize = 32;

/// Splits a long range, such as a vocabulary, to bound the memory in which a product packs it.
fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const LONGEST: usize = 4096;
    let count = range.len().div_ceil(LONGEST);
    let bound = move |block: usize| range.start + range.len() * block / count;
    (0..count).map(move |block| bound(block)..bound(block + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Precision::F32;

    #[test]
    fn products_of_any_size_and_layout_are_right() {
        let sizes =
            [(1, 7, 5), (3, 8, 33), (4, 130, 200), (9, 5, 64), (70, 1, 3), (5, 2, 9), (2, 0, 3), (7, 0, 20)];
        // In parts: several blocks of depth, ragged on every side, more rows and more columns.
        let sizes = sizes.into_iter().chain([(65, 300, 120), (110, 517, 70), (64, 64, 513)]);
        for (m, k, n) in sizes {
            let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..k * n).map(|i| number(i + 13)).collect();
            let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            let a_transposed: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
            let mut expected = vec![0f32; m * n];
            for (i, expected) in expected.iter_mut().enumerate() {
                let term = |j: usize| f64::from(a[i / n * k + j]) * f64::from(b[j * n + i % n]);
                *expected = (0..k).map(term).sum::<f64>() as f32;
            }
            for b in [Matrix::of_rows(&b, n), Matrix::of_rows(&transposed, k).transposed()] {
                let check = |c: &[f32], times: f32| {
                    let close = |(c, expected): (&f32, &f32)| (c - times * expected).abs() < 1e-4;
                    assert!(c.iter().zip(&expected).all(close), "{m} {k} {n}");
                };
                for a in [Matrix::of_rows(&a, k), Matrix::of_rows(&a_transposed, m).transposed()] {
                    let mut c = parallel_product([m, k, n], a, b, Epilogue::default(), F32);
                    check(&c, 1.0);
                    parallel_product_onto([m, k, n], a, b, &mut c, F32);
                    check(&c, 2.0);
                    // Uninitialized numbers are not read.
                    let mut buffer = vec![MaybeUninit::new(f32::NAN); m * n];
                    check(product_of([m, k, n], a, b, 3.0, &mut buffer, F32), 3.0);
                    let epilogue = Epilogue { bias: None, residual: Some(&expected) };
                    buffer.fill(MaybeUninit::new(f32::NAN));
                    check(parallel_product_in([m, k, n], a, b, epilogue, &mut buffer, F32), 2.0);
                }
            }
        }
    }

    #[test]
    fn factors_are_rounded_no_more_than_the_precision_says() {
        let [m, k, n] = [70, 300, 50];
        let number = |i: usize| (i as f32 * 0.37).sin();
        let a: Vec<f32> = (0..m * k).map(number).collect();
        let b: Vec<f32> = (0..k * n).map(|i| number(3 * i + 1)).collect();
        let (a, b) = (Matrix::of_rows(&a, k), Matrix::of_rows(&b, n));
        let exact = |i: usize, j: usize| -> f64 {
            let term = |k: usize| f64::from(a.part(i, &(k..k + 1))[0]) * f64::from(b.part(k, &(j..j + 1))[0]);
            (0..k).map(term).sum()
        };
        // Relative to the product of the rows' and columns' norms, which are about the root of `k / 2`.
        for (precision, bound) in [(F32, 1e-6), (Precision::Tf32, 2e-4), (Precision::Bf16, 4e-3)] {
            let c = parallel_product([m, k, n], a, b, Epilogue::default(), precision);
            let error = |i: usize| (f64::from(c[i]) - exact(i / n, i % n)).abs() / (k as f64 / 2.0);
            let worst = (0..m * n).map(error).fold(0.0, f64::max);
            assert!(worst < bound, "{precision}: {worst}");
        }
    }
}
