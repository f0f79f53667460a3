//! Objectives over preferred and rejected answers: DPO and its variants, SimPO, ORPO and KTO. The reference is
//! `preference/NAME` in a folder of fixtures, the reference policy `models/NAME-ref`.

use super::{
    Case,
    files::Files,
    fixture::{largest_difference, number, relative, to_host},
};
use crate::{
    config::Config,
    data::{HostBatch, IGNORE_INDEX},
    error::Result,
    model::{Input, Model},
    objective::{Batch, Frozen, Kto, Loss, Objective, Preference, Reference, StepTotals},
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::path::Path;

/// Variant whose gradients the fixture has as a whole.
const WHOLE: &str = "sigmoid";

/// Compares everything in `preference` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "preference", device)? {
        let reference = Frozen::new(&files.second_model(folder)?.model);
        let policy = Policy { files, reference };
        cases.push(policy.log_probabilities()?);
        for variant in policy.files.fixture.cases() {
            cases.push(match policy.files.fixture.get::<String>(&format!("{variant}/loss"))?.as_str() {
                "kto" => policy.kto(&variant)?,
                _ => policy.pairs(&variant)?,
            });
        }
    }
    Ok(cases)
}

/// A policy with the numbers, and its reference.
struct Policy {
    files: Files,
    reference: Frozen,
}

impl Policy {
    /// Compares the log-probabilities of the answers, and of their tokens, with padding on both sides.
    fn log_probabilities(&self) -> Result<Case> {
        let mut case = self.files.case("log-probabilities");
        let bound = self.files.tolerances.logits;
        let right = self.batch("right", None)?;
        let rows = right.host.rows;
        let mut compare = |what: &str, found: Tensor<2>, name: &str| -> Result<()> {
            let reference = interleaved(&self.files.fixture.floats(name)?.values, rows);
            case.add(what, largest_difference(&to_host(found)?.values, &reference), bound);
            Ok(())
        };
        for side in ["right", "left"] {
            let batch = self.batch(side, None)?;
            let sums = batch.row_log_probabilities(&self.files.model.model);
            compare(&format!("of the model, padded `{side}`"), sums, "policy_logps")?;
            let sums = self.reference.row_log_probabilities(&batch);
            compare(&format!("of the reference, padded `{side}`"), sums, "reference_logps")?;
        }
        let log_p = batch_rows(right.log_probabilities(&self.files.model.model), rows);
        // The last column has no next token.
        let log_p = log_p.clone().narrow(1, 0, log_p.dims()[1] - 1);
        compare("of tokens", log_p, "right.token_logps")?;
        let counts = interleaved(&self.files.fixture.integers("completion_tokens")?.values, rows);
        let own: Vec<i64> = (0..rows).map(|row| right.host.row_targets(row) as i64).collect();
        case.check("number of the answers' tokens", own == counts);
        Ok(case)
    }

    /// Compares a loss of pairs.
    fn pairs(&self, variant: &str) -> Result<Case> {
        let (mut case, bounds) = (self.files.case(variant), self.files.tolerances);
        let config = self.config(variant)?;
        let reference = config.needs_reference().then(|| Reference::new(self.reference.clone()));
        let objective = Preference::new(&config, reference);
        let right = self.batch("right", None)?;
        // Padding is no part of the totals, on whichever side it is.
        let totals = StepTotals::of([&*right.host]);
        let (losses, rewards) = objective.losses_and_rewards(&self.files.model.model, &right);
        let (losses, rewards) = (to_host(losses)?.values, to_host(rewards)?.values);
        let list = |key: &str| self.files.fixture.get::<Vec<f32>>(&format!("{variant}/{key}"));
        case.add("losses", worst_relative(&losses, &list("losses")?), bounds.loss);
        for (index, key) in ["chosen_rewards", "rejected_rewards"].into_iter().enumerate() {
            let own: Vec<f32> = rewards.chunks(2).map(|pair| pair[index]).collect();
            case.add(key, largest_difference(&own, &list(key)?), bounds.logits);
        }
        let margins: Vec<f32> = rewards.chunks(2).map(|pair| pair[0] - pair[1]).collect();
        case.add("margins", largest_difference(&margins, &list("margins")?), bounds.logits);

        let loss = |batch: &Batch, model: &Model| objective.loss(model, batch, totals);
        let found = loss(&right, &self.files.model.model);
        for (metric, key) in [("rewards/accuracy", "accuracy"), ("nll", "nll")] {
            let reference: f64 = self.files.fixture.get(&format!("{variant}/{key}"))?;
            case.add(key, relative(metric_of(&found, metric)?, reference), bounds.loss);
        }
        let value: f64 = self.files.fixture.get(&format!("{variant}/value"))?;
        let left = self.batch("left", None)?;
        let of_left = number(loss(&left, &self.files.model.model).total)?;
        case.add("loss, padded `left`", relative(of_left, value), bounds.loss);
        self.files.compare_training(&mut case, variant, value, WHOLE, |model| loss(&right, model).total)?;
        Ok(case)
    }

