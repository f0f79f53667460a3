//! Hugging Face model families: `config.json` and tensor names to ours and back. One file a family.
//!
//! A family is described by a list of [`Entry`]s, each of which says under which names one of our
//! tensors is stored and how. Storing only slices and transposes, so gradients and moments map the
//! same way as weights.

mod gpt2;
mod kiln;
mod llama;

use crate::{
    config::ModelConfig,
    error::{Error, Result},
    model::parameters::{HostTensor, NamedData},
};
use serde_json::{Map, Value};
use std::path::Path;

/// The families that Kiln reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Gpt2,
    Llama,
    /// What no other family can express; only Kiln reads it.
    Kiln,
}

/// How one tensor of ours is stored.
pub struct Entry {
    /// Our name.
    name: String,
    parts: Vec<Part>,
}

/// A range of columns of our tensor (its last dimension) under a name of the family's.
struct Part {
    name: String,
    columns: std::ops::Range<usize>,
    transform: Transform,
}

/// How a part is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transform {
    AsIs,
    /// Ours `[in, out]`, theirs `[out, in]`.
    Transpose,
    /// Transposed, and in each head of this width the columns that rotate together, adjacent with
    /// us, are half a head apart with them.
    TransposeRotary {
        head_size: usize,
    },
    /// Theirs has a bias that ours does not: zeros of this length.
    Zeros(usize),
}

impl Family {
    /// The family that can express a configuration.
    pub fn of(config: &ModelConfig) -> Self {
        if gpt2::expresses(config) {
            Self::Gpt2
        } else if llama::expresses(config) {
            Self::Llama
        } else {
            Self::Kiln
        }
    }

    /// `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Kiln => "kiln",
        }
    }

    /// `config.json`. `end_of_text` is the token that ends a document, if the tokenizer has one.
    pub fn to_json(self, config: &ModelConfig, end_of_text: Option<u32>) -> Value {
        let mut json = match self {
            Self::Gpt2 => gpt2::to_json(config),
            Self::Llama => llama::to_json(config),
            Self::Kiln => kiln::to_json(config),
        };
        json["model_type"] = self.name().into();
        json["dtype"] = "float32".into();
        json["tie_word_embeddings"] = config.tie_embeddings.into();
        json["use_cache"] = true.into();
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            json[key] = Value::Null;
        }
        if let Some(token) = end_of_text {
            json["bos_token_id"] = token.into();
            json["eos_token_id"] = token.into();
        }
        json
    }

    /// The family and configuration that a `config.json` describes.
    pub fn from_json(text: &[u8], path: &Path) -> Result<(Self, ModelConfig)> {
        let failed = |message: String| Error::Checkpoint { path: path.into(), message, hint: None };
        let json: Value = serde_json::from_slice(text).map_err(|e| failed(e.to_string()))?;
        let fields =
            Fields { json: json.as_object().ok_or_else(|| failed("not a JSON object".into()))?, path };
        let (family, config) = match fields.text("model_type")? {
            "gpt2" => (Self::Gpt2, gpt2::from_json(&fields)?),
            "llama" => (Self::Llama, llama::from_json(&fields)?),
            "kiln" => (Self::Kiln, kiln::from_json(&fields)?),
            other => {
                return Err(Error::Checkpoint {
                    path: path.into(),
                    message: format!("`model_type` is `{other}`"),
                    hint: Some("kiln reads gpt2, llama and kiln checkpoints".into()),
                });
            }
        };
        Ok((family, config))
    }

    /// Whether a tensor of a checkpoint is a constant that transformers used to save along, of
    /// whatever type; Kiln makes its own.
    pub fn is_buffer(self, name: &str) -> bool {
        match self {
            Self::Gpt2 => gpt2::is_buffer(name),
            Self::Llama => llama::is_buffer(name),
            Self::Kiln => false,
        }
    }

    /// What names begin with, except in checkpoints saved from the model without its output
    /// projection, as GPT-2's own on the Hub are.
    fn prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.",
            Self::Llama => "model.",
            Self::Kiln => "",
        }
    }

    fn entries(self, config: &ModelConfig) -> Vec<Entry> {
        match self {
            Self::Gpt2 => gpt2::entries(config),
            Self::Llama => llama::entries(config),
            Self::Kiln => kiln::entries(config),
        }
    }

    /// The names under which a tensor of ours is stored, for messages; our own if it is not.
    pub fn stored_as(self, config: &ModelConfig, ours: &str) -> String {
        let entry = self.entries(config).into_iter().find(|entry| entry.name == ours);
        let names: Vec<String> =
            entry.into_iter().flat_map(|entry| entry.parts).map(|part| part.name).collect();
        if names.is_empty() { ours.into() } else { names.join("`, `") }
    }

    /// Our tensors (weights or gradients) under the family's names.
    pub fn store(self, config: &ModelConfig, mut ours: NamedData) -> Result<NamedData, String> {
        let mut theirs = NamedData::new();
        for entry in self.entries(config) {
            let tensor = ours.remove(&entry.name);
            for part in entry.parts {
                let stored = match (part.transform, &tensor) {
                    (Transform::Zeros(count), _) => HostTensor::new([count], vec![0.0; count]),
                    (transform, Some(tensor)) => transform.store(columns(tensor, &part.columns)),
                    (_, None) => return Err(format!("tensor `{}` is missing", entry.name)),
                };
                theirs.insert(part.name, stored);
            }
        }
        match ours.into_keys().next() {
            None => Ok(theirs),
            Some(name) => Err(format!("tensor `{name}` has no place in a {} checkpoint", self.name())),
        }
    }

    /// The family's tensors under our names; all of them must be used.
    pub fn load(self, config: &ModelConfig, mut theirs: NamedData) -> Result<NamedData, String> {
        theirs.retain(|name, _| !self.is_buffer(name));
        let prefix = self.prefix();
        if !theirs.keys().any(|name| name.starts_with(prefix)) {
            let whole = |name: String| if name == HEAD { name } else { format!("{prefix}{name}") };
            theirs = theirs.into_iter().map(|(name, tensor)| (whole(name), tensor)).collect();
        }
        // The list of entries is as long as the configuration says, which comes from a file too.
        if config.n_layer > theirs.len() {
            let (layers, tensors) = (config.n_layer, theirs.len());
            return Err(format!(
                "it has {tensors} tensors, too few for the {layers} layers of its configuration"
            ));
        }
        let mut ours = NamedData::new();
        for entry in self.entries(config) {
            let mut parts = Vec::new();
            for part in entry.parts {
                let stored = theirs.remove(&part.name);
                if matches!(part.transform, Transform::Zeros(_)) {
                    continue;
                }
                let stored = stored.ok_or_else(|| format!("tensor `{}` is missing", part.name))?;
                let (width, shape) = (part.columns.len(), stored.shape.clone());
                let loaded = part.transform.load(stored).filter(|tensor| tensor.shape.last() == Some(&width));
                parts.push(loaded.ok_or_else(|| {
                    let name = &part.name;
                    format!("tensor `{name}` has shape {shape:?}, but the configuration asks for a width of {width}")
                })?);
            }
            if parts.is_empty() {
                continue;
            }
            let joined =
                join(parts).ok_or_else(|| format!("the parts of `{}` differ in shape", entry.name))?;
            ours.insert(entry.name, joined);
        }
        if config.tie_embeddings {
            theirs.remove(HEAD);
        }
        match theirs.into_keys().next() {
            None => Ok(ours),
            Some(name) => Err(format!("tensor `{name}` is not part of the model")),
        }
    }
}

