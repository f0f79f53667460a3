//! Adafactor in place, without a buffer of the parameter's size. All sums are added in an order that does not depend
//! on the number of threads.

use super::{
    math::{sum, vectorized},
    parallel::{Shared, each, split},
};
use crate::adafactor::{AdafactorSpec, Factors};

/// Number of elements of a vector that are summed together.
const BLOCK: usize = 1 << 12;

/// Largest number of groups of rows of a matrix, each of which sums its columns.
const GROUPS: usize = 64;

/// Smallest number of elements that a thread takes.
const GRAIN: usize = 1 << 14;

/// Updates a vector and its second moment in place.
pub fn vector(weights: &mut [f32], second: &mut [f32], gradient: &[f32], scale: f32, spec: AdafactorSpec) {
    let factors = spec.factors();
    let (mut size, mut change) = (0f64, 0f64);
    let blocks = weights.chunks(BLOCK).zip(second.chunks_mut(BLOCK)).zip(gradient.chunks(BLOCK));
    for ((weights, second), gradient) in blocks {
        vectorized(
            #[inline(always)]
            || {
                for (second, gradient) in second.iter_mut().zip(gradient) {
                    let gradient = gradient * scale;
                    *second += factors.added * (gradient * gradient - *second);
                }
                size += f64::from(sum_of_squares(weights));
                change += f64::from(sum(
                    gradient.len(),
                    #[inline(always)]
                    |i| (gradient[i] * scale).powi(2) / at_least(second[i], factors.least),
                ));
            },
        );
    }
    let rate = rate(spec, factors, weights.len(), size, change);
    vectorized(
        #[inline(always)]
        || {
            for ((weight, gradient), second) in weights.iter_mut().zip(gradient).zip(second) {
                let update = gradient * scale / at_least(*second, factors.least).sqrt();
                *weight = *weight * factors.decay - rate * update;
            }
        },
    );
}

/// Updates matrices, `[count, rows, columns]`, in place, and the means of their squared gradients over each row,
/// `[count, rows]`, and over each column, `[count, columns]`.
pub fn matrices(
    weights: &mut [f32],
    row_means: &mut [f32],
    column_means: &mut [f32],
    gradient: &[f32],
    [rows, columns]: [usize; 2],
    scale: f32,
    spec: AdafactorSpec,
) {
    if weights.is_empty() {
        return;
    }
    let (count, factors) = (weights.len(), spec.factors());
    let each_matrix = || gradient.chunks(rows * columns).zip(0..);
    for (gradient, matrix) in each_matrix() {
        let column_means = &mut column_means[matrix * columns..(matrix + 1) * columns];
        let row_means = &mut row_means[matrix * rows..(matrix + 1) * rows];
        add_squares(gradient, row_means, column_means, scale, factors.added);
    }
    // The second moment of an element is the product of its row's and its column's mean over the mean of all.
    let row_shares: Vec<f32> = row_means
        .chunks(rows)
        .flat_map(|means| {
            let all = (means.iter().map(|mean| f64::from(*mean)).sum::<f64>() / rows as f64) as f32;
            let all = at_least(all, factors.least_mean);
            means.iter().map(move |mean| mean / all)
        })
        .collect();
    let column_means = &*column_means;
    let columns_of = |row: usize| &column_means[row / rows * columns..][..columns];

    // Sums of each row: squares of the weights, and of the update.
    let all_rows = row_shares.len();
    let mut sums = vec![[0f32; 2]; all_rows];
    let (shared, old) = (Shared::new(&mut sums), &*weights);
    let grain = GRAIN.div_ceil(columns.max(1));
    split(all_rows, grain, |range| {
        // SAFETY: every part has rows of its own.
        let sums = unsafe { shared.part(range.clone()) };
        vectorized(
            #[inline(always)]
            || {
                for (sums, row) in sums.iter_mut().zip(range) {
                    let (elements, share) = (row * columns..(row + 1) * columns, row_shares[row]);
                    let (gradient, column_means) = (&gradient[elements.clone()], columns_of(row));
                    let change = sum(
                        columns,
                        #[inline(always)]
                        |i| (gradient[i] * scale).powi(2) / at_least(share * column_means[i], factors.least),
                    );
                    *sums = [sum_of_squares(&old[elements]), change];
                }
            },
        );
    });
    let total = |which: usize| sums.iter().map(|sums| f64::from(sums[which])).sum::<f64>();
    let rate = rate(spec, factors, count, total(0), total(1));

    let weights = Shared::new(weights);
    split(all_rows, grain, |range| {
        // SAFETY: every part has rows of its own.
        let weights = unsafe { weights.part(range.start * columns..range.end * columns) };
        vectorized(
            #[inline(always)]
            || {
                for (weights, row) in weights.chunks_mut(columns).zip(range) {
                    let (gradient, share) = (&gradient[row * columns..][..columns], row_shares[row]);
                    let elements = weights.iter_mut().zip(gradient).zip(columns_of(row));
                    for ((weight, gradient), mean) in elements {
                        let second = at_least(share * mean, factors.least);
                        *weight = *weight * factors.decay - rate * (gradient * scale / second.sqrt());
                    }
                }
            },
        );
    });
}

