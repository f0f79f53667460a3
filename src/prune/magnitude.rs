//! Pruning by magnitude: the weights with the smallest absolute values go (arXiv:1506.02626).

use crate::{
    error::{Error, Result},
    pattern::{Pattern, count_of, two_of_four},
    select::drop_smallest,
};

/// Mask of a matrix `[out, width]` by the magnitude of its weights.
///
/// # Errors
/// [`Error::Share`] and [`Error::NothingLeft`] for a share that leaves nothing, [`Error::NotFinite`].
pub fn mask(weights: &[f32], width: usize, pattern: Pattern) -> Result<Vec<bool>> {
    let magnitudes = magnitudes(weights)?;
    match pattern {
        Pattern::Share(share) => {
            let count = count_of(share, weights.len())?;
            Ok(drop_smallest(&[&magnitudes], count).swap_remove(0))
        }
        Pattern::TwoOfFour => Ok(two_of_four(&magnitudes, width)),
    }
}

/// Masks of several matrices, of whose weights the share with the smallest magnitudes goes, whatever matrix they are
/// in.
///
/// # Errors
/// Those of [`mask`]; also [`Error::NothingLeft`] if no weight of a whole matrix would be left.
pub fn global(matrices: &[&[f32]], share: f64) -> Result<Vec<Vec<bool>>> {
    let total = matrices.iter().map(|weights| weights.len()).sum();
    let count = count_of(share, total)?;
    let magnitudes = matrices.iter().map(|weights| magnitudes(weights)).collect::<Result<Vec<_>>>()?;
    let groups: Vec<&[f32]> = magnitudes.iter().map(Vec::as_slice).collect();
    let masks = drop_smallest(&groups, count);
    match masks.iter().find(|mask| !mask.is_empty() && !mask.contains(&true)) {
        None => Ok(masks),
        Some(mask) => Err(Error::NothingLeft { what: "weights of a matrix", count: mask.len() }),
    }
}

fn magnitudes(weights: &[f32]) -> Result<Vec<f32>> {
    Error::check_finite("weights", weights)?;
    Ok(weights.iter().map(|weight| weight.abs()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_was_pruned_keeps_its_zeros() {
        let weights = [0.0, -3.0, 0.0, 1.0, 2.0, 0.5];
        let kept = mask(&weights, 3, Pattern::Share(0.5)).unwrap();
        assert_eq!(kept, [false, true, false, true, true, false]);
        let kept = global(&[&weights, &[0.1, 4.0]], 0.5).unwrap();
        assert_eq!(kept, [vec![false, true, false, true, true, false], vec![false, true]]);
    }

    #[test]
    fn bad_matrices_are_refused() {
        let error = mask(&[1.0, f32::NAN], 2, Pattern::TwoOfFour).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "weights", .. }), "{error}");
        let error = global(&[&[1.0, 2.0, 3.0], &[0.1]], 0.25).unwrap_err();
        assert_eq!(error.to_string(), "of 1 weights of a matrix nothing would be left");
    }
}
