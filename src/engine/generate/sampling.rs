//! Chooses a token from logits: temperature, top-k, top-p (arXiv:1904.09751), min-p (arXiv:2407.01082),
//! repetition penalty (arXiv:1909.05858).

use crate::{
    config::SampleConfig,
    error::{Error, Result},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws tokens at random; the same seed draws the same tokens.
pub struct Sampler<'a> {
    config: &'a SampleConfig,
    rng: ChaCha8Rng,
}

impl<'a> Sampler<'a> {
    pub fn new(config: &'a SampleConfig) -> Self {
        Self { config, rng: ChaCha8Rng::seed_from_u64(config.seed) }
    }

    /// Sampler of one row of a batch. Each row has its own random numbers; row 0 has those of
    /// [`new`](Self::new).
    pub fn of_row(config: &'a SampleConfig, row: u64) -> Self {
        let mut sampler = Self::new(config);
        sampler.rng.set_stream(row);
        sampler
    }

    /// Draws a token from `logits`, which are modified. `seen` contains all tokens so far, for the repetition
    /// penalty.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`] if the logits contain NaN or +∞, or are all −∞.
    pub fn sample(&mut self, logits: &mut [f32], seen: &[u32]) -> Result<u32> {
        check(logits)?;
        penalize(logits, seen, self.config.repetition_penalty as f32);
        if self.config.temperature == 0.0 {
            return Ok(argmax(logits));
        }
        let candidates = candidates(logits, self.config);
        let total: f64 = candidates.iter().map(|(_, p)| p).sum();
        let mut left = uniform(&mut self.rng) * total;
        for (token, p) in &candidates {
            left -= p;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(candidates.last().map_or(0, |(token, _)| *token))
    }
}

/// Refuses logits from which no token can be chosen: NaN, +∞, or all −∞. A single −∞ only excludes its token.
///
/// # Errors
/// [`Error::NonFiniteOutput`].
pub(super) fn check(logits: &[f32]) -> Result<()> {
    let refused = logits.iter().copied().find(|logit| logit.is_nan() || *logit == f32::INFINITY);
    let is_empty = logits.iter().all(|logit| *logit == f32::NEG_INFINITY);
    match refused.or(is_empty.then_some(f32::NEG_INFINITY)) {
        None => Ok(()),
        Some(value) => Err(Error::NonFiniteOutput { what: "the logits", value, origin: None }),
    }
}

/// Uniform random number in [0, 1).
fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(token, _)| token as u32)
}

fn penalize(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut tokens = seen.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// Tokens that may be drawn, with their relative probabilities, most likely first.
fn candidates(logits: &[f32], config: &SampleConfig) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if config.top_k > 0 {
        order.truncate(config.top_k);
    }
    let largest = order.first().map_or(0.0, |&token| f64::from(logits[token as usize]));
    let weight = |token: u32| ((f64::from(logits[token as usize]) - largest) / config.temperature).exp();
    let mut candidates: Vec<(u32, f64)> = order.into_iter().map(|token| (token, weight(token))).collect();
    candidates.retain(|(_, p)| *p >= config.min_p && p.is_finite());
    let total: f64 = candidates.iter().map(|(_, p)| p).sum();
    let mut reached = 0.0;
    let mut kept = 0;
    for (_, p) in &candidates {
        if kept > 0 && reached >= config.top_p * total {
            break;
        }
        reached += p;
        kept += 1;
    }
    candidates.truncate(kept);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(config: &SampleConfig) -> Vec<u32> {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [0.5f32, 0.25, 0.125, 0.125].map(f32::ln);
        candidates(&logits, config).into_iter().map(|(token, _)| token).collect()
    }

    fn config() -> SampleConfig {
        SampleConfig { temperature: 1.0, ..Default::default() }
    }

    #[test]
    fn filters_keep_the_likely_ones() {
        assert_eq!(tokens(&config()), [0, 1, 2, 3]);
        assert_eq!(tokens(&SampleConfig { top_k: 2, ..config() }), [0, 1]);
        assert_eq!(tokens(&SampleConfig { top_p: 0.75, ..config() }), [0, 1]);
        assert_eq!(tokens(&SampleConfig { top_p: 0.76, ..config() }), [0, 1, 2]);
        assert_eq!(tokens(&SampleConfig { top_p: 1e-9, ..config() }), [0]);
        assert_eq!(tokens(&SampleConfig { min_p: 0.3, ..config() }), [0, 1]);
    }

    #[test]
    fn zero_temperature_takes_the_first_maximum_and_penalty_moves_it() {
        let config = SampleConfig { temperature: 0.0, repetition_penalty: 2.0, ..Default::default() };
        let mut sampler = Sampler::new(&config);
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 3.0], &[]).unwrap(), 1);
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 2.0], &[1]).unwrap(), 2);
        assert_eq!(sampler.sample(&mut [f32::NEG_INFINITY, -1.0], &[0]).unwrap(), 1);
    }

    #[test]
    fn logits_that_are_not_finite_are_refused_but_for_tokens_that_are_masked() {
        const MASKED: f32 = f32::NEG_INFINITY;
        for temperature in [0.0, 1.0] {
            let config = SampleConfig { temperature, ..Default::default() };
            let sample = |logits: &[f32]| Sampler::new(&config).sample(&mut logits.to_vec(), &[]);
            assert_eq!(sample(&[MASKED, 2.0, MASKED]).unwrap(), 1);
            for logits in [[f32::NAN, -1.0], [1.0, f32::NAN], [f32::INFINITY, 0.0], [MASKED, MASKED]] {
                let error = sample(&logits).unwrap_err();
                assert!(error.to_string().contains("the logits are not finite"), "{logits:?}: {error}");
            }
        }
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let config = config();
        let draw = || {
            let mut sampler = Sampler::new(&config);
            (0..4000)
                .map(|_| sampler.sample(&mut [0.75f32.ln(), 0.25f32.ln()], &[]).unwrap())
                .collect::<Vec<_>>()
        };
        let drawn = draw();
        let ones = drawn.iter().filter(|&&token| token == 1).count() as f64 / 4000.0;
        assert!((ones - 0.25).abs() < 0.03, "{ones}");
        assert_eq!(drawn, draw());
    }
}
