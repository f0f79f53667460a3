//! Python's random numbers: the Mersenne Twister (Matsumoto and Nishimura, 1998) with the seeding, `sample`
//! and `choices` of CPython's `random.Random`, so that few-shot examples and bootstrap samples are those of
//! lm-evaluation-harness.

use kiln_base::mersenne_twister::MersenneTwister;
use std::collections::HashSet;

/// Random numbers of `random.Random(seed)`.
#[derive(Clone)]
pub struct PythonRandom(MersenneTwister);

impl PythonRandom {
    pub fn new(seed: u64) -> Self {
        // CPython's seed is a list of words, without leading zeros.
        let words = [seed as u32, (seed >> 32) as u32];
        let key = if words[1] == 0 { &words[..1] } else { &words[..] };
        Self(MersenneTwister::from_key(key))
    }

    /// A number below 2^32.
    fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number from 0 to below 1, in steps of 2^-53.
    pub fn random(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        let bits = u64::BITS - end.leading_zeros();
        loop {
            let number = if bits <= 32 {
                u64::from(self.word() >> (32 - bits))
            } else {
                u64::from(self.word()) | u64::from(self.word() >> (64 - bits)) << 32
            };
            if number < end {
                return number;
            }
        }
    }

    /// Indices that `sample` draws from a population of `size`, none of them twice. `None` if the population
    /// is smaller than `count`.
    pub fn sample(&mut self, size: usize, count: usize) -> Option<Vec<usize>> {
        if count > size {
            return None;
        }
        // CPython copies a population that takes less memory than a set of the drawn indices would.
        let mut set_size = 21;
        if count > 5 {
            set_size += 4usize.pow(((count * 3) as f64).log(4.0).ceil() as u32);
        }
        let mut drawn = Vec::with_capacity(count);
        if size <= set_size {
            let mut pool: Vec<usize> = (0..size).collect();
            for i in 0..count {
                let j = self.below((size - i) as u64) as usize;
                drawn.push(pool[j]);
                pool[j] = pool[size - i - 1];
            }
        } else {
            let mut taken = HashSet::with_capacity(count);
            while drawn.len() < count {
                let j = self.below(size as u64) as usize;
                if taken.insert(j) {
                    drawn.push(j);
                }
            }
        }
        Some(drawn)
    }

    /// An index below `size`, as each of those that `choices` draws.
    pub fn choice(&mut self, size: usize) -> usize {
        (self.random() * size as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of CPython 3.11:
    /// `r = random.Random(1234); [r.sample(range(10), 3), r.sample(range(1000), 4), r.sample(range(90), 7)]`,
    /// `r.random()`, `r.choices(range(7), k=4)` and `random.Random(2**40 + 3).sample(range(100), 3)`.
    #[test]
    fn numbers_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(10, 3).unwrap(), [7, 1, 0]);
        assert_eq!(random.sample(1000, 4).unwrap(), [92, 932, 965, 961]);
        assert_eq!(random.sample(90, 7).unwrap(), [74, 4, 85, 88, 10, 12, 45]);
        assert_eq!(random.random(), 0.23680977536311776);
        assert_eq!([0; 4].map(|_| random.choice(7)), [0, 5, 2, 4]);
        assert_eq!(PythonRandom::new((1 << 40) + 3).sample(100, 3).unwrap(), [28, 7, 70]);
        assert_eq!(random.sample(2, 3), None);
    }
}
