//! Compares adapters with PEFT's: each folder of `lora` has an adapter as PEFT wrote it, and beside it
//! `fixture.safetensors` with a batch, its logits, loss and gradients, the losses of a few AdamW steps, and weights
//! into which PEFT merged the adapter.

use super::{
    FIXTURE,
    case::{Case, Tolerances},
    fixture::{
        adamw_losses, largest_difference_where, loss_and_gradients, relative, relative_error, to_host,
    },
};
use crate::{
    checkpoint::{Checkpoint, TrainedAdapter, Weights, names, tensors},
    config::{AdapterConfig, Config},
    data::{HostBatch, IGNORE_INDEX},
    error::{Error, Result},
    model::{
        Model, mask,
        parameters::{self, HostTensor, NamedData},
    },
    objective::{Batch, Objective, Prediction, StepTotals},
    platform::storage,
    transform::adapter::{AdapterLayout, fold, freeze_base, merged_weights},
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use std::path::Path;

/// Learning rate of the AdamW steps.
const LEARNING_RATE: f64 = 1e-2;

/// Keys of `adapter_config.json` that Kiln writes as PEFT does, whatever names the modules have in it.
const KEYS: [&str; 12] = [
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "modules_to_save",
    "bias",
    "ensure_weight_tying",
];

/// Batch of a fixture, and the reference numbers.
struct Reference {
    host: HostBatch,
    padding: Vec<bool>,
    floats: NamedData,
}

/// Compares every adapter of a folder of fixtures.
///
/// # Errors
/// [`Error::Checkpoint`] if a model, an adapter or a fixture is missing, broken or does not fit.
pub fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let folders = storage::list(&folder.join("lora"))?;
    let with_fixture = folders.iter().filter(|folder| storage::exists(&folder.join(FIXTURE)));
    with_fixture.map(|folder| verify_adapter(folder, device)).collect()
}

fn verify_adapter(folder: &Path, device: &Device) -> Result<Case> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut case = Case::new(format!("lora/{name}"));
    let failed = |message: String| Error::Checkpoint { path: folder.join(FIXTURE), message, hint: None };
    let (device, bounds) = (device.clone().autodiff(), Tolerances::of_device(device));
    let mut checkpoint = Checkpoint::open_model(folder)?;
    checkpoint.model.dropout = 0.0;
    let settings = checkpoint.adapter_config()?.unwrap_or_default();
    let adapter = AdapterConfig { dropout: 0.0, ..settings };
    let config = Config { model: checkpoint.model.clone(), adapter: adapter.clone(), ..Default::default() };
    let model = checkpoint.build(Weights::Latest, &device)?;
    let (model, Some(trained)) = checkpoint.train_adapter(&config, model, 0)? else {
        return Err(failed("there is no adapter beside it".into()));
    };
    let model = freeze_base(model.train(), &trained.layout);
    let bytes = storage::read(&folder.join(FIXTURE))?;
    let reference = Reference::read(&bytes, checkpoint.model.vocab_size).map_err(failed)?;
    let floats =
        |name: &str| reference.floats.get(name).ok_or_else(|| failed(format!("tensor `{name}` is missing")));

    // Outputs, as they are and with the changes merged into the weights.
    let (batch, plain) = (reference.batch(&device), reference.batch(&device.clone().inner()));
    let logits = floats("logits")?;
    let width = logits.shape.last().copied().unwrap_or(1);
    let folded = fold(&model.valid());
    for (what, own) in
        [("logits", batch.logits(&model)), ("logits of the merged model", plain.logits(&folded))]
    {
        let own = to_host(own)?;
        let is_real = |index: usize| !reference.padding[index / width];
        case.add(what, largest_difference_where(&own.values, &logits.values, is_real), bounds.logits);
    }

    // Loss, gradients and steps of the optimizer.
    let objective = Prediction::new(&config);
    let totals = StepTotals::of([&reference.host]);
    let loss_of = |model: &Model| -> Tensor<1> { objective.loss(model, &batch, totals).total };
    let (loss, gradients) = loss_and_gradients(&model, loss_of(&model))?;
    let expected = floats("loss")?.values.first().map_or(f64::NAN, |&loss| f64::from(loss));
    case.add("loss", relative(loss, expected), bounds.loss);
    let gradients = by_key(&trained, gradients, &model).map_err(failed)?;
    let references =
        || reference.floats.iter().filter_map(|(name, g)| Some((name.strip_prefix("grad.")?, g)));
    let largest = references().map(|(_, gradient)| norm(gradient)).fold(0.0, f64::max);
    for (key, expected) in references() {
        let error = gradients.get(key).map_or(f64::NAN, |own| relative_error(own, expected, largest));
        case.add(format!("gradient `{key}`"), error, bounds.gradient);
    }
    for key in gradients.keys().filter(|key| !reference.floats.contains_key(&format!("grad.{key}"))) {
        case.check(format!("gradient `{key}`, which the reference does not have"), false);
    }
    let expected = &floats("adamw_losses")?.values;
    let losses = adamw_losses(&model, LEARNING_RATE, expected.len(), loss_of)?;
    for (step, (own, expected)) in losses.iter().zip(expected).enumerate() {
        let error = relative(*own, f64::from(*expected));
        case.add(format!("loss before AdamW step {}", step + 1), error, bounds.adamw);
    }

    // Weights with the changes in them.
    let (merged, merged_config) = pollster::block_on(merged_weights(&model.valid(), &checkpoint.model))?;
    let merged = checkpoint.family.store(&merged_config, merged).map_err(failed)?;
    for (name, expected) in &reference.floats {
        if let Some(parameter) = name.strip_prefix("merged.") {
            let error = merged.get(parameter).map_or(f64::NAN, |own| relative_error(own, expected, 1.0));
            case.add(format!("merged `{parameter}`"), error, bounds.gradient);
        }
        if let Some(parameter) = name.strip_prefix("merged_norm.") {
            let expected = expected.values.first().map_or(f64::NAN, |&norm| f64::from(norm));
            let own = merged.get(parameter).map_or(f64::NAN, norm);
            case.add(format!("norm of merged `{parameter}`"), relative(own, expected), bounds.gradient);
        }
    }

    // What is written is what was read.
    let mut numbers = parameters::parameters(&model);
    numbers.retain(|name, _| trained.stores(name));
    let numbers = pollster::block_on(parameters::read(numbers))?;
    let written = trained.encode(numbers).and_then(|bytes| tensors::read(&bytes)).map_err(failed)?;
    let read = tensors::read(&storage::read(&folder.join(names::ADAPTER))?).map_err(failed)?;
    case.check("keys that are written", written.keys().eq(read.keys()));
    for (key, tensor) in &read {
        case.check(format!("written `{key}`"), written.get(key) == Some(tensor));
    }
    let base = checkpoint.adapters().first().and_then(|adapter| adapter.settings.base.clone());
    let adapter = AdapterConfig { base: base.map(Into::into), ..adapter };
    let own = AdapterLayout::of_config(&adapter, checkpoint.family, &checkpoint.model, false)?.settings;
    if let Some(stored) = checkpoint.adapters().first() {
        for key in KEYS {
            let same = stored.settings.keys().get(key).is_none_or(|value| own.keys().get(key) == Some(value));
            case.check(format!("setting `{key}`"), same);
        }
    }
    Ok(case)
}

