//! Matrix products with few rows, as in generation token by token. They take as long as reading the other
//! matrix once.

use super::gemm::{Into, Matrix};
use pulp::{Simd, WithSimd};
use std::mem::MaybeUninit;

/// Largest number of rows that is multiplied without packing the other matrix.
const FEW: usize = 4;

/// Number of rows of the other matrix that are read side by side, as streams that the processor prefetches.
const STREAMS: usize = 8;

/// A product of few rows: `c = factor * a b` or `c += factor * a b`.
pub(super) struct FewRows<'a> {
    /// Rows, depth and columns, `m`, `k` and `n`: `[m, k] [k, n] -> [m, n]`.
    pub sizes: [usize; 3],
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    pub factor: f32,
    pub into: Into,
}

/// Output of a product: the address of a matrix, and the distance between the starts of its rows.
#[derive(Clone, Copy)]
pub(super) struct Target(pub *mut f32, pub usize);

/// Whether [`FewRows`] can compute a product: it has few rows, the rows of `a` are contiguous, and so are the
/// rows or the columns of `b`.
pub(super) fn are_few(rows: usize, a: Matrix, b: Matrix) -> bool {
    rows <= FEW && a.rows_are_dense() && (b.rows_are_dense() || b.transposed().rows_are_dense())
}

impl FewRows<'_> {
    /// Computes the product.
    ///
    /// # Safety
    /// `target` must be a matrix of the output's size that nothing else uses at the same time. It may be
    /// uninitialized if it is replaced.
    pub unsafe fn write(self, target: Target) {
        pulp::Arch::new().dispatch(Write { product: self, target });
    }
}

struct Write<'a> {
    product: FewRows<'a>,
    target: Target,
}

impl Write<'_> {
    #[inline(always)]
    fn output_row(&mut self, row: usize) -> &mut [MaybeUninit<f32>] {
        let (Target(start, width), [_, _, columns]) = (self.target, self.product.sizes);
        // SAFETY: the promise of the caller of `FewRows::write`.
        unsafe { std::slice::from_raw_parts_mut(start.add(row * width).cast(), columns) }
    }

    /// A row of the output.
    ///
    /// # Safety
    /// The row must have been written.
    #[inline(always)]
    unsafe fn row(&mut self, row: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.output_row(row).assume_init_mut() }
    }
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let FewRows { sizes: [rows, depth, columns], a, b, factor, into } = self.product;
        if !b.rows_are_dense() {
            // Its columns lie side by side: one sum for each.
            let b = b.transposed();
            for row in 0..rows {
                let a = a.part(row, &(0..depth));
                for (c, column) in self.output_row(row).iter_mut().zip(0..columns) {
                    let product = factor * dot(simd, a, b.part(column, &(0..depth)));
                    // SAFETY: what is added to has been written.
                    let before = if into == Into::Add { Some(unsafe { c.assume_init_read() }) } else { None };
                    c.write(before.map_or(product, |before| before + product));
                }
            }
            return;
        }
        if into == Into::Replace {
            for row in 0..rows {
                self.output_row(row).fill(MaybeUninit::new(0.0));
            }
        }
        let whole = depth - depth % STREAMS;
        for i in (0..whole).step_by(STREAMS) {
            self.add_rows::<S, STREAMS>(simd, i);
        }
        for i in whole..depth {
            self.add_rows::<S, 1>(simd, i);
        }
    }
}

impl Write<'_> {
    /// Adds rows `first..first + N` of `b`, each multiplied by its element of `a`, to output rows that have
    /// been written.
    // Loops rather than closures: what is not inlined would not be compiled for the wide instructions.
    #[inline(always)]
    fn add_rows<S: Simd, const N: usize>(&mut self, simd: S, first: usize) {
        let FewRows { sizes: [rows, depth, columns], a, b, factor, .. } = self.product;
        let mut sources: [(&[S::f32s], &[f32]); N] = [(&[], &[]); N];
        for (i, source) in sources.iter_mut().enumerate() {
            *source = S::as_simd_f32s(b.part(first + i, &(0..columns)));
        }
        for row in 0..rows {
            let numbers = &a.part(row, &(0..depth))[first..first + N];
            let mut factors = [simd.splat_f32s(0.0); N];
            for (splat, number) in factors.iter_mut().zip(numbers) {
                *splat = simd.splat_f32s(factor * number);
            }
            // SAFETY: what is added to has been written, what is replaced has been set to 0.
            let (vectors, rest) = S::as_mut_simd_f32s(unsafe { self.row(row) });
            for source in &mut sources {
                source.0 = &source.0[..vectors.len()];
            }
            for (index, c) in vectors.iter_mut().enumerate() {
                let mut sums = [*c, simd.splat_f32s(0.0)];
                for i in 0..N {
                    sums[i % 2] = simd.mul_add_e_f32s(factors[i], sources[i].0[index], sums[i % 2]);
                }
                *c = simd.add_f32s(sums[0], sums[1]);
            }
            for (number, source) in numbers.iter().zip(&sources) {
                for (c, b) in rest.iter_mut().zip(source.1) {
                    *c += factor * number * b;
                }
            }
        }
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
