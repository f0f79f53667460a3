//! The product of a few rows, as in writing token by token: the time is that of reading the other matrix once.

use super::gemm::{Into, Matrix};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Up to so many rows are multiplied without packing the other matrix.
const FEW: usize = 4;

/// Rows of the other matrix that are read side by side: streams that a processor fetches ahead.
const STREAMS: usize = 8;

/// Some columns of `c = factor * a b` or `c += factor * a b`: `[rows, depth] [depth, _]`.
pub(super) struct FewRows<'a> {
    pub rows: usize,
    pub depth: usize,
    pub columns: Range<usize>,
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    pub factor: f32,
    pub into: Into,
}

/// Where a product is written: the start of a matrix, and numbers between the starts of its rows.
#[derive(Clone, Copy)]
pub(super) struct Place(pub *mut f32, pub usize);

/// Whether a product is one of a few rows.
pub(super) fn are_few(rows: usize, a: Matrix, b: Matrix) -> bool {
    rows <= FEW && a.rows_are_dense() && (b.rows_are_dense() || b.transposed().rows_are_dense())
}

impl FewRows<'_> {
    /// # Safety
    /// At `place` there is room for all rows, and nobody else uses these columns meanwhile.
    pub unsafe fn write(self, place: Place) {
        pulp::Arch::new().dispatch(Write { product: self, place });
    }
}

struct Write<'a> {
    product: FewRows<'a>,
    place: Place,
}

impl Write<'_> {
    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [f32] {
        let (Place(start, width), columns) = (self.place, &self.product.columns);
        // SAFETY: the promise of the caller of `FewRows::write`.
        unsafe { std::slice::from_raw_parts_mut(start.add(row * width + columns.start), columns.len()) }
    }
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let FewRows { rows, depth, ref columns, a, b, factor, into } = self.product;
        let columns = columns.clone();
        if !b.rows_are_dense() {
            // Its columns lie side by side: one sum for each.
            let b = b.transposed();
            for row in 0..rows {
                let a = a.part(row, &(0..depth));
                for (c, column) in self.row(row).iter_mut().zip(columns.clone()) {
                    let product = factor * dot(simd, a, b.part(column, &(0..depth)));
                    *c = if into == Into::Add { *c + product } else { product };
                }
            }
            return;
        }
        if into == Into::Replace {
            for row in 0..rows {
                self.row(row).fill(0.0);
            }
        }
        let whole = depth - depth % STREAMS;
        for i in (0..whole).step_by(STREAMS) {
            let b: [&[f32]; STREAMS] = std::array::from_fn(|j| b.part(i + j, &columns));
            for row in 0..rows {
                let x = std::array::from_fn(|j| factor * a.part(row, &(0..depth))[i + j]);
                add_rows(simd, x, b, self.row(row));
            }
        }
        for i in whole..depth {
            for row in 0..rows {
                let x = [factor * a.part(row, &(0..depth))[i]];
                add_rows(simd, x, [b.part(i, &columns)], self.row(row));
            }
        }
    }
}

/// `c += x[0] * b[0] + x[1] * b[1] + ..`
#[inline(always)]
fn add_rows<S: Simd, const N: usize>(simd: S, x: [f32; N], b: [&[f32]; N], c: &mut [f32]) {
    let factors = x.map(
        #[inline(always)]
        |x| simd.splat_f32s(x),
    );
    let (vectors, rest) = S::as_mut_simd_f32s(c);
    let rows = b.map(
        #[inline(always)]
        |b| &S::as_simd_f32s(b).0[..vectors.len()],
    );
    for (place, c) in vectors.iter_mut().enumerate() {
        let mut sums = [*c, simd.splat_f32s(0.0)];
        for i in 0..N {
            sums[i % 2] = simd.mul_add_e_f32s(factors[i], rows[i][place], sums[i % 2]);
        }
        *c = simd.add_f32s(sums[0], sums[1]);
    }
    for i in 0..N {
        let end = &b[i][b[i].len() - rest.len()..];
        rest.iter_mut().zip(end).for_each(|(c, b)| *c += x[i] * b);
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = [simd.splat_f32s(0.0); 2];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        sums[i % 2] = simd.mul_add_e_f32s(*a, *b, sums[i % 2]);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) + rest
}
