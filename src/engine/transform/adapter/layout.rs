//! The place of an adapter in a model: which matrices it changes by how much, and under which parameter names. Converts
//! an adapter from PEFT's names and forms to Kiln's and back.

use super::{
    host::{Change, HostAdapter},
    peft::PeftConfig,
    targets::{self, Target},
};
use crate::{
    config::{AdapterConfig, ModelConfig},
    error::{Error, Result, hint},
    model::{
        families::{Family, NamedMatrix},
        layout as model_layout, normal_pair,
        parameters::{HostTensor, NamedData, check_shape},
        uniform,
    },
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Adapter of a model, without its numbers.
#[derive(Debug, Clone)]
pub struct AdapterLayout {
    pub family: Family,
    /// Configuration of the adapted model.
    pub model: ModelConfig,
    pub settings: PeftConfig,
    /// Matrices with a low-rank change.
    pub(super) changes: Vec<Placed>,
    /// Kiln's names of the parameters of which whole copies are trained.
    pub(super) copies: BTreeSet<String>,
    /// Whether the model's head is trained as it is, since the base does not have it.
    pub(super) has_new_head: bool,
}

/// A matrix with a low-rank change.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub matrix: NamedMatrix,
    pub rank: usize,
    pub scale: f64,
    /// Names of the change's parameters before the last dot.
    pub prefix: String,
}

/// Prefix of the parameter names of a head.
const HEAD: &str = "head.";

/// Name of the token embedding.
const EMBEDDING: &str = "embedding";

impl AdapterLayout {
    /// Layout of the adapter that a configuration describes. With `has_new_head`, the model's head is one that the base
    /// does not have, and is trained as it is.
    ///
    /// # Errors
    /// Those of [`targets::select`], and [`Error::InvalidValue`] for a module that cannot be saved as a whole.
    pub fn of_config(
        config: &AdapterConfig,
        family: Family,
        model: &ModelConfig,
        has_new_head: bool,
    ) -> Result<Self> {
        let mut matrices = family.matrices(model);
        if has_new_head {
            matrices.retain(|matrix| !matrix.parameter.starts_with(HEAD));
        }
        let targets = targets::select(config, &matrices).map_err(|error| of_tied(error, family, model))?;
        let saved = targets::saved(config, &matrices);
        if let Some(part) = saved.iter().find(|matrix| !matrix.is_whole()) {
            return Err(Error::InvalidValue {
                key: "adapter.modules_to_save".into(),
                value: part.module.clone(),
                message: "kiln has this module in one matrix with others".into(),
                hint: Some("change it by an adapter instead".into()),
            });
        }
        let names: Vec<String> = saved.iter().map(|matrix| matrix.module.clone()).collect();
        let settings = PeftConfig::of_targets(config, &targets, &names, model);
        let copies = saved.iter().map(|matrix| matrix.parameter.clone()).collect();
        Ok(Self::new(family, model, settings, targets, copies, has_new_head))
    }

