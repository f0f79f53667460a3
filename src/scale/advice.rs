//! Advice from a fitted law: the best size for a budget of compute, and the loss of a run that has not been
//! trained yet.

use crate::{
    bootstrap::{Bootstrap, Interval},
    error::{Error, Quantity, Result},
    fit::Fit,
    law::Law,
    runs::{Extent, compute},
};
use serde::Serialize;

/// Factor beyond the sizes of the runs from which a prediction counts as an extrapolation to note.
const FAR: f64 = 10.0;

/// A number, and its interval if there is a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub interval: Option<Interval>,
}

/// Compute-optimal training for a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// C, in FLOPs.
    pub budget: f64,
    /// N.
    pub parameters: Estimate,
    /// D.
    pub tokens: Estimate,
    /// D/N.
    pub tokens_per_parameter: Estimate,
    /// Loss with the best N and D.
    pub loss: Estimate,
    /// Whole sentences on what makes the advice doubtful, without full stops.
    pub notes: Vec<String>,
}

/// Loss of a run that has not been trained yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    pub name: String,
    /// N.
    pub parameters: f64,
    /// D.
    pub tokens: f64,
    /// C = 6·N·D, in FLOPs.
    pub compute: f64,
    pub loss: Estimate,
    /// Whole sentences on what makes the prediction doubtful, without full stops.
    pub notes: Vec<String>,
}

/// Best N and D for `budget` FLOPs, by the closed form of [`Law::optimum`].
///
/// # Errors
/// [`Error::InvalidValue`] unless the budget is finite and positive, [`Error::OutOfRange`] if the sizes are too
/// large or too small for `f64`.
pub fn optimal(fit: &Fit, bootstrap: Option<&Bootstrap>, budget: f64) -> Result<Advice> {
    Error::check_positive("budget", budget)?;
    let best = fit.law.optimum(budget);
    let parameters = estimate(fit, bootstrap, |law| law.optimum(budget).parameters)?;
    let tokens = estimate(fit, bootstrap, |law| law.optimum(budget).tokens)?;
    Ok(Advice {
        budget,
        parameters,
        tokens,
        tokens_per_parameter: estimate(fit, bootstrap, |law| {
            let best = law.optimum(budget);
            best.tokens / best.parameters
        })?,
        loss: estimate(fit, bootstrap, |law| {
            let best = law.optimum(budget);
            law.loss(best.parameters, best.tokens)
        })?,
        notes: notes(&fit.extent, best.parameters, best.tokens),
    })
}

/// Loss of the run `name` with `parameters` and `tokens`.
///
/// # Errors
/// [`Error::InvalidValue`] unless both numbers are finite and positive, [`Error::OutOfRange`] if the loss is not.
pub fn predict(
    fit: &Fit,
    bootstrap: Option<&Bootstrap>,
    name: &str,
    parameters: f64,
    tokens: f64,
) -> Result<Prediction> {
    Error::check_positive("parameters", parameters)?;
    Error::check_positive("tokens", tokens)?;
    Error::check_positive("compute", compute(parameters, tokens))?;
    Ok(Prediction {
        name: name.to_owned(),
        parameters,
        tokens,
        compute: compute(parameters, tokens),
        loss: estimate(fit, bootstrap, |law| law.loss(parameters, tokens))?,
        notes: notes(&fit.extent, parameters, tokens),
    })
}

fn estimate(fit: &Fit, bootstrap: Option<&Bootstrap>, value: impl Fn(&Law) -> f64) -> Result<Estimate> {
    let interval = bootstrap.map(|bootstrap| bootstrap.interval(&value));
    match value(&fit.law) {
        value if value.is_finite() && value > 0.0 => Ok(Estimate { value, interval }),
        _ => Err(Error::OutOfRange { what: "what the law says of this size" }),
    }
}

