//! Finds where two ways to compute the same model begin to differ: one batch goes through both, the output of each
//! operation is compared, and then, backward, the gradient of each output.

use crate::{
    checkpoint::{
        Checkpoint, Weights,
        tensors::{self, FloatType},
    },
    config::{Architecture, Config, Head, ModelConfig},
    data::{
        HostBatch, IGNORE_INDEX,
        random::{below, rng},
    },
    error::{Error, Result},
    kernels::{Mode, trace},
    model::parameters::{self, FlatTensor, HostTensor, NamedData},
    objective::{Batch, Objective, Prediction, StepTotals},
    platform::storage,
};
use burn::{module::Module, tensor::Device};
use serde::Serialize;
use std::path::Path;

/// Outputs and gradients of all operations of one pass, by a name that begins with their place in the order.
pub struct Pass {
    tensors: NamedData,
}

/// An operation whose numbers differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differing {
    /// Layer, such as `blocks.0.attention.qkv`.
    pub layer: String,
    /// Operation, such as `linear`.
    pub operation: String,
    pub shape: Vec<usize>,
    /// Largest difference, as a share of the largest number of the first pass.
    pub difference: f64,
    /// Indices of the number that differs most.
    pub index: Vec<usize>,
    /// The number with the largest difference, in both passes.
    pub values: [f32; 2],
}

/// Places where two passes begin to differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// First operation, forward, whose output differs by more than the bound.
    pub output: Option<Differing>,
    /// First operation, backward, the gradient of whose output does.
    pub gradient: Option<Differing>,
    /// Number of operations that were compared.
    pub operations: usize,
    /// Largest difference of all outputs and gradients.
    pub largest: f64,
}

/// Computes one batch of seeded tokens, and its gradients, with the weights of a checkpoint.
///
/// # Errors
/// [`Error::Checkpoint`] and [`Error::DeviceFailed`].
pub async fn run(folder: &Path, mode: Option<Mode>, device: &Device) -> Result<Pass> {
    let device = device.clone().autodiff();
    let mut checkpoint = Checkpoint::open_model(folder)?;
    checkpoint.model.dropout = 0.0;
    let mut config = Config { model: checkpoint.model.clone(), ..Default::default() };
    config.kernels.fused = mode.unwrap_or_else(|| checkpoint.mode()).fused;
    let model = checkpoint.build_with_config(&config, Weights::Latest, &device)?.train();
    let host = batch(&checkpoint.model);
    let (batch, totals) = (Batch::new(&host, &device), StepTotals::of([&host]));
    let (loss, recorded) = trace::record(|| Prediction::new(&config).loss(&model, &batch, totals).total);
    let gradients = loss.backward();
    let flat = |tensor| FlatTensor::from_tensor(tensor);
    let mut tensors = std::collections::BTreeMap::new();
    for (number, one) in recorded.iter().enumerate() {
        let name = format!("{number:05} {} {}", one.layer, one.operation);
        if let Some(gradient) = one.gradient(&gradients) {
            tensors.insert(format!("gradient {name}"), flat(gradient));
        }
        tensors.insert(format!("output {name}"), flat(one.output.clone()));
    }
    let mut tensors = parameters::read(tensors).await?;
    for (number, one) in recorded.iter().enumerate() {
        let name = format!("{number:05} {} {}", one.layer, one.operation);
        for kind in ["gradient", "output"] {
            if let Some(tensor) = tensors.get_mut(&format!("{kind} {name}")) {
                tensor.shape.clone_from(&one.shape);
            }
        }
    }
    Ok(Pass { tensors })
}

/// Most tokens of a row.
const MOST_TOKENS: usize = 64;

/// Makes two rows of seeded tokens with the targets that the model's head has.
fn batch(model: &ModelConfig) -> HostBatch {
    let (rows, time) = (2, model.context_limit().unwrap_or(MOST_TOKENS).min(MOST_TOKENS));
    let mut random = rng(1, 0, "locate");
    let mut numbers = |count: usize, bound: usize| -> Vec<i32> {
        (0..count).map(|_| below(&mut random, bound as u64) as i32).collect()
    };
    let inputs = numbers(rows * time, model.vocab_size);
    match (model.architecture, model.head) {
        (_, Head::Regression) => {
            let mut host = HostBatch::new(inputs, vec![0; rows], rows, time);
            host.values = numbers(rows, 100).into_iter().map(|value| value as f32 / 100.0).collect();
            host
        }
        (Architecture::Decoder, _) => {
            let next = |i: usize| if (i + 1).is_multiple_of(time) { IGNORE_INDEX } else { inputs[i + 1] };
            let targets = (0..inputs.len()).map(next).collect();
            HostBatch::new(inputs, targets, rows, time)
        }
        (Architecture::EncoderDecoder, _) => {
            let targets = numbers(rows * time, model.vocab_size);
            let mut host = HostBatch::new(inputs, targets, rows, time);
            let start = model.decoder_start_token as i32;
            for row in host.targets.chunks(time) {
                host.decoder_inputs.extend(std::iter::once(start).chain(row[..time - 1].iter().copied()));
            }
            host
        }
        (Architecture::Encoder, Head::SequenceClassification) => {
            let targets = numbers(rows, model.classes());
            HostBatch::new(inputs, targets, rows, time)
        }
        (Architecture::Encoder, Head::LanguageModel) => {
            let targets = numbers(rows * time, model.vocab_size);
            HostBatch::new(inputs, targets, rows, time)
        }
        (Architecture::Encoder, _) => {
            let targets = numbers(rows * time, model.classes());
            HostBatch::new(inputs, targets, rows, time)
        }
    }
}

