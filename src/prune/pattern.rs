//! Patterns: how many weights are pruned, and where they may be.

use crate::error::{Error, Result};

/// Number of neighbouring inputs that a 2:4 pattern counts together.
pub(crate) const GROUP: usize = 4;

/// How many weights are pruned, and where they may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// This share of the weights, wherever they are; from 0 to below 1.
    Share(f64),
    /// Two of every four neighbouring inputs of an output (2:4). What is left at the end of a row whose width is not a
    /// multiple of four is not pruned.
    TwoOfFour,
}

/// Refuses a share that leaves nothing or is no share.
pub(crate) fn check_share(share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) { Ok(()) } else { Err(Error::Share { share }) }
}

/// Number of weights that are pruned of `count`, rounded to even as in PyTorch.
pub(crate) fn count_of(share: f64, count: usize) -> Result<usize> {
    check_share(share)?;
    let pruned = (share * count as f64).round_ties_even() as usize;
    if pruned >= count && count > 0 {
        return Err(Error::NothingLeft { what: "weights", count });
    }
    Ok(pruned)
}

/// Mask that keeps, of every four neighbours in a row, the two with the larger scores.
pub(crate) fn two_of_four(scores: &[f32], width: usize) -> Vec<bool> {
    let mut mask = vec![true; scores.len()];
    if width == 0 {
        return mask;
    }
    for (scores, mask) in scores.chunks_exact(width).zip(mask.chunks_exact_mut(width)) {
        for (scores, mask) in scores.chunks_exact(GROUP).zip(mask.chunks_exact_mut(GROUP)) {
            smaller_two(scores).into_iter().for_each(|place| mask[place] = false);
        }
    }
    mask
}

/// Places of the two smaller of four scores.
pub(crate) fn smaller_two<T: PartialOrd>(scores: &[T]) -> [usize; 2] {
    let is_before = |a: usize, b: usize| scores[a] < scores[b] || (scores[a] == scores[b] && a < b);
    let [mut least, mut second] = if is_before(1, 0) { [1, 0] } else { [0, 1] };
    for place in 2..GROUP {
        if is_before(place, least) {
            [least, second] = [place, least];
        } else if is_before(place, second) {
            second = place;
        }
    }
    [least, second]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_every_four_is_kept_and_a_ragged_end_whole() {
        let scores = [1.0, 2.0, 3.0, 4.0, 9.0, 0.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0];
        let expected = [false, false, true, true, true, true, false, false, true, true, true, true];
        assert_eq!(two_of_four(&scores, 6), expected);
        assert_eq!(two_of_four(&[], 0), [false; 0]);
        assert_eq!(smaller_two(&[4.0, 3.0, 2.0, 1.0]), [3, 2]);
        assert_eq!(smaller_two(&[2.0, 1.0, 1.0, 1.0]), [1, 2]);
    }

    #[test]
    fn shares_round_to_even_and_leave_something() {
        assert_eq!(count_of(0.5, 5), Ok(2));
        assert_eq!(count_of(0.5, 7), Ok(4));
        assert_eq!(count_of(0.0, 7), Ok(0));
        assert_eq!(count_of(0.9, 0), Ok(0));
        assert_eq!(count_of(0.9, 2), Err(Error::NothingLeft { what: "weights", count: 2 }));
        for share in [1.0, -0.1, f64::INFINITY] {
            assert_eq!(count_of(share, 7), Err(Error::Share { share }));
        }
        assert!(count_of(f64::NAN, 7).is_err());
    }
}
