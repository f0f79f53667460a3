//! Mixed precision: how far products of a small type are from f32, compared with how far PyTorch is with bf16 in linear
//! layers (`linear`) and under autocast (`autocast`). The reference is `precision/NAME` and `precision/distances` in a
//! folder of fixtures. Rounding errors are random, so that Kiln's are not PyTorch's, but of their size.

use super::{
    Case, Tolerances,
    fixture::{Fixture, FixtureModel, Integers, largest_difference, relative, relative_error, to_host},
    scaler,
};
use crate::{
    config::Config,
    data::{HostBatch, IGNORE_INDEX},
    error::Result,
    kernels::{Precision, precision::is_supported},
    model::{
        Model,
        parameters::{HostTensor, NamedData},
    },
    objective::{Batch, Objective, Prediction, StepTotals},
    platform::storage,
};
use burn::tensor::Device;
use std::{collections::BTreeMap, path::Path};

const SUBJECT: &str = "precision";

/// File with the distances of all models.
const DISTANCES: &str = "distances";

/// Share of PyTorch's distance to f32 that passes: one error may be small by chance where another one is not. Errors of
/// f16, which has 3 binary digits more, are about an eighth of those of bf16.
fn share(precision: Precision) -> f64 {
    if precision == Precision::F16 { 0.5 } else { 2.0 }
}

/// Compares everything in `precision` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let paths = storage::list(&folder.join(SUBJECT))?;
    let tensors = paths.iter().filter(|path| path.extension().is_some_and(|kind| kind == "safetensors"));
    let names: Vec<&str> = tensors.filter_map(|path| path.file_stem()?.to_str()).collect();
    let mut cases = scaler::verify(folder, device)?;
    for name in names {
        cases.extend(Rounding::open(folder, name, device)?.compare(folder, device)?);
    }
    Ok(cases)
}

/// A model's numbers in f32 and in PyTorch's two ways to round.
struct Rounding<'a> {
    name: &'a str,
    fixture: Fixture,
    model: FixtureModel,
    batch: HostBatch,
    /// Whether each token is no padding.
    real: Vec<bool>,
}

/// Numbers that Kiln computes in one precision.
struct Computed {
    /// Logits, `[rows, time, V]`, 0 at padding.
    logits: HostTensor,
    loss: f64,
    /// Gradients by the names of Hugging Face.
    gradients: NamedData,
}

impl<'a> Rounding<'a> {
    fn open(folder: &Path, name: &'a str, device: &Device) -> Result<Self> {
        let fixture = Fixture::open_with(folder, SUBJECT, name, DISTANCES)?;
        let model = FixtureModel::open(folder, name, device)?;
        let vocab_size = model.checkpoint.model.vocab_size;
        let tokens = fixture.tokens("input_ids", vocab_size)?;
        let labels: Integers = fixture.integers("labels")?;
        let mask = fixture.integers("attention_mask")?;
        let known =
            |&label: &i64| label == i64::from(IGNORE_INDEX) || (0..vocab_size as i64).contains(&label);
        if labels.shape != tokens.shape || mask.shape != tokens.shape || !labels.values.iter().all(known) {
            let message = "`labels` and `attention_mask` are not those of `input_ids`";
            return Err(fixture.error(message));
        }
        let (time, labels) = (tokens.shape[1], labels.to_i32());
        if let Some(limit) = model.checkpoint.model.context_limit().filter(|&limit| time > limit) {
            return Err(fixture.error(format!("it has {time} positions, but the model has {limit}")));
        }
        // The target of a token is the label of the next one.
        let target = |at: usize| match (at + 1).is_multiple_of(time) {
            true => IGNORE_INDEX,
            false => labels[at + 1],
        };
        let targets = (0..labels.len()).map(target).collect();
        let batch = HostBatch::new(tokens.to_i32(), targets, tokens.shape[0], time);
        let real = mask.values.iter().map(|&real| real != 0).collect();
        Ok(Self { name, fixture, model, batch, real })
    }

