//! Random numbers of numpy's `default_rng(seed)`, so that the bootstrap draws the texts that sacrebleu draws.
//!
//! O'Neill, "PCG: a family of simple fast space-efficient statistically good algorithms for random number
//! generation", 2014 (PCG64 XSL-RR); the seed is spread as numpy's `SeedSequence` does; bounded numbers after
//! Lemire, "Fast random integer generation in an interval", 2019.

const POOL: usize = 4;
const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

/// The generator behind `numpy.random.default_rng`.
pub(crate) struct Random {
    state: u128,
    increment: u128,
    /// Upper half of the last 64 bits, which the next call of [`Random::next_u32`] returns.
    kept: Option<u32>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let words = seed_words(seed).map(u128::from);
        let increment = (words[2] << 64 | words[3]) << 1 | 1;
        let mut random = Self { state: increment, increment, kept: None };
        random.state = random.state.wrapping_add(words[0] << 64 | words[1]);
        random.step();
        random
    }

    /// A number from 0 to `bound` - 1, as `integers(0, bound)` gives it; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        if bound <= 1 {
            return 0; // numpy draws nothing here.
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let next = self.next_u64();
        self.kept = Some((next >> 32) as u32);
        next as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }
}

/// The four words of `SeedSequence(seed).generate_state(4, numpy.uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    let mut hash = Hash { constant: 0x43B0_D7E5, multiplier: 0x931E_8875 };
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut pool = entropy.map(|word| hash.apply(word));
    for source in 0..POOL {
        for target in (0..POOL).filter(|&target| target != source) {
            pool[target] = mix(pool[target], hash.apply(pool[source]));
        }
    }
    let mut hash = Hash { constant: 0x8B51_F9DD, multiplier: 0x58F3_8DED };
    let mut halves = pool.iter().cycle().map(|&word| u64::from(hash.apply(word)));
    std::array::from_fn(|_| {
        let low = halves.next().unwrap_or_default();
        low | halves.next().unwrap_or_default() << 32
    })
}

struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn apply(&mut self, value: u32) -> u32 {
        let value = value ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let value = value.wrapping_mul(self.constant);
        value ^ value >> 16
    }
}

fn mix(a: u32, b: u32) -> u32 {
    let mixed = a.wrapping_mul(0xCA01_F9DD).wrapping_sub(b.wrapping_mul(0x4973_F715));
    mixed ^ mixed >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, bound: u32) -> [u32; 8] {
        let mut random = Random::new(seed);
        std::array::from_fn(|_| random.below(bound))
    }

    /// The numbers are `numpy.random.default_rng(seed).choice(bound, size=8, replace=True)`.
    #[test]
    fn numbers_are_those_of_numpy() {
        assert_eq!(draw(12345, 100), [69, 22, 78, 31, 20, 79, 64, 67]);
        assert_eq!(draw(0, 7), [5, 4, 3, 1, 2, 0, 0, 0]);
        assert_eq!(
            draw(1 << 40 | 3, 3_000_000_000),
            [2320968254, 1334032640, 1141922330, 1419536743, 194552075, 2358795727, 586955668, 1697236867]
        );
        assert_eq!(draw(5, 1), [0; 8]);
        assert_eq!(draw(5, 0), [0; 8]);
    }
}