    /// Layout of an adapter that was read from PEFT's files, and its numbers by Kiln's parameter names.
    ///
    /// # Errors
    /// A message about a module that the model does not have, that has another shape, or that Kiln cannot save as a
    /// whole.
    pub fn of_files(
        settings: PeftConfig,
        adapter: HostAdapter,
        family: Family,
        model: &ModelConfig,
        has_new_head: bool,
    ) -> Result<(Self, NamedData), String> {
        let matrices: BTreeMap<String, NamedMatrix> =
            family.matrices(model).into_iter().map(|matrix| (matrix.module.clone(), matrix)).collect();
        let adapter = match adapter.changes.keys().any(|module| matrices.contains_key(module)) {
            true => adapter,
            // An adapter of the model without its output projection.
            false => adapter.renamed(|name| family.with_module_prefix(name)),
        };
        let mut targets = Vec::new();
        for (module, change) in &adapter.changes {
            let matrix = matrices.get(module).ok_or_else(|| format!("the model has no module `{module}`"))?;
            let [inputs, outputs] = [matrix.sizes[0], matrix.columns.len()];
            if change.down.shape.last() != Some(&inputs) || change.up.shape.first() != Some(&outputs) {
                let (a, b) = (&change.down.shape, &change.up.shape);
                return Err(format!(
                    "its factors of `{module}` have the shapes {a:?} and {b:?}, but the model has a matrix of {inputs} \
                     inputs and {outputs} outputs there"
                ));
            }
            if change.is_embedding != matrix.is_embedding || change.magnitude.is_some() != settings.dora {
                return Err(format!("the tensors of `{module}` are not those that its settings ask for"));
            }
            let alpha = settings.alpha_of(module);
            targets.push(Target { matrix: matrix.clone(), rank: change.rank(), alpha });
        }
        let output = family.projection(model, &[]).map(|projection| projection.output_name);
        if model.tie_embeddings && output.is_some_and(|output| adapter.saved.contains_key(&output)) {
            return Err(
                "it has an output projection, but that of the model is tied to the token embedding".into()
            );
        }
        let shapes: BTreeMap<String, Vec<usize>> =
            model_layout::parameters(model).into_iter().map(|shape| (shape.name, shape.dims)).collect();
        let mut copies = BTreeSet::new();
        for (name, tensor) in family.load_some(model, adapter.saved.clone())? {
            let stored = family.stored_as(model, &name);
            if let Some(shape) = shapes.get(&name) {
                check_shape(&stored, &tensor, shape)?;
            }
            if has_new_head && name.starts_with(HEAD) {
                continue;
            }
            let parameter =
                name.strip_suffix(".bias").map_or_else(|| name.clone(), |layer| format!("{layer}.weight"));
            let is_copied = |matrix: &NamedMatrix| matrix.parameter == parameter && matrix.expert.is_none();
            if !matrices.values().any(is_copied) {
                return Err(format!(
                    "it has a whole copy of `{stored}`, but kiln copies only linear layers and embeddings"
                ));
            }
            copies.insert(parameter);
        }
        targets.sort_by(|a, b| order(&a.matrix).cmp(&order(&b.matrix)));
        let settings = settings.with_whole_names(&targets);
        let layout = Self::new(family, model, settings, targets, copies, has_new_head);
        let parameters = layout.load(adapter)?;
        Ok((layout, parameters))
    }

