//! A teacher's most likely tokens for the targets of rows, in files that `kiln distill --save-logits` has made.
//!
//! A folder holds `distill.json` and, in `logits-00000.safetensors` and further files:
//!
//! - `rows`: i64 `[R]`, the key of each row, which is a fingerprint of its tokens and targets;
//! - `starts`: i64 `[R + 1]`, the number of the first target of each row, and that of all targets;
//! - `tokens`: i32 `[N, K]`, the most likely tokens for each of the N targets;
//! - `logits`: f32 `[N, K]`, their logits;
//! - `log_sums`: f32 `[N]`, the logarithm of the sum of exponentials of all logits over the temperature.

use super::{super::Batch, divergence::Top};
use crate::{
    config::{DistillConfig, TopK},
    data::HostBatch,
    error::{Error, Hint, Result, hint},
    platform::storage::{self, Mapped},
    tokenizer::Tokenizer,
};
use burn::tensor::{Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

/// Name of the file that describes a folder of logits. It is written last.
pub(super) const DESCRIPTION: &str = "distill.json";

/// Name of a file of logits.
pub(super) fn file_name(number: usize) -> String {
    format!("logits-{number:05}.safetensors")
}

/// Description of a folder of logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Number of tokens that are known for each target.
    pub top_k: usize,
    /// Temperature of the sums.
    pub temperature: f64,
    pub vocab_size: usize,
    /// Fingerprint of the tokenizer.
    pub tokenizer: String,
    pub files: usize,
    /// Number of rows in all files.
    pub rows: usize,
    /// Number of targets in all files.
    pub targets: usize,
}

/// Logits of a teacher in files.
pub struct SavedLogits {
    folder: PathBuf,
    description: Description,
    /// Number of tokens that are used for each target.
    used: usize,
    files: Vec<File>,
    /// File of each row, and the range of its targets there.
    rows: HashMap<u64, (usize, Range<usize>)>,
}

/// A mapped file, and where its tensors are.
struct File {
    bytes: Mapped,
    tokens: Range<usize>,
    logits: Range<usize>,
    log_sums: Range<usize>,
}

impl SavedLogits {
    /// Opens a folder of logits for a run with these settings.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the folder's description, [`Error::InvalidModel`] for a broken file, and
    /// [`Error::InvalidValue`] for logits of another tokenizer, vocabulary or temperature.
    pub fn open(
        folder: &Path,
        config: &DistillConfig,
        tokenizer: &Tokenizer,
        vocab_size: usize,
    ) -> Result<Self> {
        let path = folder.join(DESCRIPTION);
        if !storage::exists(&path) {
            return Err(Error::NotFound {
                path,
                hint: hint![hint::command("kiln distill --save-logits"), " makes a folder of logits"],
            });
        }
        let broken = |message: String| Error::InvalidModel { path: path.clone(), message };
        let description: Description = serde_json::from_slice(&storage::read(&path)?)
            .map_err(|error| broken(format!("is no description of logits: {error}")))?;
        let refused = |message: String, hint: Hint| Error::InvalidValue {
            key: "distill.logits".into(),
            value: folder.display().to_string(),
            message,
            hint: Some(hint),
        };
        let again = || hint!["save them again with ", hint::command("kiln distill --save-logits")];
        if description.tokenizer != tokenizer.fingerprint() {
            return Err(refused("the teacher's tokenizer is another one than the model's".into(), again()));
        }
        if description.vocab_size != vocab_size {
            let other = description.vocab_size;
            let message =
                format!("the teacher has a vocabulary of {other} tokens, but the model {vocab_size}");
            return Err(refused(message, again()));
        }
        if config.top_k_form == TopK::Tail && description.temperature != config.temperature {
            let message = format!(
                "they were saved for a temperature of {}, but `distill.temperature` is {}",
                description.temperature, config.temperature
            );
            let hint = hint![
                "only ",
                hint::set("distill.top_k_form", "both"),
                " or `renormalized` takes them at any temperature"
            ];
            return Err(refused(message, hint));
        }
        if let Some(count) = config.top_k.filter(|&count| count > description.top_k) {
            let message = format!("{} tokens were saved for each target", description.top_k);
            return Err(Error::invalid_value("distill.top_k", count, message));
        }
        let mut saved = Self {
            folder: folder.into(),
            used: config.top_k.unwrap_or(description.top_k),
            description,
            files: Vec::new(),
            rows: HashMap::new(),
        };
        for number in 0..saved.description.files {
            let path = folder.join(file_name(number));
            let bytes = storage::map(&path)?;
            let file = saved.read(bytes, number);
            saved.files.push(file.map_err(|message| Error::InvalidModel { path, message })?);
        }
        Ok(saved)
    }

