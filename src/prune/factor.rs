//! Triangular factors of a symmetric matrix, in f64.

use rayon::prelude::*;

/// Number of rows that are factored together.
const BLOCK: usize = 32;

/// Upper triangular matrix U with `Uᵀ U = H⁻¹` for a symmetric, positive definite H, `[width, width]`, whose lower
/// triangle is read. It is the inverse of R in `H = R Rᵀ`.
///
/// # Errors
/// The number of the first column at which H is not positive definite.
pub(crate) fn upper_of_inverse(h: &[f64], width: usize) -> Result<Vec<f64>, usize> {
    // With rows and columns in reverse order, R is a lower triangular factor.
    let last = width.wrapping_sub(1);
    let mut lower = vec![0.0; width * width];
    for row in 0..width {
        for column in 0..=row {
            lower[row * width + column] = h[(last - column) * width + (last - row)];
        }
    }
    cholesky(&mut lower, width).map_err(|column| last - column)?;

    // Column `j` of the inverse solves L x = e_j, and is row `last - j` of U in reverse order: they are stored so.
    let columns: Vec<Vec<f64>> =
        (0..width).into_par_iter().map(|j| column_of_inverse(&lower, width, j)).collect();
    let mut upper = lower;
    for (a, row) in upper.chunks_exact_mut(width.max(1)).enumerate() {
        for (b, value) in row.iter_mut().enumerate() {
            // U[a][b] = X[last - a][last - b], where X is lower triangular.
            *value = if b < a { 0.0 } else { columns[last - b][b - a] };
        }
    }
    Ok(upper)
}

/// Replaces a matrix, of which the lower triangle is read, by its lower triangular factor.
fn cholesky(a: &mut [f64], width: usize) -> Result<(), usize> {
    for start in (0..width).step_by(BLOCK) {
        let end = width.min(start + BLOCK);
        for row in start..end {
            let (above, rest) = a.split_at_mut(row * width);
            let own = &mut rest[..width];
            reduce(own, above, width, start..row);
            let pivot = own[row] - dot(&own[..row], &own[..row]);
            if !(pivot.is_finite() && pivot > 0.0) {
                return Err(row);
            }
            own[row] = pivot.sqrt();
        }
        let (done, below) = a.split_at_mut(end * width);
        below.par_chunks_exact_mut(width).for_each(|row| reduce(row, done, width, start..end));
    }
    Ok(())
}

/// Computes the given columns of a row of the factor from its earlier columns and the finished rows.
fn reduce(row: &mut [f64], finished: &[f64], width: usize, columns: std::ops::Range<usize>) {
    for column in columns {
        let other = &finished[column * width..column * width + width];
        row[column] = (row[column] - dot(&row[..column], &other[..column])) / other[column];
    }
}

/// Elements from the diagonal on of column `j` of the inverse of a lower triangular matrix.
fn column_of_inverse(lower: &[f64], width: usize, j: usize) -> Vec<f64> {
    let mut column = Vec::with_capacity(width - j);
    for row in j..width {
        let own = &lower[row * width + j..row * width + row];
        let right = if row == j { 1.0 } else { 0.0 };
        column.push((right - dot(own, &column)) / lower[row * width + row]);
    }
    column
}

/// Product of two vectors, with as many sums as fit in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 16];
    let (a_parts, b_parts) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_of_the_inverse_inverts() {
        for width in [1, 2, 5, 33, 70] {
            // Diagonally dominant, so positive definite.
            let at = |i: usize, j: usize| if i == j { width as f64 + 1.0 } else { ((i * j) as f64).sin() };
            let h: Vec<f64> = (0..width * width).map(|k| at(k / width, k % width)).collect();
            let u = upper_of_inverse(&h, width).unwrap();
            for i in 0..width {
                for j in 0..width {
                    // H Uᵀ U = 1
                    let of_inverse = |k: usize, j: usize| -> f64 {
                        (0..width).map(|l| u[l * width + k] * u[l * width + j]).sum()
                    };
                    let product: f64 = (0..width).map(|k| h[i * width + k] * of_inverse(k, j)).sum();
                    assert!(
                        (product - f64::from(u8::from(i == j))).abs() < 1e-12,
                        "{width}: {i} {j} {product}"
                    );
                    assert!(j >= i || u[i * width + j] == 0.0);
                }
            }
        }
        assert_eq!(upper_of_inverse(&[], 0), Ok(vec![]));
    }

    #[test]
    fn a_matrix_that_is_not_positive_has_no_factor() {
        assert_eq!(upper_of_inverse(&[1.0, 2.0, 2.0, 1.0], 2), Err(0));
        assert_eq!(upper_of_inverse(&[1.0, 0.0, 0.0, f64::NAN], 2), Err(1));
    }
}
