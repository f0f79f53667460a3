//! The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), whose numbers Python and numpy draw.

/// Number of words of the state.
const SIZE: usize = 624;
/// Distance between the words that are combined.
const SHIFT: usize = 397;
/// Factor of Knuth's initialization.
const KNUTH: u32 = 1_812_433_253;

/// Generator of words of 32 bits.
#[derive(Debug, Clone)]
pub struct MersenneTwister {
    state: [u32; SIZE],
    /// Index of the next word of the state; [`SIZE`] if all are used.
    next: usize,
}

impl MersenneTwister {
    /// Seeds by a number, as numpy's `RandomState(seed)` does (`init_genrand`).
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; SIZE];
        for i in 1..SIZE {
            let last = state[i - 1];
            state[i] = KNUTH.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: SIZE }
    }

    /// Seeds by a list of words, as CPython's `random.Random` does (`init_by_array`). An empty list counts as one 0.
    pub fn from_key(key: &[u32]) -> Self {
        let key = if key.is_empty() { &[0] } else { key };
        let mut state = Self::new(19_650_218).state;
        let mixed = |state: &[u32; SIZE], i: usize, factor: u32| {
            let last = state[i - 1];
            state[i] ^ (last ^ (last >> 30)).wrapping_mul(factor)
        };
        let following = |state: &mut [u32; SIZE], i: usize| {
            if i + 1 < SIZE {
                return i + 1;
            }
            state[0] = state[SIZE - 1];
            1
        };
        let mut i = 1;
        for step in 0..SIZE.max(key.len()) {
            let j = step % key.len();
            state[i] = mixed(&state, i, 1_664_525).wrapping_add(key[j]).wrapping_add(j as u32);
            i = following(&mut state, i);
        }
        for _ in 1..SIZE {
            state[i] = mixed(&state, i, 1_566_083_941).wrapping_sub(i as u32);
            i = following(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: SIZE }
    }

    /// Draws a word.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == SIZE {
            for i in 0..SIZE {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % SIZE] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % SIZE] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `numpy.random.RandomState(5489).randint(0, 2**32, 1, dtype="uint32")`, and the first word after
    /// `init_by_array({0x123, 0x234, 0x345, 0x456})` in the authors' `mt19937ar.out`.
    #[test]
    fn words_are_those_of_the_authors() {
        assert_eq!(MersenneTwister::new(5489).next_u32(), 3_499_211_612);
        assert_eq!(MersenneTwister::from_key(&[0x123, 0x234, 0x345, 0x456]).next_u32(), 1_067_595_299);
    }
}
