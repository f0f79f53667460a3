//! Matrix products over strided slices.

use super::{
    few_rows::{FewRows, Target, are_few},
    math::vectorized,
    parallel::{Shared, alloc, split},
};
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

/// Computes `c = factor * a b` or `c += factor * a b` on this thread: `[m, k] [k, n] -> [m, n]`. The rows of
/// `c` begin `width` elements apart. Every element of `c` is written.
///
/// # Safety
/// `c` must point to a matrix of this size that nothing else uses at the same time. It may be uninitialized
/// if it is replaced.
pub(super) unsafe fn product(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    factor: f32,
    c: *mut f32,
    width: usize,
    into: Into,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && n <= width);
    if are_few(m, a, b) {
        // SAFETY: the caller's promise.
        return unsafe { FewRows { sizes: [m, k, n], a, b, factor, into }.write(Target(c, width)) };
    }
    // SAFETY: `a` and `b` lie within their slices, `c` by the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
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
) -> &'c mut [f32] {
    assert_eq!(m * n, c.len());
    // SAFETY: `c` has the size of the product, is borrowed mutably, and is written by it.
    unsafe {
        product([m, k, n], a, b, factor, c.as_mut_ptr().cast(), n, Into::Replace);
        c.assume_init_mut()
    }
}

/// Computes `a b` plus the epilogue. The work is divided among threads by rows or by columns, whichever are
/// more numerous, since every thread packs all of the other matrix.
pub(super) fn parallel_product(sizes: [usize; 3], a: Matrix, b: Matrix, epilogue: Epilogue) -> Vec<f32> {
    let [m, _, n] = sizes;
    let mut c = alloc(m * n);
    parallel_product_in(sizes, a, b, epilogue, &mut c);
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
) -> &'c mut [f32] {
    assert_eq!(m * n, c.len());
    let shared = Shared::new(c);
    let into = if epilogue.is_empty() { Into::Replace } else { Into::Add };
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
        unsafe { product(sizes, a.below(rows.start), b.right_of(columns.start), 1.0, c, n, into) }
    });
    // SAFETY: parts are written whole, and are all there is.
    unsafe { c.assume_init_mut() }
}

/// Computes `c += a b`, with the work divided among threads like in [`parallel_product`].
pub(super) fn parallel_product_onto(sizes: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32]) {
    let [m, k, n] = sizes;
    assert_eq!(m * n, c.len());
    let shared = Shared::new(c);
    in_parts(sizes, a, b, |rows, columns| {
        let sizes = [rows.len(), k, columns.len()];
        let c = shared.at(rows.start * n + columns.start);
        // SAFETY: every part has numbers of its own, which lie within `c`.
        unsafe { product(sizes, a.below(rows.start), b.right_of(columns.start), 1.0, c, n, Into::Add) }
    });
}

/// Calls `part` in parallel with the rows and columns of each part of a product.
fn in_parts([m, k, n]: [usize; 3], a: Matrix, b: Matrix, part: impl Fn(Range<usize>, Range<usize>) + Sync) {
    assert!(a.holds(m, k) && b.holds(k, n));
    let few = are_few(m, a, b);
    let by_columns = few || n > m;
    let work = if few { 1 << 16 } else { 1 << 17 };
    if by_columns {
        let grain = (work / (m * k).max(1)).next_multiple_of(16).max(16);
        split(n, grain, |columns| blocks(columns).for_each(|columns| part(0..m, columns)));
    } else {
        let grain = (work / (k * n).max(1)).next_multiple_of(8).max(8);
        split(m, grain, |rows| blocks(rows).for_each(|rows| part(rows, 0..n)));
    }
}

/// Splits a long range, such as a vocabulary, to bound the memory in which a product packs it.
fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const LONGEST: usize = 4096;
    let end = range.end;
    range.step_by(LONGEST).map(move |start| start..(start + LONGEST).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_few_and_of_many_rows_agree() {
        let sizes =
            [(1, 7, 5), (3, 8, 33), (4, 130, 200), (9, 5, 64), (70, 1, 3), (5, 2, 9), (2, 0, 3), (7, 0, 20)];
        for (m, k, n) in sizes {
            let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..k * n).map(|i| number(i + 13)).collect();
            let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            let mut expected = vec![0f32; m * n];
            for (i, expected) in expected.iter_mut().enumerate() {
                *expected = (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
            }
            for b in [Matrix::of_rows(&b, n), Matrix::of_rows(&transposed, k).transposed()] {
                let check = |c: &[f32], times: f32| {
                    let close = |(c, expected): (&f32, &f32)| (c - times * expected).abs() < 1e-4;
                    assert!(c.iter().zip(&expected).all(close), "{m} {k} {n}");
                };
                let a = Matrix::of_rows(&a, k);
                let mut c = parallel_product([m, k, n], a, b, Epilogue::default());
                check(&c, 1.0);
                parallel_product_onto([m, k, n], a, b, &mut c);
                check(&c, 2.0);
                // Uninitialized numbers are not read.
                let mut buffer = vec![MaybeUninit::new(f32::NAN); m * n];
                check(product_of([m, k, n], a, b, 3.0, &mut buffer), 3.0);
                let epilogue = Epilogue { bias: None, residual: Some(&expected) };
                buffer.fill(MaybeUninit::new(f32::NAN));
                check(parallel_product_in([m, k, n], a, b, epilogue, &mut buffer), 2.0);
            }
        }
    }
}
