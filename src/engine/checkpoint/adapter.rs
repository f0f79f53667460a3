//! Adapters in files: folders as PEFT writes them, which are read beside the model that they change, and the files of a
//! run that trains an adapter.

use super::{Checkpoint, Files, Weights, names, resolve, tensors, tensors::FloatType};
use crate::{
    config::{AdapterConfig, Config},
    error::{Error, Hint, Result, hint},
    model::{
        Model,
        parameters::{HostTensor, NamedData, trainable_shapes},
    },
    platform::storage,
    transform::adapter::{AdapterLayout, HostAdapter, PeftConfig},
};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// An adapter that was read from files.
#[derive(Debug, Clone)]
pub struct StoredAdapter {
    /// Folder of the adapter.
    pub path: PathBuf,
    /// Share of its changes that counts.
    pub share: f64,
    pub settings: PeftConfig,
    pub adapter: HostAdapter,
    /// Fingerprint of the model that it changes, if it was trained by Kiln.
    fingerprint: Option<String>,
}

/// An adapter in training, and the model that it changes.
#[derive(Debug, Clone)]
pub struct TrainedAdapter {
    pub layout: AdapterLayout,
    /// Fingerprint of the model's weights.
    fingerprint: String,
}

/// Contents of `base.json`.
#[derive(Serialize, Deserialize)]
struct Base {
    /// SHA-256 of the weights, under Kiln's names and in f32.
    sha256: String,
}

/// Number of folders above an adapter in which the model is looked for that it names by a relative path.
const LEVELS: usize = 6;

/// Hint for an adapter whose model is not known.
const NAME_THE_MODEL: &str = "kiln generate MODEL --adapter DIR";

/// Largest difference, as a share of the norm, of an embedding table that an adapter stores from the model's. Files
/// may have them in other types.
const LARGEST_DIFFERENCE: f64 = 1e-2;

impl StoredAdapter {
    /// Reads an adapter's folder, or the newest checkpoint of a run that trained one.
    ///
    /// # Errors
    /// Those of [`resolve`] and of [`read`](Self::read).
    pub fn open(path: &Path, share: f64) -> Result<Self> {
        let folder = resolve(path)?;
        let wanted = |name: &str| [names::ADAPTER, names::ADAPTER_CONFIG, names::BASE].contains(&name);
        let files = Files::read_folder(&folder, wanted)?;
        files.check(wanted)?;
        Self::read(&files, share)
    }

    /// Reads an adapter from its files.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for files that are missing or broken, or for an adapter that Kiln does not have.
    pub fn read(files: &Files, share: f64) -> Result<Self> {
        let of_file = |name: &str, message: String| files.error(format!("`{name}`: {message}"));
        let settings = PeftConfig::parse(files.require(names::ADAPTER_CONFIG)?)
            .map_err(|message| of_file(names::ADAPTER_CONFIG, message))?;
        let fingerprint = match files.get(names::BASE) {
            None => None,
            Some(json) => {
                let base: Base =
                    serde_json::from_slice(json).map_err(|e| of_file(names::BASE, e.to_string()))?;
                Some(base.sha256)
            }
        };
        let adapter = Self::read_tensors(files, names::ADAPTER)?;
        Ok(Self { path: files.origin.clone(), share, settings, adapter, fingerprint })
    }

    /// Reads the tensors of one of an adapter's files.
    fn read_tensors(files: &Files, name: &str) -> Result<HostAdapter> {
        let read = tensors::read(files.require(name)?).and_then(HostAdapter::from_tensors);
        read.map_err(|message| files.error(format!("`{name}`: {message}")))
    }

    /// Finds the model that the adapter changes: at `given`, or at the path that its settings name, which may be
    /// relative to the adapter's folder, to one above it, or to the present folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such model, and [`Error::Checkpoint`] if the settings name none.
    pub fn find_base(&self, given: Option<&Path>) -> Result<PathBuf> {
        if let Some(given) = given {
            return Ok(given.into());
        }
        let hint = || hint!["name the model that the adapter changes: ", hint::command(NAME_THE_MODEL)];
        let Some(name) = self.settings.base.as_deref().filter(|name| !name.is_empty()) else {
            return Err(self.refused("its settings do not say which model it changes".into(), hint()));
        };
        let above = self.path.ancestors().take(LEVELS).map(|folder| folder.join(name));
        let mut places = above.chain([PathBuf::from(name)]);
        places.find(|place| storage::exists(place)).ok_or_else(|| Error::NotFound {
            path: name.into(),
            hint: hint![
                "it is the model that the adapter in `",
                self.path.display().to_string(),
                "` changes; wherever it is now, ",
                hint::command(NAME_THE_MODEL),
                " takes it, and a run resumes with ",
                hint::choose("adapter.base", "MODEL")
            ],
        })
    }

