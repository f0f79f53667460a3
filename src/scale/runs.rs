//! Runs: how many parameters, how many training tokens, which final loss. [`Runs`] is validated once, so that
//! nothing that takes it checks its numbers again.

use crate::error::{Error, Result};
use serde::Serialize;
use std::{collections::HashMap, fmt};

/// Floating-point operations per parameter and token: 2 forward, 4 backward (arXiv:2001.08361, section 2.1).
pub const FLOPS_PER_PARAMETER_AND_TOKEN: f64 = 6.0;

/// Relative difference below which two sizes count as the same.
pub const SAME_SIZE: f64 = 0.01;

/// Compute of a run in FLOPs, C = 6·N·D. Attention over the context is not included.
pub fn compute(parameters: f64, tokens: f64) -> f64 {
    FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
}

/// Origin of a run, for messages: a file and a line of it, or a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub path: String,
    /// Line of the file, counted from 1; `None` if the run is not a line of a file.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "`{}` line {line}", self.path),
            None => write!(f, "`{}`", self.path),
        }
    }
}

/// Result of one training run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// N, the number of parameters.
    pub parameters: f64,
    /// D, the number of training tokens.
    pub tokens: f64,
    /// Final loss, in nats per token.
    pub loss: f64,
    /// Name of the group of runs with equal compute, if the user has given one.
    pub group: Option<String>,
    /// Number of tokens of the tokenizer, if the user has said it.
    pub vocabulary: Option<u64>,
    pub place: Place,
}

impl Run {
    /// Compute in FLOPs, C = 6·N·D.
    pub fn compute(&self) -> f64 {
        compute(self.parameters, self.tokens)
    }
}

/// Smallest and largest values that the runs have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Extent {
    pub parameters: [f64; 2],
    pub tokens: [f64; 2],
    /// In FLOPs.
    pub compute: [f64; 2],
}

/// One or more runs with finite, positive numbers, of which no two are equal, and as far as is known of one tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Validates runs.
    ///
    /// # Errors
    /// [`Error::NoRuns`], [`Error::Record`] for a number that is not finite and positive,
    /// [`Error::DuplicateRuns`] and [`Error::MixedTokenizers`].
    pub fn new(runs: Vec<Run>) -> Result<Self> {
        let mut seen: HashMap<[u64; 3], &Place> = HashMap::new();
        for run in &runs {
            let numbers = [run.parameters, run.tokens, run.loss];
            for (column, value) in ["parameters", "tokens", "loss"].into_iter().zip(numbers) {
                let message = match value {
                    value if !value.is_finite() => format!("`{value}` is not finite"),
                    value if value <= 0.0 => format!("`{value}` is not above 0"),
                    _ => continue,
                };
                return Err(Error::record(run.place.clone(), column.to_owned(), message));
            }
            if !(run.compute().is_finite() && run.compute() > 0.0) {
                let message = "the product of parameters and tokens is too large or too small to be computed";
                return Err(Error::record(run.place.clone(), None, message));
            }
            if let Some(first) = seen.insert(numbers.map(f64::to_bits), &run.place) {
                return Err(Error::DuplicateRuns { first: first.clone(), second: run.place.clone() });
            }
        }
        let mut known = runs.iter().filter_map(|run| Some((&run.place, run.vocabulary?)));
        if let Some((place, size)) = known.next()
            && let Some((other, other_size)) = known.find(|(_, other)| *other != size)
        {
            let places = [place, other].map(Place::clone);
            return Err(Error::MixedTokenizers { places, vocabularies: [size, other_size] });
        }
        match runs.is_empty() {
            true => Err(Error::NoRuns { path: "the list of runs".into() }),
            false => Ok(Self(runs)),
        }
    }

    /// Validates runs given as (N, D, loss), which messages call `run 1`, `run 2` and so on.
    ///
    /// # Errors
    /// Those of [`Runs::new`].
    pub fn from_values(values: impl IntoIterator<Item = (f64, f64, f64)>) -> Result<Self> {
        let run = |(index, (parameters, tokens, loss))| {
            let place = Place { path: format!("run {}", index + 1), line: None };
            Run { parameters, tokens, loss, group: None, vocabulary: None, place }
        };
        Self::new(values.into_iter().enumerate().map(run).collect())
    }

    pub fn as_slice(&self) -> &[Run] {
        &self.0
    }

    /// Smallest and largest N, D and C.
    pub fn extent(&self) -> Extent {
        let range = |value: fn(&Run) -> f64| {
            self.0
                .iter()
                .map(value)
                .fold([f64::INFINITY, 0.0], |[low, high], value| [value.min(low), value.max(high)])
        };
        Extent {
            parameters: range(|run| run.parameters),
            tokens: range(|run| run.tokens),
            compute: range(Run::compute),
        }
    }
}

