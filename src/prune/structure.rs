//! Units of a layer that go as a whole: attention heads and neurons of an MLP. A unit is some neighbouring inputs of
//! the linear layer that reads them: one input for a neuron, a head's width for a head.

use crate::{
    error::{Error, Result},
    select::keep_largest,
};

/// Effect of each unit of `size` inputs on the outputs of the layer that reads them: the norm of what it adds to all
/// outputs, over all calibration tokens. `weights` are those of the layer, `[out, width]`; `products`, `[units, size,
/// size]`, are the sums over tokens of the products of a unit's values.
///
/// # Errors
/// [`Error::NotFinite`].
pub fn effects(weights: &[f32], width: usize, size: usize, products: &[f64]) -> Result<Vec<f64>> {
    Error::check_finite("weights", weights)?;
    Error::check_finite("products of the inputs", products)?;
    let of_unit = |(unit, products): (usize, &[f64])| {
        let of_output = |row: &[f32]| {
            let own = &row[unit * size..(unit + 1) * size];
            let sums = products.chunks_exact(size).map(|row| dot(own, row));
            own.iter().zip(sums).map(|(&weight, sum)| f64::from(weight) * sum).sum::<f64>()
        };
        // Rounding may bring a sum of squares below zero.
        weights.chunks_exact(width).map(of_output).sum::<f64>().max(0.0).sqrt()
    };
    Ok(products.chunks_exact(size * size).enumerate().map(of_unit).collect())
}

/// Norm of the weights that read each unit of `size` inputs, `[out, width]`: the effect where there is no calibration
/// text.
///
/// # Errors
/// [`Error::NotFinite`].
pub fn norms(weights: &[f32], width: usize, size: usize) -> Result<Vec<f64>> {
    Error::check_finite("weights", weights)?;
    let of_unit = |unit: usize| {
        let rows = weights.chunks_exact(width);
        let squares =
            rows.flat_map(|row| &row[unit * size..(unit + 1) * size]).map(|&w| f64::from(w).powi(2));
        squares.sum::<f64>().sqrt()
    };
    Ok((0..width / size).map(of_unit).collect())
}

/// Numbers of the units that stay if the `removed` ones with the smallest scores go, in ascending order; of equal
/// scores the first go.
///
/// # Errors
/// [`Error::NothingLeft`] if all would go.
pub fn kept(scores: &[f64], removed: usize, what: &'static str) -> Result<Vec<usize>> {
    if removed >= scores.len() {
        return Err(Error::NothingLeft { what, count: scores.len() });
    }
    Ok(keep_largest(scores, removed))
}

/// The given columns of a matrix `[rows, width]`.
pub fn columns(values: &[f32], width: usize, places: &[usize]) -> Vec<f32> {
    values.chunks_exact(width.max(1)).flat_map(|row| places.iter().map(|&place| row[place])).collect()
}

/// The given rows of a matrix `[rows, width]`.
pub fn rows(values: &[f32], width: usize, places: &[usize]) -> Vec<f32> {
    places.iter().flat_map(|place| &values[place * width..(place + 1) * width]).copied().collect()
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(&a, b)| f64::from(a) * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_the_norm_of_what_a_unit_adds() {
        // Two units of two inputs, two outputs, three tokens.
        let weights = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 2.0, 1.0];
        let inputs = [[1.0, 0.0, 2.0, 1.0], [3.0, -1.0, 0.0, 0.5], [0.0, 2.0, -1.0, 1.0]];
        let mut products = vec![0.0; 8];
        let mut expected = [0.0; 2];
        for x in inputs {
            for (unit, expected) in expected.iter_mut().enumerate() {
                let own = &x[2 * unit..2 * unit + 2];
                for (i, a) in own.iter().enumerate() {
                    own.iter().enumerate().for_each(|(j, b)| products[4 * unit + 2 * i + j] += a * b);
                }
                for row in weights.chunks_exact(4) {
                    let row: &[f32] = &row[2 * unit..2 * unit + 2];
                    *expected += dot(row, own).powi(2);
                }
            }
        }
        let found = effects(&weights, 4, 2, &products).unwrap();
        assert!(
            found.iter().zip(expected).all(|(found, square)| (found - square.sqrt()).abs() < 1e-12),
            "{found:?}"
        );
        let identity = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
        assert_eq!(effects(&weights, 4, 2, &identity), norms(&weights, 4, 2));
        assert_eq!(norms(&[3.0, 0.0, 4.0, 1.0], 2, 1).unwrap(), [5.0, 1.0]);
    }

    #[test]
    fn units_are_taken_by_their_places() {
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        assert_eq!(columns(&values, 4, &[0, 3]), [0.0, 3.0, 4.0, 7.0]);
        assert_eq!(columns(&values, 8, &[7]), [7.0]);
        assert_eq!(rows(&values, 2, &[0, 2]), [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(kept(&[3.0, 1.0, 2.0], 2, "heads"), Ok(vec![0]));
        assert_eq!(kept(&[3.0, 1.0], 2, "heads"), Err(Error::NothingLeft { what: "heads", count: 2 }));
    }
}
