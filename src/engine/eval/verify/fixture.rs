//! Reads the fixtures of post-training: for each case a JSON file with numbers and a file of tensors with the
//! same name, made with PyTorch on small models that are in `models`. Computes what is compared with them:
//! gradients under the names of Hugging Face, and the losses of a few AdamW steps.

use super::case::Case;
use crate::{
    checkpoint::{Checkpoint, Weights, tensors},
    config::TrainConfig,
    error::{Error, Result},
    kernels::{Mode, Precision},
    model::{
        Input, Model, mask,
        parameters::{self, FlatTensor, HostTensor, NamedData},
    },
    optim::{Optimizer, Update},
    platform::storage,
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Numbers and tensors of one file of a subject, for example `sft/llama`.
pub struct Fixture {
    /// Path of the JSON file, for messages.
    path: PathBuf,
    json: Value,
    /// Contents of the file of tensors.
    bytes: Vec<u8>,
    floats: NamedData,
}

/// A tensor of integers.
#[derive(Debug, Clone, PartialEq)]
pub struct Integers {
    pub shape: Vec<usize>,
    pub values: Vec<i64>,
}

impl Integers {
    /// Converts to 32 bits; what does not fit becomes -1.
    pub fn to_i32(&self) -> Vec<i32> {
        self.values.iter().map(|&value| i32::try_from(value).unwrap_or(-1)).collect()
    }
}

impl Fixture {
    /// Names of a subject's files, sorted: those with both a JSON file and tensors.
    pub fn names(folder: &Path, subject: &str) -> Result<Vec<String>> {
        let paths = storage::list(&folder.join(subject))?;
        let is_json = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let json = paths.iter().filter(is_json);
        let both = json.filter(|path| storage::exists(&path.with_extension("safetensors")));
        Ok(both.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect())
    }

    /// Reads `SUBJECT/NAME.json` and `SUBJECT/NAME.safetensors` of a folder.
    pub fn open(folder: &Path, subject: &str, name: &str) -> Result<Self> {
        Self::open_with(folder, subject, name, name)
    }

    /// Reads `SUBJECT/JSON.json`, which tells of several files, and `SUBJECT/NAME.safetensors` of a folder.
    pub fn open_with(folder: &Path, subject: &str, name: &str, json: &str) -> Result<Self> {
        let path = folder.join(subject).join(format!("{json}.json"));
        let text = storage::read_to_string(&path)?;
        let failed = |message: String| Error::Checkpoint { path: path.clone(), message, hint: None };
        let json = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let bytes = storage::read(&path.with_file_name(format!("{name}.safetensors")))?;
        let floats = tensors::read_floats(&bytes).map_err(failed)?;
        Ok(Self { path, json, bytes, floats })
    }

    /// Makes an error about this fixture.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Checkpoint { path: self.path.clone(), message: message.into(), hint: None }
    }

    /// Names of the cases in the JSON file: the entries that are objects.
    pub fn cases(&self) -> Vec<String> {
        let entries = self.json.as_object().into_iter().flatten();
        entries.filter(|(_, value)| value.is_object()).map(|(name, _)| name.clone()).collect()
    }

    /// Value at a path such as `all/loss`, or `None` if there is none. A case's name may contain dots.
    pub fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        match self.json.pointer(&format!("/{path}")) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| self.error(format!("`{path}`: {error}"))),
        }
    }

    /// Value at a path such as `all/loss`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none, or if it has another type.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.find(path)?.ok_or_else(|| self.error(format!("`{path}` is missing")))
    }

    /// Names of all tensors of floating-point numbers, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = &String> {
        self.floats.keys()
    }

    /// A tensor of floating-point numbers, or `None` if there is none of this name.
    pub fn find_floats(&self, name: &str) -> Option<&HostTensor> {
        self.floats.get(name)
    }

    /// A tensor of floating-point numbers.
    pub fn floats(&self, name: &str) -> Result<&HostTensor> {
        self.find_floats(name).ok_or_else(|| self.error(format!("tensor `{name}` is missing")))
    }

    /// A tensor of integers.
    pub fn integers(&self, name: &str) -> Result<Integers> {
        let (shape, values) = tensors::read_i64(&self.bytes, name).map_err(|message| self.error(message))?;
        Ok(Integers { shape, values })
    }

    /// A tensor of integers `[rows, time]` that are ids of a vocabulary.
    pub fn tokens(&self, name: &str, vocab_size: usize) -> Result<Integers> {
        let tokens = self.integers(name)?;
        if tokens.shape.len() != 2 || tokens.values.is_empty() {
            return Err(self.error(format!("`{name}` has shape {:?}, not [rows, time]", tokens.shape)));
        }
        if !tokens.values.iter().all(|token| (0..vocab_size as i64).contains(token)) {
            return Err(self.error(format!("`{name}` has a token outside the vocabulary of {vocab_size}")));
        }
        Ok(tokens)
    }

    /// Makes a model's input of tokens `[rows, time]` and their attention mask. Positions count from each
    /// row's first token, so that padding may be on either side.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if a tensor is missing, or the shapes differ, or a token is none of the model's.
    pub fn input(&self, tokens: &str, attention_mask: &str, model: &FixtureModel) -> Result<Input> {
        let ids = self.tokens(tokens, model.checkpoint.model.vocab_size)?;
        let real = self.integers(attention_mask)?;
        let &[rows, time] = &ids.shape[..] else {
            return Err(self.error(format!("`{tokens}` is no matrix")));
        };
        if real.shape != ids.shape {
            return Err(self.error(format!("`{tokens}` and `{attention_mask}` differ in shape")));
        }
        if let Some(limit) = model.checkpoint.model.context_limit().filter(|&limit| time > limit) {
            return Err(self.error(format!("`{tokens}` has {time} positions, but the model has {limit}")));
        }
        let mut positions = Vec::with_capacity(ids.values.len());
        for row in real.values.chunks(time) {
            let mut seen = 0;
            for &real in row {
                seen += i32::from(real != 0);
                positions.push((seen - 1).max(0));
            }
        }
        let padding: Vec<bool> = real.values.iter().map(|&real| real == 0).collect();
        let device = &model.device;
        let matrix = |values: Vec<i32>| Tensor::from_data(TensorData::new(values, [rows, time]), device);
        Ok(Input {
            padding: padding.contains(&true).then(|| mask(padding, rows, device)),
            positions: Some(matrix(positions)),
            ..Input::from(matrix(ids.to_i32()))
        })
    }

    /// Adds the differences of gradients to a case: of each norm and probe (the sum of element `i` times the
    /// sine of `i`) in `CASE/gradients`, and of the whole tensors whose names are `whole` and the parameter's.
    /// `ours` has the names of the fixture. All are relative to the norm of the reference, or to the largest
    /// one for a gradient that is 0 but for rounding.
    pub fn compare_gradients(
        &self,
        case: &mut Case,
        ours: &NamedData,
        json_case: &str,
        whole: Option<&str>,
        bound: f64,
    ) -> Result<()> {
        let references: BTreeMap<String, [f64; 2]> = self.get(&format!("{json_case}/gradients"))?;
        let largest = references.values().map(|[norm, _]| *norm).fold(0.0, f64::max);
        for (name, [norm, probe]) in &references {
            let scale = scale(*norm, largest);
            let [own_norm, own_probe] =
                ours.get(name).map_or([f64::NAN; 2], |gradient| summary(&gradient.values));
            case.add(format!("norm of gradient `{name}`"), (own_norm - norm).abs() / scale, bound);
            case.add(format!("probe of gradient `{name}`"), (own_probe - probe).abs() / scale, bound);
        }
        for (name, gradient) in ours.iter().filter(|(name, _)| !references.contains_key(*name)) {
            let [norm, _] = summary(&gradient.values);
            if norm != 0.0 {
                case.add(
                    format!("gradient `{name}`, which the reference does not have"),
                    norm / largest,
                    bound,
                );
            }
        }
        let wholes = whole.into_iter().flat_map(|whole| {
            self.floats.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(whole)?, tensor)))
        });
        for (name, reference) in wholes {
            let error = ours.get(name).map_or(f64::NAN, |own| relative_error(own, reference, largest));
            case.add(format!("gradient `{name}`"), error, bound);
        }
        Ok(())
    }

    /// Number of AdamW steps of a case.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there are none.
    pub fn adamw_steps(&self, json_case: &str) -> Result<usize> {
        Ok(self.get::<Vec<f64>>(&format!("{json_case}/adamw_losses"))?.len())
    }

    /// Adds the relative difference of the loss before each AdamW step to a case.
    pub fn compare_adamw(&self, case: &mut Case, ours: &[f64], json_case: &str, bound: f64) -> Result<()> {
        let references: Vec<f64> = self.get(&format!("{json_case}/adamw_losses"))?;
        for (step, reference) in references.iter().enumerate() {
            let own = ours.get(step).copied().unwrap_or(f64::NAN);
            case.add(format!("loss before AdamW step {}", step + 1), relative(own, *reference), bound);
        }
        Ok(())
    }
}