    /// Compares KTO on single answers.
    fn kto(&self, variant: &str) -> Result<Case> {
        let (mut case, bounds) = (self.files.case(variant), self.files.tolerances);
        let objective = Kto::new(&self.config(variant)?, Reference::new(self.reference.clone()));
        let labels = self.files.fixture.integers("kto.label")?.values;
        let batch = self.batch("kto", Some(&labels))?;
        let (device, totals) = (&self.files.model.device, StepTotals::of([&*batch.host]));
        let begin = |model: &Model| objective.begin_step(model, std::slice::from_ref(&*batch.host), device);
        begin(&self.files.model.model);
        let divergence = objective.present_divergence().map_or(Ok(f64::NAN), |kl| number(kl.reshape([1])))?;
        let reference: f64 = self.files.fixture.get(&format!("{variant}/kl"))?;
        case.add("kl", relative(divergence, reference), bounds.loss);

        let (mut losses, mut rewards) = (Vec::new(), Vec::new());
        for (row, label) in labels.iter().enumerate() {
            let alone = row_of(&batch.host, row);
            let totals = StepTotals::of([&alone]);
            let loss = objective.loss(&self.files.model.model, &Batch::new(&alone, device), totals);
            let name = if *label == 1 { "rewards/chosen" } else { "rewards/rejected" };
            rewards.push(metric_of(&loss, name)? as f32);
            losses.push(number(loss.total)? as f32);
        }
        let list = |key: &str| self.files.fixture.get::<Vec<f32>>(&format!("{variant}/{key}"));
        case.add("losses", worst_relative(&losses, &list("losses")?), bounds.loss);
        case.add("rewards", largest_difference(&rewards, &list("rewards")?), bounds.logits);
        let value: f64 = self.files.fixture.get(&format!("{variant}/value"))?;
        let loss = |model: &Model| {
            begin(model);
            objective.loss(model, &batch, totals).total
        };
        self.files.compare_training(&mut case, variant, value, WHOLE, loss)?;
        Ok(case)
    }

    /// Configuration that computes a variant.
    fn config(&self, variant: &str) -> Result<Config> {
        let find = |key: &str| self.files.fixture.find::<f64>(&format!("{variant}/{key}"));
        let flag = |key: &str| self.files.fixture.find::<bool>(&format!("{variant}/{key}"));
        let loss: String = self.files.fixture.get(&format!("{variant}/loss"))?;
        let mut config = Config { model: self.files.model.checkpoint.model.clone(), ..Config::default() };
        let kind = match loss.as_str() {
            "simpo" | "orpo" | "kto" => loss.as_str(),
            _ => "dpo",
        };
        let mut settings = vec![format!("objective.kind={kind}")];
        if kind == "dpo" {
            settings.push(format!("preference.loss={loss}"));
        }
        config.apply(&settings)?;
        let preference = &mut config.preference;
        preference.beta = find("beta")?;
        preference.label_smoothing = find("label_smoothing")?.unwrap_or(0.0);
        preference.average = flag("average")?.unwrap_or(false);
        preference.reference_free = flag("reference_free")?.unwrap_or(false);
        preference.sft_weight = find("sft_weight")?.unwrap_or(0.0) + find("nll_weight")?.unwrap_or(0.0);
        preference.desirable_weight = find("desirable_weight")?.unwrap_or(1.0);
        preference.undesirable_weight = find("undesirable_weight")?.unwrap_or(1.0);
        if let (Some(gamma), Some(beta)) = (find("gamma")?, preference.beta) {
            preference.gamma_beta_ratio = gamma / beta;
        }
        let over: Option<String> = self.files.fixture.find(&format!("{variant}/nll_over"))?;
        preference.nll_of_prompt = over.is_some_and(|over| over == "all");
        Ok(config)
    }

