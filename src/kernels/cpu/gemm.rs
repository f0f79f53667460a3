//! Matrix products over strided slices.

use super::{
    math::{sum, vectorized},
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

    #[inline(always)]
    fn number(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.rows + column * self.columns]
    }

    /// Some columns of a row whose numbers lie side by side.
    #[inline(always)]
    fn part(&self, row: usize, columns: &Range<usize>) -> &[f32] {
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

/// The same with the rows of `c`, which lie side by side, shared out among threads. `before` fills a range of
/// rows to which the product is added.
pub(super) fn parallel_product(
    [m, k, n]: [usize; 3],
    a: Matrix,
    b: Matrix,
    c: &mut [f32],
    into: Into,
    before: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    if m <= FEW_ROWS && m * n > 0 {
        before(0..m, c);
        return few_rows([m, k, n], a, b, c, into);
    }
    let shared = Shared::new(c);
    let grain = (1usize << 17).div_ceil((k * n).max(1)).next_multiple_of(8);
    split(m, grain, |rows| {
        // SAFETY: every part has rows of its own.
        let c = unsafe { shared.part(rows.start * n..rows.end * n) };
        before(rows.clone(), c);
        // SAFETY: `c` holds these rows and is borrowed mutably.
        unsafe { product([rows.len(), k, n], a.below(rows.start), b, 1.0, c.as_mut_ptr(), n, into) }
    });
}

/// Up to so many rows are multiplied by reading the other matrix once, shared out among threads by columns.
const FEW_ROWS: usize = 4;

/// The product of a few rows, as in writing token by token: the time is that of reading `b`.
fn few_rows([m, k, n]: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32], into: Into) {
    assert!(a.holds(m, k) && b.holds(k, n) && m * n <= c.len());
    let shared = Shared::new(c);
    let grain = (1usize << 16).div_ceil(m * k.max(1)).next_multiple_of(16);
    split(n, grain, |columns| {
        for row in 0..m {
            // SAFETY: every part has columns of its own.
            let c = unsafe { shared.part(row * n + columns.start..row * n + columns.end) };
            vectorized(
                #[inline(always)]
                || {
                    if into == Into::Replace {
                        c.fill(0.0);
                    }
                    if b.columns == 1 {
                        // Rows of `b` lie side by side: add them up, four at a time.
                        let whole = k - k % 4;
                        for i in (0..whole).step_by(4) {
                            let x = [
                                a.number(row, i),
                                a.number(row, i + 1),
                                a.number(row, i + 2),
                                a.number(row, i + 3),
                            ];
                            let (b0, b1, b2, b3) = (
                                b.part(i, &columns),
                                b.part(i + 1, &columns),
                                b.part(i + 2, &columns),
                                b.part(i + 3, &columns),
                            );
                            for (j, c) in c.iter_mut().enumerate() {
                                *c += x[0] * b0[j] + x[1] * b1[j] + (x[2] * b2[j] + x[3] * b3[j]);
                            }
                        }
                        for i in whole..k {
                            for (c, b) in c.iter_mut().zip(b.part(i, &columns)) {
                                *c += a.number(row, i) * b;
                            }
                        }
                    } else {
                        // Columns of `b` lie side by side: one sum each.
                        for (c, column) in c.iter_mut().zip(columns.clone()) {
                            let (numbers, step) = (&b.values[column * b.columns..], b.rows);
                            *c += sum(
                                k,
                                #[inline(always)]
                                |i| a.number(row, i) * numbers[i * step],
                            );
                        }
                    }
                },
            );
        }
    });
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
                parallel_product([m, k, n], Matrix::of_rows(&a, k), b, &mut c, Into::Replace, |_, _| ());
                assert!(
                    c.iter().zip(&expected).all(|(c, expected)| (c - expected).abs() < 1e-4),
                    "{m} {k} {n}"
                );
            }
        }
    }
}