    fn new(
        family: Family,
        model: &ModelConfig,
        settings: PeftConfig,
        targets: Vec<Target>,
        copies: BTreeSet<String>,
        has_new_head: bool,
    ) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let changes = targets.into_iter().map(|Target { matrix, rank, .. }| {
            let place = place(&matrix);
            let count = counts.entry(place.clone()).or_default();
            let prefix = format!("{place}.parts.{count}");
            *count += 1;
            let scale = settings.scale_of(&matrix.module, rank);
            Placed { matrix, rank, scale, prefix }
        });
        let changes = changes.collect();
        Self { family, model: model.clone(), settings, changes, copies, has_new_head }
    }

    /// Configuration that trains this adapter further, on the model at `base`.
    pub fn to_config(&self, base: PathBuf) -> AdapterConfig {
        let settings = &self.settings;
        let module = |placed: &Placed| placed.matrix.module.clone();
        let alpha = |placed: &Placed| settings.alpha_of(&placed.matrix.module);
        let other_ranks = self.changes.iter().filter(|placed| placed.rank != settings.rank);
        let other_alphas = self.changes.iter().filter(|placed| alpha(placed) != settings.alpha);
        AdapterConfig {
            kind: settings.kind(),
            r: settings.rank,
            alpha: settings.alpha,
            rslora: settings.rslora,
            dropout: settings.dropout,
            targets: self.changes.iter().map(module).collect(),
            layers: Vec::new(),
            rank_pattern: other_ranks.map(|placed| (module(placed), placed.rank)).collect(),
            alpha_pattern: other_alphas.map(|placed| (module(placed), alpha(placed))).collect(),
            modules_to_save: settings.modules_to_save.clone(),
            weight_tying: settings.weight_tying,
            base: Some(base),
        }
    }

    /// Number of parameters that the adapter adds to the model. All of them are trained.
    pub fn parameter_count(&self) -> u128 {
        let of_change = |Placed { matrix, rank, .. }: &Placed| {
            let (inputs, outputs) = (matrix.sizes[0] as u128, matrix.columns.len() as u128);
            *rank as u128 * (inputs + outputs) + if self.settings.dora { outputs } else { 0 }
        };
        let is_copied = |shape: &model_layout::Shape| {
            let layer = shape.name.strip_suffix(".bias");
            self.copies.contains(&shape.name)
                || layer.is_some_and(|layer| self.copies.contains(&format!("{layer}.weight")))
        };
        let copies = match self.copies.is_empty() {
            true => Vec::new(),
            false => model_layout::parameters(&self.model),
        };
        let of_copies = copies.iter().filter(|shape| is_copied(shape)).map(model_layout::Shape::count);
        self.changes.iter().map(of_change).chain(of_copies).sum()
    }

    /// Names of the modules with a low-rank change.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|placed| placed.matrix.module.as_str())
    }

    /// Whether a parameter of the adapted model belongs to the adapter.
    pub fn owns(&self, name: &str) -> bool {
        super::is_adapter(name) || (self.has_new_head && name.starts_with(HEAD))
    }

    /// Whether files of the adapter also have the table of the token embedding.
    pub fn stores_table(&self) -> bool {
        self.changes.iter().any(|placed| placed.matrix.is_embedding)
    }

    /// Initial numbers of the low-rank changes, by Kiln's parameter names: products of numbers drawn from `seed` and
    /// of zeros (PEFT's: A of a linear layer and B of an embedding are drawn).
    pub fn initial(&self, seed: u64) -> NamedData {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = NamedData::new();
        for Placed { matrix, rank, prefix, .. } in &self.changes {
            let (inputs, outputs) = (matrix.sizes[0], matrix.columns.len());
            let zeros = |count: usize| vec![0.0; count];
            let (down, up) = if matrix.is_embedding {
                let pairs =
                    (0..(rank * outputs).div_ceil(2)).flat_map(|_| <[f64; 2]>::from(normal_pair(rng)));
                let up: Vec<f32> = pairs.take(rank * outputs).map(|value| value as f32).collect();
                (zeros(inputs * rank), up)
            } else {
                // Kaiming's uniform distribution with a slope of √5.
                let bound = 1.0 / (inputs.max(1) as f64).sqrt();
                let draw = |_| (bound * (2.0 * uniform(rng) - 1.0)) as f32;
                ((0..inputs * rank).map(draw).collect(), zeros(rank * outputs))
            };
            parameters.insert(format!("{prefix}.down"), HostTensor::new([inputs, *rank], down));
            parameters.insert(format!("{prefix}.up"), HostTensor::new([*rank, outputs], up));
        }
        parameters
    }

    /// Converts an adapter to Kiln's parameter names.
    ///
    /// # Errors
    /// A message about a module that the layout does not have or that has another shape.
    pub fn load(&self, mut adapter: HostAdapter) -> Result<NamedData, String> {
        let mut parameters = NamedData::new();
        for Placed { matrix, prefix, .. } in &self.changes {
            let module = &matrix.module;
            let missing = || format!("module `{module}` is missing");
            let Change { down, up, magnitude, .. } = adapter.changes.remove(module).ok_or_else(missing)?;
            let misshapen = || format!("the factors of `{module}` have other shapes than the model's matrix");
            parameters.insert(format!("{prefix}.down"), matrix.load_inputs(down).ok_or_else(misshapen)?);
            parameters.insert(format!("{prefix}.up"), matrix.load_outputs(up).ok_or_else(misshapen)?);
            if let Some(magnitude) = magnitude {
                let magnitude = matrix.load_outputs(magnitude).ok_or_else(misshapen)?;
                parameters.insert(format!("{prefix}.magnitude"), magnitude);
            }
        }
        if let Some(module) = adapter.changes.into_keys().next() {
            return Err(format!("the adapter does not change the module `{module}`"));
        }
        for (name, tensor) in self.family.load_some(&self.model, adapter.saved)? {
            let name = self.copy_name(&name);
            parameters.insert(name, tensor);
        }
        Ok(parameters)
    }

    /// Converts the adapter's parameters, and the table of the token embedding if it has changes, to the form of PEFT's
    /// files.
    ///
    /// # Errors
    /// A message about a parameter that is missing or that belongs to no adapter.
    pub fn store(&self, mut parameters: NamedData) -> Result<HostAdapter, String> {
        let mut adapter = HostAdapter::default();
        let mut take =
            |name: &str| parameters.remove(name).ok_or_else(|| format!("tensor `{name}` is missing"));
        for Placed { matrix, prefix, .. } in &self.changes {
            let down = matrix.store_inputs(take(&format!("{prefix}.down"))?);
            let up = matrix.store_outputs(take(&format!("{prefix}.up"))?);
            let magnitude = match self.settings.dora {
                true => Some(matrix.store_outputs(take(&format!("{prefix}.magnitude"))?)),
                false => None,
            };
            let change = Change { down, up, magnitude, is_embedding: matrix.is_embedding };
            adapter.changes.insert(matrix.module.clone(), change);
            if matrix.is_embedding {
                adapter.tables.insert(matrix.module.clone(), take(EMBEDDING)?);
            }
        }
        let mut saved = NamedData::new();
        for (name, tensor) in parameters {
            let own = super::layer_of_copy(&name).unwrap_or(name);
            saved.insert(own, tensor);
        }
        adapter.saved = self.family.store_some(&self.model, saved)?;
        Ok(adapter)
    }

    /// Name of the parameter that holds the trained values of one of the model's parameters.
    pub(super) fn copy_name(&self, name: &str) -> String {
        match name.rsplit_once('.') {
            _ if self.has_new_head && name.starts_with(HEAD) => name.into(),
            Some((layer, kind)) => format!("{layer}.adapter.saved.{kind}"),
            None => format!("{name}_adapter.saved.weight"),
        }
    }
}

