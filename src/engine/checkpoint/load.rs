//! Reads a checkpoint: a model of any family that Kiln knows, its tokenizer, and the state that training
//! continues from.

use super::{
    Files, Location, StoredAdapter, TrainerState, WeightFiles, chat, generation, names, projection, tensors,
};
use crate::{
    config::{Architecture, Config, ModelConfig},
    error::{Error, Result, hint},
    model::{families::Family, parameters::NamedData},
    optim::HostState,
    tokenizer::Tokenizer,
};
use std::path::{Path, PathBuf};

/// An opened checkpoint. Its tensors are mapped and not read yet.
pub struct Checkpoint {
    pub(super) files: Files,
    /// Name of the weight file, if the user chose one.
    named: Option<String>,
    pub family: Family,
    pub model: ModelConfig,
    /// Configuration of the run that made the checkpoint; `None` if it was not made by Kiln.
    pub config: Option<Config>,
    /// Note for the user on how the files were read.
    pub note: Option<String>,
    /// The model that is changed, if the files have an adapter instead of a whole model.
    pub(super) base: Option<Box<Self>>,
    /// Adapters that are put into the model. The first is that of the files, if they have one.
    pub(super) adapters: Vec<StoredAdapter>,
}

/// Weights of a checkpoint that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Latest weights of the optimizer.
    Latest,
    /// Exponential moving average of the weights.
    Averaged,
}

impl Checkpoint {
    /// Opens the parts that a model needs: weights, configuration, tokenizer. `path` is a folder, a
    /// `.safetensors` file in one, or a `.gguf` file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], and [`Error::Checkpoint`] for files that are missing, damaged or
    /// of an unknown model.
    pub fn open_model(path: &Path) -> Result<Self> {
        let location = Location::find(path)?;
        let files = location.open()?;
        files.check(|name| location.wants(name))?;
        Self::from_named(files, location.named)
    }

    /// Reads the configuration of a model as [`open_model`](Self::open_model) does, but leaves the checksums of its
    /// files alone.
    ///
    /// # Errors
    /// Those of [`open_model`](Self::open_model), except for damage of files that it does not read.
    pub fn model_config(path: &Path) -> Result<ModelConfig> {
        let location = Location::find(path)?;
        Ok(Self::from_named(location.open()?, location.named)?.model)
    }

    /// Opens all parts. A checkpoint without a manifest is incomplete and refused. If it has an adapter, `base` is the
    /// model that the adapter changes, or else the one that its settings name.
    pub fn open_training(folder: &Path, base: Option<&Path>) -> Result<Self> {
        let files = Files::read_folder(folder, |_| true)?;
        files.check(|_| true)?;
        files.require(names::MANIFEST)?;
        match is_adapter(&files) {
            true => Self::from_adapter(files, base),
            false => Self::from_files(files),
        }
    }

    /// Opens all parts of a checkpoint that need not be in a folder.
    pub fn from_files(files: Files) -> Result<Self> {
        Self::from_named(files, None)
    }

    /// Opens all parts, with the weight file that the user chose, if any.
    pub fn from_named(files: Files, named: Option<String>) -> Result<Self> {
        let files = files.with_described()?;
        if is_adapter(&files) {
            return Self::from_adapter(files, None);
        }
        let path = files.path(names::CONFIG);
        let json = files.get(names::CONFIG).ok_or_else(|| {
            files.refused(
                format!("`{}` is missing", names::CONFIG),
                hint![
                    "the model's `config.json` belongs beside its weights",
                    hint::command_line(hint!["; ", hint::command("kiln inspect"), " does without"])
                ],
            )
        })?;
        let (family, described) = Family::from_json(json, &path)?;
        let mut config = config_of(&files)?;
        let mut model = config.as_ref().map_or(described, |config| config.model.clone());
        if model.architecture == Architecture::EncoderDecoder
            && let Some(start) = generation::decoder_start(&files)?
        {
            model.decoder_start_token = start;
        }
        check_sizes(&files, &model)?;
        if model.vocab_size == 0 {
            return Err(files.error("`vocab_size` is 0".into()));
        }
        // Where weights are missing or broken, this is said when they are read.
        let weights = WeightFiles::open(&files, named.as_deref());
        let note = weights.ok().and_then(|weights| projection::settle(family, &mut model, &weights));
        if let Some(config) = &mut config {
            config.model.clone_from(&model);
        }
        let (base, adapters) = (None, Vec::new());
        Ok(Self { files, named, family, model, config, note, base, adapters })
    }

    /// Opens an adapter, and the model that it changes: `base`, or else the one that its settings name.
    fn from_adapter(files: Files, base: Option<&Path>) -> Result<Self> {
        let adapter = StoredAdapter::read(&files, 1.0)?;
        let base = Self::open_model(&adapter.find_base(base)?)?;
        if base.is_adapter() {
            return Err(files.refused(
                format!("it changes a model that is an adapter itself, `{}`", base.path().display()),
                hint!["merge that one first: ", hint::command("kiln merge DIR --out MODEL")],
            ));
        }
        let config = config_of(&files)?;
        let model = config.as_ref().map_or_else(|| base.model.clone(), |config| config.model.clone());
        check_sizes(&files, &model)?;
        let (family, note) = (base.family, base.note.clone());
        let (base, adapters) = (Some(Box::new(base)), vec![adapter]);
        Ok(Self { files, named: None, family, model, config, note, base, adapters })
    }

    /// The checkpoint that has the weights: the base of an adapter, or this one.
    pub(super) fn source(&self) -> &Self {
        self.base.as_deref().unwrap_or(self)
    }

