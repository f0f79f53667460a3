//! Chinchilla's approach 2 (arXiv:2203.15556, section 3.2): among runs of equal compute C, a parabola of the
//! loss in log N has its minimum at the best size. Power laws through the minima of several C give
//!
//! ```text
//! N_opt = k · C^a      D_opt = k' · C^b
//! ```
//!
//! The parabola is only an approximation of the law near its minimum. Sizes up to four times smaller and larger
//! than the best one suit it; a wider range moves the minimum.

use crate::{
    error::{Error, Result},
    least_squares::{line, parabola},
    runs::{FLOPS_PER_PARAMETER_AND_TOKEN, Run, Runs, SAME_SIZE, groups},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of different sizes that a parabola needs.
const MIN_SIZES: usize = 3;
/// Ratio of the largest and the smallest compute in a group that the user has named.
const MAX_NAMED_SPREAD: f64 = 1.5;

/// Settings of the grouping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IsoFlopConfig {
    /// Relative difference of compute within a group; not used for groups that the runs name.
    pub tolerance: f64,
}

impl Default for IsoFlopConfig {
    fn default() -> Self {
        Self { tolerance: 0.05 }
    }
}

/// Best size of a group of runs with equal compute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupMinimum {
    /// Name that the user gave to the group, or its compute.
    pub name: String,
    /// Number of runs.
    pub runs: usize,
    /// Geometric mean of the runs' compute C, in FLOPs.
    pub compute: f64,
    /// N at the minimum of the parabola.
    pub parameters: f64,
    /// D at the minimum, C/(6·N).
    pub tokens: f64,
    /// Loss at the minimum.
    pub loss: f64,
}

/// A group without a minimum, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedGroup {
    pub name: String,
    pub reason: String,
}

/// Size = `factor` · C^`exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SizeLaw {
    pub factor: f64,
    pub exponent: f64,
    /// Standard error of the exponent; `None` with two groups.
    pub exponent_error: Option<f64>,
}

impl SizeLaw {
    /// Size for a budget in FLOPs.
    pub fn size(&self, budget: f64) -> f64 {
        self.factor * budget.powf(self.exponent)
    }
}

/// Result of approach 2.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IsoFlop {
    /// Groups with a minimum, from the smallest compute to the largest.
    pub minima: Vec<GroupMinimum>,
    pub refused: Vec<RefusedGroup>,
    /// N_opt = k · C^a.
    pub parameters: SizeLaw,
    /// D_opt = k' · C^b; since D = C/(6·N), b is 1 - a.
    pub tokens: SizeLaw,
}

/// Finds the best size of each group and fits the power laws.
///
/// # Errors
/// [`Error::TooFewMinima`] if fewer than two groups of different compute have a minimum inside their sizes.
pub fn isoflop(runs: &Runs, config: &IsoFlopConfig) -> Result<IsoFlop> {
    Error::check_positive("tolerance", config.tolerance)?;
    let (mut minima, mut refused) = (Vec::new(), Vec::new());
    for (name, group) in named_groups(runs, config.tolerance) {
        match name.as_ref().map_or(Ok(()), |_| check_spread(&group)).and_then(|()| minimum(&group)) {
            Ok(minimum) => minima.push(GroupMinimum { name: name.unwrap_or(minimum.name), ..minimum }),
            Err(reason) => {
                refused.push(RefusedGroup { name: name.unwrap_or_else(|| compute_name(&group)), reason });
            }
        }
    }
    minima.sort_by(|a, b| a.compute.total_cmp(&b.compute));
    let compute: Vec<f64> = minima.iter().map(|group| group.compute.ln()).collect();
    let law = |size: fn(&GroupMinimum) -> f64| {
        let sizes: Vec<f64> = minima.iter().map(|group| size(group).ln()).collect();
        line(&compute, &sizes).map(|line| SizeLaw {
            factor: line.intercept.exp(),
            exponent: line.slope,
            exponent_error: line.slope_error,
        })
    };
    match (law(|group| group.parameters), law(|group| group.tokens)) {
        (Some(parameters), Some(tokens)) => Ok(IsoFlop { minima, refused, parameters, tokens }),
        _ => {
            let refused =
                refused.iter().map(|group| format!("group `{}` {}", group.name, group.reason)).collect();
            Err(Error::TooFewMinima { found: minima.len(), refused })
        }
    }
}