    /// Finds the tensors of a file, and its rows.
    ///
    /// # Errors
    /// A message about what is missing or wrong.
    fn read(&mut self, bytes: Mapped, number: usize) -> Result<File, String> {
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| format!("is no file of logits: {error}"))?;
        let data = header + size_of::<u64>();
        let find = |name: &str, dtype: Dtype| -> Result<(Vec<usize>, Range<usize>), String> {
            let info = metadata.info(name).filter(|info| info.dtype == dtype);
            let info = info.ok_or_else(|| format!("has no tensor `{name}` of type {dtype}"))?;
            let (start, end) = info.data_offsets;
            match bytes.get(data + start..data + end) {
                Some(_) => Ok((info.shape.clone(), data + start..data + end)),
                None => Err(format!("is truncated: tensor `{name}` ends behind it")),
            }
        };
        let (count, known) = (find("log_sums", Dtype::F32)?, self.description.top_k);
        let targets = count.0.iter().product::<usize>();
        let (shape, tokens) = find("tokens", Dtype::I32)?;
        if shape != [targets, known] {
            return Err(format!("has tokens of shape {shape:?}, not [{targets}, {known}]"));
        }
        let (shape, logits) = find("logits", Dtype::F32)?;
        if shape != [targets, known] {
            return Err(format!("has logits of shape {shape:?}, not [{targets}, {known}]"));
        }
        let whole = |name: &str| -> Result<Vec<i64>, String> {
            let (chunks, _) = bytes[find(name, Dtype::I64)?.1].as_chunks();
            Ok(chunks.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        };
        let (keys, starts) = (whole("rows")?, whole("starts")?);
        let is_ascending = starts.is_sorted() && starts.first() == Some(&0);
        if starts.len() != keys.len() + 1 || !is_ascending || starts.last() != Some(&(targets as i64)) {
            return Err("has rows that do not cover its targets".into());
        }
        let vocab_size = self.description.vocab_size as i32;
        let (ids, _) = bytes[tokens.clone()].as_chunks();
        if let Some(token) =
            ids.iter().map(|id| i32::from_le_bytes(*id)).find(|id| !(0..vocab_size).contains(id))
        {
            return Err(format!("has the token {token}, which is not in the vocabulary of {vocab_size}"));
        }
        for (key, range) in keys.iter().zip(starts.windows(2)) {
            self.rows.insert(*key as u64, (number, range[0] as usize..range[1] as usize));
        }
        Ok(File { tokens, logits, log_sums: count.1, bytes })
    }

    /// Checks that there are logits for all targets of a batch.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if a row is missing.
    pub(super) fn check(&self, host: &HostBatch) -> Result<()> {
        for row in 0..host.rows {
            let targets = host.row_targets(row);
            let known = self.rows.get(&host.row_key(row)).map_or(0, |(_, range)| range.len());
            if targets > 0 && known != targets {
                return Err(Error::InvalidValue {
                    key: "distill.logits".into(),
                    value: self.folder.display().to_string(),
                    message: format!("a row of {} tokens is not among the saved ones", host.row_length(row)),
                    hint: Some(hint![
                        "save them with the data, the seed and the ",
                        hint::key("model.block_size"),
                        " of this run, and ",
                        hint::set("data.layout", "documents")
                    ]),
                });
            }
        }
        Ok(())
    }

    /// The teacher's most likely tokens for the selected targets of a batch, on its device. Targets that are not
    /// known are NaN.
    pub(super) fn top(&self, batch: &Batch) -> Top {
        let host = &batch.host;
        let (width, known) = (host.targets.len() / host.rows.max(1), self.description.top_k);
        let used = self.used;
        // The number of each target in its row.
        let mut numbers = Vec::with_capacity(host.weights.len());
        for row in host.weights.chunks(width.max(1)) {
            let mut next = 0;
            numbers.extend(row.iter().map(|&weight| {
                let number = (weight != 0.0).then_some(next);
                next += usize::from(weight != 0.0);
                number
            }));
        }
        let rows: Vec<_> = (0..host.rows).map(|row| self.rows.get(&host.row_key(row))).collect();
        let list = batch.target_list();
        let (mut tokens, mut logits) = (Vec::with_capacity(list.len() * used), Vec::new());
        let mut log_sums = Vec::with_capacity(list.len());
        for &index in &list {
            let found = numbers[index].zip(rows[index / width.max(1)]);
            match found.filter(|(number, (_, range))| *number < range.len()) {
                Some((number, (file, range))) => {
                    let (file, at) = (&self.files[*file], range.start + number);
                    // The most likely ones come first.
                    tokens.extend(file.integers(at * known..at * known + used));
                    logits.extend(file.floats(&file.logits, at * known..at * known + used));
                    log_sums.extend(file.floats(&file.log_sums, at..at + 1));
                }
                None => {
                    // Of a token without a target nothing counts.
                    let nothing = if numbers[index].is_some() { f32::NAN } else { 0.0 };
                    tokens.extend(std::iter::repeat_n(0, used));
                    logits.extend(std::iter::repeat_n(nothing, used));
                    log_sums.push(nothing);
                }
            }
        }
        let (device, count) = (&batch.targets.weights.device(), list.len());
        Top {
            tokens: Tensor::<2, Int>::from_data(TensorData::new(tokens, [count, used]), device),
            logits: Tensor::from_data(TensorData::new(logits, [count, used]), device),
            log_sums: Tensor::from_data(TensorData::new(log_sums, [count, 1]), device),
        }
    }
}

impl File {
    fn integers(&self, elements: Range<usize>) -> impl Iterator<Item = i32> {
        let (chunks, _) = self.bytes[self.tokens.clone()].as_chunks();
        chunks[elements].iter().map(|bytes| i32::from_le_bytes(*bytes))
    }

    fn floats(&self, tensor: &Range<usize>, elements: Range<usize>) -> impl Iterator<Item = f32> {
        let (chunks, _) = self.bytes[tensor.clone()].as_chunks();
        chunks[elements].iter().map(|bytes| f32::from_le_bytes(*bytes))
    }
}