    /// Path of the model: its folder, or the weight file that the user chose.
    pub fn location(&self) -> PathBuf {
        match &self.named {
            Some(name) => self.files.path(name),
            None => self.files.origin.clone(),
        }
    }

    /// Files that have the tokenizer: those of an adapter, or else those of its base.
    pub(super) fn tokenizer_files(&self) -> &Files {
        match self.files.get(names::TOKENIZER) {
            Some(_) => &self.files,
            None => &self.source().files,
        }
    }

    /// Path of the tokenizer that is saved with the model.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.tokenizer_files().path(names::TOKENIZER)
    }

    /// Folder that the checkpoint was read from.
    pub fn path(&self) -> &Path {
        &self.files.origin
    }

    /// Tokenizer saved with the model, with the end tokens and the chat template that the model's files name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none, [`Error::Tokenizer`] if it is broken or has more tokens than
    /// the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let origin = self.tokenizer_path();
        let tokenizer = self.tokenizer_files().tokenizer(&origin.display().to_string())?;
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
        let tokenizer = chat::complete(self.tokenizer_files(), tokenizer)?;
        let ends = self.end_tokens(&tokenizer)?;
        if ends.tokens.is_empty() {
            return Ok(tokenizer);
        }
        Ok(tokenizer.with_end_tokens(ends.end_of_text, &ends.tokens))
    }

    /// Opens the weight files and reads their headers.
    pub fn weight_files(&self, which: Weights) -> Result<WeightFiles<'_>> {
        if self.is_adapter() {
            return Err(self.files.refused(
                "it has an adapter, not the weights of a model".into(),
                hint!["make a model of both: ", hint::command("kiln merge DIR --out MODEL")],
            ));
        }
        let average = (which == Weights::Averaged).then_some(names::EMA);
        if average.is_some() {
            self.require_average()?;
        }
        WeightFiles::open(&self.files, average.or(self.named.as_deref()))
    }

    /// Refuses a checkpoint without averaged weights.
    pub(super) fn require_average(&self) -> Result<()> {
        match self.has_average() {
            true => Ok(()),
            false => Err(self.files.refused(
                format!("`{}` is missing: the run kept no average of its weights", names::EMA),
                hint!["train with ", hint::set("train.ema_decay", 0.999)],
            )),
        }
    }

    /// Reads the weights, under Kiln's parameter names.
    pub fn weights(&self, which: Weights) -> Result<NamedData> {
        self.read(&self.weight_files(which)?)
    }

    pub(super) fn read(&self, files: &WeightFiles<'_>) -> Result<NamedData> {
        let loaded = match files.dequantized() {
            Some(theirs) => self.family.load_stored(&self.model, theirs),
            None => {
                let theirs = files.read(|name| self.family.is_ignored(&self.model, name))?;
                self.family.load(&self.model, theirs)
            }
        };
        loaded.map_err(|message| self.mismatch(files, &message))
    }

    /// Reads the trainer's state and the optimizer's.
    pub fn training(&self) -> Result<(TrainerState, HostState)> {
        let trainer = self.files.require(names::TRAINER)?;
        let trainer: TrainerState = serde_json::from_slice(trainer)
            .map_err(|e| self.files.error(format!("`{}` is broken: {e}", names::TRAINER)))?;
        let (floats, words) = tensors::read_state(self.files.require(names::OPTIMIZER)?)
            .map_err(|message| self.files.error(format!("`{}`: {message}", names::OPTIMIZER)))?;
        let updates = trainer.updates.clone();
        Ok((trainer, HostState { floats, words, updates }))
    }

    /// Reads the state of the objective; nothing if it had none.
    pub fn objective_state(&self) -> Result<NamedData> {
        let Some(bytes) = self.files.get(names::OBJECTIVE) else { return Ok(NamedData::new()) };
        tensors::read(bytes).map_err(|message| self.files.error(format!("`{}`: {message}", names::OBJECTIVE)))
    }

    /// Whether the checkpoint has averaged weights.
    pub fn has_average(&self) -> bool {
        self.files.get(names::EMA).is_some()
    }

    /// Whether the checkpoint contains a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer_files().has_tokenizer()
    }

    /// Contents of the `config.json`, in the format of the family.
    pub fn config_json(&self) -> Result<&[u8]> {
        self.source().files.require(names::CONFIG)
    }

    pub(super) fn mismatch(&self, files: &WeightFiles<'_>, message: &str) -> Error {
        let names: Vec<String> = files.names().map(|name| format!("`{name}`")).collect();
        let names = if names.len() > 2 { format!("{} and others", names[0]) } else { names.join(", ") };
        self.files.refused(
            format!("{names}: {message}"),
            "its configuration and its weights are of different models",
        )
    }
}

/// Whether files have an adapter instead of a whole model.
fn is_adapter(files: &Files) -> bool {
    files.get(names::CONFIG).is_none() && files.get(names::ADAPTER_CONFIG).is_some()
}

/// Refuses sizes of a model, which come from a file, before they shape tensors.
fn check_sizes(files: &Files, model: &ModelConfig) -> Result<()> {
    let checked = Config { model: model.clone(), ..Default::default() }.validate();
    checked.map_err(|error| Error::Checkpoint {
        path: files.origin.clone(),
        message: error.to_string(),
        hint: error.hint(),
    })
}

/// Configuration of the run that made the files; `None` if it was not made by Kiln.
fn config_of(files: &Files) -> Result<Option<Config>> {
    let Some(toml) = files.get(names::KILN) else { return Ok(None) };
    let origin = files.path(names::KILN).display().to_string();
    let text = std::str::from_utf8(toml).map_err(|e| files.error(format!("`{origin}`: {e}")))?;
    Ok(Some(Config::from_toml(text, &origin)?))
}
