//! Reading a checkpoint: a model of any family that Kiln knows, its tokenizer, and what training
//! needs to go on.

use super::{Files, TrainerState, names, shards, tensors};
use crate::{
    config::{Config, ModelConfig},
    error::{Error, Result},
    model::{
        Decoder,
        families::Family,
        parameters::{self, NamedData},
        size,
    },
    platform::memory_bytes,
    tokenizer::Tokenizer,
};
use burn::tensor::Device;
use std::path::{Path, PathBuf};

/// A checkpoint in host memory.
pub struct Checkpoint {
    files: Files,
    pub family: Family,
    pub model: ModelConfig,
    /// The configuration of the run that made it, if Kiln did.
    pub config: Option<Config>,
}

/// Which weights of a checkpoint to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// As the optimizer left them.
    Latest,
    /// Their moving average.
    Averaged,
}

impl Weights {
    fn file(self) -> &'static str {
        match self {
            Self::Latest => names::MODEL,
            Self::Averaged => names::EMA,
        }
    }
}

impl Checkpoint {
    /// Reads what a model needs: weights, configuration, tokenizer.
    pub fn open_model(folder: &Path) -> Result<Self> {
        Self::from_files(Files::read_folder(folder, Self::is_of_model)?)
    }

    /// Whether a file belongs to the model rather than to its training.
    pub fn is_of_model(name: &str) -> bool {
        name != names::OPTIMIZER
    }

    /// Reads everything; a checkpoint without a manifest is not complete.
    pub fn open_training(folder: &Path) -> Result<Self> {
        let files = Files::read_folder(folder, |_| true)?;
        files.require(names::MANIFEST)?;
        Self::from_files(files)
    }

    /// The same from files that lie anywhere.
    pub fn from_files(files: Files) -> Result<Self> {
        let path = files.path(names::CONFIG);
        let (family, described) = Family::from_json(files.require(names::CONFIG)?, &path)?;
        let config = match files.get(names::KILN) {
            None => None,
            Some(toml) => {
                let origin = files.path(names::KILN).display().to_string();
                let text = std::str::from_utf8(toml).map_err(|e| files.error(format!("`{origin}`: {e}")))?;
                Some(Config::from_toml(text, &origin)?)
            }
        };
        let model = config.as_ref().map_or(described, |config| config.model.clone());
        // Sizes come from a file: refuse them before they shape tensors.
        Config { model: model.clone(), ..Default::default() }.validate()?;
        if model.vocab_size == 0 {
            return Err(files.error("`vocab_size` is 0".into()));
        }
        Ok(Self { files, family, model, config })
    }

    /// The folder it was read from.
    pub fn path(&self) -> &Path {
        &self.files.origin
    }

    /// Where the tokenizer lies that was saved with the model, if there is one.
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        self.files.get(names::TOKENIZER).map(|_| self.files.path(names::TOKENIZER))
    }

    /// The tokenizer saved with the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let origin = self.files.path(names::TOKENIZER);
        let tokenizer =
            Tokenizer::from_bytes(self.files.require(names::TOKENIZER)?, &origin.display().to_string())?;
        if tokenizer.vocab_size() > self.model.vocab_size {
            return Err(Error::Tokenizer {
                origin: format!("`{}`", origin.display()),
                message: format!(
                    "has {} tokens, but the model has {}",
                    tokenizer.vocab_size(),
                    self.model.vocab_size
                ),
                hint: Some("put the `tokenizer.json` that the model was trained with beside it".into()),
            });
        }
        Ok(tokenizer)
    }

    /// Weights under our names.
    pub fn weights(&self, which: Weights) -> Result<NamedData> {
        let name = which.file();
        let is_buffer = |name: &str| self.family.is_buffer(name);
        let read = |name| self.tensors(name, is_buffer).and_then(|theirs| self.map(name, theirs));
        match (which, self.files.get(name)) {
            (Weights::Averaged, None) => Err(Error::Checkpoint {
                path: self.path().into(),
                message: format!("`{name}` is missing: the run kept no average of its weights"),
                hint: Some("train with `--set train.ema_decay=0.999`".into()),
            }),
            _ => read(name),
        }
    }

    /// The model with these weights on a device.
    pub fn build(&self, which: Weights, device: &Device) -> Result<Decoder> {
        self.build_as(&self.model, which, device)
    }

    /// The same with a configuration that differs in what has no weights, such as dropout.
    pub fn build_as(&self, config: &ModelConfig, which: Weights, device: &Device) -> Result<Decoder> {
        // The configuration comes from a file: nothing is allocated by it before the weights, which
        // are there in full, agree with it.
        let weights = self.weights(which)?;
        self.check_positions()?;
        let model = Decoder::unloaded(config, device);
        parameters::load(model, weights).map_err(|message| self.mismatch(which.file(), message))
    }

    /// Refuses tables of fixed positions beyond this machine's memory: unlike weights they are in no
    /// file that would have to be as long.
    fn check_positions(&self) -> Result<()> {
        let needed = size::position_table_bytes(&self.model);
        match memory_bytes() {
            Some((total, _)) if needed > total => Err(Error::Checkpoint {
                path: self.path().into(),
                message: format!(
                    "its {} positions take {} MiB, but this machine has {} MiB",
                    self.model.block_size,
                    needed >> 20,
                    total >> 20
                ),
                hint: Some(
                    "correct the longest context (`max_position_embeddings`) in its `config.json`".into(),
                ),
            }),
            _ => Ok(()),
        }
    }

    /// What the trainer was doing, and the optimizer's tensors.
    pub fn training(&self) -> Result<(TrainerState, NamedData)> {
        let trainer = self.files.require(names::TRAINER)?;
        let trainer = serde_json::from_slice(trainer)
            .map_err(|e| self.files.error(format!("`{}` is broken: {e}", names::TRAINER)))?;
        Ok((trainer, self.tensors(names::OPTIMIZER, |_| false)?))
    }

    /// Whether the checkpoint has averaged weights.
    pub fn has_average(&self) -> bool {
        self.files.get(names::EMA).is_some()
    }

    fn tensors(&self, name: &str, ignored: impl Fn(&str) -> bool) -> Result<NamedData> {
        if name == names::MODEL && self.files.get(name).is_none() && self.files.get(names::INDEX).is_some() {
            return shards::read(&self.files, ignored);
        }
        tensors::read(self.files.require(name)?, ignored)
            .map_err(|message| self.files.error(format!("`{name}`: {message}")))
    }

    fn map(&self, name: &str, theirs: NamedData) -> Result<NamedData> {
        self.family.load(&self.model, theirs).map_err(|message| self.mismatch(name, message))
    }

    fn mismatch(&self, name: &str, message: String) -> Error {
        Error::Checkpoint {
            path: self.path().into(),
            message: format!("`{name}`: {message}"),
            hint: Some("its configuration and its weights are of different models".into()),
        }
    }
}
