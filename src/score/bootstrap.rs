//! Confidence intervals of a score, and a test of whether two systems differ, by drawing texts with
//! replacement.
//!
//! Efron, "Bootstrap methods: another look at the jackknife", 1979; Koehn, "Statistical significance tests for
//! machine translation evaluation", 2004. Rules: `sacrebleu/significance.py` of sacrebleu 2.6.0. With the same
//! seed, the same texts are drawn. sacrebleu adds and divides in 32-bit floats, so that its means differ from
//! these by about 1e-5.
//!
//! A score is a function of the indices of texts. A metric with statistics adds those of the texts:
//!
//! ```
//! use kiln_score::{BleuConfig, BootstrapConfig, bootstrap, corpus};
//!
//! let (hypotheses, references) = (["a b c d".to_owned()], [vec!["a b c d".to_owned()]]);
//! let bleu = BleuConfig::default().build()?;
//! let statistics = corpus::map(&hypotheses, &references, |text, of_text| bleu.statistics(text, of_text))?;
//! let score = |texts: &[usize]| bleu.score(&corpus::sum(&statistics, texts.iter().copied())).score;
//! let interval = bootstrap::interval(statistics.len(), &BootstrapConfig::default(), score)?;
//! assert!((interval.lower - 100.0).abs() < 1e-9);
//! # Ok::<(), kiln_score::Error>(())
//! ```

use crate::{
    error::{Error, Result},
    random::Random,
};
use serde::{Deserialize, Serialize};

/// Settings of the bootstrap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Number of times that the texts are drawn.
    pub samples: usize,
    pub seed: u64,
    /// Share of the samples that the interval contains.
    pub confidence: f64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { samples: 1000, seed: 12345, confidence: 0.95 }
    }
}

impl BootstrapConfig {
    /// Part of a signature that names the bootstrap, as sacrebleu writes it.
    pub(crate) fn signature(&self) -> String {
        format!("|bs:{}|seed:{}", self.samples, self.seed)
    }
}

/// Score of all texts with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Score of all texts.
    pub score: f64,
    /// Mean of the scores of the samples.
    pub mean: f64,
    /// Lower end of the interval that contains the given share of the samples.
    pub lower: f64,
    /// Upper end of that interval.
    pub upper: f64,
}

impl Interval {
    fn new(score: f64, samples: &[f64], confidence: f64) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        // 1e-9 keeps rounding from losing one: 2.5 percent of 1000 samples are 25.
        let outside = (sorted.len() as f64 * (1.0 - confidence) / 2.0 + 1e-9) as usize;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(score);
        Self {
            score,
            mean: crate::corpus::mean(samples),
            lower: at(outside),
            upper: at(sorted.len().saturating_sub(outside + 1)),
        }
    }

    /// Half of the width, which sacrebleu prints behind `±`.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.upper - self.lower)
    }
}

/// Result of a paired bootstrap test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedTest {
    pub baseline: Interval,
    pub system: Interval,
    /// Probability of so large a difference if the systems do not differ.
    pub p_value: f64,
}

/// Confidence interval of the score of `texts` texts. `score` is called with the indices of the texts drawn.
///
/// # Errors
/// [`Error::Empty`] or [`Error::InvalidValue`].
pub fn interval(texts: usize, config: &BootstrapConfig, score: impl Fn(&[usize]) -> f64) -> Result<Interval> {
    let mut samples = Vec::new();
    resample(texts, config, |drawn| samples.push(score(drawn)))?;
    Ok(Interval::new(score(&all(texts)), &samples, config.confidence))
}

