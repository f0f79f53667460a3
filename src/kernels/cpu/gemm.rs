//! Matrix products over strided slices.

use super::{
    few_rows::{FewRows, Place, are_few},
    parallel::{Shared, split},
};
use std::ops::Range;

/// A matrix within a slice: element `(i, j)` is at `start + i * rows + j * columns`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    /// `width` numbers between the starts of two rows.
    pub fn of_rows(values: &'a [f32], width: usize) -> Self {
        Self { values, rows: width, columns: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, ..self }
    }

    /// From row `row` on.
    fn below(self, row: usize) -> Self {
        Self { values: &self.values[row * self.rows..], ..self }
    }

    /// From column `column` on.
    fn right_of(self, column: usize) -> Self {
        Self { values: &self.values[column * self.columns..], ..self }
    }

    /// Whether the numbers of a row lie side by side.
    #[inline(always)]
    pub fn rows_are_dense(&self) -> bool {
        self.columns == 1
    }

    /// Some columns of a row of such a matrix.
    #[inline(always)]
    pub fn part(&self, row: usize, columns: &Range<usize>) -> &[f32] {
        &self.values[row * self.rows + columns.start..row * self.rows + columns.end]
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.rows + (columns - 1) * self.columns < self.values.len()
    }
}

/// What a product does with the numbers that it finds where it writes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Into {
    Replace,
    Add,
}

/// `c = factor * a b` or `c += factor * a b` on this thread: `[m, k] [k, n] -> [m, n]`, with `width` numbers
/// between the starts of two rows of `c`.
///
/// # Safety
/// `c` is the start of such a matrix, which nobody else uses meanwhile.
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
        return unsafe { FewRows { sizes: [m, k, n], a, b, factor, into }.write(Place(c, width)) };
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
            // Thin products read it whatever the flag says.
            if into == Into::Add { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `c = factor * a b`, `c` being a matrix without gaps.
pub(super) fn product_of([m, k, n]: [usize; 3], a: Matrix, b: Matrix, factor: f32, c: &mut [f32]) {
    assert!(m * n <= c.len());
    // SAFETY: `c` holds the product and is borrowed mutably.
    unsafe { product([m, k, n], a, b, factor, c.as_mut_ptr(), n, Into::Replace) }
}

/// The same for a `c` without gaps, shared out among threads by rows or by columns, whichever there are more of:
/// every thread packs all of the other matrix.
pub(super) fn parallel_product(sizes: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32], into: Into) {
    parallel_product_onto(sizes, a, b, c, into, |_, _, _| ());
}

/// The same after `before`, which fills some columns of a row to which the product is added.
pub(super) fn parallel_product_onto(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    c: &mut [f32],
    into: Into,
    before: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && m * n <= c.len());
    let shared = Shared::new(c);
    let few = are_few(m, a, b);
    let by_columns = few || n > m;
    let part = |rows: Range<usize>, columns: Range<usize>| {
        for row in rows.clone() {
            // SAFETY: every part has numbers of its own.
            let c = unsafe { shared.part(row * n + columns.start..row * n + columns.end) };
            before(row, columns.clone(), c);
        }
        let sizes = [rows.len(), k, columns.len()];
        let c = shared.at(rows.start * n + columns.start);
        // SAFETY: every part has numbers of its own, which lie within `c`.
        unsafe { product(sizes, a.below(rows.start), b.right_of(columns.start), 1.0, c, n, into) }
    };
    let work = if few { 1 << 16 } else { 1 << 17 };
    if by_columns {
        let grain = (work / (m * k).max(1)).next_multiple_of(16).max(16);
        split(n, grain, |columns| blocks(columns).for_each(|columns| part(0..m, columns)));
    } else {
        let grain = (work / (k * n).max(1)).next_multiple_of(8).max(8);
        split(m, grain, |rows| blocks(rows).for_each(|rows| part(rows, 0..n)));
    }
}

/// A long range, such as a vocabulary, in parts: what a product packs of it takes memory.
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
        for (m, k, n) in [(1, 7, 5), (3, 8, 33), (4, 130, 200), (9, 5, 64)] {
            let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..k * n).map(|i| number(i + 13)).collect();
            let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            let mut expected = vec![0f32; m * n];
            for (i, expected) in expected.iter_mut().enumerate() {
                *expected = (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
            }
            for b in [Matrix::of_rows(&b, n), Matrix::of_rows(&transposed, k).transposed()] {
                let mut c = vec![f32::NAN; m * n];
                parallel_product([m, k, n], Matrix::of_rows(&a, k), b, &mut c, Into::Replace);
                assert!(
                    c.iter().zip(&expected).all(|(c, expected)| (c - expected).abs() < 1e-4),
                    "{m} {k} {n}"
                );
            }
        }
    }
}