/// The groups that runs name, or those of similar compute if no run names one.
fn named_groups(runs: &Runs, tolerance: f64) -> Vec<(Option<String>, Vec<&Run>)> {
    let runs = runs.as_slice();
    if runs.iter().all(|run| run.group.is_none()) {
        let compute: Vec<f64> = runs.iter().map(Run::compute).collect();
        let groups = groups(&compute, tolerance).into_iter();
        return groups.map(|group| (None, group.into_iter().map(|index| &runs[index]).collect())).collect();
    }
    let mut named: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        named.entry(run.group.as_deref().unwrap_or("(without a name)")).or_default().push(run);
    }
    named.into_iter().map(|(name, group)| (Some(name.to_owned()), group)).collect()
}

fn compute_name(group: &[&Run]) -> String {
    format!("C = {:.2e}", mean_compute(group))
}

/// Geometric mean.
fn mean_compute(group: &[&Run]) -> f64 {
    (group.iter().map(|run| run.compute().ln()).sum::<f64>() / group.len() as f64).exp()
}

fn check_spread(group: &[&Run]) -> Result<(), String> {
    let compute = group.iter().map(|run| run.compute());
    let [low, high] = compute.fold([f64::INFINITY, 0.0], |[low, high], c| [c.min(low), c.max(high)]);
    match high > MAX_NAMED_SPREAD * low {
        true => Err(format!("has runs of different compute, from {low:.2e} to {high:.2e} FLOPs")),
        false => Ok(()),
    }
}