/// A model of the folder `models`, on an autodiff device, without dropout.
pub struct FixtureModel {
    pub checkpoint: Checkpoint,
    pub model: Model,
    pub device: Device,
}

impl FixtureModel {
    /// Loads `models/NAME` of a folder of fixtures.
    pub fn open(folder: &Path, name: &str, device: &Device) -> Result<Self> {
        Self::open_in_precision(folder, name, Precision::F32, device)
    }

    /// Loads `models/NAME` of a folder of fixtures, to compute with products of a precision that the device has.
    pub fn open_in_precision(
        folder: &Path,
        name: &str,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().autodiff();
        let mut checkpoint = Checkpoint::open_model(&folder.join("models").join(name))?;
        checkpoint.model.dropout = 0.0;
        let model = checkpoint.build_in_precision(Weights::Latest, precision, &device)?.train();
        Ok(Self { checkpoint, model, device })
    }

    /// Value of a loss of this model, and its gradients by the names of Hugging Face.
    pub fn loss_and_gradients(&self, loss: impl Fn(&Model) -> Tensor<1>) -> Result<(f64, NamedData)> {
        let (loss, gradients) = loss_and_gradients(&self.model, loss(&self.model))?;
        Ok((loss, self.stored(gradients)?))
    }

    /// Converts gradients of this model to the names and forms of Hugging Face. A parameter without a
    /// gradient has zeros.
    pub fn stored(&self, mut gradients: NamedData) -> Result<NamedData> {
        for (name, shape) in parameters::shapes(&self.model) {
            let zeros = || HostTensor::new(shape.clone(), vec![0.0; shape.iter().product()]);
            gradients.entry(name).or_insert_with(zeros);
        }
        let Checkpoint { family, model, .. } = &self.checkpoint;
        family.store(model, gradients).map_err(|message| Error::Checkpoint {
            path: self.checkpoint.path().into(),
            message,
            hint: None,
        })
    }
}

