//! Instruction tuning: documents that are packed into rows, or padded, with loss on all tokens or on those of the
//! assistant. The reference is `sft/NAME` in a folder of fixtures.

use super::{
    Case,
    files::Files,
    fixture::{Integers, adamw_losses, largest_difference_where, number, relative, relative_error, to_host},
};
use crate::{
    config::Config,
    data::{HostBatch, IGNORE_INDEX},
    error::Result,
    kernels::attention::PADDING,
    model::{Model, parameters::NamedData},
    objective::{Batch, Objective, Prediction, StepTotals},
};
use burn::tensor::{Device, Tensor};
use std::{collections::BTreeMap, path::Path};

const LEARNING_RATE: f64 = 1e-2;

/// Compares everything in `sft` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "sft", device)? {
        let config = Config { model: files.model.checkpoint.model.clone(), ..Config::default() };
        let tuning = Tuning { objective: Prediction::new(&config), files };
        cases.push(tuning.logits()?);
        for labels in tuning.files.fixture.cases() {
            cases.push(tuning.losses(&labels)?);
        }
    }
    Ok(cases)
}

/// A model with the numbers, and its objective.
struct Tuning {
    files: Files,
    objective: Prediction,
}

impl Tuning {
    /// Compares the logits of packed and of padded documents.
    fn logits(&self) -> Result<Case> {
        let mut case = self.files.case("logits");
        let labels = self.files.fixture.cases().into_iter().next().unwrap_or_default();
        let (packed, padded) = (self.packed(&labels)?, self.padded(&labels)?);
        let documents = self.files.fixture.integers("packed.document_ids")?.values;
        let positions = self.files.fixture.integers("packed.position_ids")?.values;
        let reference = self.files.fixture.floats("packed.logits")?;
        let width = reference.shape.last().copied().unwrap_or(1).max(1);
        let is_real = |index: usize| documents.get(index / width).is_some_and(|&document| document != 0);

        let logits = |host: &HostBatch| {
            to_host(Batch::new(host, &self.files.model.device).logits(&self.files.model.model))
                .map(|logits| logits.values)
        };
        let bound = self.files.tolerances.logits;
        let of_packed = logits(&packed)?;
        case.add("packed", largest_difference_where(&of_packed, &reference.values, is_real), bound);

        // Document 1 is the first row of the padded batch.
        let of_padded = logits(&padded)?;
        let mut there = vec![f32::NAN; of_packed.len()];
        for (to, (&document, &position)) in documents.iter().zip(&positions).enumerate() {
            let Some(row) = usize::try_from(document).ok().and_then(|document| document.checked_sub(1))
            else {
                continue;
            };
            let from = row * padded.time + usize::try_from(position).unwrap_or(usize::MAX).min(padded.time);
            let (from, to) = (from * width..(from + 1) * width, to * width..(to + 1) * width);
            if let (Some(from), Some(to)) = (of_padded.get(from), there.get_mut(to)) {
                to.copy_from_slice(from);
            }
        }
        case.add("padded", largest_difference_where(&there, &reference.values, is_real), bound);

        let own = packed.positions().unwrap_or_default();
        let equal = own.iter().zip(&positions).zip(&documents);
        let equal = equal.filter(|(_, document)| **document != 0).all(|((a, b), _)| i64::from(*a) == *b);
        case.check("positions restart with each document", equal && own.len() == positions.len());
        Ok(case)
    }

    /// Compares the losses, gradients and AdamW losses with these labels.
    fn losses(&self, labels: &str) -> Result<Case> {
        let (packed, padded) = (self.packed(labels)?, self.padded(labels)?);
        let mut case = self.files.case(labels);
        let get = |key: &str| self.files.fixture.get::<f64>(&format!("{labels}/{key}"));
        let (reference, bounds) = (get("loss")?, self.files.tolerances);
        let targets = get("targets")?;
        case.check(
            "number of targets",
            [&packed, &padded].iter().all(|host| host.target_tokens as f64 == targets),
        );

        let (of_packed, gradients) = self.loss_and_gradients(&packed)?;
        let (of_padded, padded_gradients) = self.loss_and_gradients(&padded)?;
        case.add("loss", relative(of_packed, reference), bounds.loss);
        case.add("padded loss", relative(of_padded, reference), bounds.loss);
        case.add("loss of micro-batches", relative(self.in_micro_batches(&packed)?, reference), bounds.loss);
        for (wrong, value) in
            self.files.fixture.get::<BTreeMap<String, f64>>(&format!("{labels}/not_the_loss"))?
        {
            let is_near = (of_packed - value).abs() <= (of_packed - reference).abs();
            let differs = (value - reference).abs() > 1e-4;
            case.check(format!("is not `{wrong}`"), !(is_near && differs));
        }
        let per_document: Vec<f64> = self.files.fixture.get(&format!("{labels}/loss_per_document"))?;
        for (row, reference) in per_document.into_iter().enumerate() {
            let alone = row_of(&padded, row);
            let loss = self.loss(&alone, StepTotals::of([&alone]))(&self.files.model.model);
            case.add(
                format!("loss of document {}", row + 1),
                relative(number(loss)?, reference),
                bounds.loss,
            );
        }

        let whole = format!("{labels}.grad.");
        self.files.fixture.compare_gradients(&mut case, &gradients, labels, Some(&whole), bounds.gradient)?;
        let norm = |values: &[f32]| values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let largest = gradients.values().map(|gradient| norm(&gradient.values)).fold(0.0, f64::max);
        let differences = gradients.iter().map(|(name, packed)| {
            padded_gradients.get(name).map_or(f64::NAN, |padded| relative_error(padded, packed, largest))
        });
        // `max` drops NaN.
        let worst =
            differences.fold(0.0, |worst: f64, d| if worst.is_nan() || d <= worst { worst } else { d });
        case.add("padded gradients", worst, bounds.gradient);

        let loss = self.loss(&packed, StepTotals::of([&packed]));
        let steps = self.files.fixture.adamw_steps(labels)?;
        let found = adamw_losses(&self.files.model.model, LEARNING_RATE, steps, loss)?;
        self.files.fixture.compare_adamw(&mut case, &found, labels, bounds.adamw)?;
        Ok(case)
    }