/// Explains that a module does not exist because the output projection is the token embedding, if that is so.
fn of_tied(error: Error, family: Family, model: &ModelConfig) -> Error {
    let untied = ModelConfig { tie_embeddings: false, ..model.clone() };
    match error {
        Error::InvalidValue { key, value, .. }
            if model.tie_embeddings
                && family
                    .matrices(&untied)
                    .iter()
                    .any(|matrix| targets::is_named(&matrix.module, &value)) =>
        {
            Error::InvalidValue {
                key,
                value,
                message: "the output projection of the model is its token embedding".into(),
                hint: Some(hint![
                    "name the embedding instead; with ",
                    hint::set("adapter.weight_tying", true),
                    " the output follows it"
                ]),
            }
        }
        other => other,
    }
}

/// Place of a matrix's changes among the parameters of a model.
fn place(matrix: &NamedMatrix) -> String {
    match (matrix.parameter.strip_suffix(".weight"), matrix.expert) {
        (Some(layer), _) => format!("{layer}.adapter"),
        (None, None) => format!("{}_adapter", matrix.parameter),
        (None, Some(expert)) => format!("{}_adapter.experts.{expert}", matrix.parameter),
    }
}

/// Key by which the parts of a matrix are in the order of their columns.
fn order(matrix: &NamedMatrix) -> (&str, Option<usize>, usize) {
    (&matrix.parameter, matrix.expert, matrix.columns.start)
}
