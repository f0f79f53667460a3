//! Results of the runs of an experiment: losses, their difference to the first cell's, speed, memory, device.

use super::{cells::run_of, plan::Cell};
use crate::{
    cli::logfile::{self, read_events},
    config::Config,
    train::event::Event,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Result of one cell.
#[derive(Debug, Clone, Serialize)]
pub struct CellResult {
    pub name: String,
    pub label: String,
    pub device: String,
    pub seed: u64,
    /// Device as the run described it; empty if it did not start.
    pub description: String,
    pub parameters: usize,
    pub vocab_size: usize,
    /// Training loss by step.
    pub losses: Vec<(u64, f32)>,
    /// Gradient norm before clipping, by step.
    pub grad_norms: Vec<(u64, f32)>,
    /// Last validation loss.
    pub validation_loss: Option<f64>,
    pub tokens_per_second: Option<f64>,
    /// Seconds from the start of training to the end of the first step, with compiling and tuning.
    pub seconds_to_first_step: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    /// Difference to the cell of the same seed under the first label; `None` for that one.
    pub difference: Option<Difference>,
}

/// Difference of two curves of losses over the steps that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Difference by step, `this - first`.
    pub by_step: Vec<(u64, f32)>,
    /// The largest one without its sign; NaN if a loss is.
    pub largest: f32,
    /// First step at which it passes the bound.
    pub first_step_over: Option<u64>,
}

/// All cells under one label, over the seeds.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub label: String,
    /// Names of its cells.
    pub cells: Vec<String>,
    /// Mean of the last training losses.
    pub final_loss: Option<f64>,
    /// Their standard deviation, of a sample; `None` for one seed.
    pub final_loss_deviation: Option<f64>,
    /// Configuration keys whose values differ from the first label's, with both values.
    pub changed: Vec<(String, String, String)>,
}

/// Results of an experiment.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Bound of differences of losses.
    pub bound: f32,
    pub cells: Vec<CellResult>,
    pub groups: Vec<Group>,
    pub notes: Vec<String>,
}

/// Reads the runs of all cells.
pub fn read(cells: &[Cell], folder: &Path, bound: f32) -> Results {
    let mut results: Vec<CellResult> = cells.iter().map(|cell| read_cell(cell, folder)).collect();
    let first_label = results.first().map(|result| result.label.clone()).unwrap_or_default();
    let references: BTreeMap<u64, Vec<(u64, f32)>> = results
        .iter()
        .filter(|result| result.label == first_label)
        .map(|result| (result.seed, result.losses.clone()))
        .collect();
    for result in results.iter_mut().filter(|result| result.label != first_label) {
        let reference = references.get(&result.seed);
        result.difference = reference.map(|reference| difference(reference, &result.losses, bound));
    }
    let groups = group(cells, &results);
    let notes = notes(&results);
    Results { bound, cells: results, groups, notes }
}

fn read_cell(cell: &Cell, folder: &Path) -> CellResult {
    let events = read_events(&run_of(cell, folder).join(logfile::FILE_NAME)).unwrap_or_default();
    let mut result = CellResult {
        name: cell.name.clone(),
        label: cell.label.clone(),
        device: cell.place.name(),
        seed: cell.seed,
        description: String::new(),
        parameters: 0,
        vocab_size: 0,
        losses: Vec::new(),
        grad_norms: Vec::new(),
        validation_loss: None,
        tokens_per_second: None,
        seconds_to_first_step: None,
        peak_memory_bytes: None,
        difference: None,
    };
    let mut speeds = Vec::new();
    for logged in &events {
        match &logged.event {
            Event::Started(info) => {
                result.description.clone_from(&info.device);
                (result.parameters, result.vocab_size) = (info.parameters, info.vocab_size);
            }
            Event::Step(report) => {
                result.losses.push((report.step, report.loss));
                result.grad_norms.push((report.step, report.grad_norm));
                result.seconds_to_first_step.get_or_insert(report.seconds);
                speeds.extend(Some(report.tokens_per_second).filter(|speed| speed.is_finite()));
            }
            Event::Evaluation(report) => result.validation_loss = Some(report.val_loss),
            Event::Finished(report) => {
                result.peak_memory_bytes = result.peak_memory_bytes.max(report.peak_memory_bytes);
            }
            _ => {}
        }
    }
    speeds.sort_by(f64::total_cmp);
    result.tokens_per_second = speeds.get(speeds.len() / 2).copied();
    result
}