    /// Loss of a batch as its share of a step, as a function of the model.
    fn loss(&self, host: &HostBatch, totals: StepTotals) -> impl Fn(&Model) -> Tensor<1> {
        let (objective, batch) = (self.objective, Batch::new(host, &self.files.model.device));
        move |model| objective.loss(model, &batch, totals).total
    }

    fn loss_and_gradients(&self, host: &HostBatch) -> Result<(f64, NamedData)> {
        self.files.model.loss_and_gradients(self.loss(host, StepTotals::of([host])))
    }

    /// Loss of a step whose micro-batches have one row each.
    fn in_micro_batches(&self, host: &HostBatch) -> Result<f64> {
        let totals = StepTotals::of([host]);
        let share = |row| number(self.loss(&row_of(host, row), totals)(&self.files.model.model));
        (0..host.rows).map(share).sum()
    }

    /// Batch of packed rows.
    fn packed(&self, labels: &str) -> Result<HostBatch> {
        let documents = self.like("packed.document_ids", &self.tokens("packed")?)?;
        let mut numbers = Vec::with_capacity(documents.values.len());
        for row in documents.values.chunks(documents.shape[1]) {
            for (number, document) in row.chunk_by(|a, b| a == b).enumerate() {
                let number = if document[0] == 0 { PADDING } else { number as i32 };
                numbers.extend(std::iter::repeat_n(number, document.len()));
            }
        }
        Ok(HostBatch { documents: numbers, ..self.batch("packed", labels)? })
    }

    /// Batch with one document a row.
    fn padded(&self, labels: &str) -> Result<HostBatch> {
        let mask = self.like("padded.attention_mask", &self.tokens("padded")?)?;
        let rows = mask.values.chunks(mask.shape[1]);
        let lengths = rows.map(|row| row.iter().filter(|&&real| real != 0).count()).collect();
        Ok(HostBatch { lengths, ..self.batch("padded", labels)? })
    }

    /// Batch of the tokens of a layout. The target of a token is the label of the next one.
    fn batch(&self, layout: &str, labels: &str) -> Result<HostBatch> {
        let tokens = self.tokens(layout)?;
        let name = format!("{layout}.labels.{labels}");
        let (time, labels) = (tokens.shape[1], self.like(&name, &tokens)?.to_i32());
        let vocab_size = self.files.model.checkpoint.model.vocab_size as i64;
        if labels.iter().any(|&label| label != IGNORE_INDEX && !(0..vocab_size).contains(&i64::from(label))) {
            return Err(self.files.fixture.error(format!("`{name}` has a label outside the vocabulary")));
        }
        let target = |i: usize| match (i + 1).is_multiple_of(time) {
            true => IGNORE_INDEX,
            false => labels[i + 1],
        };
        let targets = (0..labels.len()).map(target).collect();
        Ok(HostBatch::new(tokens.to_i32(), targets, tokens.shape[0], time))
    }

    fn tokens(&self, layout: &str) -> Result<Integers> {
        let name = format!("{layout}.input_ids");
        let model = &self.files.model.checkpoint.model;
        let tokens = self.files.fixture.tokens(&name, model.vocab_size)?;
        match model.context_limit().filter(|&limit| tokens.shape[1] > limit) {
            None => Ok(tokens),
            Some(limit) => Err(self
                .files
                .fixture
                .error(format!("`{name}` is longer than the model's {limit} positions"))),
        }
    }

    /// A tensor of integers with the shape of `tokens`.
    fn like(&self, name: &str, tokens: &Integers) -> Result<Integers> {
        let integers = self.files.fixture.integers(name)?;
        if integers.shape != tokens.shape {
            let message = format!("`{name}` has shape {:?}, not {:?}", integers.shape, tokens.shape);
            return Err(self.files.fixture.error(message));
        }
        Ok(integers)
    }
}

/// One row of a batch.
fn row_of(host: &HostBatch, row: usize) -> HostBatch {
    let part = row * host.time..(row + 1) * host.time;
    let of = |values: &[i32]| values.get(part.clone()).unwrap_or_default().to_vec();
    HostBatch {
        documents: of(&host.documents),
        lengths: host.lengths.get(row).copied().into_iter().collect(),
        ..HostBatch::new(of(&host.inputs), of(&host.targets), 1, host.time)
    }
}