impl Pass {
    /// Writes all numbers to a file, for a later comparison.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = tensors::write(&self.tensors, FloatType::F32)
            .map_err(|message| Error::io("write", path, std::io::Error::other(message)))?;
        storage::write_atomic(path, &bytes)
    }

    /// Reads a file of [`Pass::save`].
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::InvalidValue`] for a file of another kind.
    pub fn open(path: &Path) -> Result<Self> {
        let tensors = tensors::read_floats(&storage::read(path)?).map_err(|message| Error::InvalidValue {
            key: "--against".into(),
            value: path.display().to_string(),
            message,
            hint: None,
        })?;
        Ok(Self { tensors })
    }

    /// Compares two passes.
    ///
    /// # Errors
    /// Says which operations one of them lacks.
    pub fn locate(&self, other: &Self, bound: f64) -> Result<Located, String> {
        let missing = |ours: &NamedData, theirs: &NamedData| {
            ours.keys().find(|name| !theirs.contains_key(*name)).cloned()
        };
        if let Some(name) =
            missing(&self.tensors, &other.tensors).or_else(|| missing(&other.tensors, &self.tensors))
        {
            return Err(format!("only one of the passes has the {name}"));
        }
        let (mut located, mut largest) =
            (Located { output: None, gradient: None, operations: 0, largest: 0.0 }, 0.0);
        let mut pair = |name: &String, first: &HostTensor, kind: &str| {
            let found = differing(name.trim_start_matches(kind).trim(), first, &other.tensors[name]);
            if found.difference > largest || found.difference.is_nan() {
                largest = found.difference;
            }
            (found.difference > bound || found.difference.is_nan()).then_some(found)
        };
        for (name, first) in self.tensors.iter().filter(|(name, _)| name.starts_with("output")) {
            located.operations += 1;
            let found = pair(name, first, "output");
            located.output = located.output.or(found);
        }
        for (name, first) in self.tensors.iter().filter(|(name, _)| name.starts_with("gradient")).rev() {
            let found = pair(name, first, "gradient");
            located.gradient = located.gradient.or(found);
        }
        located.largest = largest;
        Ok(located)
    }
}

/// Finds the number that differs most; NaN differs most of all.
fn differing(name: &str, first: &HostTensor, second: &HostTensor) -> Differing {
    let mut words = name.split(' ').skip(1);
    let (layer, operation) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let scale = first.values.iter().map(|value| value.abs()).fold(f32::MIN_POSITIVE, f32::max);
    let (mut at, mut most) = (0, -1.0);
    for (i, (a, b)) in first.values.iter().zip(&second.values).enumerate() {
        let apart = (a - b).abs();
        if apart > most || (apart.is_nan() && !f32::is_nan(most)) {
            (at, most) = (i, apart);
        }
    }
    let same_size = first.values.len() == second.values.len();
    let value = |of: &HostTensor| of.values.get(at).copied().unwrap_or(f32::NAN);
    Differing {
        layer: layer.into(),
        operation: operation.into(),
        difference: if same_size && !most.is_nan() { f64::from(most.max(0.0) / scale) } else { f64::NAN },
        index: indices(at, &first.shape),
        shape: first.shape.clone(),
        values: [value(first), value(second)],
    }
}

/// Indices of an element, given by its place in row-major order.
fn indices(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (index, size) in indices.iter_mut().zip(shape).rev() {
        (*index, at) = (at % size.max(&1), at / size.max(&1));
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(values: [f32; 4]) -> Pass {
        let tensor = |values: &[f32]| HostTensor::new([1, 2], values.to_vec());
        let tensors = [
            ("output 00000 embeddings embedding", tensor(&values[..2])),
            ("output 00001 blocks.0.mlp.up linear", tensor(&values[2..])),
            ("gradient 00000 embeddings embedding", tensor(&values[..2])),
            ("gradient 00001 blocks.0.mlp.up linear", tensor(&values[2..])),
        ];
        Pass { tensors: tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into() }
    }

    #[test]
    fn the_first_that_differs_is_found_forward_and_backward() {
        let first = pass([1.0, 2.0, 3.0, 4.0]);
        let same = first.locate(&first, 0.0).unwrap();
        assert_eq!((same.output, same.gradient, same.operations), (None, None, 2));
        let found = first.locate(&pass([1.0, 2.2, 3.0, 5.0]), 0.01).unwrap();
        let output = found.output.unwrap();
        assert_eq!((output.layer.as_str(), output.operation.as_str()), ("embeddings", "embedding"));
        assert_eq!((output.index, output.values), (vec![0, 1], [2.0, 2.2]));
        assert_eq!(found.gradient.unwrap().layer, "blocks.0.mlp.up");
        assert!((found.largest - 0.25).abs() < 1e-6);
        let nan = first.locate(&pass([1.0, 2.0, f32::NAN, 4.0]), 0.01).unwrap();
        assert_eq!(nan.output.unwrap().layer, "blocks.0.mlp.up");
        let mut other = pass([1.0; 4]);
        other.tensors.pop_last();
        assert!(
            first.locate(&other, 0.1).unwrap_err().contains("only one of the passes has the output 00001")
        );
    }
}
