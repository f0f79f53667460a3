//! Plans the small runs from which a law is fitted: a few budgets of compute, and for each of them some sizes
//! around the expected best one, as in arXiv:2203.15556, section 3.2. Such runs suit both of Chinchilla's fits.
//!
//! Shapes follow one rule: a layer for every 64 of width (or a fixed number), heads of about 64, feed-forward layers of
//! four times the width. Then N = 12 · layers · width² without embeddings (arXiv:2001.08361, section 2.1).

use crate::{
    error::{Error, Result},
    law::{Law, Optimum},
    runs::{FLOPS_PER_PARAMETER_AND_TOKEN, compute},
};
use serde::{Deserialize, Serialize};

/// Number of runs below which a plan is refused: the law has five parameters.
const MIN_CELLS: usize = 12;
/// Widths are multiples of this.
const WIDTH_STEP: u64 = 16;
/// The least width of a proposed model.
const MIN_WIDTH: u64 = 32;
/// The largest width of a proposed model; it has 6e16 parameters.
const MAX_WIDTH: u64 = 1 << 19;
/// Width for each layer, and size of a head.
const WIDTH_PER_LAYER: u64 = 64;

/// Budget and shape of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanConfig {
    /// FLOPs of all runs together; or give `seconds` and `flops_per_second`.
    pub flops: Option<f64>,
    /// Time of all runs together, one after the other, in seconds.
    pub seconds: Option<f64>,
    /// FLOP/s that training reaches, as measured: not the peak of the device.
    pub flops_per_second: Option<f64>,
    /// Number of sizes for each budget, at least 3.
    pub sizes: usize,
    /// Number of budgets, at least 2.
    pub budgets: usize,
    /// Ratio of neighbouring sizes.
    pub size_ratio: f64,
    /// Ratio of neighbouring budgets.
    pub budget_ratio: f64,
    /// D/N of the expected optimum if there is no fitted law. Chinchilla's is about 20.
    pub tokens_per_parameter: f64,
    /// Size of the vocabulary, whose tied embedding N then includes; `None` counts N without embeddings.
    pub vocabulary: Option<u64>,
    /// Layers of every model; `None`: one for every 64 of width. Where all models are small, a fixed number keeps the
    /// step from one layer to two out of the law.
    pub layers: Option<u64>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            flops: None,
            seconds: None,
            flops_per_second: None,
            sizes: 5,
            budgets: 4,
            size_ratio: 2.0,
            budget_ratio: 3.0,
            tokens_per_parameter: 20.0,
            vocabulary: None,
            layers: None,
        }
    }
}

/// A run to train.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cell {
    /// Budget that the run belongs to, counted from 0.
    pub budget: usize,
    pub layers: u64,
    pub heads: u64,
    pub width: u64,
    /// N, as the configuration counts it.
    pub parameters: u64,
    /// D, the number of training tokens.
    pub tokens: u64,
    /// C = 6·N·D.
    pub flops: f64,
    /// Time to train, if the speed is known.
    pub seconds: Option<f64>,
}

/// Runs to train, from the smallest budget to the largest, and in a budget from the smallest size to the largest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub cells: Vec<Cell>,
    /// FLOPs of all cells together.
    pub flops: f64,
}

/// Proposes runs whose FLOPs add up to the budget. Every budget of the plan gives the same FLOPs to each of its
/// sizes, so that the sizes are compared at equal compute. `law` says where the optimum is expected.
///
/// # Errors
/// [`Error::InvalidValue`] for settings out of range, and for a budget that the smallest models exceed.
pub fn plan(config: &PlanConfig, law: Option<&Law>) -> Result<Plan> {
    let total = config.total()?;
    // Σ ratio^-i over the budgets, relative to the largest.
    let relative: Vec<f64> =
        (0..config.budgets).rev().map(|index| config.budget_ratio.powf(-(index as f64))).collect();
    let largest = total / (config.sizes as f64 * relative.iter().sum::<f64>());
    let mut cells = Vec::with_capacity(config.sizes * config.budgets);
    for (budget, share) in relative.iter().enumerate() {
        let flops = largest * share;
        let expected = match law {
            Some(law) => law.optimum(flops),
            None => {
                let parameters = (flops / compute(1.0, config.tokens_per_parameter)).sqrt();
                Optimum { parameters, tokens: config.tokens_per_parameter * parameters }
            }
        };
        for shape in config.shapes(total, expected.parameters)? {
            cells.push(config.cell(shape, budget, flops).ok_or_else(|| config.too_small(total))?);
        }
    }
    Ok(Plan { flops: cells.iter().map(|cell| cell.flops).sum(), cells })
}

/// A run of `flops` with the shape that is nearest to a number of parameters. Of the settings, only those that shape and
/// count are used.
///
/// # Errors
/// [`Error::InvalidValue`] unless both numbers are finite and positive and leave the run a token.
pub fn single(config: &PlanConfig, parameters: f64, flops: f64) -> Result<Cell> {
    Error::check_positive("flops", flops)?;
    Error::check_positive("parameters", parameters)?;
    let distance =
        |width: u64| (config.shape(width).parameters(config.vocabulary) as f64 / parameters).ln().abs();
    let widths = (MIN_WIDTH / WIDTH_STEP..=MAX_WIDTH / WIDTH_STEP).map(|steps| steps * WIDTH_STEP);
    let width = widths.min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(MIN_WIDTH);
    config.cell(config.shape(width), 0, flops).ok_or_else(|| config.too_small(flops))
}

