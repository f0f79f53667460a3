//! Wanda: weights are pruned by their magnitude times the norm of their input, of each output alike
//! (arXiv:2306.11695).

use crate::{
    error::{Error, Result},
    pattern::{Pattern, check_share, two_of_four},
    select::drop_smallest,
};
use rayon::prelude::*;

/// Scores of a matrix `[out, in]`: the magnitude of each weight times the norm of its input. `norms`, `[in]`, are
/// 2-norms over all calibration tokens.
///
/// # Errors
/// [`Error::NotFinite`].
pub fn scores(weights: &[f32], norms: &[f32]) -> Result<Vec<f32>> {
    Error::check_finite("weights", weights)?;
    Error::check_finite("norms of the inputs", norms)?;
    let rows = weights.chunks_exact(norms.len().max(1));
    Ok(rows.flat_map(|row| row.iter().zip(norms).map(|(weight, norm)| weight.abs() * norm)).collect())
}

/// Mask of a matrix `[out, in]`, in which the same number of weights of every output is pruned.
///
/// # Errors
/// [`Error::Share`] for a share that leaves nothing, [`Error::NotFinite`].
pub fn mask(weights: &[f32], norms: &[f32], pattern: Pattern) -> Result<Vec<bool>> {
    let scores = scores(weights, norms)?;
    match pattern {
        Pattern::Share(share) => {
            check_share(share)?;
            // Rounded down, as by its authors.
            let count = (share * norms.len() as f64) as usize;
            let rows = scores.par_chunks_exact(norms.len().max(1));
            Ok(rows.flat_map_iter(|row| drop_smallest(&[row], count).swap_remove(0)).collect())
        }
        Pattern::TwoOfFour => Ok(two_of_four(&scores, norms.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_loses_as_many_weights() {
        let weights = [1.0, -2.0, 3.0, 10.0, 20.0, 30.0];
        let mask = |norms: &[f32]| mask(&weights, norms, Pattern::Share(0.4)).unwrap();
        assert_eq!(mask(&[1.0; 3]), [false, true, true, false, true, true]);
        assert_eq!(mask(&[9.0, 1.0, 1.0]), [true, false, true, true, false, true]);
        assert_eq!(mask(&[1.0, 1.0, 0.0]), [true, true, false, true, true, false]);
        assert!(super::mask(&weights, &[1.0, f32::INFINITY, 1.0], Pattern::TwoOfFour).is_err());
    }
}
