//! Distillation: divergences between a student, `models/NAME`, and its teacher, `models/NAME-ref`. The reference is
//! `distill/NAME` in a folder of fixtures.

use super::{
    Case, Tolerances,
    fixture::{Fixture, FixtureModel, Integers, adamw_losses, largest_difference_where, relative, to_host},
};
use crate::{
    config::{DistillConfig, TopK},
    data::{HostBatch, IGNORE_INDEX},
    error::Result,
    model::Model,
    objective::{Batch, Distill, Frozen, Objective, StepTotals},
};
use burn::tensor::Device;
use std::path::Path;

const SUBJECT: &str = "distill";
const LEARNING_RATE: f64 = 1e-3;

/// Compares everything in `distill` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in Fixture::names(folder, SUBJECT)? {
        let files = Files {
            fixture: Fixture::open(folder, SUBJECT, &name)?,
            model: FixtureModel::open(folder, &name, device)?,
            teacher: Frozen::new(&FixtureModel::open(folder, &format!("{name}-ref"), device)?.model),
            tolerances: Tolerances::of_device(device),
            name,
        };
        cases.push(files.logits()?);
        for variant in files.fixture.cases() {
            cases.push(files.losses(&variant)?);
        }
    }
    Ok(cases)
}

/// A student, its teacher and the numbers.
struct Files {
    name: String,
    fixture: Fixture,
    model: FixtureModel,
    teacher: Frozen,
    tolerances: Tolerances,
}

impl Files {
    /// Compares the logits of both models.
    fn logits(&self) -> Result<Case> {
        let mut case = Case::new(format!("{} logits", self.name));
        let batch = Batch::new(&self.batch()?, &self.model.device);
        let real = self.fixture.integers("attention_mask")?.values;
        let student = to_host(batch.logits(&self.model.model))?;
        let teacher = to_host(self.teacher.logits(&batch))?;
        for (what, own, name) in
            [("student", student, "student_logits"), ("teacher", teacher, "teacher_logits")]
        {
            let reference = self.fixture.floats(name)?;
            let width = reference.shape.last().copied().unwrap_or(1).max(1);
            let is_real = |index: usize| real.get(index / width).is_some_and(|&real| real != 0);
            let difference = largest_difference_where(&own.values, &reference.values, is_real);
            case.add(what, difference, self.tolerances.logits);
        }
        Ok(case)
    }

    /// Compares the loss of a case, its gradients and its AdamW losses.
    fn losses(&self, variant: &str) -> Result<Case> {
        let (mut case, bounds) = (Case::new(format!("{} {variant}", self.name)), self.tolerances);
        let objective = Distill::new(&self.config(variant)?, self.teacher.clone());
        let host = self.batch()?;
        let (batch, totals) = (Batch::new(&host, &self.model.device), StepTotals::of([&host]));
        let loss = |model: &Model| objective.loss(model, &batch, totals).total;
        let (found, gradients) = self.model.loss_and_gradients(loss)?;
        let reference: f64 = self.fixture.get(&format!("{variant}/loss"))?;
        case.add("loss", relative(found, reference), bounds.loss);
        // Whole gradients are those of one case.
        let whole = (variant == "hinton-mixture").then_some("grad.");
        self.fixture.compare_gradients(&mut case, &gradients, variant, whole, bounds.gradient)?;
        let steps = self.fixture.get::<Vec<f64>>(&format!("{variant}/adamw_losses"))?.len();
        let found = adamw_losses(&self.model.model, LEARNING_RATE, steps, loss)?;
        self.fixture.compare_adamw(&mut case, &found, variant, bounds.adamw)?;
        Ok(case)
    }

    /// Configuration that computes a case.
    fn config(&self, variant: &str) -> Result<DistillConfig> {
        let path = |key: &str| format!("{variant}/{key}");
        let form: Option<String> = self.fixture.find(&path("topk"))?;
        Ok(DistillConfig {
            beta: self.fixture.get(&path("beta"))?,
            temperature: self.fixture.get(&path("T"))?,
            temperature_squared: self.fixture.find(&path("square"))?.unwrap_or(false),
            weight: self.fixture.find(&path("weight"))?.unwrap_or(1.0),
            top_k: self.fixture.find(&path("k"))?,
            top_k_form: match form.as_deref() {
                None | Some("tail") => TopK::Tail,
                Some("renormalized") => TopK::Renormalized,
                Some("both") => TopK::Both,
                Some(other) => return Err(self.fixture.error(format!("`{}` is `{other}`", path("topk")))),
            },
            ..Default::default()
        })
    }

    /// Batch of the texts. The target of a token is the label of the next one.
    fn batch(&self) -> Result<HostBatch> {
        let vocab_size = self.model.checkpoint.model.vocab_size;
        let tokens = self.fixture.tokens("input_ids", vocab_size)?;
        let labels: Integers = self.fixture.integers("labels")?;
        let known =
            |&label: &i64| label == i64::from(IGNORE_INDEX) || (0..vocab_size as i64).contains(&label);
        if labels.shape != tokens.shape || !labels.values.iter().all(known) {
            return Err(self.fixture.error("`labels` is not one of the vocabulary for each token"));
        }
        let (time, labels) = (tokens.shape[1], labels.to_i32());
        let target = |at: usize| match (at + 1).is_multiple_of(time) {
            true => IGNORE_INDEX,
            false => labels[at + 1],
        };
        let targets = (0..labels.len()).map(target).collect();
        Ok(HostBatch::new(tokens.to_i32(), targets, tokens.shape[0], time))
    }
}
