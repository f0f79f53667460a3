//! Selection of the smallest of some scores.

/// Mask over several groups of scores without the `count` smallest of all; of equal scores the first are dropped.
///
/// Scores must not be NaN.
pub(crate) fn drop_smallest(groups: &[&[f32]], count: usize) -> Vec<Vec<bool>> {
    let total: usize = groups.iter().map(|group| group.len()).sum();
    if count == 0 {
        return groups.iter().map(|group| vec![true; group.len()]).collect();
    }
    if count >= total {
        return groups.iter().map(|group| vec![false; group.len()]).collect();
    }
    let mut all = Vec::with_capacity(total);
    groups.iter().for_each(|group| all.extend_from_slice(group));
    let (below, largest, _) = all.select_nth_unstable_by(count - 1, f32::total_cmp);
    let largest = *largest;
    // How many of those that equal the largest dropped score are dropped.
    let mut of_equal = 1 + below.iter().filter(|score| **score == largest).count();
    let mut keeps = |score: f32| {
        if score == largest && of_equal > 0 {
            of_equal -= 1;
            return false;
        }
        score >= largest
    };
    groups.iter().map(|group| group.iter().map(|&score| keeps(score)).collect()).collect()
}

/// Numbers of the units that stay if the `removed` ones with the smallest scores go, in ascending order.
pub(crate) fn keep_largest(scores: &[f64], removed: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut kept = order.split_off(removed.min(scores.len()));
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_scores_the_first_go() {
        assert_eq!(drop_smallest(&[&[2.0, 1.0, 1.0, 1.0]], 2), [[true, false, false, true]]);
        assert_eq!(drop_smallest(&[&[0.0; 3], &[0.0, 5.0]], 4), [vec![false; 3], vec![false, true]]);
        assert_eq!(drop_smallest(&[&[3.0, 4.0]], 0), [[true, true]]);
        assert_eq!(drop_smallest(&[&[3.0], &[4.0]], 2), [[false], [false]]);
        assert_eq!(keep_largest(&[0.5, 0.1, 0.1, 0.7], 2), [0, 3]);
        assert_eq!(keep_largest(&[0.5, 0.1, 0.1], 1), [0, 2]);
        assert_eq!(keep_largest(&[1.0], 5), [0; 0]);
    }
}