    /// Compares the weights of a model, by Kiln's names, with those of the model that the adapter was trained on.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if they differ.
    pub fn check_base(&self, weights: &NamedData, model: &Path) -> Result<()> {
        let is_other = match (&self.fingerprint, self.adapter.tables.values().next()) {
            (Some(expected), _) => *expected != fingerprint(weights),
            (None, Some(table)) => weights.get("embedding").is_none_or(|own| !are_close(table, own)),
            (None, None) => false,
        };
        if !is_other {
            return Ok(());
        }
        let message = format!("it is an adapter of another model than `{}`", model.display());
        Err(self.refused(
            message,
            hint![
                "name the model that it was trained on, with its weights as they were: ",
                hint::command(NAME_THE_MODEL)
            ],
        ))
    }

    fn refused(&self, message: String, hint: Hint) -> Error {
        Error::Checkpoint { path: self.path.clone(), message, hint: Some(hint) }
    }
}

impl TrainedAdapter {
    /// Whether a checkpoint has this parameter of the model.
    pub fn stores(&self, name: &str) -> bool {
        self.layout.owns(name) || (name == "embedding" && self.layout.stores_table())
    }

    /// Path of the model that the adapter changes.
    pub fn base(&self) -> Option<PathBuf> {
        self.layout.settings.base.as_ref().map(PathBuf::from)
    }

    /// Says for the user what is trained.
    pub fn note(&self, model: &Model) -> String {
        let trained: usize =
            trainable_shapes(model).values().map(|shape| shape.iter().product::<usize>()).sum();
        let (all, modules) = (model.num_params(), self.layout.modules().count());
        let share = 100.0 * trained as f64 / all.max(1) as f64;
        format!("{trained} of {all} parameters are trained ({share:.2} %), changes of {modules} modules")
    }

    /// Encodes the numbers of the adapter, given under Kiln's parameter names, in PEFT's format.
    ///
    /// # Errors
    /// A message about a tensor that is missing or that belongs to no adapter.
    pub fn encode(&self, numbers: NamedData) -> Result<Vec<u8>, String> {
        tensors::write(&self.layout.store(numbers)?.into_tensors(), FloatType::F32)
    }

    /// Names and contents of the files that describe the adapter.
    pub fn descriptions(&self) -> [(&'static str, Vec<u8>); 2] {
        let base = Base { sha256: self.fingerprint.clone() };
        let base = serde_json::to_vec_pretty(&base).unwrap_or_default();
        [(names::ADAPTER_CONFIG, self.layout.settings.to_json()), (names::BASE, base)]
    }
}

impl Checkpoint {
    /// Adds an adapter, whose changes count by `share`, to those that are put into the model.
    ///
    /// # Errors
    /// Those of [`StoredAdapter::open`], and [`Error::Checkpoint`] for an adapter that does not fit the model.
    pub fn add_adapter(&mut self, path: &Path, share: f64) -> Result<()> {
        let adapter = StoredAdapter::open(path, share)?;
        self.layout(&adapter, false)?;
        self.adapters.push(adapter);
        Ok(())
    }

    /// Adapters that are put into the model.
    pub fn adapters(&self) -> &[StoredAdapter] {
        &self.adapters
    }

    /// Whether the files have an adapter instead of a whole model.
    pub fn is_adapter(&self) -> bool {
        self.base.is_some()
    }

    /// Places of an adapter in the model, and its numbers by Kiln's parameter names.
    fn layout(&self, adapter: &StoredAdapter, has_new_head: bool) -> Result<(AdapterLayout, NamedData)> {
        let StoredAdapter { settings, adapter: tensors, .. } = adapter.clone();
        AdapterLayout::of_files(settings, tensors, self.family, &self.model, has_new_head).map_err(
            |message| {
                let hint = hint!["name the model that it was trained on: ", hint::command(NAME_THE_MODEL)];
                adapter.refused(format!("{message}: it is an adapter of another model"), hint)
            },
        )
    }

    /// Whether the model has a head that the base of its adapter does not have.
    pub(super) fn has_new_head(&self) -> bool {
        self.base.as_ref().is_some_and(|base| !base.has_head_of(&self.model))
    }