    fn compare(&self, folder: &Path, device: &Device) -> Result<Vec<Case>> {
        let exact = self.computed(&self.model)?;
        let mut cases = vec![self.in_f32(&exact, Tolerances::of_device(device))?];
        let small = [Precision::Bf16, Precision::F16].into_iter().filter(|kind| is_supported(*kind, device));
        for precision in small {
            let model = FixtureModel::open_in_precision(folder, self.name, precision, device)?;
            let rounded = self.computed(&model)?;
            for way in ["linear", "autocast"] {
                cases.push(self.rounded(way, precision, &rounded, &exact.gradients)?);
            }
        }
        Ok(cases)
    }

    /// Compares f32 with f32.
    fn in_f32(&self, exact: &Computed, bounds: Tolerances) -> Result<Case> {
        let mut case = Case::new(format!("{} f32", self.name));
        let logits = self.fixture.floats("f32.logits")?;
        let difference = largest_difference(&exact.logits.values, &logits.values);
        case.add("logits", difference, bounds.logits);
        case.add("loss", relative(exact.loss, self.loss_in_f32()?), bounds.loss);
        for (name, own) in &exact.gradients {
            if let Some(reference) = self.fixture.find_floats(&format!("f32.grad.{name}")) {
                case.add(
                    format!("gradient `{name}`"),
                    relative_error(own, reference, largest(&exact.gradients)),
                    bounds.gradient,
                );
            }
        }
        Ok(case)
    }

    /// Compares the distances of a small precision to f32 with those of PyTorch. `gradients` are those of f32.
    fn rounded(
        &self,
        way: &str,
        precision: Precision,
        rounded: &Computed,
        gradients: &NamedData,
    ) -> Result<Case> {
        let mut case = Case::new(format!("{} {way}, in {precision}", self.name));
        let share = share(precision);
        let distance = |what: &str| self.fixture.get::<f64>(&format!("{}/{way}/{what}", self.name));
        let logits = self.fixture.floats("f32.logits")?;
        let largest_error = largest_difference(&rounded.logits.values, &logits.values);
        case.add("largest error of logits", largest_error, share * distance("logits_max")?);
        let error = relative_error(&rounded.logits, logits, 1.0);
        case.add("error of logits", error, share * distance("logits_relative")?);
        case.add("error of the loss", (rounded.loss - self.loss_in_f32()?).abs(), share * self.loss_error()?);
        let errors: BTreeMap<String, f64> = self.fixture.get(&format!("{}/{way}/gradients", self.name))?;
        let mean = errors.values().sum::<f64>() / errors.len().max(1) as f64;
        for (name, error) in errors {
            let own = rounded.gradients.get(&name).zip(gradients.get(&name));
            let found = own.map_or(f64::NAN, |(own, exact)| relative_error(own, exact, largest(gradients)));
            case.add(format!("error of gradient `{name}`"), found, share * error.max(mean));
        }
        Ok(case)
    }

    fn computed(&self, model: &FixtureModel) -> Result<Computed> {
        let config = Config { model: model.checkpoint.model.clone(), ..Config::default() };
        let objective = Prediction::new(&config);
        let (batch, totals) = (Batch::new(&self.batch, &model.device), StepTotals::of([&self.batch]));
        let mut logits = to_host(batch.logits(&model.model))?;
        let width = logits.values.len() / self.real.len().max(1);
        for (row, real) in logits.values.chunks_mut(width.max(1)).zip(&self.real) {
            if !real {
                row.fill(0.0);
            }
        }
        logits.shape = vec![self.batch.rows, self.batch.time, width];
        let loss = |model: &Model| objective.loss(model, &batch, totals).total;
        let (loss, gradients) = model.loss_and_gradients(loss)?;
        Ok(Computed { logits, loss, gradients })
    }

    fn loss_in_f32(&self) -> Result<f64> {
        let loss = self.fixture.floats("f32.loss")?.values.first().copied();
        Ok(f64::from(loss.unwrap_or(f32::NAN)))
    }

    /// Largest error of the loss in all models and ways: a single one may be near 0 by chance.
    fn loss_error(&self) -> Result<f64> {
        let mut largest = 0.0;
        for model in self.fixture.cases() {
            for way in ["linear", "autocast"] {
                largest = self.fixture.get::<f64>(&format!("{model}/{way}/loss"))?.max(largest);
            }
        }
        Ok(largest)
    }
}

/// Largest norm of some gradients.
fn largest(gradients: &NamedData) -> f64 {
    let norm = |values: &[f32]| values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    gradients.values().map(|gradient| norm(&gradient.values)).fold(0.0, f64::max)
}
