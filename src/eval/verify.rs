//! Holds a model to reference numbers made with PyTorch: logits, loss, the gradient of every
//! parameter, and the losses of a few AdamW steps.
//!
//! The reference is a `fixture.safetensors` beside the model: `input_ids`, `attention_mask` and
//! `labels` (`[B, T]`, i64, -100 is ignored), and f32 `logits` (`[B, T, V]`), `loss` (`[1]`),
//! `grad.NAME` for parameters by their names in `model.safetensors` (experts also in one tensor, as
//! transformers keeps them in memory), optionally `position_ids` (`[B, T]`, i64), and `adamw_losses` (one
//! before each step of AdamW with learning rate 1e-2, betas 0.9 and 0.95, epsilon 1e-8 and weight
//! decay 0.1 on every parameter).

use crate::{
    checkpoint::{Checkpoint, Weights, tensors},
    config::{ModelConfig, TrainConfig},
    data::{HostBatch, IGNORE_INDEX},
    error::{Error, Result},
    model::{
        Decoder,
        families::Family,
        parameters::{self, HostTensor, NamedData},
    },
    objective::causal::{Batch, Objective},
    optim::Optimizer,
    platform::storage,
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Bool, Device, Tensor, TensorData},
};
use serde::Serialize;
use std::path::Path;

/// Name of the reference file.
pub const FIXTURE: &str = "fixture.safetensors";

/// Largest errors that pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerances {
    pub logits: f64,
    pub loss: f64,
    pub gradient: f64,
    pub adamw: f64,
}

impl Tolerances {
    /// For devices that compute in f32 as PyTorch does on a CPU.
    pub fn strict() -> Self {
        Self { logits: 1e-4, loss: 1e-5, gradient: 1e-3, adamw: 1e-3 }
    }