    /// Batch of a layout: pairs with the preferred row first, or with `labels` single answers.
    fn batch(&self, layout: &str, labels: Option<&[i64]>) -> Result<Batch> {
        let name = |part: &str| format!("{layout}.{part}");
        let tokens =
            self.files.fixture.tokens(&name("input_ids"), self.files.model.checkpoint.model.vocab_size)?;
        let answers = self.files.fixture.integers(&name("completion_mask"))?;
        let &[rows, time] = &tokens.shape[..] else {
            return Err(self.files.fixture.error(format!("`{}` is no matrix", name("input_ids"))));
        };
        let is_whole =
            answers.shape == tokens.shape && labels.map_or(rows % 2 == 0, |labels| labels.len() == rows);
        if !is_whole {
            return Err(self
                .files
                .fixture
                .error(format!("`{layout}` has tensors of shapes that do not go together")));
        }
        let order: Vec<usize> = match labels {
            Some(_) => (0..rows).collect(),
            None => interleaved(&(0..rows).collect::<Vec<_>>(), rows),
        };
        let (ids, mut inputs, mut targets) = (tokens.to_i32(), Vec::new(), Vec::new());
        for &row in &order {
            let cells = row * time..(row + 1) * time;
            inputs.extend_from_slice(&ids[cells.clone()]);
            targets.extend(cells.map(|at| match (at + 1).is_multiple_of(time) {
                false if answers.values[at + 1] != 0 => ids[at + 1],
                _ => IGNORE_INDEX,
            }));
        }
        let mut host = HostBatch::new(inputs, targets, rows, time);
        match labels {
            Some(labels) => host.values = labels.iter().map(|&label| label as f32).collect(),
            None => host.rows_per_example = 2,
        }
        let mut batch = Batch::new(&host, &self.files.model.device);
        if layout == "left" {
            let input =
                self.files.fixture.input(&name("input_ids"), &name("attention_mask"), &self.files.model)?;
            batch.input = in_order(input, &order, &self.files.model.device);
        }
        Ok(batch)
    }
}

/// Rows of an input in another order.
pub(super) fn in_order(input: Input, order: &[usize], device: &Device) -> Input {
    let order: Vec<i32> = order.iter().map(|&row| row as i32).collect();
    let count = order.len();
    let order = Tensor::<1, Int>::from_data(TensorData::new(order, [count]), device);
    Input {
        tokens: input.tokens.select(0, order.clone()),
        padding: input.padding.map(|padding| padding.select(0, order.clone())),
        positions: input.positions.map(|positions| positions.select(0, order.clone())),
        ..input
    }
}

/// Values of rows, of which the preferred ones come first, in the order of pairs: each preferred row before its
/// rejected one.
pub(super) fn interleaved<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    let width = (values.len() / rows.max(1)).max(1);
    let (first, second) = values.split_at(values.len() / 2);
    let pairs = first.chunks(width).zip(second.chunks(width));
    pairs.flat_map(|(chosen, rejected)| [chosen, rejected].concat()).collect()
}

/// Values of targets as a matrix of rows.
fn batch_rows(values: Tensor<2>, rows: usize) -> Tensor<2> {
    let count = values.dims()[0];
    values.reshape([rows, count / rows.max(1)])
}

/// Value of a metric of a loss; NaN if there is none of this name.
pub(super) fn metric_of(loss: &Loss, name: &str) -> Result<f64> {
    match loss.metrics.iter().find(|metric| metric.name == name) {
        Some(metric) => number(metric.value.clone()),
        None => Ok(f64::NAN),
    }
}

/// One row of a batch of single answers.
fn row_of(host: &HostBatch, row: usize) -> HostBatch {
    let cells = row * host.time..(row + 1) * host.time;
    let mut alone =
        HostBatch::new(host.inputs[cells.clone()].to_vec(), host.targets[cells].to_vec(), 1, host.time);
    alone.values = host.values.get(row).copied().into_iter().collect();
    alone
}

/// Largest relative difference of two lists; NaN if the lengths differ or a value is none.
fn worst_relative(own: &[f32], reference: &[f32]) -> f64 {
    if own.len() != reference.len() {
        return f64::NAN;
    }
    let differences = own.iter().zip(reference).map(|(a, b)| relative(f64::from(*a), f64::from(*b)));
    differences.fold(0.0, |worst: f64, d| if worst.is_nan() || d <= worst { worst } else { d })
}
