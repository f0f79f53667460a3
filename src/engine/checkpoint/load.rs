//! Reads a checkpoint: a model of any family that Kiln knows, its tokenizer, and the state that training
//! continues from.

use super::{Files, Location, TrainerState, WeightFiles, generation, names, projection, tensors};
use crate::{
    config::{Architecture, Config, ModelConfig},
    error::{Error, Result, hint},
    kernels::Mode,
    model::{
        Model,
        families::Family,
        parameters::{self, NamedData},
        size,
    },
    platform::memory_bytes,
    tokenizer::Tokenizer,
};
use burn::tensor::Device;
use std::path::Path;

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
}

/// Which weights of a checkpoint to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Latest weights of the optimizer.
    Latest,
    /// Exponential moving average of the weights.
    Averaged,
}

impl Checkpoint {
    /// Opens the parts that a model needs: weights, configuration, tokenizer. `path` is a folder or a
    /// `.safetensors` file in one.
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

    /// Opens all parts. A checkpoint without a manifest is incomplete and refused.
    pub fn open_training(folder: &Path) -> Result<Self> {
        let files = Files::read_folder(folder, |_| true)?;
        files.check(|_| true)?;
        files.require(names::MANIFEST)?;
        Self::from_files(files)
    }

    /// Opens all parts of a checkpoint that need not be in a folder.
    pub fn from_files(files: Files) -> Result<Self> {
        Self::from_named(files, None)
    }

    /// Opens all parts, with the weight file that the user chose, if any.
    pub fn from_named(files: Files, named: Option<String>) -> Result<Self> {
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
        let mut config = match files.get(names::KILN) {
            None => None,
            Some(toml) => {
                let origin = files.path(names::KILN).display().to_string();
                let text = std::str::from_utf8(toml).map_err(|e| files.error(format!("`{origin}`: {e}")))?;
                Some(Config::from_toml(text, &origin)?)
            }
        };
        let mut model = config.as_ref().map_or(described, |config| config.model.clone());
        if model.architecture == Architecture::EncoderDecoder
            && let Some(start) = generation::decoder_start(&files)?
        {
            model.decoder_start_token = start;
        }
        // Sizes come from a file: refuse them before they shape tensors.
        Config { model: model.clone(), ..Default::default() }.validate()?;
        if model.vocab_size == 0 {
            return Err(files.error("`vocab_size` is 0".into()));
        }
        // Where weights are missing or broken, this is said when they are read.
        let weights = WeightFiles::open(&files, named.as_deref());
        let note = weights.ok().and_then(|weights| projection::settle(family, &mut model, &weights));
        if let Some(config) = &mut config {
            config.model.clone_from(&model);
        }
        Ok(Self { files, named, family, model, config, note })
    }

    /// Folder that the checkpoint was read from.
    pub fn path(&self) -> &Path {
        &self.files.origin
    }

