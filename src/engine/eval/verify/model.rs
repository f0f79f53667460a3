//! Compares a model with reference numbers made with PyTorch: logits, loss, the gradient of every parameter,
//! and the losses of a few AdamW steps.
//!
//! The reference is the file `fixture.safetensors` beside the model, with the following tensors:
//!
//! - `input_ids` and `attention_mask`, i64 `[B, T]`.
//! - `labels`: i64 `[B, T]`, where -100 is ignored. It is `[B, T']` for an encoder-decoder and `[B]` for a
//!   classifier of sequences; for a regression it is f32 `[B]`.
//! - `logits`: f32 `[B, T, V]`, or in the shape of the labels.
//! - `loss`: f32 `[1]`.
//! - `grad.NAME`: f32, for each parameter by its name in `model.safetensors`. Experts may also be in one
//!   tensor, as transformers keeps them in memory.
//! - `position_ids` and `token_type_ids`: i64 `[B, T]`, optional.
//! - `adamw_losses`: f32, one before each step of AdamW with learning rate 1e-2, betas 0.9 and 0.95, epsilon
//!   1e-8 and weight decay 0.1 on every parameter.

use super::{
    Tolerances,
    fixture::{largest_difference_where, relative_error},
};
use crate::{
    checkpoint::{Checkpoint, Weights, tensors},
    config::{Architecture, Config, Head, ModelConfig, TrainConfig},
    data::{HostBatch, IGNORE_INDEX},
    error::{Error, Result, hint},
    model::{
        Model,
        families::Family,
        parameters::{self, NamedData},
    },
    objective::{Batch, Objective, Prediction, StepTotals},
    optim::{Optimizer, Update},
    platform::storage,
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData},
};
use serde::Serialize;
use std::path::Path;

/// Name of the reference file.
pub const FIXTURE: &str = "fixture.safetensors";

/// Errors of a model, compared with the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Largest absolute error of the logits.
    pub logits: f64,
    /// Absolute error of the loss.
    pub loss: f64,
    /// Relative error of each parameter's gradient: norm of the error divided by norm of the reference.
    pub gradients: Vec<(String, f64)>,
    /// Relative error of the loss before each AdamW step.
    pub adamw: Vec<f64>,
}

