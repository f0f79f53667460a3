//! The hash functions of MinHash, as in datatrove 0.10.1: (a·x + b mod 2⁶⁴) mod 2⁶¹ − 1, with a and b drawn
//! from numpy's `RandomState`. The sum overflows before it is reduced, so that these are not the universal
//! hash functions of textbooks, but those with which signatures elsewhere were made.

use kiln_base::mersenne_twister::MersenneTwister;
use pulp::{Arch, NullaryFnOnce};

const PRIME: u64 = (1 << 61) - 1;

/// Number of hash functions that are computed together: two vectors of 512 bits.
const LANES: usize = 16;

/// Number of shingle hashes that stay in the first-level cache while all functions are applied to them.
const BLOCK: usize = 1024;

/// A family of hash functions, and the vector instructions to compute them with.
#[derive(Debug, Clone)]
pub(super) struct Permutations {
    multipliers: Vec<[u64; LANES]>,
    offsets: Vec<[u64; LANES]>,
    count: usize,
    arch: Arch,
}

impl Permutations {
    pub(super) fn new(seed: u32, count: usize) -> Self {
        let mut random = MersenneTwister::new(seed);
        let multipliers = in_lanes((0..count).map(|_| 1 + below_or_at(&mut random, PRIME - 2)));
        let offsets = in_lanes((0..count).map(|_| below_or_at(&mut random, PRIME - 1)));
        Self { multipliers, offsets, count, arch: Arch::new() }
    }

    /// Computes the minimum of every function over the shingles.
    pub(super) fn minima(&self, shingles: &[u64]) -> Vec<u64> {
        let mut minima = vec![[u64::MAX; LANES]; self.multipliers.len()];
        for block in shingles.chunks(BLOCK) {
            let groups = self.multipliers.iter().zip(&self.offsets).zip(&mut minima);
            for ((multipliers, offsets), minima) in groups {
                self.arch.dispatch(Minima { shingles: block, multipliers, offsets, minima });
            }
        }
        minima.into_iter().flatten().take(self.count).collect()
    }
}

fn in_lanes(values: impl Iterator<Item = u64>) -> Vec<[u64; LANES]> {
    let values: Vec<u64> = values.collect();
    let mut groups = vec![[0; LANES]; values.len().div_ceil(LANES)];
    groups.iter_mut().flatten().zip(values).for_each(|(slot, value)| *slot = value);
    groups
}

struct Minima<'a> {
    shingles: &'a [u64],
    multipliers: &'a [u64; LANES],
    offsets: &'a [u64; LANES],
    minima: &'a mut [u64; LANES],
}

impl NullaryFnOnce for Minima<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (multipliers, offsets, mut minima) = (*self.multipliers, *self.offsets, *self.minima);
        for &shingle in self.shingles {
            for lane in 0..LANES {
                let hash = reduce(shingle.wrapping_mul(multipliers[lane]).wrapping_add(offsets[lane]));
                minima[lane] = minima[lane].min(hash);
            }
        }
        *self.minima = minima;
    }
}

/// Reduces a number modulo 2⁶¹ − 1. As 2⁶¹ is 1, the upper three bits are added to the others. The sum is at
/// most the prime plus 7; if it is below the prime, subtracting the prime wraps to a number larger than the
/// sum.
#[inline(always)]
fn reduce(number: u64) -> u64 {
    let sum = (number & PRIME) + (number >> 61);
    sum.min(sum.wrapping_sub(PRIME))
}

/// Draws a number of 61 bits that is at most `maximum`, by rejection, as numpy's `randint` does.
fn below_or_at(random: &mut MersenneTwister, maximum: u64) -> u64 {
    loop {
        let high = u64::from(random.next_u32()) << 32;
        let value = (high | u64::from(random.next_u32())) & PRIME;
        if value <= maximum {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numpys() {
        // MinhashDedupSignature(folder, MinhashConfig()).parameters
        let own = Permutations::new(1, 112);
        let a: Vec<u64> = own.multipliers.iter().flatten().copied().collect();
        let b: Vec<u64> = own.offsets.iter().flatten().copied().collect();
        assert_eq!(a[..3], [775_169_054_918_279_404, 1_758_426_461_858_698_313, 2_109_959_069_025_162]);
        assert_eq!(a[111], 223_865_076_026_037_746);
        assert_eq!(b[..2], [1_062_448_801_025_099_917, 1_324_811_268_927_594_100]);
        assert_eq!((b[2], b[111]), (1_217_488_311_597_731_462, 1_097_409_548_522_419_201));
    }

    #[test]
    fn reduces_modulo_the_prime() {
        let edges = (0..8).flat_map(|k: u64| {
            (0..5).map(move |d: u64| k.wrapping_mul(PRIME).wrapping_add(d).wrapping_sub(2))
        });
        for number in edges.chain([u64::MAX, u64::MAX - 6, u64::MAX - 7, u64::MAX - 8]) {
            assert_eq!(reduce(number), number % PRIME, "{number}");
        }
    }

    #[test]
    fn vectors_and_blocks_change_nothing() {
        let shingles: Vec<u64> = (0..2500u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let own = Permutations::new(7, 21);
        let minima = own.minima(&shingles);
        assert_eq!(minima.len(), 21);
        for (i, least) in minima.into_iter().enumerate() {
            let (a, b) = (own.multipliers[i / LANES][i % LANES], own.offsets[i / LANES][i % LANES]);
            let hash = |&x: &u64| x.wrapping_mul(a).wrapping_add(b) % PRIME;
            assert_eq!(Some(least), shingles.iter().map(hash).min());
        }
    }
}
