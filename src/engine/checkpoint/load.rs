//! Reading a checkpoint: a model of any family that Kiln knows, its tokenizer, and what training
//! needs to go on.

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

/// A checkpoint, its tensors mapped.
pub struct Checkpoint {
    pub(super) files: Files,
    /// The file of weights that the user named.
    named: Option<String>,
    pub family: Family,
    pub model: ModelConfig,
    /// The configuration of the run that made it, if Kiln did.
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
    /// Opens what a model needs: weights, configuration, tokenizer. The path is that of a folder or of one
    /// `.safetensors` file in it.
    pub fn open_model(path: &Path) -> Result<Self> {
        let location = Location::find(path)?;
        let files = location.open()?;
        files.check(|name| location.wants(name))?;
        Self::from_named(files, location.named)
    }

    /// Opens everything; a checkpoint without a manifest is not complete.
    pub fn open_training(folder: &Path) -> Result<Self> {
        let files = Files::read_folder(folder, |_| true)?;
        files.check(|_| true)?;
        files.require(names::MANIFEST)?;
        Self::from_files(files)
    }

    /// Opens everything from files that lie anywhere.
    pub fn from_files(files: Files) -> Result<Self> {
        Self::from_named(files, None)
    }

    /// Opens everything, with the file of weights that the user named.
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

    /// The folder it was read from.
    pub fn path(&self) -> &Path {
        &self.files.origin
    }

    /// The tokenizer saved with the model, with the end tokens that the model's files name.
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

    /// The files of weights, of which only headers are read.
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

    /// Weights under our names.
    pub fn weights(&self, which: Weights) -> Result<NamedData> {
        self.read(&self.weight_files(which)?)
    }

    fn read(&self, files: &WeightFiles<'_>) -> Result<NamedData> {
        let theirs = files.read(|name| self.family.is_ignored(&self.model, name))?;
        self.family.load(&self.model, theirs).map_err(|message| self.mismatch(files, &message))
    }

    /// Mode of the run that made it; fused where Kiln did not make it.
    pub fn mode(&self) -> Mode {
        self.config.as_ref().map_or_else(Mode::default, |config| config.kernels.mode())
    }

    /// The model with these weights on a device.
    pub fn build(&self, which: Weights, device: &Device) -> Result<Model> {
        self.build_in(&self.model, self.mode(), which, device)
    }

    /// The model with these weights and a configuration that differs from its own in a shorter context
    /// or another dropout.
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

    /// The model without weights, and the weights, whose shapes are the model's. The configuration comes
    /// from a file: nothing is allocated by it before the weights, which are there in full, agree with it.
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

    /// Whether a configuration has the same outputs as the model.
    pub fn has_head_of(&self, model: &ModelConfig) -> bool {
        model.head == self.model.head && model.labels == self.model.labels
    }

    /// The model with a configuration that has another head, with the latest weights of all but the head,
    /// which is drawn from `seed`.
    pub fn build_with_new_head(&self, config: &Config, seed: u64, device: &Device) -> Result<Model> {
        let (model, mode) = (&config.model, config.kernels.mode());
        let files = self.weight_files(Weights::Latest)?;
        let (_, mut weights) = self.agreeing(&files, mode, device)?;
        let fresh = Model::init(model, mode, seed, device);
        weights.retain(|name, _| !name.starts_with(HEAD));
        shorten(&mut weights, model);
        parameters::load_all_but(fresh, weights, HEAD).map_err(|message| self.mismatch(&files, &message))
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

    /// State of the trainer, and the optimizer's tensors.
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

    /// Whether a tokenizer lies beside the model.
    pub fn has_tokenizer(&self) -> bool {
        self.files.get(names::TOKENIZER).is_some()
    }

    /// The family's own `config.json`.
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

/// Prefix of the names of an encoder's head.
const HEAD: &str = "head.";

/// Drops trained positions beyond the context; all else is independent of it.
fn shorten(weights: &mut NamedData, model: &ModelConfig) {
    if let Some(table) = weights.get_mut("position").filter(|table| table.shape.len() == 2) {
        table.values.truncate(model.block_size * table.shape[1]);
        table.shape[0] = model.block_size;
    }
}