impl Verification {
    /// Parameter with the largest error of its gradient, and that error.
    pub fn worst_gradient(&self) -> Option<&(String, f64)> {
        self.gradients.iter().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Describes each error that exceeds its tolerance, in one sentence each.
    pub fn failures(&self, tolerances: &Tolerances) -> Vec<String> {
        let mut failures = Vec::new();
        let mut check = |what: String, error: f64, bound: f64| {
            if error.is_nan() || error > bound {
                failures.push(format!("{what}: error {error:.3e} is over {bound:.0e}"));
            }
        };
        check("logits".into(), self.logits, tolerances.logits);
        check("loss".into(), self.loss, tolerances.loss);
        for (name, error) in &self.gradients {
            check(format!("gradient of `{name}`"), *error, tolerances.gradient);
        }
        for (step, error) in self.adamw.iter().enumerate() {
            check(format!("loss before AdamW step {}", step + 1), *error, tolerances.adamw);
        }
        failures
    }
}

struct Reference {
    objective: Prediction,
    batch: Batch,
    /// 1 for tokens, 0 for padding, whose logits have no meaning.
    real: Vec<i64>,
    totals: StepTotals,
    floats: NamedData,
}

/// Compares the checkpoint in `folder` with the reference beside it, on `device`.
///
/// # Errors
/// [`Error::Checkpoint`] if the model or the reference is missing, broken or does not fit, and
/// [`Error::DeviceFailed`].
pub async fn verify_model(folder: &Path, device: &Device) -> Result<Verification> {
    let path = folder.join(FIXTURE);
    let failed = |message: String| Error::Checkpoint {
        path: path.clone(),
        message,
        hint: Some(hint![hint::command("kiln verify"), " needs a model with reference numbers beside it"]),
    };
    if !path.is_file() {
        return Err(failed("is missing".into()));
    }
    let device = device.clone().autodiff();
    let mut checkpoint = Checkpoint::open_model(folder)?;
    checkpoint.model.dropout = 0.0;
    let bytes = storage::read(&path)?;
    let mut reference = reference(&bytes, checkpoint.family, &checkpoint.model, &device).map_err(failed)?;
    let mut take = |name: &str| {
        reference.floats.remove(name).ok_or_else(|| failed(format!("tensor `{name}` is missing")))
    };
    let (logits, loss, adamw_losses) = (take("logits")?, take("loss")?, take("adamw_losses")?);
    let model = checkpoint.build(Weights::Latest, &device)?.train();

    let computed = reference.batch.logits(&model).inner();
    let [count, vocab] = computed.dims();
    let read =
        parameters::read([("logits".to_owned(), parameters::FlatTensor::from_tensor(computed))].into())
            .await?;
    if logits.values.len() != count * vocab {
        return Err(failed(format!(
            "logits have shape {:?}, but the model gives [{count}, {vocab}]",
            logits.shape
        )));
    }
    // Padding has logits without a meaning.
    let width = logits.values.len() / reference.real.len().max(1);
    let is_real = |index: usize| reference.real.get(index / width.max(1)).is_some_and(|&real| real != 0);
    let logits_error = read
        .values()
        .next()
        .map_or(f64::NAN, |ours| largest_difference_where(&ours.values, &logits.values, is_real));

    let (own_loss, gradients) = loss_and_gradients(&model, &reference).await?;
    let gradients = parameters::read(parameters::gradients(&model, &gradients)).await?;
    let theirs = checkpoint.family.store(&checkpoint.model, gradients).map_err(failed)?;
    let references = reference.floats.iter().filter(|(name, _)| name.starts_with("grad."));
    let largest = references.map(|(_, gradient)| norm(&gradient.values)).fold(0.0, f64::max);
    let mut gradient_errors = Vec::new();
    for (name, ours) in &theirs {
        let reference = reference.floats.get(&format!("grad.{name}"));
        let reference = reference.ok_or_else(|| failed(format!("tensor `grad.{name}` is missing")))?;
        gradient_errors.push((name.clone(), relative_error(ours, reference, largest)));
    }

    let config =
        TrainConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, ..Default::default() };
    let mut optimizer = Optimizer::uniform_adamw(&config, checkpoint.mode());
    let mut adamw = Vec::new();
    let mut model = model;
    for expected in &adamw_losses.values {
        let (loss, gradients) = loss_and_gradients(&model, &reference).await?;
        adamw.push(f64::from((loss - expected) / expected).abs());
        let scale = Tensor::ones([1], &device.clone().inner());
        let update = Update { learning_rate: 1e-2, scale, skip_non_finite: false };
        model = optimizer.step(model, gradients, update);
    }
    let expected = loss.values.first().copied().unwrap_or(f32::NAN);
    Ok(Verification {
        logits: logits_error,
        loss: f64::from(own_loss - expected).abs(),
        gradients: gradient_errors,
        adamw,
    })
}

/// Makes the batch of a fixture from its labels like transformers: causal models shift labels by one, and the
/// decoder inputs of an encoder-decoder are its labels shifted right by one.
fn reference(
    bytes: &[u8],
    family: Family,
    model: &ModelConfig,
    device: &Device,
) -> Result<Reference, String> {
    let (shape, ids) = tensors::read_i64(bytes, "input_ids")?;
    let (_, mask) = tensors::read_i64(bytes, "attention_mask")?;
    let &[rows, time] = &shape[..] else {
        return Err(format!("`input_ids` has shape {shape:?}, not [batch, time]"));
    };
    if ids.is_empty() {
        return Err(format!("`input_ids` has shape {shape:?}, which holds no token"));
    }
    if mask.len() != ids.len() {
        return Err("`input_ids` and `attention_mask` differ in shape".into());
    }
    if let Some(limit) = model.context_limit().filter(|&limit| time > limit) {
        return Err(format!("`input_ids` has {time} positions, but the model has {limit}"));
    }
    if !ids.iter().all(|id| (0..model.vocab_size as i64).contains(id)) {
        return Err(format!("a token is outside the model's vocabulary of {}", model.vocab_size));
    }
    let mut floats = tensors::read_floats(bytes)?;
    let targets = match model.head {
        Head::Regression => vec![0; rows],
        _ => labels(bytes, model, rows, time)?,
    };
    let inputs = ids.iter().map(|&id| id as i32).collect();
    let mut host = HostBatch::new(inputs, targets, rows, time);
    let mut real = mask.clone();
    match (model.architecture, model.head) {
        (_, Head::Regression) => {
            let labels = floats.remove("labels").filter(|labels| labels.values.len() == rows);
            host.values = labels.ok_or("`labels` is not one number a row")?.values;
            real = vec![1; rows];
        }
        (Architecture::Decoder, _) => {
            let next =
                |i: usize| if (i + 1).is_multiple_of(time) { IGNORE_INDEX } else { host.targets[i + 1] };
            let targets = (0..host.targets.len()).map(next).collect();
            host = HostBatch::new(host.inputs, targets, rows, time);
        }
        (Architecture::EncoderDecoder, _) => {
            let start = model.decoder_start_token as i32;
            for row in host.targets.chunks(host.targets.len() / rows) {
                let generated = row[..row.len() - 1].iter().map(|&id| if id < 0 { start } else { id });
                host.decoder_inputs.extend(std::iter::once(start).chain(generated));
            }
            real = vec![1; host.targets.len()];
        }
        (Architecture::Encoder, Head::SequenceClassification) => real = vec![1; rows],
        (Architecture::Encoder, _) => {}
    }
    let mut batch = Batch::new(&host, device);
    let padding: Vec<bool> = mask.iter().map(|&real| real == 0).collect();
    batch.input.padding = Some(crate::model::mask(padding, rows, device));
    batch.input.positions = small_numbers(bytes, "position_ids", &shape, model.block_size, device)?;
    batch.input.token_types = small_numbers(bytes, "token_type_ids", &shape, model.token_types, device)?;
    let floats = family.as_in_files(floats);
    let objective = Prediction::new(&Config { model: model.clone(), ..Default::default() });
    Ok(Reference { objective, totals: StepTotals::of([&host]), batch, real, floats })
}

