//! SparseGPT: weights are pruned column by column, and those that are left make up for the error
//! (arXiv:2301.00774, <https://github.com/IST-DASLab/sparsegpt>).

use crate::{
    error::{Error, Result},
    factor::upper_of_inverse,
    pattern::{GROUP, Pattern, check_share, smaller_two},
};
use rayon::prelude::*;

/// Settings of SparseGPT.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseGpt {
    pub pattern: Pattern,
    /// Number of inputs whose weights are chosen together, over all outputs.
    pub block: usize,
    /// Share of the mean of the diagonal of the inputs' products that is added to the diagonal.
    pub damping: f64,
}

impl SparseGpt {
    /// The settings of the authors for a pattern.
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, block: 128, damping: 0.01 }
    }
}

/// A pruned matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Pruned {
    /// Weights `[out, in]`; those that are pruned are zero.
    pub weights: Vec<f32>,
    pub mask: Vec<bool>,
}

/// Products `Xᵀ X`, `[width, width]`, of the inputs `[rows, width]` of a layer.
pub fn products(inputs: &[f32], width: usize) -> Vec<f64> {
    let mut products = vec![0.0; width * width];
    products.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(column, sums)| {
        for row in inputs.chunks_exact(width) {
            let own = f64::from(row[column]);
            sums.iter_mut().zip(row).for_each(|(sum, &other)| *sum += own * f64::from(other));
        }
    });
    products
}

impl SparseGpt {
    /// Prunes a matrix `[out, width]`. `products` are those of the layer's inputs, `[width, width]`, over `tokens` rows
    /// of calibration text ([`products`]).
    ///
    /// As by the authors, one weight more than the share goes from each block, and an input that is always zero loses
    /// its weights.
    ///
    /// # Errors
    /// [`Error::Share`] and [`Error::NothingLeft`] for a share that leaves nothing, [`Error::NotFinite`], and
    /// [`Error::NotPositive`] if the damping is too small.
    pub fn prune(&self, weights: &[f32], products: &[f64], tokens: usize) -> Result<Pruned> {
        let width = products.len().isqrt();
        Error::check_finite("weights", weights)?;
        Error::check_finite("products of the inputs", products)?;
        if let Pattern::Share(share) = self.pattern {
            check_share(share)?;
        }
        if weights.is_empty() {
            return Ok(Pruned { weights: Vec::new(), mask: Vec::new() });
        }
        let mut weights: Vec<f64> = weights.iter().map(|&weight| weight.into()).collect();
        let upper = self.factor(products, width, tokens, &mut weights)?;
        let mut mask = vec![true; weights.len()];
        match self.pattern {
            Pattern::Share(share) => {
                for start in (0..width).step_by(self.block.max(1)) {
                    let end = width.min(start + self.block.max(1));
                    choose(&weights, &mut mask, &upper, width, start..end, share);
                    let rows = weights.par_chunks_exact_mut(width).zip(mask.par_chunks_exact(width));
                    rows.for_each(|(row, mask)| {
                        (start..end)
                            .filter(|&column| !mask[column])
                            .for_each(|column| prune_one(row, &upper, column));
                    });
                }
            }
            Pattern::TwoOfFour => {
                let rows = weights.par_chunks_exact_mut(width).zip(mask.par_chunks_exact_mut(width));
                rows.for_each(|(row, mask)| two_of_four(row, mask, &upper));
            }
        }
        if !mask.contains(&true) {
            return Err(Error::NothingLeft { what: "weights", count: mask.len() });
        }
        let kept = weights.iter().zip(&mask).map(|(&weight, &kept)| if kept { weight as f32 } else { 0.0 });
        Ok(Pruned { weights: kept.collect(), mask })
    }

    /// Factor of the inverse of the damped Hessian. Weights of inputs that are always zero become zero.
    fn factor(&self, products: &[f64], width: usize, tokens: usize, weights: &mut [f64]) -> Result<Vec<f64>> {
        let mut hessian: Vec<f64> =
            products.iter().map(|product| product * 2.0 / tokens.max(1) as f64).collect();
        for input in 0..width {
            let diagonal = &mut hessian[input * width + input];
            if *diagonal == 0.0 {
                *diagonal = 1.0;
                weights.iter_mut().skip(input).step_by(width).for_each(|weight| *weight = 0.0);
            }
        }
        let diagonal = (0..width).map(|input| hessian[input * width + input]);
        let damping = self.damping * diagonal.sum::<f64>() / width as f64;
        (0..width).for_each(|input| hessian[input * width + input] += damping);
        upper_of_inverse(&hessian, width).map_err(|input| Error::NotPositive { input, damping: self.damping })
    }
}

