//! Adafactor (arXiv:1804.04235), whose second moment of a matrix is stored as means of rows and columns. The CPU has a
//! kernel that needs no buffer of the parameter's size; elsewhere Burn fuses the reference.

pub use kiln_operations::adafactor::{AdafactorSpec, Sizes};

use super::{Mode, backend::Kernels, device::short_name};
use burn::{backend::Dispatch, tensor::Tensor};
use kiln_operations::adafactor::Factors;

/// Weights and second moment of one parameter.
#[derive(Clone)]
pub struct Updated {
    /// Weights, flattened.
    pub weights: Tensor<1>,
    /// Means of each row of matrices, `[count * rows]`; of a vector its whole second moment.
    pub rows: Tensor<1>,
    /// Means of each column of matrices, `[count * columns]`; of a vector one number without a meaning.
    pub columns: Tensor<1>,
}

impl Updated {
    /// Weights whose second moment is 0.
    pub fn begin(weights: Tensor<1>, sizes: Sizes) -> Self {
        let device = weights.device();
        let [rows, columns] = lengths(sizes, weights.dims()[0]);
        Self { weights, rows: Tensor::zeros([rows], &device), columns: Tensor::zeros([columns], &device) }
    }
}

/// Lengths of the two parts of the second moment of a parameter with `count` elements.
pub fn lengths(sizes: Sizes, count: usize) -> [usize; 2] {
    match sizes {
        Sizes::Vector => [count, 1],
        Sizes::Matrices { count, rows, columns } => [count * rows, count * columns],
    }
}

/// Updates weights and second moment by `gradient * scale`, where `scale` is `[1]`.
pub fn adafactor(
    old: Updated,
    gradient: Tensor<1>,
    scale: Tensor<1>,
    spec: AdafactorSpec,
    mode: Mode,
) -> Updated {
    if short_name(&old.weights.device()) != "cpu" || !mode.fuses(&old.weights) {
        return reference(old, gradient, scale, spec);
    }
    let (weights, rows, columns) = Dispatch::adafactor(
        old.weights.into_dispatch(),
        old.rows.into_dispatch(),
        old.columns.into_dispatch(),
        gradient.into_dispatch(),
        scale.into_dispatch(),
        spec,
    );
    let [weights, rows, columns] = [weights, rows, columns].map(Tensor::from_dispatch);
    Updated { weights, rows, columns }
}

/// Unfused reference of the update, made of Burn's operations.
pub fn reference(old: Updated, gradient: Tensor<1>, scale: Tensor<1>, spec: AdafactorSpec) -> Updated {
    let Factors { added, decay, rate, least_mean, least } = spec.factors();
    let gradient = gradient * scale.clone();
    let moved = |mean: Tensor<1>, new: Tensor<1>| mean.clone() + (new - mean).mul_scalar(added);
    let (rows, columns, second) = match spec.sizes {
        Sizes::Vector => {
            let second = moved(old.rows.clone(), gradient.clone().square());
            (second.clone(), old.columns.clone(), second)
        }
        Sizes::Matrices { count, rows, columns } => {
            let squares = gradient.clone().square().reshape([count, rows, columns]); // [X, R, C]
            let row_means = squares.clone().mean_dim(2).reshape([count * rows]); // [X * R]
            let column_means = squares.mean_dim(1).reshape([count * columns]); // [X * C]
            let row_means = moved(old.rows.clone(), row_means);
            let column_means = moved(old.columns.clone(), column_means);
            let shares = row_means.clone().reshape([count, rows, 1]); // [X, R, 1]
            let shares = shares.clone() / shares.mean_dim(1).clamp_min(least_mean);
            let second = shares * column_means.clone().reshape([count, 1, columns]); // [X, R, C]
            (row_means, column_means, second.reshape([count * rows * columns]))
        }
    };
    let update = gradient / second.clamp_min(least).sqrt(); // [N]
    let root = |x: Tensor<1>| x.square().mean().sqrt(); // [1]
    let clip = root(update.clone()).div_scalar(spec.clip_threshold).clamp_min(1.0);
    let rate = root(old.weights.clone()).clamp_min(spec.epsilon2).mul_scalar(rate) / clip;
    let weights = old.weights.clone().mul_scalar(decay) - update * rate;
    if !spec.skip_non_finite {
        return Updated { weights, rows, columns };
    }
    let keep = |new: Tensor<1>, old: Tensor<1>| {
        let mask = scale.clone().is_finite().expand(new.dims());
        old.mask_where(mask, new)
    };
    Updated {
        weights: keep(weights, old.weights),
        rows: keep(rows, old.rows),
        columns: keep(columns, old.columns),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_kernel_is_the_reference() {
        let device = Device::flex();
        for shape in [&[7][..], &[5000], &[12, 24], &[200, 3], &[4, 6, 3]] {
            let count = shape.iter().product::<usize>();
            let sizes = Sizes::of(shape);
            let weights: Vec<f32> = (0..count).map(|i| (i as f32).cos()).collect();
            let weights = Tensor::<1>::from_floats(weights.as_slice(), &device);
            let (mut fused, mut unfused) =
                (Updated::begin(weights.clone(), sizes), Updated::begin(weights, sizes));
            for step in 1..=4 {
                let gradient: Vec<f32> = (0..count).map(|i| ((i * 7 + step) as f32).sin()).collect();
                let gradient = Tensor::<1>::from_floats(gradient.as_slice(), &device);
                // The third step is skipped.
                let scale = if step == 3 { f32::NAN } else { 0.5 };
                let scale = Tensor::<1>::from_floats([scale], &device);
                let spec = AdafactorSpec {
                    sizes,
                    learning_rate: 0.01,
                    beta2_decay: -0.8,
                    epsilon1: f64::from(f32::EPSILON),
                    epsilon2: 1e-3,
                    clip_threshold: 1.0,
                    weight_decay: 0.1,
                    updates: step,
                    skip_non_finite: true,
                };
                fused = adafactor(fused, gradient.clone(), scale.clone(), spec, Mode::Fused);
                unfused = adafactor(unfused, gradient, scale, spec, Mode::Reference);
                let floats = |x: &Tensor<1>| x.clone().into_data().try_to_vec::<f32>().unwrap();
                for (a, b) in [
                    (&fused.weights, &unfused.weights),
                    (&fused.rows, &unfused.rows),
                    (&fused.columns, &unfused.columns),
                ] {
                    let apart = floats(a).into_iter().zip(floats(b)).map(|(a, b)| (a - b).abs());
                    let apart = apart.fold(0.0, f32::max);
                    assert!(apart < 1e-5, "{shape:?}, step {step}: {apart}");
                }
            }
        }
    }
}