    /// The same bound for everything.
    pub fn uniform(bound: f64) -> Self {
        Self { logits: bound, loss: bound, gradient: bound, adamw: bound }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Largest absolute error.
    pub logits: f64,
    /// Absolute error.
    pub loss: f64,
    /// By parameter: norm of the error over norm of the reference.
    pub gradients: Vec<(String, f64)>,
    /// Relative error of each loss.
    pub adamw: Vec<f64>,
}

impl Verification {
    /// The parameter whose gradient is worst, and its relative error.
    pub fn worst_gradient(&self) -> Option<&(String, f64)> {
        self.gradients.iter().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What is over its tolerance, one sentence each.
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
    objective: Objective,
    batch: Batch,
    /// 1 for tokens, 0 for padding, of which logits mean nothing.
    real: Vec<i64>,
    targets: usize,
    floats: NamedData,
}

/// Compares the checkpoint in `folder` with the reference beside it, on `device`.
pub async fn verify(folder: &Path, device: &Device) -> Result<Verification> {
    let path = folder.join(FIXTURE);
    let failed = |message: String| Error::Checkpoint {
        path: path.clone(),
        message,
        hint: Some("`kiln verify` needs a model with reference numbers beside it".into()),
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
    let logits_error =
        read.values().next().map_or(f64::NAN, |ours| largest_difference(ours, &logits, &reference.real));

    let (own_loss, gradients) = loss_and_gradients(&model, &reference).await?;
    let gradients = parameters::read(parameters::gradients(&model, &gradients)).await?;
    let theirs = checkpoint.family.store(&checkpoint.model, gradients).map_err(failed)?;
    let mut gradient_errors = Vec::new();
    for (name, ours) in &theirs {
        let reference = reference.floats.get(&format!("grad.{name}"));
        let reference = reference.ok_or_else(|| failed(format!("tensor `grad.{name}` is missing")))?;
        gradient_errors.push((name.clone(), relative_error(ours, reference)));
    }

    let config =
        TrainConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, ..Default::default() };
    let mut optimizer = Optimizer::uniform_adamw(&config);
    let mut adamw = Vec::new();
    let mut model = model;
    for expected in &adamw_losses.values {
        let (loss, gradients) = loss_and_gradients(&model, &reference).await?;
        adamw.push(f64::from((loss - expected) / expected).abs());
        model = optimizer.step(model, gradients, 1e-2, None, None);
    }
    let expected = loss.values.first().copied().unwrap_or(f32::NAN);
    Ok(Verification {
        logits: logits_error,
        loss: f64::from(own_loss - expected).abs(),
        gradients: gradient_errors,
        adamw,
    })
}

/// The batch of a fixture: causal models shift labels by one.
fn reference(
    bytes: &[u8],
    family: Family,
    model: &ModelConfig,
    device: &Device,
) -> Result<Reference, String> {
    let (shape, ids) = tensors::read_i64(bytes, "input_ids")?;
    let (_, mask) = tensors::read_i64(bytes, "attention_mask")?;
    let (_, labels) = tensors::read_i64(bytes, "labels")?;
    let &[rows, time] = &shape[..] else {
        return Err(format!("`input_ids` has shape {shape:?}, not [batch, time]"));
    };
    if ids.is_empty() {
        return Err(format!("`input_ids` has shape {shape:?}, which holds no token"));
    }
    if labels.len() != ids.len() || mask.len() != ids.len() {
        return Err("`input_ids`, `attention_mask` and `labels` differ in shape".into());
    }
    if time > model.block_size {
        return Err(format!("`input_ids` has {time} positions, but the model has {}", model.block_size));
    }
    let known = |id: &i64| (0..model.vocab_size as i64).contains(id);
    if !ids.iter().all(known) || !labels.iter().all(|id| known(id) || *id == i64::from(IGNORE_INDEX)) {
        return Err(format!("a token is outside the model's vocabulary of {}", model.vocab_size));
    }
    let shifted = |i: usize| if (i + 1).is_multiple_of(time) { IGNORE_INDEX } else { labels[i + 1] as i32 };
    let targets: Vec<i32> = (0..labels.len()).map(shifted).collect();
    let host = HostBatch::new(ids.iter().map(|&id| id as i32).collect(), targets, rows, time);
    let mut batch = Batch::new(&host, device);
    let padding: Vec<bool> = mask.iter().map(|&real| real == 0).collect();
    batch.padding =
        Some(Tensor::<2, Bool>::from_data(TensorData::new::<bool, _>(padding, shape.clone()), device));
    if let Ok((_, places)) = tensors::read_i64(bytes, "position_ids") {
        if places.len() != ids.len()
            || !places.iter().all(|place| (0..model.block_size as i64).contains(place))
        {
            return Err("`position_ids` are not one place within the context for each token".into());
        }
        let places = places.into_iter().map(|place| place as i32).collect();
        let shape = [rows, time];
        batch.positions = Some(Tensor::from_data(TensorData::new::<i32, _>(places, shape), device));
    }
    let floats = family.as_in_files(tensors::read_floats(bytes)?);
    let objective = Objective::of(model);
    Ok(Reference { objective, targets: batch.target_tokens, batch, real: mask, floats })
}

async fn loss_and_gradients(model: &Decoder, reference: &Reference) -> Result<(f32, GradientsParams)> {
    let loss = reference.objective.loss(model, &reference.batch, reference.targets).total;
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let flat = parameters::FlatTensor::from_tensor(loss.inner());
    let read = parameters::read([("loss".to_owned(), flat)].into()).await?;
    let loss = read.values().next().and_then(|loss| loss.values.first().copied()).unwrap_or(f32::NAN);
    Ok((loss, gradients))
}

/// Over the positions that are no padding.
fn largest_difference(ours: &HostTensor, reference: &HostTensor, real: &[i64]) -> f64 {
    let width = ours.values.len() / real.len().max(1);
    let rows = ours.values.chunks(width).zip(reference.values.chunks(width)).zip(real);
    let differences = rows
        .filter(|(_, real)| **real != 0)
        .flat_map(|((ours, theirs), _)| ours.iter().zip(theirs).map(|(a, b)| f64::from(a - b).abs()));
    // `max` drops NaN; an error that is NaN must not look like none.
    differences.fold(0.0, |worst, d| if d.is_nan() || d > worst { d } else { worst })
}

/// Norm of the difference over norm of the reference; NaN if the shapes differ.
fn relative_error(ours: &HostTensor, reference: &HostTensor) -> f64 {
    if ours.shape != reference.shape {
        return f64::NAN;
    }
    let square = |sum: f64, x: f64| sum + x * x;
    let difference =
        ours.values.iter().zip(&reference.values).map(|(a, b)| f64::from(a - b)).fold(0.0, square);
    let norm = reference.values.iter().map(|&b| f64::from(b)).fold(0.0, square);
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
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
