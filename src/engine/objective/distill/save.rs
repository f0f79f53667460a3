//! Saves a teacher's most likely tokens for the targets of rows; [`super::saved`] describes the files.

use super::{
    super::{Batch, Frozen},
    divergence::Top,
    saved::{DESCRIPTION, Description, file_name},
};
use crate::{
    data::HostBatch,
    device::device_failed,
    error::{Error, Result},
    model::{Output, layers::output::Projection},
    platform::storage,
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Int, Tensor, TensorData, Transaction};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Number of logits that are in memory at a time.
const CHUNK: usize = 1 << 22;

/// Number of saved logits in a file, at least.
const PER_FILE: usize = 1 << 24;

/// Writes the logits of a teacher for the targets of rows.
pub struct LogitWriter {
    folder: PathBuf,
    device: Device,
    description: Description,
    /// Rows that are already saved.
    known: HashSet<u64>,
    next: Contents,
}

/// Contents of a file.
#[derive(Default)]
struct Contents {
    rows: Vec<i64>,
    starts: Vec<i64>,
    tokens: Vec<i32>,
    logits: Vec<f32>,
    log_sums: Vec<f32>,
}

impl LogitWriter {
    /// Begins a folder with the `top_k` most likely tokens for each target.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for more tokens than the vocabulary has, and [`Error::Io`].
    pub fn create(
        folder: &Path,
        top_k: usize,
        temperature: f64,
        vocab_size: usize,
        tokenizer: &Tokenizer,
        device: &Device,
    ) -> Result<Self> {
        if !(1..=vocab_size).contains(&top_k) {
            let message = format!("expected a number from 1 to {vocab_size}, the size of the vocabulary");
            return Err(Error::invalid_value("distill.top_k", top_k, message));
        }
        storage::create_folder(folder)?;
        Ok(Self {
            folder: folder.into(),
            device: device.clone().inner(),
            description: Description {
                top_k,
                temperature,
                vocab_size,
                tokenizer: tokenizer.fingerprint().into(),
                files: 0,
                rows: 0,
                targets: 0,
            },
            known: HashSet::new(),
            next: Contents::default(),
        })
    }

    /// Adds the rows of a batch that are new and have a target.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`] and [`Error::Io`].
    pub async fn add(&mut self, teacher: &Frozen, host: &HostBatch) -> Result<()> {
        let rows = (0..host.rows).filter(|&row| host.row_targets(row) > 0);
        let new: Vec<(usize, u64)> =
            rows.map(|row| (row, host.row_key(row))).filter(|(_, key)| self.known.insert(*key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let width = host.targets.len() / host.rows;
        let mut indices = Vec::new();
        for (row, key) in new {
            self.next.starts.push((self.next.log_sums.len() + indices.len()) as i64);
            self.next.rows.push(key as i64);
            let targets = row * width..(row + 1) * width;
            indices.extend(targets.filter(|&index| host.weights[index] != 0.0));
        }
        let output = teacher.output(&Batch::new(host, &self.device));
        let vocabulary = self.description.vocab_size;
        for indices in indices.chunks((CHUNK / vocabulary).max(1)) {
            let (count, indices) = (indices.len(), indices.iter().map(|&index| index as i32));
            let indices = TensorData::new(indices.collect::<Vec<_>>(), [count]);
            let indices = Tensor::<1, Int>::from_data(indices, &self.device);
            let logits = match &output {
                Output::Logits(logits) => logits.clone().select(0, indices),
                Output::Projection(Projection { states, weight, transposed, softcap, mode }) => Projection {
                    states: states.clone().select(0, indices),
                    weight: weight.clone(),
                    transposed: *transposed,
                    softcap: *softcap,
                    mode: *mode,
                }
                .logits(),
            };
            self.read(Top::of(logits, self.description.top_k, self.description.temperature)).await?;
        }
        if self.next.logits.len() >= PER_FILE {
            self.flush()?;
        }
        Ok(())
    }

    /// Reads tokens and logits from the device.
    async fn read(&mut self, top: Top) -> Result<()> {
        let failed = |message| device_failed(&self.device, "reading logits", message);
        let transaction =
            Transaction::default().register(top.logits).register(top.log_sums).register(top.tokens);
        let data = transaction.execute_async().await.map_err(|e| failed(e.to_string()))?;
        let mut data = data.into_iter();
        let mut floats = || {
            let data = data.next().ok_or_else(|| failed("fewer tensors came back".into()))?;
            data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))
        };
        let (logits, log_sums) = (floats()?, floats()?);
        let tokens = data.next().ok_or_else(|| failed("fewer tensors came back".into()))?;
        let tokens = tokens.try_into_vec_as::<i32>().map_err(|e| failed(format!("{e:?}")))?;
        Error::check_finite("the teacher's logits", &logits)?;
        self.next.logits.extend(logits);
        self.next.log_sums.extend(log_sums);
        self.next.tokens.extend(tokens);
        Ok(())
    }

    /// Writes the rows that are in memory to a file.
    fn flush(&mut self) -> Result<()> {
        let mut contents = std::mem::take(&mut self.next);
        if contents.rows.is_empty() {
            return Ok(());
        }
        let (rows, targets) = (contents.rows.len(), contents.log_sums.len());
        contents.starts.push(targets as i64);
        let path = self.folder.join(file_name(self.description.files));
        let bytes = contents
            .encode(self.description.top_k)
            .map_err(|message| Error::io("write", &path, std::io::Error::other(message)))?;
        storage::write_atomic(&path, &bytes)?;
        self.description.files += 1;
        self.description.rows += rows;
        self.description.targets += targets;
        Ok(())
    }

    /// Writes what is left and the description, and returns the numbers of rows and of targets.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<(usize, usize)> {
        self.flush()?;
        let path = self.folder.join(DESCRIPTION);
        let json = serde_json::to_string_pretty(&self.description)
            .map_err(|error| Error::io("write", &path, error.into()))?;
        storage::write_atomic(&path, (json + "\n").as_bytes())?;
        Ok((self.description.rows, self.description.targets))
    }
}

impl Contents {
    /// The file in safetensors' format.
    ///
    /// # Errors
    /// The message of the library.
    fn encode(&self, top_k: usize) -> Result<Vec<u8>, String> {
        fn bytes<const N: usize, T: Copy>(values: &[T], to_bytes: fn(T) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|&value| to_bytes(value)).collect()
        }
        let targets = self.log_sums.len();
        let tensors = [
            ("rows", Dtype::I64, vec![self.rows.len()], bytes(&self.rows, i64::to_le_bytes)),
            ("starts", Dtype::I64, vec![self.starts.len()], bytes(&self.starts, i64::to_le_bytes)),
            ("tokens", Dtype::I32, vec![targets, top_k], bytes(&self.tokens, i32::to_le_bytes)),
            ("logits", Dtype::F32, vec![targets, top_k], bytes(&self.logits, f32::to_le_bytes)),
            ("log_sums", Dtype::F32, vec![targets], bytes(&self.log_sums, f32::to_le_bytes)),
        ];
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| error.to_string())?;
            views.push((*name, view));
        }
        safetensors::serialize(views, None).map_err(|error| error.to_string())
    }
}
