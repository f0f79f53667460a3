//! Confidence of a fit by the bootstrap (Efron, 1979): the law is fitted anew to runs drawn with replacement, and
//! whatever follows from a law has the percentiles of its values as interval.
//!
//! The intervals hold the uncertainty of the law, not the noise of a single run, and they cannot know of a law
//! that changes beyond the sizes of the runs.

use crate::{
    error::{Error, Result},
    fit::{Fit, Points},
    law::Law,
    random::Random,
    runs::{Run, Runs},
};
use serde::{Deserialize, Serialize};

/// Settings of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Number of times that runs are drawn.
    pub resamples: usize,
    /// Share of the values that an interval holds, between 0 and 1.
    pub level: f64,
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { resamples: 200, level: 0.95, seed: 1337 }
    }
}

/// An interval that holds `level` of the bootstrap's values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Intervals of the law's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LawIntervals {
    #[serde(rename = "E")]
    pub e: Interval,
    #[serde(rename = "A")]
    pub a: Interval,
    #[serde(rename = "B")]
    pub b: Interval,
    pub alpha: Interval,
    pub beta: Interval,
    /// Exponent of compute in the optimal number of parameters, β/(α + β).
    pub parameters_exponent: Interval,
}

/// Laws of resampled runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// One law for each resample that could be fitted.
    pub laws: Vec<Law>,
    /// Number of resamples that do not determine a law or do not follow one.
    pub dropped: usize,
    level: f64,
}

/// Fits laws to `resamples` draws of the runs. Each search starts at the law of all runs.
///
/// # Errors
/// [`Error::InvalidValue`], and [`Error::TooFewResamples`] if fewer than half could be fitted.
pub fn bootstrap(runs: &Runs, fit: &Fit, config: &BootstrapConfig) -> Result<Bootstrap> {
    let invalid =
        |key, value: String, message: &str| Error::InvalidValue { key, value, message: message.into() };
    if config.resamples < 2 {
        return Err(invalid("resamples", config.resamples.to_string(), "it must be at least 2"));
    }
    if !(config.level > 0.0 && config.level < 1.0) {
        return Err(invalid("level", config.level.to_string(), "it must be between 0 and 1"));
    }
    let (runs, mut random) = (runs.as_slice(), Random::new(config.seed));
    let mut laws = Vec::with_capacity(config.resamples);
    for _ in 0..config.resamples {
        let drawn: Vec<&Run> = runs.iter().map(|_| &runs[random.below(runs.len())]).collect();
        let points = Points::new(drawn.into_iter());
        if points.check_determined().is_ok() {
            laws.extend(points.refit(&fit.law, fit.config.delta));
        }
    }
    if 2 * laws.len() < config.resamples {
        return Err(Error::TooFewResamples { found: laws.len(), wanted: config.resamples });
    }
    Ok(Bootstrap { dropped: config.resamples - laws.len(), laws, level: config.level })
}

impl Bootstrap {
    /// Interval of a number that follows from a law.
    pub fn interval(&self, value: impl Fn(&Law) -> f64) -> Interval {
        let mut values: Vec<f64> = self.laws.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let outside = 0.5 * (1.0 - self.level);
        Interval { low: percentile(&values, outside), high: percentile(&values, 1.0 - outside) }
    }

    /// Intervals of the law's parameters.
    pub fn law(&self) -> LawIntervals {
        LawIntervals {
            e: self.interval(|law| law.e),
            a: self.interval(|law| law.a),
            b: self.interval(|law| law.b),
            alpha: self.interval(|law| law.alpha),
            beta: self.interval(|law| law.beta),
            parameters_exponent: self.interval(Law::parameters_exponent),
        }
    }
}

/// Value below which `share` of the sorted values lie, with straight lines between them (NumPy's `linear`).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * sorted.len().saturating_sub(1) as f64;
    let below = position.floor();
    let value = |index: f64| sorted.get(index as usize).copied();
    match (value(below), value(position.ceil())) {
        (Some(low), Some(high)) => low + (position - below) * (high - low),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fit::{FitConfig, fit},
        synthetic::{CHINCHILLA, grid, spread},
    };

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([1, 2, 4, 8, 16], [10, 50, 97.5])
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (share, expected) in [(0.1, 1.4), (0.5, 4.0), (0.975, 15.2), (0.0, 1.0), (1.0, 16.0)] {
            assert!((percentile(&sorted, share) - expected).abs() < 1e-12, "{share}");
        }
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_seed_gives_the_same_intervals() {
        let runs = grid(&CHINCHILLA, &spread(1e7, 1e10, 5), &spread(1e8, 1e12, 6), 0.005, 1);
        let fit = fit(&runs, &FitConfig::default()).unwrap();
        let config = BootstrapConfig { resamples: 30, ..Default::default() };
        let intervals = |seed| bootstrap(&runs, &fit, &BootstrapConfig { seed, ..config }).unwrap().law();
        assert_eq!(intervals(1), intervals(1));
        assert_ne!(intervals(1), intervals(2));
    }

    #[test]
    fn bad_settings_are_refused() {
        let runs = grid(&CHINCHILLA, &spread(1e7, 1e10, 3), &spread(1e8, 1e12, 3), 0.0, 1);
        let fit = fit(&runs, &FitConfig::default()).unwrap();
        let error = |config| bootstrap(&runs, &fit, &config).unwrap_err().to_string();
        let default = BootstrapConfig::default();
        assert!(error(BootstrapConfig { resamples: 0, ..default }).contains("`resamples`"));
        assert!(error(BootstrapConfig { level: 1.0, ..default }).contains("`level`"));
        assert!(error(BootstrapConfig { level: f64::NAN, ..default }).contains("`level`"));
    }
}