/// Minimum of the parabola of a group, or the reason why it has none.
fn minimum(group: &[&Run]) -> Result<GroupMinimum, String> {
    let sizes: Vec<f64> = group.iter().map(|run| run.parameters).collect();
    let different = groups(&sizes, SAME_SIZE);
    if different.len() < MIN_SIZES {
        let found = different.len();
        return Err(format!("has {found} of the {MIN_SIZES} different sizes that a parabola needs"));
    }
    let logs: Vec<f64> = sizes.iter().map(|size| size.ln()).collect();
    let losses: Vec<f64> = group.iter().map(|run| run.loss).collect();
    let range = |sizes: &[f64]| {
        sizes.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &n| [n.min(low), n.max(high)])
    };
    let [smallest, largest] = range(&sizes);
    let found = parabola(&logs, &losses).filter(|found| found.curvature > 0.0);
    let Some(found) = found else {
        return Err(format!(
            "has no minimum: its parabola does not open upwards from N = {smallest:.2e} to {largest:.2e}"
        ));
    };
    let parameters = found.at.exp();
    if parameters <= smallest {
        return Err(format!("has no minimum inside its sizes: add sizes below N = {smallest:.2e}"));
    }
    if parameters >= largest {
        return Err(format!("has no minimum inside its sizes: add sizes above N = {largest:.2e}"));
    }
    let compute = mean_compute(group);
    Ok(GroupMinimum {
        name: compute_name(group),
        runs: group.len(),
        compute,
        parameters,
        tokens: compute / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters),
        loss: found.least,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{CHINCHILLA, spread};

    /// Runs of `sizes` around the best size of each budget, as (N, D, loss).
    fn cells(budgets: &[f64], factors: &[f64]) -> Vec<(f64, f64, f64)> {
        let law = CHINCHILLA;
        let cell = |&budget: &f64, factor: &f64| {
            let best = law.optimum(budget);
            let (n, d) = (best.parameters * factor, best.tokens / factor);
            (n, d, law.loss(n, d))
        };
        budgets.iter().flat_map(|budget| factors.iter().map(move |factor| cell(budget, factor))).collect()
    }

    const FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

    #[test]
    fn exponents_are_those_of_the_law() {
        let budgets = spread(1e18, 1e21, 5);
        let found =
            isoflop(&Runs::from_values(cells(&budgets, &FACTORS)).unwrap(), &Default::default()).unwrap();
        assert_eq!((found.minima.len(), found.refused.len()), (5, 0));
        assert!((found.parameters.exponent - CHINCHILLA.parameters_exponent()).abs() < 1e-3, "{found:?}");
        assert!((found.parameters.exponent + found.tokens.exponent - 1.0).abs() < 1e-9);
        let (size, best) = (found.parameters.size(1e20), CHINCHILLA.optimum(1e20).parameters);
        // The parabola is an approximation.
        assert!((size / best - 1.0).abs() < 0.1, "{size} {best}");
        assert!((6.0 * size * found.tokens.size(1e20) / 1e20 - 1.0).abs() < 1e-9);
    }

    /// ```python
    /// for C in [1e18, 1e19]:
    ///     n = numpy.array([1e7, 3e7, 1e8, 3e8]); d = C / 6 / n
    ///     l = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
    ///     a, b, c = numpy.polyfit(numpy.log(n), l, 2); print(numpy.exp(-b / (2 * a)), c - b * b / (4 * a))
    /// ```
    #[test]
    fn minima_are_those_of_numpy() {
        let runs = [1e18, 1e19]
            .into_iter()
            .flat_map(|c| [1e7, 3e7, 1e8, 3e8].map(|n| (n, c / 6.0 / n, CHINCHILLA.loss(n, c / 6.0 / n))));
        let found = isoflop(&Runs::from_values(runs).unwrap(), &Default::default()).unwrap();
        for (minimum, [size, loss]) in found
            .minima
            .iter()
            .zip([[82638461.29512456, 3.53196364375636], [207152735.37946633, 2.9821733278438316]])
        {
            assert!((minimum.parameters / size - 1.0).abs() < 1e-8, "{minimum:?}");
            assert!((minimum.loss - loss).abs() < 1e-9, "{minimum:?}");
        }
        assert_eq!(found.parameters.exponent_error, None);
    }

    #[test]
    fn groups_without_a_minimum_are_refused_by_name() {
        let mut runs = cells(&[1e18, 1e19], &FACTORS);
        runs.extend(cells(&[1e20], &[0.1, 0.2, 0.4]));
        runs.extend(cells(&[1e21], &[0.5, 2.0]));
        let found = isoflop(&Runs::from_values(runs).unwrap(), &Default::default()).unwrap();
        let refused: Vec<String> =
            found.refused.iter().map(|group| format!("{} {}", group.name, group.reason)).collect();
        assert_eq!(
            refused,
            [
                "C = 1.00e20 has no minimum inside its sizes: add sizes above N = 2.58e8",
                "C = 1.00e21 has 2 of the 3 different sizes that a parabola needs",
            ]
        );
    }

    #[test]
    fn one_minimum_makes_no_power_law() {
        let runs = Runs::from_values(cells(&[1e18], &FACTORS)).unwrap();
        let error = isoflop(&runs, &Default::default()).unwrap_err();
        assert_eq!(error, Error::TooFewMinima { found: 1, refused: Vec::new() });
        let only_small = Runs::from_values(cells(&[1e18, 1e19], &[0.01, 0.02, 0.04])).unwrap();
        let message = isoflop(&only_small, &Default::default()).unwrap_err().to_string();
        assert!(message.contains("there are 0; group `C = 1.00e18` has no minimum inside"), "{message}");
    }

    #[test]
    fn named_groups_are_kept() {
        let mut runs = Runs::from_values(cells(&[1e18, 1e19, 1e20], &FACTORS)).unwrap().as_slice().to_vec();
        for (index, run) in runs.iter_mut().enumerate() {
            run.group = Some(["small", "large", "mixed"][index / 5].to_owned());
        }
        runs[14].tokens *= 2.0;
        runs.push(Run { group: None, tokens: 1.0, ..runs[0].clone() });
        let found = isoflop(&Runs::new(runs).unwrap(), &Default::default()).unwrap();
        let names: Vec<&str> = found.minima.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["small", "large"]);
        let refused: Vec<&str> = found.refused.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(refused, ["(without a name)", "mixed"]);
        assert_eq!(found.refused[1].reason, "has runs of different compute, from 1.00e20 to 2.00e20 FLOPs");
    }
}