    /// Adapter of the files, if they have one instead of a whole model: its places, and its numbers by Kiln's
    /// parameter names.
    fn own_adapter(&self, which: Weights) -> Result<Option<(AdapterLayout, NamedData)>> {
        let Some(adapter) = self.adapters.first().filter(|_| self.is_adapter()) else { return Ok(None) };
        let (layout, numbers) = self.layout(adapter, self.has_new_head())?;
        if which == Weights::Latest {
            return Ok(Some((layout, numbers)));
        }
        self.require_average()?;
        let averaged = layout.load(StoredAdapter::read_tensors(&self.files, names::EMA)?);
        let averaged =
            averaged.map_err(|message| self.files.error(format!("`{}`: {message}", names::EMA)))?;
        Ok(Some((layout, averaged)))
    }

    /// Numbers of the adapter that the files have instead of a whole model, by Kiln's parameter names.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a broken file.
    pub fn adapter_numbers(&self, which: Weights) -> Result<Option<NamedData>> {
        Ok(self.own_adapter(which)?.map(|(_, numbers)| numbers))
    }

    /// Puts all adapters into a model.
    pub(super) fn adapt(&self, mut model: Model, which: Weights, dropout: f64) -> Result<Model> {
        let mut others = &self.adapters[..];
        if let Some((layout, numbers)) = self.own_adapter(which)? {
            model = layout.attach(model, numbers, self.adapters[0].share, dropout);
            others = &others[1..];
        }
        for adapter in others {
            let (layout, numbers) = self.layout(adapter, false)?;
            model = layout.attach(model, numbers, adapter.share, dropout);
        }
        Ok(model)
    }

    /// Configuration that trains the adapter of the files further; `None` if they have a whole model.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the adapter is broken.
    pub fn adapter_config(&self) -> Result<Option<AdapterConfig>> {
        let Some(base) = &self.base else { return Ok(None) };
        Ok(self.own_adapter(Weights::Latest)?.map(|(layout, _)| layout.to_config(base.location())))
    }

    /// Makes the adapter that a run trains: that of the files, or a new one if the configuration asks for it, which is
    /// put into `model`, a model that was built from this checkpoint. `None` if all weights are trained.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if the configuration names modules that the model does not have, or does not train the
    /// adapter of the files.
    pub fn train_adapter(
        &self,
        config: &Config,
        model: Model,
        seed: u64,
    ) -> Result<(Model, Option<TrainedAdapter>)> {
        let own = self.own_adapter(Weights::Latest)?;
        if !config.adapter.is_on() && own.is_none() {
            return Ok((model, None));
        }
        if self.adapters.len() > usize::from(own.is_some()) || !config.adapter.is_on() {
            return Err(Error::InvalidValue {
                key: "adapter.kind".into(),
                value: if config.adapter.is_on() { "several adapters".into() } else { "none".into() },
                message: format!(
                    "the model in `{}` is an adapter, whose training goes on",
                    self.path().display()
                ),
                hint: Some(hint![
                    "to train all weights, merge it first: ",
                    hint::command("kiln merge DIR --out MODEL")
                ]),
            });
        }
        match own {
            Some((mut layout, _)) => {
                let base = config.adapter.base.clone().unwrap_or_else(|| self.source().location());
                layout.settings.set_base(&base);
                let stored = self.adapters.first().and_then(|adapter| adapter.fingerprint.clone());
                let fingerprint = stored.map_or_else(|| self.fingerprint(), Ok)?;
                Ok((model, Some(TrainedAdapter { layout, fingerprint })))
            }
            None => {
                let has_new_head = !self.has_head_of(&config.model);
                let adapter = AdapterConfig {
                    base: config.adapter.base.clone().or_else(|| Some(self.location())),
                    ..config.adapter.clone()
                };
                let layout = AdapterLayout::of_config(&adapter, self.family, &config.model, has_new_head)?;
                let model = layout.attach(model, layout.initial(seed), 1.0, adapter.dropout);
                Ok((model, Some(TrainedAdapter { layout, fingerprint: self.fingerprint()? })))
            }
        }
    }

    /// Fingerprint of the weights of the model, without adapters.
    fn fingerprint(&self) -> Result<String> {
        Ok(fingerprint(&self.source().weights(Weights::Latest)?))
    }
}

/// SHA-256 of weights by name.
fn fingerprint(weights: &NamedData) -> String {
    let mut hash = Sha256::new();
    for (name, HostTensor { shape, values }) in weights {
        hash.update(name);
        hash.update(format!("{shape:?}"));
        for values in values.chunks(1 << 14) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two tensors are equal but for the rounding of their types.
fn are_close(a: &HostTensor, b: &HostTensor) -> bool {
    let square = |value: f32| f64::from(value).powi(2);
    let apart: f64 = a.values.iter().zip(&b.values).map(|(a, b)| square(a - b)).sum();
    let size: f64 = b.values.iter().map(|&value| square(value)).sum();
    a.shape == b.shape && apart <= LARGEST_DIFFERENCE.powi(2) * size
}
