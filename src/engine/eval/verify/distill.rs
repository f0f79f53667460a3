//! Distillation: divergences between a student, `models/NAME`, and its teacher, `models/NAME-ref`. The reference is
//! `distill/NAME` in a folder of fixtures.

use super::{
    Case,
    files::Files,
    fixture::{Integers, largest_difference_where, to_host},
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

/// Compares everything in `distill` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "distill", device)? {
        let teacher = Frozen::new(&files.second_model(folder)?.model);
        let pair = Distillation { files, teacher };
        cases.push(pair.logits()?);
        for variant in pair.files.fixture.cases() {
            cases.push(pair.losses(&variant)?);
        }
    }
    Ok(cases)
}

/// A student with the numbers, and its teacher.
struct Distillation {
    files: Files,
    teacher: Frozen,
}

impl Distillation {
    /// Compares the logits of both models.
    fn logits(&self) -> Result<Case> {
        let mut case = self.files.case("logits");
        let batch = Batch::new(&self.batch()?, &self.files.model.device);
        let real = self.files.fixture.integers("attention_mask")?.values;
        let student = to_host(batch.logits(&self.files.model.model))?;
        let teacher = to_host(self.teacher.logits(&batch))?;
        for (what, own, name) in
            [("student", student, "student_logits"), ("teacher", teacher, "teacher_logits")]
        {
            let reference = self.files.fixture.floats(name)?;
            let width = reference.shape.last().copied().unwrap_or(1).max(1);
            let is_real = |index: usize| real.get(index / width).is_some_and(|&real| real != 0);
            let difference = largest_difference_where(&own.values, &reference.values, is_real);
            case.add(what, difference, self.files.tolerances.logits);
        }
        Ok(case)
    }

    /// Compares the loss of a case, its gradients and its AdamW losses.
    fn losses(&self, variant: &str) -> Result<Case> {
        let mut case = self.files.case(variant);
        let objective = Distill::new(&self.config(variant)?, self.teacher.clone());
        let host = self.batch()?;
        let (batch, totals) = (Batch::new(&host, &self.files.model.device), StepTotals::of([&host]));
        let loss = |model: &Model| objective.loss(model, &batch, totals).total;
        let expected = self.files.fixture.get(&format!("{variant}/loss"))?;
        self.files.compare_training(&mut case, variant, expected, "hinton-mixture", loss)?;
        Ok(case)
    }

    /// Configuration that computes a case.
    fn config(&self, variant: &str) -> Result<DistillConfig> {
        let path = |key: &str| format!("{variant}/{key}");
        let form: Option<String> = self.files.fixture.find(&path("topk"))?;
        Ok(DistillConfig {
            beta: self.files.fixture.get(&path("beta"))?,
            temperature: self.files.fixture.get(&path("T"))?,
            temperature_squared: self.files.fixture.find(&path("square"))?.unwrap_or(false),
            weight: self.files.fixture.find(&path("weight"))?.unwrap_or(1.0),
            top_k: self.files.fixture.find(&path("k"))?,
            top_k_form: match form.as_deref() {
                None | Some("tail") => TopK::Tail,
                Some("renormalized") => TopK::Renormalized,
                Some("both") => TopK::Both,
                Some(other) => {
                    return Err(self.files.fixture.error(format!("`{}` is `{other}`", path("topk"))));
                }
            },
            ..Default::default()
        })
    }

    /// Batch of the texts. The target of a token is the label of the next one.
    fn batch(&self) -> Result<HostBatch> {
        let vocab_size = self.files.model.checkpoint.model.vocab_size;
        let tokens = self.files.fixture.tokens("input_ids", vocab_size)?;
        let labels: Integers = self.files.fixture.integers("labels")?;
        let known =
            |&label: &i64| label == i64::from(IGNORE_INDEX) || (0..vocab_size as i64).contains(&label);
        if labels.shape != tokens.shape || !labels.values.iter().all(known) {
            return Err(self.files.fixture.error("`labels` is not one of the vocabulary for each token"));
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
