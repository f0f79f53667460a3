//! Shares that grow during training.

/// Share that is pruned at `progress`, from 0 at the beginning to 1 at the end of pruning: fast at first, when many
/// weights do little, then slower and slower until `last` (arXiv:1710.01878, equation 1).
pub fn share_at(last: f64, progress: f64) -> f64 {
    last * (1.0 - (1.0 - progress.clamp(0.0, 1.0)).powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_to_the_last() {
        assert_eq!(share_at(0.8, 0.0), 0.0);
        assert_eq!(share_at(0.8, 0.5), 0.8 * 0.875);
        assert_eq!(share_at(0.8, 1.0), 0.8);
        assert_eq!([share_at(0.8, -1.0), share_at(0.8, 2.0)], [0.0, 0.8]);
        assert!(
            (0..100)
                .all(|step| share_at(0.5, f64::from(step) / 100.0)
                    < share_at(0.5, f64::from(step + 1) / 100.0))
        );
    }
}
