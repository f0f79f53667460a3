//! Kaplan's power laws in one quantity each (arXiv:2001.08361, equations 1.1 to 1.3):
//!
//! ```text
//! L(N) = (N_c/N)^α_N      L(D) = (D_c/D)^α_D      L(C) = (C_c/C)^α_C
//! ```
//!
//! Each is a straight line of log L, by least squares. A law of one quantity holds where the others do not limit
//! the loss, so it is fitted to the best runs only: the lowest loss of each N, of each D, or those that no
//! cheaper run beats. The laws have no floor: they suit small ranges, and are too optimistic far beyond them.
//! The paper does not count embeddings in N.

use crate::{
    error::{Error, Quantity, Result},
    least_squares::line,
    runs::{Run, Runs, SAME_SIZE, groups},
};
use serde::Serialize;

/// Number of points that a law needs.
const MIN_POINTS: usize = 3;

/// FLOPs of one petaflop/s-day, the paper's unit of compute.
pub const PF_DAY: f64 = 8.64e19;

/// L(x) = (`scale`/x)^`exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PowerLaw {
    /// The quantity x.
    pub quantity: Quantity,
    /// N_c in parameters, D_c in tokens or C_c in FLOPs.
    pub scale: f64,
    /// α_N, α_D or α_C.
    pub exponent: f64,
    /// Standard error of the exponent.
    pub exponent_error: f64,
    /// Number of runs that the law was fitted to.
    pub runs: usize,
    /// Root mean square of the errors of log L.
    pub relative_error: f64,
}

impl PowerLaw {
    /// Loss at a value of the quantity.
    pub fn loss(&self, value: f64) -> f64 {
        (self.scale / value).powf(self.exponent)
    }
}

/// Fits L(N), L(D) or L(C).
///
/// # Errors
/// [`Error::TooFewValues`] or [`Error::TooFewRuns`] if there are fewer than three such runs, [`Error::NoDecrease`] if the loss does
/// not fall, [`Error::OutOfRange`] if the scale is too large for `f64`.
pub fn power_law(runs: &Runs, quantity: Quantity) -> Result<PowerLaw> {
    let best = match quantity {
        Quantity::Parameters => best_of_each(runs.as_slice(), |run| run.parameters),
        Quantity::Tokens => best_of_each(runs.as_slice(), |run| run.tokens),
        Quantity::Compute => frontier(runs.as_slice()),
    };
    if best.len() < MIN_POINTS {
        let (found, needed) = (best.len(), MIN_POINTS);
        return Err(match quantity {
            Quantity::Compute => Error::TooFewRuns {
                purpose: "L(C), which counts only runs that no cheaper run beats,",
                found,
                needed,
            },
            _ => Error::TooFewValues { quantity, found, needed },
        });
    }
    let (x, y): (Vec<f64>, Vec<f64>) = best.iter().map(|(value, loss)| (value.ln(), loss.ln())).unzip();
    let line = line(&x, &y).ok_or(Error::OutOfRange { what: "the power law" })?;
    let exponent = -line.slope;
    if exponent <= 0.0 {
        return Err(Error::NoDecrease { quantity, exponent });
    }
    let scale = (line.intercept / exponent).exp();
    if !scale.is_finite() || scale <= 0.0 {
        return Err(Error::OutOfRange { what: "the scale of the power law" });
    }
    let (exponent_error, relative_error) = (line.slope_error.unwrap_or(0.0), line.residual);
    Ok(PowerLaw { quantity, scale, exponent, exponent_error, runs: best.len(), relative_error })
}

/// Value and lowest loss of each group of runs with the same value.
fn best_of_each(runs: &[Run], value: fn(&Run) -> f64) -> Vec<(f64, f64)> {
    let values: Vec<f64> = runs.iter().map(value).collect();
    let best = |group: Vec<usize>| {
        let best = group.into_iter().min_by(|&a, &b| runs[a].loss.total_cmp(&runs[b].loss));
        best.map(|best| (values[best], runs[best].loss))
    };
    groups(&values, SAME_SIZE).into_iter().filter_map(best).collect()
}