impl PlanConfig {
    /// Checks the settings and returns the FLOPs of all runs together.
    fn total(&self) -> Result<f64> {
        let invalid = |key, value: String, message: String| Err(Error::InvalidValue { key, value, message });
        if self.sizes < 3 {
            return invalid("sizes", self.sizes.to_string(), "a minimum over sizes needs at least 3".into());
        }
        if self.budgets < 2 {
            return invalid("budgets", self.budgets.to_string(), "a law of compute needs at least 2".into());
        }
        let cells = self.sizes.saturating_mul(self.budgets);
        if !(MIN_CELLS..=10_000).contains(&cells) {
            let message = format!(
                "with `budgets` = {} that makes {cells} runs, not {MIN_CELLS} to 10000",
                self.budgets
            );
            return invalid("sizes", self.sizes.to_string(), message);
        }
        for (key, ratio) in [("size_ratio", self.size_ratio), ("budget_ratio", self.budget_ratio)] {
            if !(1.1..=100.0).contains(&ratio) {
                return invalid(key, ratio.to_string(), "it must be from 1.1 to 100".into());
            }
        }
        Error::check_positive("tokens_per_parameter", self.tokens_per_parameter)?;
        if let Some(vocabulary) = self.vocabulary
            && !(1..=1 << 24).contains(&vocabulary)
        {
            return invalid("vocabulary", vocabulary.to_string(), "it must be from 1 to 2^24".into());
        }
        if let Some(layers) = self.layers
            && !(1..=1 << 12).contains(&layers)
        {
            return invalid("layers", layers.to_string(), "it must be from 1 to 4096".into());
        }
        if let Some(speed) = self.flops_per_second {
            Error::check_positive("flops_per_second", speed)?;
        }
        let total = match (self.flops, self.seconds, self.flops_per_second) {
            (Some(flops), None, _) => flops,
            (None, Some(seconds), Some(speed)) => {
                Error::check_positive("seconds", seconds)?;
                seconds * speed
            }
            (Some(flops), Some(_), _) => {
                return invalid("flops", flops.to_string(), "give `flops` or `seconds`, not both".into());
            }
            _ => {
                let message = "give `flops`, or `seconds` together with `flops_per_second`".into();
                return invalid("flops", "absent".into(), message);
            }
        };
        Error::check_positive("flops", total)?;
        Ok(total)
    }

    /// Shape of a width.
    fn shape(&self, width: u64) -> Shape {
        let by_width = ((width + WIDTH_PER_LAYER / 2) / WIDTH_PER_LAYER).max(1);
        Shape { width, layers: self.layers.unwrap_or(by_width) }
    }

    /// Run of a shape; `None` if the budget leaves it no token.
    fn cell(&self, shape: Shape, budget: usize, flops: f64) -> Option<Cell> {
        let parameters = shape.parameters(self.vocabulary);
        let tokens = (flops / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters as f64)).round();
        let flops = compute(parameters as f64, tokens);
        (tokens >= 1.0).then(|| Cell {
            budget,
            layers: shape.layers,
            heads: shape.heads(),
            width: shape.width,
            parameters,
            tokens: tokens as u64,
            flops,
            seconds: self.flops_per_second.map(|speed| flops / speed),
        })
    }

    /// Different shapes with about the sizes around an expected optimum, of which at least one is smaller and
    /// one is larger.
    fn shapes(&self, total: f64, expected: f64) -> Result<Vec<Shape>> {
        let middle = 0.5 * (self.sizes - 1) as f64;
        let targets = (0..self.sizes).map(|index| expected * self.size_ratio.powf(index as f64 - middle));
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.sizes);
        let mut width = MIN_WIDTH;
        for target in targets {
            let distance = |width| (self.shape(width).parameters(self.vocabulary) as f64 / target).ln().abs();
            // Sizes grow with the width, and each target is larger than the one before it.
            while width < MAX_WIDTH && distance(width + WIDTH_STEP) < distance(width) {
                width += WIDTH_STEP;
            }
            shapes.push(self.shape(width));
            width += WIDTH_STEP;
        }
        let size =
            |shape: Option<&Shape>| shape.map_or(0.0, |shape| shape.parameters(self.vocabulary) as f64);
        if width > MAX_WIDTH {
            let message = "its models have more parameters than can be planned for".into();
            return Err(Error::InvalidValue { key: "flops", value: format!("{total:e}"), message });
        }
        match size(shapes.first()) < expected && expected < size(shapes.last()) {
            true => Ok(shapes),
            false => Err(self.too_small(total)),
        }
    }

    fn too_small(&self, total: f64) -> Error {
        let least = self.shape(MIN_WIDTH).parameters(self.vocabulary);
        let message = format!(
            "it is too small for runs on both sides of the optimum, since the smallest model has {least} parameters; \
             give more, or ask for fewer `sizes` and `budgets`"
        );
        Error::InvalidValue { key: "flops", value: format!("{total:.2e}"), message }
    }
}

/// Width and depth of a model, from which the rest of its shape follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    width: u64,
    layers: u64,
}

impl Shape {
    /// Divisor of the width that makes heads of nearly 64, in multiples of 8.
    fn heads(self) -> u64 {
        let head_sizes =
            (1..=self.width / 8).map(|eighths| 8 * eighths).filter(|size| self.width.is_multiple_of(*size));
        let distance = |size: u64| (size as f64 / WIDTH_PER_LAYER as f64).ln().abs();
        let best = head_sizes.min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        self.width / best.unwrap_or(self.width)
    }

    /// N: 12 · layers · width², and the embedding if there is a vocabulary.
    fn parameters(self, vocabulary: Option<u64>) -> u64 {
        12 * self.layers * self.width * self.width + vocabulary.unwrap_or(0) * self.width
    }
}

#[cfg(test)]
mod tests;
