//! The objective of a fit: runs as logarithms, the starting points, the sum of Huber losses and its gradient.

use super::LAW_PARAMETERS;
use crate::{
    error::{Error, Quantity, Result},
    law::Law,
    lbfgs::{self, LbfgsConfig, Minimum},
    least_squares,
    runs::{Run, SAME_SIZE, groups},
};

/// Number of different sizes, and of different numbers of tokens, without which an exponent is not determined.
const MIN_VALUES: usize = 3;
/// Least spread of log D around a line in log N, as a standard deviation, with which α and β are told apart.
const MIN_INDEPENDENT_SPREAD: f64 = 0.05;
/// One whole search.
pub(super) const SEARCH: LbfgsConfig = LbfgsConfig { gradient_tolerance: 1e-4, max_steps: 300 };

// Grid of starting points, 5 · 5 · 5 · 4 = 500.
const START_FLOORS: [f64; 5] = [0.02, 0.3, 0.5, 0.7, 0.9]; // E, as a share of the lowest loss.
const START_EXPONENTS: [f64; 5] = [0.07, 0.2, 0.35, 0.6, 1.0]; // α and β.
const START_SPLITS: [f64; 4] = [0.15, 0.4, 0.6, 0.85]; // Share of A/N^α in the loss above E.

/// Logarithms of runs, counted from their means.
pub(crate) struct Points {
    /// log N - `mean_parameters`.
    parameters: Vec<f64>,
    /// log D - `mean_tokens`.
    tokens: Vec<f64>,
    /// log L.
    losses: Vec<f64>,
    mean_parameters: f64,
    mean_tokens: f64,
}

/// Coordinates of the search: log A - α·mean(log N), log B - β·mean(log D), log E, α, β.
pub(crate) type Coordinates = [f64; LAW_PARAMETERS];

impl Points {
    pub(crate) fn new<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let (mut parameters, mut tokens, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            parameters.push(run.parameters.ln());
            tokens.push(run.tokens.ln());
            losses.push(run.loss.ln());
        }
        let center = |values: &mut Vec<f64>| {
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            values.iter_mut().for_each(|value| *value -= mean);
            mean
        };
        let (mean_parameters, mean_tokens) = (center(&mut parameters), center(&mut tokens));
        Self { parameters, tokens, losses, mean_parameters, mean_tokens }
    }

    /// Refuses points from which the five parameters cannot be known.
    pub(crate) fn check_determined(&self) -> Result<()> {
        let values = [(Quantity::Parameters, &self.parameters), (Quantity::Tokens, &self.tokens)];
        let found = values.map(|(quantity, logs)| {
            let values: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
            (quantity, groups(&values, SAME_SIZE).len())
        });
        // That all values are equal explains more than that there are few runs.
        let too_few = |most| found.iter().find(|(_, found)| *found <= most);
        let refuse = |&(quantity, found)| Error::TooFewValues { quantity, found, needed: MIN_VALUES };
        let (found_runs, needed) = (self.losses.len(), LAW_PARAMETERS + 1);
        if found_runs > 1
            && let Some(only) = too_few(1)
        {
            return Err(refuse(only));
        }
        if found_runs < needed {
            return Err(Error::TooFewRuns { purpose: "the fit of L(N, D)", found: found_runs, needed });
        }
        if let Some(few) = too_few(MIN_VALUES - 1) {
            return Err(refuse(few));
        }
        match least_squares::line(&self.parameters, &self.tokens) {
            Some(line) if line.residual < MIN_INDEPENDENT_SPREAD => {
                Err(Error::Confounded { power: line.slope })
            }
            _ => Ok(()),
        }
    }

    /// Starting points, 500.
    pub(super) fn starts(&self) -> Vec<Coordinates> {
        let lowest = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        let middle = (self.losses.iter().sum::<f64>() / self.losses.len() as f64).exp();
        let mut starts = Vec::new();
        for floor in START_FLOORS {
            let e = lowest + floor.ln();
            for split in START_SPLITS {
                let (a, b) = ((split * (middle - e.exp())).ln(), ((1.0 - split) * (middle - e.exp())).ln());
                for alpha in START_EXPONENTS {
                    starts.extend(START_EXPONENTS.map(|beta| [a, b, e, alpha, beta]));
                }
            }
        }
        starts
    }

    /// Coordinates of a law.
    pub(crate) fn coordinates(&self, law: &Law) -> Coordinates {
        [
            law.a.ln() - law.alpha * self.mean_parameters,
            law.b.ln() - law.beta * self.mean_tokens,
            law.e.max(f64::MIN_POSITIVE).ln(),
            law.alpha,
            law.beta,
        ]
    }

    pub(crate) fn minimize(
        &self,
        start: Coordinates,
        delta: f64,
        config: LbfgsConfig,
    ) -> Minimum<LAW_PARAMETERS> {
        lbfgs::minimize(|coordinates| self.objective(coordinates, delta), start, config)
    }

    /// Minimum from the law of similar runs, for the bootstrap.
    pub(crate) fn refit(&self, law: &Law, delta: f64) -> Result<Law> {
        self.law(&self.minimize(self.coordinates(law), delta, SEARCH))
    }

    /// Sum of the Huber losses divided by δ, and its gradient by the coordinates.
    pub(super) fn objective(&self, &[a, b, e, alpha, beta]: &Coordinates, delta: f64) -> (f64, Coordinates) {
        let (mut sum, mut gradient) = (0.0, [0.0; LAW_PARAMETERS]);
        for ((parameters, tokens), loss) in self.parameters.iter().zip(&self.tokens).zip(&self.losses) {
            let terms = [a - alpha * parameters, b - beta * tokens, e];
            let largest = terms[0].max(terms[1]).max(terms[2]);
            let shares = terms.map(|term| (term - largest).exp());
            let total = shares[0] + shares[1] + shares[2];
            let error = largest + total.ln() - loss;
            // Huber's loss divided by δ, and its derivative by the error.
            let slope = (error / delta).clamp(-1.0, 1.0);
            sum += slope * (error - 0.5 * delta * slope);
            let [by_a, by_b, by_e] = shares.map(|share| slope * share / total);
            gradient[0] += by_a;
            gradient[1] += by_b;
            gradient[2] += by_e;
            gradient[3] -= by_a * parameters;
            gradient[4] -= by_b * tokens;
        }
        (sum, gradient)
    }

    /// Law at a minimum.
    pub(super) fn law(&self, minimum: &Minimum<LAW_PARAMETERS>) -> Result<Law> {
        let [a, b, e, alpha, beta] = minimum.point;
        for (quantity, exponent) in [(Quantity::Parameters, alpha), (Quantity::Tokens, beta)] {
            if exponent <= 0.0 {
                return Err(Error::NoDecrease { quantity, exponent });
            }
        }
        let (a, b) = ((a + alpha * self.mean_parameters).exp(), (b + beta * self.mean_tokens).exp());
        let law = Law { e: e.exp(), a, b, alpha, beta };
        if law.is_valid() { Ok(law) } else { Err(Error::OutOfRange { what: "the fitted law" }) }
    }
}