/// Notes on N, D and C that lie far outside those of the runs.
fn notes(extent: &Extent, parameters: f64, tokens: f64) -> Vec<String> {
    let ranges = [
        (Quantity::Parameters, extent.parameters, parameters),
        (Quantity::Tokens, extent.tokens, tokens),
        (Quantity::Compute, extent.compute, compute(parameters, tokens)),
    ];
    let note = |(quantity, [low, high], value): (Quantity, [f64; 2], f64)| {
        let letter = quantity.letter();
        if value > FAR * high {
            let factor = value / high;
            Some(format!("{letter} = {value:.2e} is {factor:.0} times the largest of the runs, {high:.2e}"))
        } else if value * FAR < low {
            let factor = low / value;
            Some(format!(
                "{letter} = {value:.2e} is {factor:.0} times below the smallest of the runs, {low:.2e}"
            ))
        } else {
            None
        }
    };
    ranges.into_iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bootstrap::{BootstrapConfig, bootstrap},
        fit::{FitConfig, fit},
        runs::Runs,
        synthetic::{CHINCHILLA, grid, spread},
    };

    fn fitted(noise: f64, seed: u64) -> (Runs, Fit) {
        let runs = grid(&CHINCHILLA, &spread(1e7, 1e10, 6), &spread(1e8, 1e12, 8), noise, seed);
        let fit = fit(&runs, &FitConfig::default()).unwrap();
        (runs, fit)
    }

    #[test]
    fn a_law_without_noise_gives_its_own_optimum() {
        let (_, fit) = fitted(0.0, 0);
        let advice = optimal(&fit, None, 5.76e23).unwrap();
        let best = CHINCHILLA.optimum(5.76e23);
        assert!((advice.parameters.value / best.parameters - 1.0).abs() < 1e-3, "{advice:?}");
        assert!((advice.tokens_per_parameter.value / (best.tokens / best.parameters) - 1.0).abs() < 1e-3);
        assert_eq!(advice.loss.interval, None);
        assert!(advice.notes.is_empty(), "{:?}", advice.notes);
    }

    #[test]
    fn far_runs_are_noted() {
        let (_, fit) = fitted(0.0, 0);
        let notes = |n, d| predict(&fit, None, "large", n, d).unwrap().notes;
        assert!(notes(5e10, 1e12).is_empty());
        assert_eq!(
            notes(2e11, 1e12),
            [
                "N = 2.00e11 is 20 times the largest of the runs, 1.00e10",
                "C = 1.20e24 is 20 times the largest of the runs, 6.00e22",
            ]
        );
        assert_eq!(notes(1e9, 2e6), ["D = 2.00e6 is 50 times below the smallest of the runs, 1.00e8"]);
    }

    /// Of 95 % intervals, nearly all must hold the true value.
    #[test]
    fn intervals_hold_the_truth() {
        let (mut loss, mut alpha, mut best) = (0, 0, 0);
        let holds = |interval: Interval, value| usize::from(interval.low <= value && value <= interval.high);
        for seed in 0..20 {
            let (runs, fit) = fitted(0.005, seed);
            let bootstrap =
                bootstrap(&runs, &fit, &BootstrapConfig { resamples: 100, ..Default::default() }).unwrap();
            let large = predict(&fit, Some(&bootstrap), "large", 7e10, 1.4e12).unwrap();
            loss += holds(large.loss.interval.unwrap(), CHINCHILLA.loss(7e10, 1.4e12));
            alpha += holds(bootstrap.law().alpha, CHINCHILLA.alpha);
            let advice = optimal(&fit, Some(&bootstrap), 1e22).unwrap();
            best += holds(advice.parameters.interval.unwrap(), CHINCHILLA.optimum(1e22).parameters);
        }
        assert!(loss >= 16 && alpha >= 16 && best >= 16, "{loss} {alpha} {best}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let (_, fit) = fitted(0.0, 0);
        for budget in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(optimal(&fit, None, budget), Err(Error::InvalidValue { key: "budget", .. })));
        }
        assert!(matches!(predict(&fit, None, "", 1e9, 0.0), Err(Error::InvalidValue { key: "tokens", .. })));
        assert!(matches!(
            predict(&fit, None, "", 1e200, 1e200),
            Err(Error::InvalidValue { key: "compute", .. })
        ));
    }
}
