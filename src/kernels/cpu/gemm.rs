//! Matrix products over strided slices.

use super::parallel::{Shared, split};

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
            1.0,
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
    before: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) {
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
