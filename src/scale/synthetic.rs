//! Runs with a known law, for tests.

use crate::{law::Law, random::Random, runs::Runs};

/// The law of arXiv:2203.15556, appendix D.3.
pub const CHINCHILLA: Law = Law { e: 1.69, a: 406.4, b: 410.7, alpha: 0.34, beta: 0.28 };

/// `count` numbers from `low` to `high` with a constant ratio.
pub fn spread(low: f64, high: f64, count: usize) -> Vec<f64> {
    (0..count).map(|index| low * (high / low).powf(index as f64 / (count - 1) as f64)).collect()
}

/// Runs of every size with every number of tokens. Losses are multiplied by exp(`noise` · z), where z is a
/// standard normal number.
pub fn grid(law: &Law, sizes: &[f64], tokens: &[f64], noise: f64, seed: u64) -> Runs {
    let mut random = Random::new(seed);
    let cells = sizes.iter().flat_map(|&n| tokens.iter().map(move |&d| (n, d)));
    Runs::from_values(cells.map(|(n, d)| (n, d, law.loss(n, d) * (noise * normal(&mut random)).exp())))
        .unwrap()
}

/// A standard normal number (Box and Muller, 1958).
pub fn normal(random: &mut Random) -> f64 {
    let mut uniform = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
    radius * angle.cos()
}
