//! A seeded permutation of 0..n that is computed position by position, so that shuffling billions of
//! rows takes no memory: a Feistel network over the next power of four, walked until it lands inside
//! the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

use super::random;
use rand_chacha::rand_core::Rng;

const ROUNDS: usize = 6;

/// A permutation of 0..n.
pub(super) struct Permutation {
    keys: [u64; ROUNDS],
    half_bits: u32,
    n: u64,
}

impl Permutation {
    /// Makes the permutation of 0..`n` for a seed and an epoch.
    pub(super) fn new(seed: u64, epoch: u64, n: u64) -> Self {
        let mut rng = random::rng(seed, epoch, "permutation");
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { keys: std::array::from_fn(|_| rng.next_u64()), half_bits: bits.div_ceil(2).max(1), n }
    }

    /// The number that the permutation maps `position` to; `position` must be below n.
    pub(super) fn at(&self, position: u64) -> u64 {
        debug_assert!(position < self.n);
        let mut value = position;
        // The domain is less than 4n (but at least 4), so that this takes few rounds on average; it
        // ends because the walk is on a cycle that holds `position` itself.
        loop {
            value = self.encrypt(value);
            if value < self.n {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// Finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_permuted() {
        for n in (1..70).chain([255, 256, 257, 1000, 4097]) {
            let permutation = Permutation::new(7, 3, n);
            let mut images: Vec<u64> = (0..n).map(|i| permutation.at(i)).collect();
            images.sort_unstable();
            assert_eq!(images, (0..n).collect::<Vec<_>>(), "n = {n}");
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_positions_spread() {
        let n = 10_000;
        let images = |seed, epoch| -> Vec<u64> {
            let permutation = Permutation::new(seed, epoch, n);
            (0..n).map(|i| permutation.at(i)).collect()
        };
        let first = images(1, 0);
        for other in [images(1, 1), images(2, 0)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 20, "{same} positions agree");
        }
        // The mean distance of neighbours in a random order is n / 3.
        let distance: u64 = first.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum();
        assert!((3100..3570).contains(&(distance / n)), "{}", distance / n);
    }

    #[test]
    fn huge_ranges_take_no_memory() {
        let permutation = Permutation::new(1, 0, 1 << 45);
        assert_ne!(permutation.at(0), permutation.at(1));
        assert!(permutation.at((1 << 45) - 1) < 1 << 45);
    }
}
