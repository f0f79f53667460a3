//! Builds the model of a checkpoint: its weights, a head if it gets another one, and its adapters.

use super::{Checkpoint, StoredAdapter, WeightFiles, Weights};
use crate::{
    config::{Config, ModelConfig},
    error::{Error, Result},
    kernels::{Mode, Precision},
    model::{
        Model,
        parameters::{self, NamedData},
        size,
    },
    platform::memory_bytes,
};
use burn::tensor::Device;

/// Prefix of the parameter names of an encoder's head.
const HEAD: &str = "head.";

impl Checkpoint {
    /// Kernels of the run that made the checkpoint, with products in f32; fused if it was not made by Kiln.
    pub fn mode(&self) -> Mode {
        self.config.as_ref().map_or_else(Mode::default, |config| config.kernels.mode())
    }

    /// Builds the model with these weights, and its adapters, on a device.
    pub fn build(&self, which: Weights, device: &Device) -> Result<Model> {
        self.build_in(&self.model, self.mode(), which, 0.0, device)
    }

    /// Builds the model like [`build`](Self::build), with products of another precision.
    pub fn build_in_precision(&self, which: Weights, precision: Precision, device: &Device) -> Result<Model> {
        self.build_in(&self.model, self.mode().with_precision(precision), which, 0.0, device)
    }

    /// Builds the model with these weights and another configuration, which may have a shorter context or
    /// another dropout.
    pub fn build_with_config(&self, config: &Config, which: Weights, device: &Device) -> Result<Model> {
        self.build_in(&config.model, config.mode(), which, config.adapter.dropout, device)
    }

    /// Builds the model with its adapters, which have the given dropout.
    pub(super) fn build_in(
        &self,
        model: &ModelConfig,
        mode: Mode,
        which: Weights,
        dropout: f64,
        device: &Device,
    ) -> Result<Model> {
        let adapters = &self.adapters[..];
        let built = match &self.base {
            None => self.build_whole(model, mode, which, adapters, device)?,
            // The adapter has the numbers of the head.
            Some(base) if self.has_new_head() => base.build_new_head(model, mode, 0, adapters, device)?,
            Some(base) => base.build_whole(model, mode, Weights::Latest, adapters, device)?,
        };
        self.adapt(built, which, dropout)
    }

    /// Builds the model without its adapters, if these are of its weights.
    fn build_whole(
        &self,
        model: &ModelConfig,
        mode: Mode,
        which: Weights,
        adapters: &[StoredAdapter],
        device: &Device,
    ) -> Result<Model> {
        let files = self.weight_files(which)?;
        let (mut uninitialized, mut weights) = self.agreeing(&files, mode, adapters, device)?;
        if *model != self.model {
            shorten(&mut weights, model);
            uninitialized = Model::uninitialized(model, mode, device);
        }
        parameters::load(uninitialized, weights).map_err(|message| self.mismatch(&files, &message))
    }

    /// Reads the weights and makes a model without weights. Since the configuration comes from a file,
    /// nothing is allocated for the model before the shapes of the weights, which are already in memory,
    /// agree with it. The adapters must be of these weights.
    fn agreeing(
        &self,
        files: &WeightFiles<'_>,
        mode: Mode,
        adapters: &[StoredAdapter],
        device: &Device,
    ) -> Result<(Model, NamedData)> {
        let weights = self.read(files)?;
        adapters.iter().try_for_each(|adapter| adapter.check_base(&weights, &self.location()))?;
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
        self.build_new_head(&config.model, config.mode(), seed, &[], device)
    }

    fn build_new_head(
        &self,
        model: &ModelConfig,
        mode: Mode,
        seed: u64,
        adapters: &[StoredAdapter],
        device: &Device,
    ) -> Result<Model> {
        let files = self.weight_files(Weights::Latest)?;
        let (_, mut weights) = self.agreeing(&files, mode, adapters, device)?;
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
}

/// Removes trained positions beyond the context; no other weight depends on it.
fn shorten(weights: &mut NamedData, model: &ModelConfig) {
    if let Some(table) = weights.get_mut("position").filter(|table| table.shape.len() == 2) {
        table.values.truncate(model.block_size * table.shape[1]);
        table.shape[0] = model.block_size;
    }
}