fn difference(reference: &[(u64, f32)], losses: &[(u64, f32)], bound: f32) -> Difference {
    let reference: BTreeMap<u64, f32> = reference.iter().copied().collect();
    let by_step: Vec<(u64, f32)> =
        losses.iter().filter_map(|(step, loss)| Some((*step, loss - reference.get(step)?))).collect();
    // NaN is over every bound.
    let is_over = |difference: f32| difference.abs() > bound || difference.is_nan();
    let largest = by_step
        .iter()
        .map(|(_, d)| d.abs())
        .fold(0.0, |most: f32, d| if d > most || d.is_nan() { d } else { most });
    Difference {
        largest,
        first_step_over: by_step.iter().find(|(_, d)| is_over(*d)).map(|(step, _)| *step),
        by_step,
    }
}

fn group(cells: &[Cell], results: &[CellResult]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for result in results {
        match groups.iter_mut().find(|group| group.label == result.label) {
            Some(group) => group.cells.push(result.name.clone()),
            None => groups.push(Group {
                label: result.label.clone(),
                cells: vec![result.name.clone()],
                final_loss: None,
                final_loss_deviation: None,
                changed: changed(cells, &result.label),
            }),
        }
    }
    for group in &mut groups {
        let last = results.iter().filter(|result| result.label == group.label);
        let last: Vec<f64> =
            last.filter_map(|result| result.losses.last()).map(|(_, loss)| f64::from(*loss)).collect();
        let count = last.len() as f64;
        if last.is_empty() {
            continue;
        }
        let mean = last.iter().sum::<f64>() / count;
        group.final_loss = Some(mean);
        if last.len() > 1 {
            let squares = last.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
            group.final_loss_deviation = Some((squares / (count - 1.0)).sqrt());
        }
    }
    groups
}

/// Keys in which the first cell of a label differs from the first cell of all.
fn changed(cells: &[Cell], label: &str) -> Vec<(String, String, String)> {
    let of = |label: Option<&str>| cells.iter().find(|cell| label.is_none_or(|label| cell.label == label));
    let (Some(first), Some(this)) = (of(None), of(Some(label))) else { return Vec::new() };
    let (first, this) = (flat(&first.config), flat(&this.config));
    let keys: BTreeSet<&String> = first.keys().chain(this.keys()).collect();
    let value =
        |of: &BTreeMap<String, String>, key: &str| of.get(key).cloned().unwrap_or_else(|| "none".into());
    let rows = keys.into_iter().map(|key| (key.clone(), value(&first, key), value(&this, key)));
    rows.filter(|(key, a, b)| a != b && key != "train.seed").collect()
}

/// All keys of a configuration with their values as text.
pub fn flat(config: &Config) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: &serde_json::Value, all: &mut BTreeMap<String, String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&name, value, all);
                }
            }
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => drop(all.insert(prefix.into(), text.clone())),
            value => drop(all.insert(prefix.into(), value.to_string())),
        }
    }
    let mut all = BTreeMap::new();
    walk("", &serde_json::to_value(config).unwrap_or_default(), &mut all);
    all
}

fn notes(results: &[CellResult]) -> Vec<String> {
    let mut notes = Vec::new();
    let vocabularies: BTreeSet<usize> =
        results.iter().map(|result| result.vocab_size).filter(|size| *size > 0).collect();
    if vocabularies.len() > 1 {
        let sizes: Vec<String> = vocabularies.iter().map(usize::to_string).collect();
        notes.push(format!(
            "The cells have different tokenizers ({} tokens): their losses per token cannot be compared. `kiln eval RUN` \
             measures bits per byte, which can.",
            sizes.join(" and ")
        ));
    }
    for result in results.iter().filter(|result| result.losses.is_empty()) {
        notes.push(format!("`{}` has no losses.", result.name));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_by_step_and_nan_is_over_every_bound() {
        let reference = [(1, 4.0), (2, 3.0), (3, 2.0)];
        let found = difference(&reference, &[(1, 4.0), (2, 3.5), (9, 1.0)], 0.1);
        assert_eq!(found.by_step, [(1, 0.0), (2, 0.5)]);
        assert_eq!((found.largest, found.first_step_over), (0.5, Some(2)));
        let found = difference(&reference, &[(1, 4.0), (2, f32::NAN), (3, 2.0)], 0.1);
        assert!(found.largest.is_nan());
        assert_eq!(found.first_step_over, Some(2));
        assert_eq!(difference(&reference, &reference, 0.0).first_step_over, None);
    }

    #[test]
    fn a_configuration_is_flat_by_its_keys() {
        let flat = flat(&Config::default());
        assert_eq!(flat["kernels.fused"], "true");
        assert!(flat.contains_key("model.n_layer") && !flat.values().any(|value| value == "null"));
    }
}
