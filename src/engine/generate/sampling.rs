//! Chooses a token from logits: temperature, top-k, top-p (arXiv:1904.09751), min-p (arXiv:2407.01082),
//! repetition penalty (arXiv:1909.05858).

use crate::{
    config::SampleConfig,
    error::{Error, Result},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

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
        let mut candidates = candidates(logits, self.config);
        let drawn = uniform(&mut self.rng) * total(&candidates);
        let index = first_at(&mut candidates, |sum| sum > drawn);
        // A penalty can make a logit infinite, beside which nothing has a weight.
        Ok(candidates.get(index).map_or_else(|| argmax(logits), |candidate| candidate.token))
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

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Probability, relative to that of the most likely token.
    weight: f64,
}

impl Candidate {
    /// Compares by likelihood, the most likely token first, and of equal ones by number.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// Tokens that may be drawn, in no order.
fn candidates(logits: &[f32], config: &SampleConfig) -> Vec<Candidate> {
    let numbered = logits.iter().enumerate();
    let mut candidates: Vec<Candidate> =
        numbered.map(|(token, &logit)| Candidate { token: token as u32, logit, weight: 0.0 }).collect();
    if (1..candidates.len()).contains(&config.top_k) {
        candidates.select_nth_unstable_by(config.top_k, Candidate::order);
        candidates.truncate(config.top_k);
    }
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    for candidate in &mut candidates {
        candidate.weight = ((f64::from(candidate.logit) - largest) / config.temperature).exp();
    }
    // Without those of weight 0, and also without NaN.
    candidates.retain(|candidate| candidate.weight > 0.0 && candidate.weight >= config.min_p);
    if config.top_p < 1.0 {
        let mass = config.top_p * total(&candidates);
        let last = first_at(&mut candidates, |sum| sum >= mass);
        candidates.truncate(last + 1);
    }
    candidates
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// Finds the first candidate, from the most likely one on, at which the sum of the weights up to it is enough; the last
/// one if no sum is. Returns its index, before which then are the more likely ones, in any order. Candidates are divided
/// into halves rather than sorted, so that the time is proportional to their number.
fn first_at(candidates: &mut [Candidate], is_enough: impl Fn(f64) -> bool) -> usize {
    let (mut start, mut end, mut before) = (0, candidates.len(), 0.0);
    while end - start > 1 {
        let half = (end - start) / 2;
        candidates[start..end].select_nth_unstable_by(half, Candidate::order);
        let sum = before + total(&candidates[start..start + half]);
        if is_enough(sum) {
            end = start + half;
        } else {
            (start, before) = (start + half, sum);
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(logits: &[f32], config: &SampleConfig) -> Vec<u32> {
        let mut tokens: Vec<u32> =
            candidates(logits, config).into_iter().map(|candidate| candidate.token).collect();
        tokens.sort_unstable();
        tokens
    }

    fn tokens(config: &SampleConfig) -> Vec<u32> {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        kept(&[0.5f32, 0.25, 0.125, 0.125].map(f32::ln), config)
    }

    /// Tokens that may be drawn with their weights, the most likely first, as a sort of the vocabulary finds them.
    fn by_sorting(logits: &[f32], config: &SampleConfig) -> Vec<(u32, f64)> {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        order.truncate(if config.top_k > 0 { config.top_k } else { logits.len() });
        let largest = f64::from(logits[order[0] as usize]);
        let weight = |token: u32| ((f64::from(logits[token as usize]) - largest) / config.temperature).exp();
        let mut weighted: Vec<(u32, f64)> = order.into_iter().map(|token| (token, weight(token))).collect();
        weighted.retain(|(_, weight)| *weight >= config.min_p);
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut reached = 0.0;
        let is_kept = |(_, weight): &&(u32, f64)| {
            let is_first = reached == 0.0;
            let is_kept = is_first || reached < config.top_p * total;
            reached += weight;
            is_kept
        };
        weighted.iter().take_while(is_kept).copied().collect()
    }

    /// The token that is drawn from sorted ones.
    fn drawn_by_sorting(logits: &[f32], config: &SampleConfig) -> u32 {
        let sorted = by_sorting(logits, config);
        let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
        let mut left = uniform(&mut ChaCha8Rng::seed_from_u64(config.seed)) * total;
        for (token, weight) in &sorted {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        sorted[sorted.len() - 1].0
    }

    /// Logits of which some are equal, some are masked, and zeros have either sign.
    fn logits(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let is_coarse = rng.next_u64().is_multiple_of(2);
        let logit = |rng: &mut ChaCha8Rng| match rng.next_u64() % 16 {
            0 => f32::NEG_INFINITY,
            1 => -0.0,
            2 => 0.0,
            _ if is_coarse => (rng.next_u64() % 24) as f32 / 4.0 - 3.0,
            _ => (uniform(rng) * 12.0 - 6.0) as f32,
        };
        let mut logits: Vec<f32> = (0..count).map(|_| logit(rng)).collect();
        logits[count / 2] = 1.5;
        logits
    }

    #[test]
    fn the_same_tokens_are_kept_and_drawn_as_from_sorted_ones() {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        for count in [1, 2, 3, 10, 65, 500, 4000] {
            for top_k in [0, 1, 2, 40, 5000] {
                for (top_p, min_p) in
                    [(1.0, 0.0), (0.9, 0.0), (0.3, 0.0), (1e-9, 0.0), (1.0, 0.05), (0.8, 0.02)]
                {
                    let logits = logits(count, rng);
                    let temperature = [0.3, 1.0, 2.5][rng.next_u64() as usize % 3];
                    let config = SampleConfig { temperature, top_k, top_p, min_p, ..Default::default() };
                    if top_p < 1.0 {
                        let mut expected: Vec<u32> =
                            by_sorting(&logits, &config).into_iter().map(|(token, _)| token).collect();
                        expected.sort_unstable();
                        assert_eq!(kept(&logits, &config), expected, "{count} {config:?}");
                    }
                    for seed in 0..8 {
                        let config = SampleConfig { seed, ..config.clone() };
                        let found = Sampler::new(&config).sample(&mut logits.clone(), &[]).unwrap();
                        assert_eq!(found, drawn_by_sorting(&logits, &config), "{count} {config:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_masked_token_is_never_a_candidate() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert_eq!(kept(&logits, &config()), [1]);
        assert_eq!(kept(&logits, &SampleConfig { top_k: 2, ..config() }), [1]);
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
