//! Fits L(N, D) = E + A/N^α + B/D^β to runs as Chinchilla's approach 3 does (arXiv:2203.15556, appendix D.3):
//! it minimizes the Huber losses of the errors of log L,
//!
//! ```text
//! Σ Huber_δ( logsumexp(a - α·log N, b - β·log D, e) - log L )     A = exp(a), B = exp(b), E = exp(e)
//! ```
//!
//! with δ = 1e-3, by L-BFGS from a grid of starting points. The search goes on until rounding hides all progress,
//! since the paper's own search stopped before convergence (arXiv:2404.10102, abstract).
//!
//! Two things differ from the paper, and neither changes the minimum. Logarithms are counted from their means, so
//! that α hardly moves a. The starting points are shares of the losses at hand, not fixed numbers, so that small
//! models and other tokenizers have as good a start as large ones. After a few steps from each of the 500, the
//! search goes on from the best 20.

use crate::{
    error::{Error, Quantity, Result},
    law::Law,
    lbfgs::LbfgsConfig,
    runs::{Extent, Run, Runs},
};
use points::SEARCH;
use serde::{Deserialize, Serialize};

mod points;

pub(crate) use points::Points;

/// Number of parameters of the law.
pub const LAW_PARAMETERS: usize = 5;
/// Least difference that N, or D, makes between the losses of the runs, relative to the lowest of them.
const MIN_EFFECT: f64 = 1e-3;

/// Number of starting points whose search goes on after the first steps.
const KEPT: usize = 20;
/// First steps from each starting point.
const SCOUT: LbfgsConfig = LbfgsConfig { gradient_tolerance: 1e-4, max_steps: 20 };
const POLISH: LbfgsConfig = LbfgsConfig { gradient_tolerance: 1e-8, max_steps: 3000 };
/// Gradient per run below which a polished fit counts as converged; rounding alone leaves less.
const CONVERGED: f64 = 1e-3;

/// Settings of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitConfig {
    /// δ, the error of log L up to which it counts by its square, and above which by its absolute value.
    pub delta: f64,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self { delta: 1e-3 }
    }
}

/// A fitted law.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    pub law: Law,
    /// Sum of the Huber losses at the minimum.
    pub objective: f64,
    /// Root mean square of the errors of log L, which is about the relative error of a loss.
    pub relative_error: f64,
    /// Number of runs.
    pub runs: usize,
    /// Sizes, tokens and compute that the runs cover.
    pub extent: Extent,
    /// Whole sentences on what makes the fit doubtful, without full stops.
    pub notes: Vec<String>,
    pub(crate) config: FitConfig,
}

/// Fits the law to runs.
///
/// # Errors
/// [`Error::TooFewRuns`], [`Error::TooFewValues`] and [`Error::Confounded`] if the runs do not determine the law;
/// [`Error::NoDecrease`], [`Error::NoEffect`], [`Error::OutOfRange`] and [`Error::BelowFloor`] if they do not follow one.
pub fn fit(runs: &Runs, config: &FitConfig) -> Result<Fit> {
    Error::check_positive("delta", config.delta)?;
    let points = Points::new(runs.as_slice().iter());
    points.check_determined()?;
    let search = |start, limits| points.minimize(start, config.delta, limits);
    let mut found: Vec<_> = points.starts().into_iter().map(|start| search(start, SCOUT)).collect();
    found.retain(|found| found.value.is_finite());
    found.sort_by(|a, b| a.value.total_cmp(&b.value));
    found.truncate(KEPT);
    let best = found.into_iter().map(|found| search(found.point, SEARCH));
    let Some(best) = best.min_by(|a, b| a.value.total_cmp(&b.value)) else {
        return Err(Error::OutOfRange { what: "the fit" });
    };
    let best = search(best.point, POLISH);
    let law = points.law(&best)?;
    check_effects(&law, runs)?;
    let below: Vec<&Run> = runs.as_slice().iter().filter(|run| run.loss <= law.e).collect();
    if !below.is_empty() {
        return Err(Error::BelowFloor {
            floor: law.e,
            runs: below.iter().map(|run| run.place.clone()).collect(),
        });
    }
    let count = runs.as_slice().len();
    let errors = runs.as_slice().iter().map(|run| (law.loss(run.parameters, run.tokens) / run.loss).ln());
    Ok(Fit {
        law,
        objective: best.value * config.delta,
        relative_error: (errors.map(|error| error * error).sum::<f64>() / count as f64).sqrt(),
        runs: count,
        extent: runs.extent(),
        notes: notes(&law, runs, best.gradient_norm > CONVERGED * count as f64),
        config: *config,
    })
}

/// Refuses a law in which N or D makes no difference, since its exponent may be any number.
fn check_effects(law: &Law, runs: &Runs) -> Result<()> {
    let lowest = lowest_loss(runs);
    let Extent { parameters, tokens, .. } = runs.extent();
    let [of_parameters, of_tokens] = [
        parameters.map(|parameters| law.loss(parameters, f64::INFINITY)),
        tokens.map(|tokens| law.loss(f64::INFINITY, tokens)),
    ];
    for (quantity, [most, least]) in [(Quantity::Parameters, of_parameters), (Quantity::Tokens, of_tokens)] {
        if most - least < MIN_EFFECT * lowest {
            return Err(Error::NoEffect { quantity });
        }
    }
    Ok(())
}

fn lowest_loss(runs: &Runs) -> f64 {
    runs.as_slice().iter().map(|run| run.loss).fold(f64::INFINITY, f64::min)
}

fn notes(law: &Law, runs: &Runs, unfinished: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if unfinished {
        notes.push("the search has not converged, so that the numbers are rough".to_owned());
    }
    if law.e < 0.01 * lowest_loss(runs) {
        notes.push(format!(
            "the floor E = {:.1e} is not determined: add runs that are large in both N and D",
            law.e
        ));
    }
    let Extent { parameters, tokens, .. } = runs.extent();
    for (quantity, [low, high]) in [(Quantity::Parameters, parameters), (Quantity::Tokens, tokens)] {
        if high / low < 4.0 {
            let letter = quantity.letter();
            notes.push(format!(
                "the {quantity} differ by a factor of {:.1} only: add other {letter}",
                high / low
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