/// Gradients of an adapter by the names of PEFT's files.
fn by_key(trained: &TrainedAdapter, mut gradients: NamedData, model: &Model) -> Result<NamedData, String> {
    for (name, shape) in parameters::shapes(model).into_iter().filter(|(name, _)| trained.stores(name)) {
        let zeros = HostTensor::new(shape.clone(), vec![0.0; shape.iter().product()]);
        gradients.entry(name).or_insert(zeros);
    }
    let mut stored = trained.layout.store(gradients)?;
    // The table has no gradient.
    stored.tables.clear();
    Ok(stored.into_tensors())
}

impl Reference {
    fn read(bytes: &[u8], vocab_size: usize) -> Result<Self, String> {
        let (shape, ids) = tensors::read_i64(bytes, "input_ids")?;
        let (mask_shape, real) = tensors::read_i64(bytes, "attention_mask")?;
        let (labels_shape, labels) = tensors::read_i64(bytes, "labels")?;
        let &[rows, time] = &shape[..] else {
            return Err(format!("`input_ids` has shape {shape:?}, not [batch, time]"));
        };
        if mask_shape != shape || labels_shape != shape || ids.is_empty() {
            return Err("`input_ids`, `attention_mask` and `labels` differ in shape".into());
        }
        let is_token = |id: &i64| (0..vocab_size as i64).contains(id);
        let is_label = |id: &i64| is_token(id) || *id == i64::from(IGNORE_INDEX);
        if !ids.iter().all(is_token) || !labels.iter().all(is_label) {
            return Err(format!("a token is outside the model's vocabulary of {vocab_size}"));
        }
        // Each token's target is the label of the next one.
        let target = |i: usize| match (i + 1).is_multiple_of(time) {
            true => IGNORE_INDEX,
            false => labels[i + 1] as i32,
        };
        let targets = (0..ids.len()).map(target).collect();
        let host = HostBatch::new(ids.iter().map(|&id| id as i32).collect(), targets, rows, time);
        let padding = real.iter().map(|&real| real == 0).collect();
        Ok(Self { host, padding, floats: tensors::read_floats(bytes)? })
    }

    fn batch(&self, device: &Device) -> Batch {
        let mut batch = Batch::new(&self.host, device);
        batch.input.padding = Some(mask(self.padding.clone(), self.host.rows, device));
        batch
    }
}

fn norm(tensor: &HostTensor) -> f64 {
    tensor.values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
