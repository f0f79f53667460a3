//! Generalized advantage estimation (arXiv:1506.02438).

/// Advantages of tokens: discounted sums of the differences `reward + gamma * next value - value`. There is no
/// value after the last of the `width` positions of an answer.
pub fn generalized_advantages(
    rewards: &[f32],
    values: &[f32],
    width: usize,
    gamma: f64,
    lambda: f64,
) -> Vec<f32> {
    let mut advantages = vec![0.0; rewards.len()];
    let width = width.max(1);
    let rows = advantages.chunks_mut(width).zip(rewards.chunks(width)).zip(values.chunks(width));
    for ((advantages, rewards), values) in rows {
        let (mut following, mut carried) = (0.0, 0.0);
        for ((advantage, reward), value) in advantages.iter_mut().zip(rewards).zip(values).rev() {
            let value = f64::from(*value);
            carried = f64::from(*reward) + gamma * following - value + gamma * lambda * carried;
            following = value;
            *advantage = carried as f32;
        }
    }
    advantages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_lambda_are_the_return_and_one_difference() {
        let (rewards, values) = ([0.0, 1.0, 2.0, 9.0, 0.0, 0.0], [0.5, 0.25, 1.0, 4.0, 0.0, 0.0]);
        let of = |gamma, lambda| generalized_advantages(&rewards, &values, 3, gamma, lambda);
        assert_eq!(of(1.0, 1.0), [2.5, 2.75, 1.0, 5.0, 0.0, 0.0]);
        assert_eq!(of(1.0, 0.0), [-0.25, 1.75, 1.0, 5.0, 0.0, 0.0]);
        assert_eq!(of(0.5, 1.0), [0.5, 1.75, 1.0, 5.0, 0.0, 0.0]);
    }
}