/// Tests whether the scores of two systems for the same texts differ. Both scores are of the same draws.
///
/// # Errors
/// [`Error::Empty`] or [`Error::InvalidValue`].
pub fn paired(
    texts: usize,
    config: &BootstrapConfig,
    baseline: impl Fn(&[usize]) -> f64,
    system: impl Fn(&[usize]) -> f64,
) -> Result<PairedTest> {
    let (mut of_baseline, mut of_system) = (Vec::new(), Vec::new());
    resample(texts, config, |drawn| {
        of_baseline.push(baseline(drawn));
        of_system.push(system(drawn));
    })?;
    let all = all(texts);
    let baseline = Interval::new(baseline(&all), &of_baseline, config.confidence);
    let system = Interval::new(system(&all), &of_system, config.confidence);
    let difference = (baseline.score - system.score).abs();
    let differences: Vec<f64> = of_baseline.iter().zip(&of_system).map(|(a, b)| (b - a).abs()).collect();
    let mean = crate::corpus::mean(&differences);
    let larger = differences.iter().filter(|&&of_sample| of_sample - mean > difference).count();
    Ok(PairedTest { baseline, system, p_value: (larger + 1) as f64 / (differences.len() + 1) as f64 })
}

fn all(texts: usize) -> Vec<usize> {
    (0..texts).collect()
}

/// Draws as many texts as there are, `config.samples` times.
fn resample(texts: usize, config: &BootstrapConfig, mut of_sample: impl FnMut(&[usize])) -> Result<()> {
    if texts == 0 {
        return Err(Error::Empty { what: "texts" });
    }
    let bound =
        u32::try_from(texts).map_err(|_| Error::invalid("texts", texts, "must be at most 4294967295"))?;
    if config.samples == 0 {
        return Err(Error::invalid("samples", 0, "must be at least 1"));
    }
    if !(config.confidence > 0.0 && config.confidence < 1.0) {
        return Err(Error::invalid("confidence", config.confidence, "must be between 0 and 1"));
    }
    let mut random = Random::new(config.seed);
    let mut drawn = vec![0; texts];
    for _ in 0..config.samples {
        drawn.iter_mut().for_each(|index| *index = random.below(bound) as usize);
        of_sample(&drawn);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of<'a>(values: &'a [f64]) -> impl Fn(&[usize]) -> f64 + 'a {
        |drawn| drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64
    }

    #[test]
    fn an_interval_contains_the_mean() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let found = interval(50, &BootstrapConfig::default(), mean_of(&values)).unwrap();
        assert_eq!(found.score, 24.5);
        // The standard error of the mean is 2.04, and 95 percent of a normal distribution lie within 1.96 of
        // it.
        assert!((found.half_width() - 4.0).abs() < 0.3, "{found:?}");
        assert!((found.mean - 24.5).abs() < 0.2, "{found:?}");
        let narrow = BootstrapConfig { confidence: 0.5, ..BootstrapConfig::default() };
        let narrow = interval(50, &narrow, mean_of(&values)).unwrap();
        assert!(narrow.lower > found.lower && narrow.upper < found.upper);
    }

    #[test]
    fn a_clear_difference_is_significant_and_none_is_not() {
        let low: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 3.0).collect();
        let config = BootstrapConfig::default();
        let test = paired(50, &config, mean_of(&low), mean_of(&high)).unwrap();
        assert_eq!(test.p_value, 1.0 / 1001.0);
        let mixed: Vec<f64> = (0..50).map(|i| f64::from((i * 5 + 1) % 7)).collect();
        let test = paired(50, &config, mean_of(&low), mean_of(&mixed)).unwrap();
        assert!(test.p_value > 0.1, "{test:?}");
    }

    #[test]
    fn wrong_settings_are_refused() {
        let config = BootstrapConfig::default();
        assert!(interval(0, &config, |_| 0.0).is_err());
        assert!(interval(1, &BootstrapConfig { samples: 0, ..config.clone() }, |_| 0.0).is_err());
        assert!(interval(1, &BootstrapConfig { confidence: 1.0, ..config.clone() }, |_| 0.0).is_err());
        assert!(interval(1, &config, |_| f64::NAN).unwrap().score.is_nan());
    }
}