/// Groups of positions whose values are equal up to a relative tolerance, from the smallest value to the
/// largest. A group begins at the smallest value that no earlier group holds, and reaches up to
/// 1 + `tolerance` times that value.
pub fn groups(values: &[f64], tolerance: f64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            Some(group) if values[index] <= values[group[0]] * (1.0 + tolerance) => group.push(index),
            _ => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(values: &[(f64, f64, f64)]) -> String {
        Runs::from_values(values.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn bad_numbers_are_refused_by_run_and_column() {
        assert_eq!(
            message(&[(1e6, 1e8, 3.0), (1e6, -2.0, 3.0)]),
            "`run 2`, column `tokens`: `-2` is not above 0"
        );
        assert_eq!(message(&[(f64::NAN, 1e8, 3.0)]), "`run 1`, column `parameters`: `NaN` is not finite");
        assert_eq!(message(&[(1e6, 1e8, 0.0)]), "`run 1`, column `loss`: `0` is not above 0");
        assert!(message(&[(1e300, 1e300, 1.0)]).contains("too large"));
        assert_eq!(message(&[]), "`the list of runs` holds no runs");
    }

    #[test]
    fn only_equal_losses_make_a_duplicate() {
        let twice = [(1e6, 1e8, 3.0), (1e6, 2e8, 2.9), (1e6, 1e8, 3.0)];
        assert_eq!(message(&twice), "`run 3` has the same parameters, tokens and loss as `run 1`");
        let other_seed = Runs::from_values([(1e6, 1e8, 3.0), (1e6, 1e8, 3.01)]).unwrap();
        assert_eq!(other_seed.as_slice().len(), 2);
    }

    #[test]
    fn runs_of_two_tokenizers_are_refused() {
        let mut runs = Runs::from_values([(1e6, 1e8, 3.0), (1e6, 2e8, 2.9), (2e6, 2e8, 2.8)]).unwrap().0;
        (runs[0].vocabulary, runs[2].vocabulary) = (Some(65), Some(65));
        assert!(Runs::new(runs.clone()).is_ok());
        runs[2].vocabulary = Some(512);
        assert_eq!(
            Runs::new(runs).unwrap_err().to_string(),
            "`run 1` has a tokenizer of 65 tokens and `run 3` one of 512, so that their losses per token cannot be compared"
        );
    }

    #[test]
    fn values_within_the_tolerance_are_one_group() {
        assert_eq!(groups(&[10.0, 1.0, 1.009, 1.02, 10.05], 0.01), [vec![1, 2], vec![3], vec![0, 4]]);
        assert!(groups(&[], 0.01).is_empty());
    }

    #[test]
    fn the_extent_is_the_smallest_and_largest() {
        let extent = Runs::from_values([(1e6, 4e8, 3.0), (2e6, 1e8, 2.9)]).unwrap().extent();
        assert_eq!(extent.parameters, [1e6, 2e6]);
        assert_eq!(extent.tokens, [1e8, 4e8]);
        assert_eq!(extent.compute, [1.2e15, 2.4e15]);
    }
}