/// Reads labels, the same number for each row: of tokens, of the generated text, or of rows.
fn labels(bytes: &[u8], model: &ModelConfig, rows: usize, time: usize) -> Result<Vec<i32>, String> {
    let (shape, labels) = tensors::read_i64(bytes, "labels")?;
    let fits = match (model.architecture, model.head) {
        (Architecture::EncoderDecoder, _) => {
            let limit = model.context_limit().unwrap_or(usize::MAX);
            matches!(shape[..], [found, length] if found == rows && (1..=limit).contains(&length))
        }
        (_, Head::SequenceClassification) => shape == [rows],
        _ => shape == [rows, time],
    };
    if !fits {
        return Err(format!(
            "`labels` has shape {shape:?}, which does not go with `input_ids` [{rows}, {time}]"
        ));
    }
    let known = if model.head == Head::LanguageModel { model.vocab_size } else { model.classes() };
    let is_known = |id: &i64| (0..known as i64).contains(id) || *id == i64::from(IGNORE_INDEX);
    if !labels.iter().all(is_known) {
        return Err(format!("a label is outside the model's {known}"));
    }
    Ok(labels.into_iter().map(|label| label as i32).collect())
}

/// Reads an optional tensor with a number below `bound` for each token.
fn small_numbers(
    bytes: &[u8],
    name: &str,
    shape: &[usize],
    bound: usize,
    device: &Device,
) -> Result<Option<Tensor<2, Int>>, String> {
    let Ok((found, numbers)) = tensors::read_i64(bytes, name) else { return Ok(None) };
    if found != shape || !numbers.iter().all(|number| (0..bound as i64).contains(number)) {
        return Err(format!("`{name}` is not one number below {bound} for each token"));
    }
    let numbers: Vec<i32> = numbers.into_iter().map(|number| number as i32).collect();
    Ok(Some(Tensor::from_data(TensorData::new(numbers, [shape[0], shape[1]]), device)))
}

async fn loss_and_gradients(model: &Model, reference: &Reference) -> Result<(f32, GradientsParams)> {
    let loss = reference.objective.loss(model, &reference.batch, reference.totals).total;
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let flat = parameters::FlatTensor::from_tensor(loss.inner());
    let read = parameters::read([("loss".to_owned(), flat)].into()).await?;
    let loss = read.values().next().and_then(|loss| loss.values.first().copied()).unwrap_or(f32::NAN);
    Ok((loss, gradients))
}

/// Norm of a tensor's values.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{Dtype, tensor::TensorView};

    #[test]
    fn a_fixture_without_tokens_is_refused() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let model = ModelConfig { vocab_size: 5, ..Default::default() };
        for shape in [vec![0, 4], vec![2, 0]] {
            let empty = || TensorView::new(Dtype::I64, shape.clone(), &[]).unwrap();
            let tensors = ["input_ids", "attention_mask", "labels"].map(|name| (name, empty()));
            let bytes = safetensors::serialize(tensors, None).unwrap();
            let message = reference(&bytes, Family::GPT2, &model, &device).err().unwrap();
            assert!(message.contains(&format!("`input_ids` has shape {shape:?}")), "{message}");
        }
    }
}