    /// Tokenizer saved with the model, with the end tokens that the model's files name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none, [`Error::Tokenizer`] if it is broken or has more tokens than
    /// the model.
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
        let ends = self.end_tokens(&tokenizer)?;
        if ends.tokens.is_empty() {
            return Ok(tokenizer);
        }
        Ok(tokenizer.with_end_tokens(ends.end_of_text, &ends.tokens))
    }

    /// Opens the weight files and reads their headers.
    pub fn weight_files(&self, which: Weights) -> Result<WeightFiles<'_>> {
        let average = (which == Weights::Averaged).then_some(names::EMA);
        if average.is_some() && !self.has_average() {
            return Err(self.files.refused(
                format!("`{}` is missing: the run kept no average of its weights", names::EMA),
                hint!["train with ", hint::set("train.ema_decay", 0.999)],
            ));
        }
        WeightFiles::open(&self.files, average.or(self.named.as_deref()))
    }

    /// Reads the weights, under Kiln's parameter names.
    pub fn weights(&self, which: Weights) -> Result<NamedData> {
        self.read(&self.weight_files(which)?)
    }

    fn read(&self, files: &WeightFiles<'_>) -> Result<NamedData> {
        let theirs = files.read(|name| self.family.is_ignored(&self.model, name))?;
        self.family.load(&self.model, theirs).map_err(|message| self.mismatch(files, &message))
    }

    /// Kernel mode of the run that made the checkpoint; fused if it was not made by Kiln.
    pub fn mode(&self) -> Mode {
        self.config.as_ref().map_or_else(Mode::default, |config| config.kernels.mode())
    }

    /// Builds the model with these weights on a device.
    pub fn build(&self, which: Weights, device: &Device) -> Result<Model> {
        self.build_in(&self.model, self.mode(), which, device)
    }

    /// Builds the model with these weights and another configuration, which may have a shorter context or
    /// another dropout.
    pub fn build_with_config(&self, config: &Config, which: Weights, device: &Device) -> Result<Model> {
        self.build_in(&config.model, config.kernels.mode(), which, device)
    }

    fn build_in(&self, model: &ModelConfig, mode: Mode, which: Weights, device: &Device) -> Result<Model> {
        let files = self.weight_files(which)?;
        let (mut uninitialized, mut weights) = self.agreeing(&files, mode, device)?;
        if *model != self.model {
            shorten(&mut weights, model);
            uninitialized = Model::uninitialized(model, mode, device);
        }
        parameters::load(uninitialized, weights).map_err(|message| self.mismatch(&files, &message))
    }

    /// Reads the weights and makes a model without weights. Since the configuration comes from a file,
    /// nothing is allocated for the model before the shapes of the weights, which are already in memory,
    /// agree with it.
    fn agreeing(&self, files: &WeightFiles<'_>, mode: Mode, device: &Device) -> Result<(Model, NamedData)> {
        let weights = self.read(files)?;
        self.check_positions()?;
        let uninitialized = Model::uninitialized(&self.model, mode, device);
        for (name, shape) in parameters::shapes(&uninitialized) {
            if let Some(host) = weights.get(&name).filter(|host| host.shape != shape) {
                // Under the name that it has in the file.
                let stored = self.family.stored_as(&self.model, &name);
                parameters::check_shape(&stored, host, &shape)
                    .map_err(|message| self.mismatch(files, &message))?;
            }
        }
        Ok((uninitialized, weights))
    }

    /// Whether a configuration has the same head and classes as the model.
    pub fn has_head_of(&self, model: &ModelConfig) -> bool {
        model.head == self.model.head && model.labels == self.model.labels
    }

    /// Builds the model with a configuration that has another head. The head is initialized from `seed`,
    /// everything else has the latest weights.
    pub fn build_with_new_head(&self, config: &Config, seed: u64, device: &Device) -> Result<Model> {
        let (model, mode) = (&config.model, config.kernels.mode());
        let files = self.weight_files(Weights::Latest)?;
        let (_, mut weights) = self.agreeing(&files, mode, device)?;
        let fresh = Model::init(model, mode, seed, device);
        weights.retain(|name, _| !name.starts_with(HEAD));
        shorten(&mut weights, model);
        parameters::load_all_but(fresh, weights, HEAD).map_err(|message| self.mismatch(&files, &message))
    }

    /// Refuses tables of fixed positions that exceed this machine's memory. Unlike weights, their size is not
    /// limited by that of a file.
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

    /// Reads the trainer's state and the optimizer's tensors.
    pub fn training(&self) -> Result<(TrainerState, NamedData)> {
        let trainer = self.files.require(names::TRAINER)?;
        let trainer = serde_json::from_slice(trainer)
            .map_err(|e| self.files.error(format!("`{}` is broken: {e}", names::TRAINER)))?;
        let moments = tensors::read(self.files.require(names::OPTIMIZER)?)
            .map_err(|message| self.files.error(format!("`{}`: {message}", names::OPTIMIZER)))?;
        Ok((trainer, moments))
    }

    /// Whether the checkpoint has averaged weights.
    pub fn has_average(&self) -> bool {
        self.files.get(names::EMA).is_some()
    }

    /// Whether the checkpoint contains a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        self.files.get(names::TOKENIZER).is_some()
    }

    /// Contents of the `config.json`, in the format of the family.
    pub fn config_json(&self) -> Result<&[u8]> {
        self.files.require(names::CONFIG)
    }

    fn mismatch(&self, files: &WeightFiles<'_>, message: &str) -> Error {
        let names: Vec<String> = files.names().map(|name| format!("`{name}`")).collect();
        let names = if names.len() > 2 { format!("{} and others", names[0]) } else { names.join(", ") };
        self.files.refused(
            format!("{names}: {message}"),
            "its configuration and its weights are of different models",
        )
    }
}

/// Prefix of the parameter names of an encoder's head.
const HEAD: &str = "head.";

/// Removes trained positions beyond the context; no other weight depends on it.
fn shorten(weights: &mut NamedData, model: &ModelConfig) {
    if let Some(table) = weights.get_mut("position").filter(|table| table.shape.len() == 2) {
        table.values.truncate(model.block_size * table.shape[1]);
        table.shape[0] = model.block_size;
    }
}
