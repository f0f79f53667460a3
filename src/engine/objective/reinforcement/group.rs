//! Advantages of answers that are compared with other answers to the same prompt. An answer without a score
//! (it was left out) has no advantage and does not count.

use crate::config::AdvantageScale;

/// Added to a standard deviation, by which advantages are divided.
const EPSILON: f64 = 1e-4;

/// Advantages of GRPO: score minus the mean of the group, divided by a standard deviation (with Bessel's
/// correction). `group` consecutive answers belong to one prompt.
pub fn group_advantages(scores: &[Option<f32>], group: usize, scale: AdvantageScale) -> Vec<f32> {
    let of_batch = deviation(scores);
    let advantages = scores.chunks(group.max(1)).flat_map(|scores| {
        let mean = mean(scores);
        let divisor = match scale {
            AdvantageScale::Group => deviation(scores) + EPSILON,
            AdvantageScale::Batch => of_batch + EPSILON,
            AdvantageScale::Unscaled => 1.0,
        };
        let advantage =
            move |score: &Option<f32>| score.map_or(0.0, |score| (f64::from(score) - mean) / divisor);
        scores.iter().map(advantage)
    });
    advantages.map(|advantage| advantage as f32).collect()
}

/// Advantages of RLOO: score minus the mean of the group's other answers (arXiv:2402.14740). An answer without
/// others has none.
pub fn leave_one_out(scores: &[Option<f32>], group: usize) -> Vec<f32> {
    let advantages = scores.chunks(group.max(1)).flat_map(|scores| {
        let count = scores.iter().flatten().count() as f64;
        let sum: f64 = scores.iter().flatten().map(|&score| f64::from(score)).sum();
        let advantage = move |score: &Option<f32>| match score {
            Some(score) if count > 1.0 => {
                let score = f64::from(*score);
                score - (sum - score) / (count - 1.0)
            }
            _ => 0.0,
        };
        scores.iter().map(advantage)
    });
    advantages.map(|advantage| advantage as f32).collect()
}

/// Mean over groups of the standard deviation of their scores. Where it is 0, nothing can be learned.
pub fn group_deviation(scores: &[Option<f32>], group: usize) -> f64 {
    let groups = scores.chunks(group.max(1));
    let count = groups.len().max(1) as f64;
    groups.map(deviation).sum::<f64>() / count
}

fn mean(scores: &[Option<f32>]) -> f64 {
    let count = scores.iter().flatten().count().max(1) as f64;
    scores.iter().flatten().map(|&score| f64::from(score)).sum::<f64>() / count
}

fn deviation(scores: &[Option<f32>]) -> f64 {
    let (mean, count) = (mean(scores), scores.iter().flatten().count());
    let squares: f64 = scores.iter().flatten().map(|&score| (f64::from(score) - mean).powi(2)).sum();
    (squares / count.saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_left_out_change_nothing_for_the_others() {
        let all = [Some(1.0), None, Some(0.0), Some(2.0)];
        let without = [Some(1.0), Some(0.0), Some(2.0)];
        for scale in [AdvantageScale::Group, AdvantageScale::Batch, AdvantageScale::Unscaled] {
            let [a, none, b, c] = group_advantages(&all, 4, scale)[..] else { panic!() };
            assert_eq!(none, 0.0);
            assert_eq!([a, b, c], group_advantages(&without, 3, scale)[..]);
        }
        assert_eq!(leave_one_out(&all, 4), [0.0, 0.0, -1.5, 1.5]);
        assert_eq!(leave_one_out(&[Some(1.0), None], 2), [0.0, 0.0]);
        assert!(
            (group_deviation(&[Some(0.0), Some(2.0), Some(1.0), Some(1.0)], 2) - 0.5f64.sqrt()).abs() < 1e-9
        );
    }

    #[test]
    fn equal_rewards_give_no_advantage() {
        let scores = [Some(0.3); 4];
        assert_eq!(group_advantages(&scores, 4, AdvantageScale::Group), [0.0; 4]);
        assert_eq!(group_advantages(&scores, 4, AdvantageScale::Batch), [0.0; 4]);
    }
}