/// Differentiates a loss. Returns its value, and the gradients of a module by Kiln's names, without the
/// parameters that have none.
pub fn loss_and_gradients<M: Module>(module: &M, loss: Tensor<1>) -> Result<(f64, NamedData)> {
    let gradients = GradientsParams::from_grads(loss.backward(), module);
    let gradients = pollster::block_on(parameters::read(parameters::gradients(module, &gradients)))?;
    Ok((number(loss)?, gradients))
}

/// Losses before each of `steps` steps of AdamW with betas 0.9 and 0.95, epsilon 1e-8 and weight decay 0.1 on
/// every parameter that has a gradient.
pub fn adamw_losses<M: Module>(
    module: &M,
    learning_rate: f64,
    steps: usize,
    loss: impl Fn(&M) -> Tensor<1>,
) -> Result<Vec<f64>> {
    let config =
        TrainConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, ..Default::default() };
    let mut optimizer = Optimizer::uniform_adamw(&config, Mode::Fused);
    let mut module = module.clone();
    let mut losses = Vec::with_capacity(steps);
    for _ in 0..steps {
        let loss = loss(&module);
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let loss = loss.inner();
        let scale = Tensor::ones([1], &loss.device());
        losses.push(number(loss)?);
        module = optimizer.step(module, gradients, Update { learning_rate, scale, skip_non_finite: false });
    }
    Ok(losses)
}