/// Compute and loss of the runs with a lower loss than any run of less or equal compute.
fn frontier(runs: &[Run]) -> Vec<(f64, f64)> {
    let mut lowest = f64::INFINITY;
    let mut best = best_of_each(runs, Run::compute);
    best.retain(|(_, loss)| {
        let is_lower = *loss < lowest;
        lowest = lowest.min(*loss);
        is_lower
    });
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants of arXiv:2001.08361, section 1.2.
    const N_C: f64 = 8.8e13;
    const D_C: f64 = 5.4e13;
    const C_C: f64 = 3.1e8 * PF_DAY;

    fn runs(values: impl IntoIterator<Item = (f64, f64, f64)>) -> Runs {
        Runs::from_values(values).unwrap()
    }

    #[test]
    fn the_papers_laws_are_recovered() {
        let sizes = [1e6, 1e7, 1e8, 1e9];
        let of_size = runs(sizes.iter().flat_map(|n| {
            // Too few tokens cost loss, and such runs must not count.
            [(1e9, 1.3), (1e11, 1.0)].map(|(d, penalty)| (*n, d, (N_C / n).powf(0.076) * penalty))
        }));
        let found = power_law(&of_size, Quantity::Parameters).unwrap();
        assert!(
            (found.exponent - 0.076).abs() < 1e-12 && (found.scale / N_C - 1.0).abs() < 1e-9,
            "{found:?}"
        );
        assert!((found.loss(1e10) - (N_C / 1e10).powf(0.076)).abs() < 1e-12);
        assert_eq!(found.runs, 4);

        let of_tokens = runs([1e8, 1e9, 1e10].map(|d| (1e9, d, (D_C / d).powf(0.095))));
        let found = power_law(&of_tokens, Quantity::Tokens).unwrap();
        assert!(
            (found.exponent - 0.095).abs() < 1e-12 && (found.scale / D_C - 1.0).abs() < 1e-9,
            "{found:?}"
        );

        let of_compute = runs([1e18, 1e19, 1e20].iter().flat_map(|c: &f64| {
            // Besides the best size, one that costs the same and one that costs more without being better.
            let (n, loss) = (c.powf(0.7), (C_C / c).powf(0.05));
            [(n, c / 6.0 / n, loss), (2.0 * n, c / 12.0 / n, 1.02 * loss), (n, c / 3.0 / n, 1.01 * loss)]
        }));
        let found = power_law(&of_compute, Quantity::Compute).unwrap();
        assert!((found.exponent - 0.05).abs() < 1e-12 && (found.scale / C_C - 1.0).abs() < 1e-9, "{found:?}");
    }

    /// ```python
    /// x, y = numpy.log([1e6, 1e7, 1e8, 1e9]), numpy.log([4.1, 3.3, 2.9, 2.4])
    /// r = scipy.stats.linregress(x, y); print(-r.slope, numpy.exp(-r.intercept / r.slope), r.stderr)
    /// ```
    #[test]
    fn numbers_are_those_of_scipy() {
        let noisy = runs([(1e6, 1e9, 4.1), (1e7, 1e9, 3.3), (1e8, 1e9, 2.9), (1e9, 1e9, 2.4)]);
        let found = power_law(&noisy, Quantity::Parameters).unwrap();
        for (found, expected) in [found.exponent, found.scale, found.exponent_error].iter().zip([
            0.07538337870033199,
            111231466726025.56,
            0.004926884100661177,
        ]) {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn what_is_no_power_law_is_refused() {
        let equal = runs([(1e6, 1e7, 4.0), (1e6, 1e8, 3.0), (1e6, 1e9, 2.5)]);
        let message = power_law(&equal, Quantity::Parameters).unwrap_err().to_string();
        assert_eq!(
            message,
            "all runs have the same parameters, so that the exponent `alpha` cannot be known"
        );
        let rising = runs([(1e6, 1e7, 2.0), (2e6, 1e7, 2.5), (3e6, 1e7, 3.0)]);
        assert!(matches!(power_law(&rising, Quantity::Parameters), Err(Error::NoDecrease { .. })));
        let message = power_law(&rising, Quantity::Compute).unwrap_err().to_string();
        assert!(
            message.ends_with("no cheaper run beats, needs at least 3 runs, but there are 1"),
            "{message}"
        );
        let flat = runs([(1e6, 1e7, 2.0), (1e7, 1e7, 2.0 - 1e-9), (1e8, 1e7, 2.0 - 2e-9)]);
        assert!(matches!(power_law(&flat, Quantity::Parameters), Err(Error::OutOfRange { .. })));
    }
}