/// Chooses the weights of a block of columns that are pruned, by the errors that their loss makes.
fn choose(
    weights: &[f64],
    mask: &mut [bool],
    upper: &[f64],
    width: usize,
    columns: std::ops::Range<usize>,
    share: f64,
) {
    let score = |row: &[f64], column: usize| (row[column] / upper[column * width + column]).powi(2);
    let rows = weights.chunks_exact(width);
    let mut scores: Vec<f64> =
        rows.clone().flat_map(|row| columns.clone().map(|column| score(row, column))).collect();
    let cut = ((scores.len() as f64 * share) as usize).min(scores.len() - 1);
    let threshold = *scores.select_nth_unstable_by(cut, f64::total_cmp).1;
    for (row, mask) in rows.zip(mask.chunks_exact_mut(width)) {
        columns.clone().for_each(|column| mask[column] = score(row, column) > threshold);
    }
}

/// Prunes two of every four neighbours of a row, chosen when the columns before them are done.
fn two_of_four(row: &mut [f64], mask: &mut [bool], upper: &[f64]) {
    let width = row.len();
    for start in (0..width / GROUP * GROUP).step_by(GROUP) {
        let score = |place: usize| (row[start + place] / upper[(start + place) * (width + 1)]).powi(2);
        let mut smaller = smaller_two(&[score(0), score(1), score(2), score(3)]);
        smaller.sort_unstable();
        for column in smaller.map(|place| start + place) {
            mask[column] = false;
            prune_one(row, upper, column);
        }
    }
}

/// Prunes one weight of a row: the weights after it make up for the error.
fn prune_one(row: &mut [f64], upper: &[f64], column: usize) {
    let width = row.len();
    let factors = &upper[column * width + column..(column + 1) * width];
    let error = row[column] / factors[0];
    row[column..].iter_mut().zip(factors).for_each(|(weight, factor)| *weight -= error * factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squared error of a layer's outputs.
    fn error(weights: &[f32], pruned: &[f32], inputs: &[f32], width: usize) -> f64 {
        let difference: Vec<f32> = weights.iter().zip(pruned).map(|(a, b)| a - b).collect();
        let of =
            |row: &[f32], x: &[f32]| row.iter().zip(x).map(|(a, b)| f64::from(a * b)).sum::<f64>().powi(2);
        let outputs = |x: &[f32]| difference.chunks_exact(width).map(|row| of(row, x)).sum::<f64>();
        inputs.chunks_exact(width).map(outputs).sum()
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) as f32 * 0.618).sin()).collect()
    }

    #[test]
    fn weights_that_are_left_make_up_for_those_that_went() {
        let (width, tokens) = (22, 60);
        let (weights, noise) = (numbers(9 * width, 1), numbers(tokens * width, 2));
        // Neighbouring inputs are alike.
        let inputs: Vec<f32> = (0..noise.len()).map(|i| noise[i] + noise[i.saturating_sub(1)]).collect();
        let products = products(&inputs, width);
        for pattern in [Pattern::Share(0.5), Pattern::TwoOfFour] {
            let pruned =
                SparseGpt { block: 8, ..SparseGpt::new(pattern) }.prune(&weights, &products, tokens).unwrap();
            let zeroed: Vec<f32> =
                weights.iter().zip(&pruned.mask).map(|(&w, &kept)| if kept { w } else { 0.0 }).collect();
            let [made_up, not] =
                [&pruned.weights, &zeroed].map(|pruned| error(&weights, pruned, &inputs, width));
            assert!(made_up < 0.8 * not, "{pattern:?}: {made_up} {not}");
            assert!(pruned.weights.iter().zip(&pruned.mask).all(|(weight, kept)| *kept || *weight == 0.0));
        }
        let two = SparseGpt::new(Pattern::TwoOfFour).prune(&weights, &products, tokens).unwrap();
        for row in two.mask.chunks_exact(width) {
            assert!(row[..20].chunks_exact(4).all(|four| four.iter().filter(|kept| **kept).count() == 2));
            assert!(row[20..].iter().all(|kept| *kept));
        }
    }

    #[test]
    fn an_input_that_is_always_zero_loses_its_weights() {
        let inputs: Vec<f32> =
            numbers(40 * 8, 3).chunks_exact(8).flat_map(|x| [&x[..3], &[0.0], &x[4..]].concat()).collect();
        let pruned =
            SparseGpt::new(Pattern::Share(0.25)).prune(&numbers(32, 4), &products(&inputs, 8), 40).unwrap();
        assert!(pruned.weights.iter().skip(3).step_by(8).all(|weight| *weight == 0.0));
    }

    #[test]
    fn bad_numbers_are_refused() {
        let sparse = SparseGpt { damping: 0.0, ..SparseGpt::new(Pattern::Share(0.5)) };
        let indefinite = [1.0, 2.0, 2.0, 1.0];
        assert_eq!(
            sparse.prune(&[1.0; 4], &indefinite, 1),
            Err(Error::NotPositive { input: 0, damping: 0.0 })
        );
        assert!(matches!(sparse.prune(&[1.0; 4], &[f64::NAN; 4], 1), Err(Error::NotFinite { .. })));
        let all = SparseGpt::new(Pattern::Share(0.99));
        assert_eq!(all.prune(&[1.0], &[1.0], 1), Err(Error::NothingLeft { what: "weights", count: 1 }));
        assert_eq!(all.prune(&[], &[], 1).unwrap().mask, [false; 0]);
    }
}