/// The output projection by the families' name.
const HEAD: &str = "lm_head.weight";

impl Entry {
    /// A tensor stored whole.
    fn whole(
        name: impl Into<String>,
        stored_as: impl Into<String>,
        width: usize,
        transform: Transform,
    ) -> Self {
        Self::split(name, vec![(stored_as.into(), width, transform)])
    }

    /// A tensor stored as several, side by side in our columns.
    fn split(name: impl Into<String>, parts: Vec<(String, usize, Transform)>) -> Self {
        let mut start = 0;
        let parts = parts.into_iter().map(|(name, width, transform)| {
            start += width;
            Part { name, columns: start - width..start, transform }
        });
        Self { name: name.into(), parts: parts.collect() }
    }

    /// A bias of zeros that only the family has.
    fn zeros(stored_as: impl Into<String>, count: usize) -> Self {
        Self::whole("", stored_as, count, Transform::Zeros(count))
    }
}

impl Transform {
    fn store(self, tensor: HostTensor) -> HostTensor {
        match self {
            Self::AsIs | Self::Zeros(_) => tensor,
            Self::Transpose => transpose(&tensor),
            Self::TransposeRotary { head_size } => transpose(&permute_columns(&tensor, head_size, to_halves)),
        }
    }

    /// `None` where a tensor does not have the rank that the transform needs.
    fn load(self, tensor: HostTensor) -> Option<HostTensor> {
        match self {
            Self::AsIs | Self::Zeros(_) => Some(tensor),
            _ if tensor.shape.is_empty() || tensor.shape.len() > 2 => None,
            Self::Transpose => Some(transpose(&tensor)),
            Self::TransposeRotary { head_size } => {
                let whole_heads = tensor.shape[0].is_multiple_of(head_size);
                whole_heads.then(|| permute_columns(&transpose(&tensor), head_size, to_pairs))
            }
        }
    }
}