/// The larger of two numbers; NaN if the first is.
#[inline(always)]
fn at_least(x: f32, least: f32) -> f32 {
    if x < least { least } else { x }
}

#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f32 {
    sum(
        values.len(),
        #[inline(always)]
        |i| values[i] * values[i],
    )
}

/// Moves the means of rows and columns of a matrix towards those of the squared gradient.
fn add_squares(gradient: &[f32], row_means: &mut [f32], column_means: &mut [f32], scale: f32, added: f32) {
    let (rows, columns) = (row_means.len(), column_means.len());
    let rows_per_group = rows.div_ceil(GROUPS);
    let groups = rows.div_ceil(rows_per_group);
    let mut sums = vec![0f32; groups * columns];
    let (shared, row_means) = (Shared::new(&mut sums), Shared::new(row_means));
    each(groups, |group| {
        let rows = group * rows_per_group..((group + 1) * rows_per_group).min(rows);
        // SAFETY: every group has sums and rows of its own.
        let (sums, row_means) =
            unsafe { (shared.part(group * columns..(group + 1) * columns), row_means.part(rows.clone())) };
        let gradient = &gradient[rows.start * columns..rows.end * columns];
        vectorized(
            #[inline(always)]
            || {
                for (gradient, mean) in gradient.chunks(columns).zip(&mut *row_means) {
                    let total = sum(
                        columns,
                        #[inline(always)]
                        |i| (gradient[i] * scale).powi(2),
                    );
                    *mean += added * (total / columns as f32 - *mean);
                    for (sum, gradient) in sums.iter_mut().zip(gradient) {
                        *sum += (gradient * scale).powi(2);
                    }
                }
            },
        );
    });
    for (column, mean) in column_means.iter_mut().enumerate() {
        let total: f64 = sums.iter().skip(column).step_by(columns).map(|sum| f64::from(*sum)).sum();
        *mean += added * ((total / rows as f64) as f32 - *mean);
    }
}

/// Factor of the update, from the sums of the squares of the weights and of the update.
fn rate(spec: AdafactorSpec, factors: Factors, count: usize, size: f64, change: f64) -> f32 {
    let root = |total: f64| (total / count as f64).sqrt();
    // `max` would drop NaN.
    let larger = |x: f64, least: f64| if x < least { least } else { x };
    let clip = larger(root(change) / spec.clip_threshold, 1.0);
    (factors.rate * larger(root(size), spec.epsilon2) / clip) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adafactor::Sizes;

    fn spec(sizes: Sizes) -> AdafactorSpec {
        AdafactorSpec {
            sizes,
            learning_rate: 0.05,
            beta2_decay: -0.8,
            epsilon1: f64::from(f32::EPSILON),
            epsilon2: 1e-3,
            clip_threshold: 1.0,
            weight_decay: 0.0,
            updates: 1,
            skip_non_finite: false,
        }
    }

    #[test]
    fn a_matrix_of_equal_squares_moves_as_a_vector_does() {
        let (rows, columns) = (70, 300);
        let gradient: Vec<f32> = (0..rows * columns).map(|i| if i % 3 == 0 { -2.0 } else { 2.0 }).collect();
        let mut one = vec![0.5f32; rows * columns];
        let mut other = one.clone();
        let sizes = Sizes::of(&[rows, columns]);
        let (mut row_means, mut column_means) = (vec![0f32; rows], vec![0f32; columns]);
        matrices(&mut one, &mut row_means, &mut column_means, &gradient, [rows, columns], 0.5, spec(sizes));
        let mut second = vec![0f32; rows * columns];
        vector(&mut other, &mut second, &gradient, 0.5, spec(Sizes::Vector));
        assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6));
        // Halved by the scale, with a learning rate of half of 0.05.
        assert!((one[1] - (0.5 - 0.025)).abs() < 1e-6, "{}", one[1]);
        assert!(row_means.iter().chain(&column_means).all(|mean| (mean - 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_gradient_of_zeros_changes_nothing() {
        let (mut weights, mut row_means, mut column_means) = (vec![0.5f32; 6], vec![0f32; 2], vec![0f32; 3]);
        let sizes = Sizes::of(&[2, 3]);
        matrices(&mut weights, &mut row_means, &mut column_means, &[0.0; 6], [2, 3], 1.0, spec(sizes));
        assert_eq!(weights, [0.5; 6]);
    }

    #[test]
    fn nan_gets_through() {
        let (mut weights, mut row_means, mut column_means) = (vec![0.5f32; 6], vec![0f32; 2], vec![0f32; 3]);
        let sizes = Sizes::of(&[2, 3]);
        let scale = f32::NAN;
        matrices(&mut weights, &mut row_means, &mut column_means, &[1.0; 6], [2, 3], scale, spec(sizes));
        let mut vector_weights = vec![0.5f32; 6];
        let mut second = vec![0f32; 6];
        vector(&mut vector_weights, &mut second, &[1.0; 6], scale, spec(Sizes::Vector));
        let all = weights.iter().chain(&row_means).chain(&column_means).chain(&vector_weights).chain(&second);
        assert!(all.clone().all(|number| number.is_nan()), "{:?}", all.collect::<Vec<_>>());
    }
}