/// Copies a tensor to host memory.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<HostTensor> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    let shape = tensor.dims();
    let read =
        pollster::block_on(parameters::read([(String::new(), FlatTensor::from_tensor(tensor))].into()))?;
    Ok(read.into_values().next().unwrap_or_else(|| HostTensor::new(shape, Vec::new())))
}

/// Value of a tensor with one element, `[1]`.
pub fn number(tensor: Tensor<1>) -> Result<f64> {
    Ok(to_host(tensor)?.values.first().map_or(f64::NAN, |&value| f64::from(value)))
}

/// Difference of two numbers, relative to the second if that is over 1.
pub fn relative(own: f64, reference: f64) -> f64 {
    (own - reference).abs() / reference.abs().max(1.0)
}

/// Largest absolute difference of two lists of numbers; NaN if one is or the lengths differ.
pub fn largest_difference(own: &[f32], reference: &[f32]) -> f64 {
    largest_difference_where(own, reference, |_| true)
}

/// Largest absolute difference of the elements whose index is `counted`; NaN if one is or the lengths differ.
pub fn largest_difference_where(own: &[f32], reference: &[f32], counted: impl Fn(usize) -> bool) -> f64 {
    if own.len() != reference.len() {
        return f64::NAN;
    }
    let pairs = own.iter().zip(reference).enumerate().filter(|(index, _)| counted(*index));
    let differences = pairs.map(|(_, (own, reference))| f64::from(own - reference).abs());
    // `max` drops NaN; a difference that is NaN must not look like none.
    differences.fold(0.0, |worst: f64, d| if worst.is_nan() || d <= worst { worst } else { d })
}

/// Norm of the difference of two tensors, relative to the norm of the reference, or to `largest` if the
/// reference is 0 but for rounding; NaN if the shapes differ.
pub fn relative_error(own: &HostTensor, reference: &HostTensor, largest: f64) -> f64 {
    if own.shape != reference.shape {
        return f64::NAN;
    }
    let difference: Vec<f32> = own.values.iter().zip(&reference.values).map(|(a, b)| a - b).collect();
    let [[error, _], [norm, _]] = [summary(&difference), summary(&reference.values)];
    error / scale(norm, largest)
}

/// Norm of a gradient's values, and the probe of the fixtures: the sum of value `i` times the sine of `i`.
fn summary(values: &[f32]) -> [f64; 2] {
    let (mut squares, mut probe) = (0.0, 0.0);
    for (index, &value) in values.iter().enumerate() {
        squares += f64::from(value).powi(2);
        probe += f64::from(value) * (index as f64).sin();
    }
    [squares.sqrt(), probe]
}

/// Number that the error of a gradient with this norm is divided by. A gradient that is a millionth of the
/// largest is 0 in exact arithmetic (a bias that all scores share), and only rounding.
fn scale(norm: f64, largest: f64) -> f64 {
    if norm <= 1e-6 * largest { largest } else { norm }.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_nan_is_not_lost() {
        assert_eq!(largest_difference(&[1.0, 2.0, 3.0], &[1.0, 2.5, 3.0]), 0.5);
        assert!(largest_difference(&[1.0, f32::NAN, 3.0], &[1.0, 2.5, 9.0]).is_nan());
        assert!(largest_difference(&[1.0], &[1.0, 2.0]).is_nan());
        assert_eq!(largest_difference_where(&[f32::NAN, 1.0], &[0.0, 1.0], |index| index > 0), 0.0);
    }

    #[test]
    fn a_gradient_of_rounding_is_held_to_the_largest() {
        let tensor = |value: f32| HostTensor::new([1], vec![value]);
        assert_eq!(relative_error(&tensor(1.5), &tensor(1.0), 1.0), 0.5);
        assert!(relative_error(&tensor(3e-8), &tensor(1e-8), 1.0) < 1e-7);
        assert!(relative_error(&tensor(1.0), &HostTensor::new([1, 1], vec![1.0]), 1.0).is_nan());
    }
}