/// `[rows, columns]` -> `[columns, rows]`; a vector stays as it is.
fn transpose(tensor: &HostTensor) -> HostTensor {
    let &[rows, columns] = &tensor.shape[..] else {
        return tensor.clone();
    };
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| tensor.values[r * columns + c])).collect();
    HostTensor::new([columns, rows], values)
}

/// A range of columns of a matrix, or of elements of a vector.
fn columns(tensor: &HostTensor, range: &std::ops::Range<usize>) -> HostTensor {
    let width = tensor.shape.last().copied().unwrap_or(1);
    if range.len() == width {
        return tensor.clone();
    }
    let values = tensor.values.chunks(width).flat_map(|row| &row[range.clone()]).copied().collect();
    let mut shape = tensor.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = range.len();
    }
    HostTensor::new(shape, values)
}

/// Matrices side by side, or vectors end to end; `None` for none at all or different heights.
fn join(mut parts: Vec<HostTensor>) -> Option<HostTensor> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let widths: Vec<usize> = parts.iter().filter_map(|part| part.shape.last().copied()).collect();
    let rows = parts[0].values.len() / widths[0].max(1);
    if parts.iter().zip(&widths).any(|(part, width)| part.values.len() != rows * width) {
        return None;
    }
    let mut values = Vec::with_capacity(rows * widths.iter().sum::<usize>());
    for row in 0..rows {
        for (part, width) in parts.iter().zip(&widths) {
            values.extend_from_slice(&part.values[row * width..(row + 1) * width]);
        }
    }
    let mut shape = parts.swap_remove(0).shape;
    if let Some(last) = shape.last_mut() {
        *last = widths.iter().sum();
    }
    Some(HostTensor::new(shape, values))
}

/// Column `source(i)` of each head becomes its column `i`.
fn permute_columns(tensor: &HostTensor, head_size: usize, source: fn(usize, usize) -> usize) -> HostTensor {
    let width = tensor.shape.last().copied().unwrap_or(1);
    let values = (0..tensor.values.len())
        .map(|i| {
            let (row, column) = (i / width, i % width);
            let (head, within) = (column / head_size, column % head_size);
            tensor.values[row * width + head * head_size + source(within, head_size)]
        })
        .collect();
    HostTensor::new(tensor.shape.clone(), values)
}

/// From pairs `(2i, 2i + 1)` to halves `(i, i + d/2)`.
fn to_halves(i: usize, size: usize) -> usize {
    if i < size / 2 { 2 * i } else { 2 * (i - size / 2) + 1 }
}

/// The inverse of [`to_halves`].
fn to_pairs(i: usize, size: usize) -> usize {
    if i.is_multiple_of(2) { i / 2 } else { i / 2 + size / 2 }
}

/// Typed access to the fields of a `config.json`.
struct Fields<'a> {
    json: &'a Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    fn failed(&self, message: String) -> Error {
        Error::Checkpoint { path: self.path.into(), message, hint: None }
    }

    /// Refuses a setting under which the model computes something that Kiln does not.
    fn unsupported(&self, key: &str, value: &Value, needed: &str) -> Error {
        Error::Checkpoint {
            path: self.path.into(),
            message: format!("`{key}` is `{value}`, but kiln computes only {needed}"),
            hint: Some("take a model without this setting: its numbers would be wrong".into()),
        }
    }

    /// Refuses a field that is present with another value than the one that Kiln computes with.
    fn only(&self, key: &str, known: impl Into<Value>) -> Result<()> {
        let known = known.into();
        match self.get(key) {
            Some(value) if *value != known && value.as_f64().is_none_or(|n| known.as_f64() != Some(n)) => {
                Err(self.unsupported(key, value, &format!("with `{known}`")))
            }
            _ => Ok(()),
        }
    }

    /// A field that is present and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn convert<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        as_type: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| self.failed(format!("`{key}` is missing")))?;
        as_type(value).ok_or_else(|| self.failed(format!("`{key}` is `{value}`, which is not {what}")))
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.convert(key, "text", Value::as_str)
    }

    fn integer(&self, key: &str) -> Result<usize> {
        self.convert(key, "a non-negative integer", |value| value.as_u64()?.try_into().ok())
    }

    fn integer_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.integer(key) } else { Ok(default) }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() { self.convert(key, "a number", Value::as_f64) } else { Ok(default) }
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.get(key).is_some() { self.convert(key, "true or false", Value::as_bool) } else { Ok(default) }
    }
}

#[cfg(test)]
mod tests;
